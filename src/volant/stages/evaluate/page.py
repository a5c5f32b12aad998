"""The report as one self-contained HTML page: the decision first, then its grounds, then the evidence.

The content of `report.json` enters, the page leaves; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volant.store.page import Html, Tone, badge, bullets, escaped, page, paragraph, section, table, tiles
from volant.store.plots import STYLE, Mark, histograms, intervals, short, wins_and_losses

_TONES: dict[str, Tone] = {
    "ship": "pass",
    "better": "pass",
    "retrain": "open",
    "collect more": "open",
    "no difference": "plain",
    "stop": "fail",
    "worse": "fail",
}
_NEXT = {
    "ship": "Every gate that counts holds.",
    "retrain": "Train it longer, larger or otherwise; the data is not used up.",
    "collect more": "More data, or more varied data, comes before more training.",
    "stop": "The trivial baseline does better, and it is not catching up.",
}
_LONGEST = 1200  # characters of a prompt that are shown


def suite_page(body: dict[str, Any], previews: Mapping[str, str]) -> str:
    """The page of `evaluate.suite`.

    Args:
        body: `report.json`.
        previews: HTML of what each made, by whose it is; empty for text.
    """
    parts = [
        _verdict(body),
        _tiles(body),
        section("Gates", _gates(body["gates"])),
        section("Figures", paragraph(_reading(body)), _figures(body)),
        section("Against the others", *_comparisons(body)),
        section("Where it is weakest", *_slices(body)),
        _samples(body, previews),
        section("How it was measured", _method(body)),
    ]
    title = body["problem"] or "Evaluation"
    return page(title, "\n".join(parts), eyebrow="evaluation", head=STYLE)


def compare_page(body: dict[str, Any]) -> str:
    """The page of `evaluate.compare`."""
    tested = body["comparison"]
    rival = "the champion" if body["champion"] else f"the {body['against']} baseline"
    who = f"{body['against']} {body['champion'][:12]}".strip()
    values = body["values"]
    sign = 1 if body["direction"] == "higher" else -1
    gains = [sign * (a - b) for a, b in zip(values["model"], values["against"], strict=True)]
    name = _title(body["metric"])
    plots = (
        histograms(
            name, f"each of {body['n']} examples", values["model"], values["against"], ("candidate", body["against"])
        ),
        wins_and_losses("Won and lost", f"{name}, candidate minus {body['against']}", gains),
    )
    parts = [
        Html(f'<div class="verdict">{badge(body["verdict"], _TONES.get(body["verdict"], "plain"))}</div>'),
        paragraph(
            f"The candidate is compared with {rival} on the same {body['n']} examples of the {body['split']} split.",
            kind="lead",
        ),
        tiles(
            [
                ("candidate", short(tested["after"])),
                (body["against"], short(tested["before"])),
                (f"change, {_span(tested['change'])}", f"{tested['change']['value']:+.3g}"),
                ("p, one-sided", short(body["p"])),
            ]
        ),
        section("Gates", _gates(body["gates"])),
        section("Example by example", Html(f'<div class="plots">{"".join(plots)}</div>')),
        section(
            "How it was measured",
            paragraph(f"By {tested['test']}; the candidate is {body['model'][:12]}, against {who}."),
        ),
    ]
    return page(
        f"{_title(body['metric'])}: candidate against {body['against']}",
        "\n".join(parts),
        eyebrow="comparison",
        head=STYLE,
    )


def _verdict(body: dict[str, Any]) -> Html:
    mark = badge(body["verdict"], _TONES[body["verdict"]])
    return Html(
        f'<div class="verdict">{mark}<span>{escaped(_NEXT[body["verdict"]])}</span></div>{bullets(body["reasons"])}'
    )


def _tiles(body: dict[str, Any]) -> Html:
    own = {s["name"]: s for s in body["scores"] if s["of"] == "model"}
    metric = own[body["metric"]]
    shown: list[tuple[str, object]] = [(f"{_title(body['metric'])}, {_span(metric)}", short(metric["value"]))]
    against = _task_comparison(body, f"baseline:{body['baseline']}")
    if against:
        word = f"against {_who('baseline:' + body['baseline'])}, {_p(against['p'])}"
        shown.append((word, f"{against['gain']:+.3g}"))
    since = _task_comparison(body, "previous")
    if since:
        shown.append((f"against the previous model, {_p(since['p'])}", f"{since['gain']:+.3g}"))
    if "bits_per_byte" in own:
        shown.append((f"bits per byte, {_span(own['bits_per_byte'])}", short(own["bits_per_byte"]["value"])))
    return tiles(shown)


def _gates(gates: list[dict[str, Any]]) -> Html:
    rows = []
    for gate in gates:
        state = (
            badge("not measured")
            if gate["kind"] == "note"
            else badge("holds", "pass")
            if gate["passed"]
            else badge("fails", "fail")
        )
        state = state if gate["counts"] or gate["kind"] == "note" else badge("does not count", "open")
        value = "" if gate["value"] is None else short(gate["value"])
        rows.append((_title(gate["name"]), value, gate["asked"], state, gate["why"]))
    return table(("gate", "value", "asked", "", ""), rows, numeric=(1,)) if rows else paragraph("The goal states none.")


def _reading(body: dict[str, Any]) -> str:
    return (
        f"Dots are means over {body['n']} examples of the {body['split']} split, lines their 95 % intervals. "
        "The hollow dot is what the reference answers themselves get; the dashed line is the target."
    )


def _figures(body: dict[str, Any]) -> Html:
    """One plot a metric, the task metric first."""
    bars = {g["name"]: g["bar"] for g in body["gates"] if g["name"] != "beats_baseline"}
    names = list(dict.fromkeys(s["name"] for s in body["scores"] if s["of"] == "model"))
    names.sort(key=lambda n: n != body["metric"])
    plots = []
    for name in names:
        scores = [s for s in body["scores"] if s["name"] == name]
        unit = "" if scores[0]["unit"] == "1" else f"{scores[0]['unit']}, "
        marks = [Mark(_who(s["of"]), s["value"], s["low"], s["high"], _style(s["of"])) for s in scores]
        plots.append(intervals(_title(name), f"{unit}{scores[0]['direction']} is better", marks, goal=bars.get(name)))
    return Html(f'<div class="plots">{"".join(plots)}</div>')


def _comparisons(body: dict[str, Any]) -> list[str]:
    parts: list[str] = []
    rival = "previous" if "previous" in body["comparisons"] else f"baseline:{body['baseline']}"
    own, others = body["values"]["model"][body["metric"]], body["values"].get(rival, {}).get(body["metric"])
    if others:
        sign = 1 if body["direction"] == "higher" else -1
        name = _title(body["metric"])
        plots = (
            histograms(name, f"each of {body['n']} examples", own, others, ("model", _who(rival))),
            wins_and_losses(
                "Won and lost",
                f"{name}, model minus {_who(rival)}",
                [sign * (a - b) for a, b in zip(own, others, strict=True)],
            ),
        )
        parts.append(Html(f'<div class="plots">{"".join(plots)}</div>'))
    every = [(of, c) for of, found in body["comparisons"].items() for c in found]
    head = ("against", "metric", "theirs", "model", "change", "p", "")
    parts.append(table(head, (_row(of, c) for of, c in every if c["name"] == body["metric"]), numeric=(2, 3, 4, 5)))
    rest = [_row(of, c) for of, c in every if c["name"] != body["metric"]]
    if rest:
        inner = table(head, rest, numeric=(2, 3, 4, 5))
        parts.append(Html(f"<details><summary>All other metrics ({len(rest)} comparisons)</summary>{inner}</details>"))
    return parts


def _row(of: str, c: dict[str, Any]) -> tuple[object, ...]:
    change = f"{c['change']['value']:+.3g} [{c['change']['low']:+.3g}, {c['change']['high']:+.3g}]"
    mark = badge(c["verdict"], _TONES[c["verdict"]])
    return _who(of), _title(c["name"]), short(c["before"]), short(c["after"]), change, short(c["p"]), mark


def _slices(body: dict[str, Any]) -> list[str]:
    if not body["slices"]:
        return [paragraph("Too few examples to cut them into slices.")]
    note = (
        f"{_title(body['metric'])} in parts of the examples, against all others. Many slices are looked at, so the "
        "worst of them look worse than they are."
    )
    rows = [
        (s["by"], s["name"], s["n"], short(s["value"]), f"[{s['low']:.3g}, {s['high']:.3g}]", short(s["rest"]))
        for s in body["slices"]
    ]
    return [paragraph(note), table(("by", "slice", "n", "mean", "95 %", "all others"), rows, numeric=(2, 3, 4, 5))]


def _samples(body: dict[str, Any], previews: Mapping[str, str]) -> Html:
    if previews:
        shown = [Html(f"<h3>{escaped(_title(_who(of)))}</h3>{made}") for of, made in previews.items()]
        return section("Samples", paragraph("The first of them, unselected; the same conditions for all."), *shown)
    told = paragraph(f"Four of the best, of the middle and of the worst by {_title(body['metric'])}.")
    return section("Samples", told, *(_case(s) for s in body["samples"]))


def _case(sample: dict[str, Any]) -> Html:
    prompt = sample["prompt"] if len(sample["prompt"]) <= _LONGEST else sample["prompt"][:_LONGEST] + " ..."
    lines = [("model", sample["output"], "own"), ("reference", sample["target"], "")]
    lines += [(_who(of), text, "") for of, text in sample["others"].items()]
    inner = "".join(
        f'<dt>{escaped(who)}</dt><dd class="{kind if text.strip() else "none"}">{escaped(_cut(text) or "nothing")}</dd>'
        for who, text, kind in lines
    )
    mark = (
        f'<dt>{escaped(sample["place"])}, {short(sample["value"])}</dt><dd class="digest">{escaped(sample["id"])}</dd>'
    )
    return Html(f'<div class="case"><pre>{escaped(prompt)}</pre><dl>{mark}{inner}</dl></div>')


def _cut(text: str) -> str:
    return text.strip() if len(text) <= 240 else text[:240].strip() + " ..."


def _method(body: dict[str, Any]) -> Html:
    notes = {s["name"]: s["note"] for s in body["scores"] if s["of"] == "model" and s["note"]}
    rows = [
        (_title(name), notes.get(name, ""), Html(f'<span class="digest">{escaped(digest[:12])}</span>'))
        for name, digest in body["scorers"].items()
    ]
    how = "Greedy decoding" if body["samples"] else "One draw, seeded by the example's id,"
    text = (
        f"{how} for {body['n']} samples spread evenly over the {body['split']} split. Intervals are bootstrap "
        "intervals (Wilson's for shares); a difference counts only where the paired permutation test of the mean "
        "(McNemar's exact test for yes/no values) says so. Baselines are fitted on the same training split."
    )
    who = f"Model {body['model'][:12]}, {body['parameters']:,} parameters"
    who += f", previous {body['previous'][:12]}" if body["previous"] else ""
    who += f", prompt {body['prompt'][:12]}" if body["prompt"] else ""
    return Html(paragraph(text) + paragraph(who + ".") + table(("scorer", "what it says", "pinned by"), rows))


def _task_comparison(body: dict[str, Any], of: str) -> dict[str, Any] | None:
    return next((c for c in body["comparisons"].get(of, []) if c["name"] == body["metric"]), None)


def _p(p: float) -> str:
    """`p = 0.03`, held together by no-break spaces; `p < 0.001` where the figure says no more."""
    return "p\u00a0<\u00a00.001" if p < 0.001 else f"p\u00a0=\u00a0{short(p)}"


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _who(of: str) -> str:
    return of.removeprefix("baseline:").replace("_", " ")


def _style(of: str) -> str:
    return {"model": "a", "reference": "hollow"}.get(of, "b")


def _span(score: dict[str, Any]) -> str:
    return f"95\u00a0% [{short(score['low'])},\u00a0{short(score['high'])}]"
