"""The law and ethics note on a release; a promotion without one, or with a failed item, is refused.

Enters: a model, the report that measured it, and the data it was made from. Leaves: a Report whose items
are `pass`, `open` (a person has to look; does not block) or `fail` (blocks). Everything is looked up: in
the cards, in every kept record, in the report's figures, in the goal. The date of the note is on its
card. It is a check list with evidence and no legal advice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from volant.core import Dataset, Model, Report, Run, Score
from volant.core.errors import VolantError
from volant.core.spec import Goal

State = Literal["pass", "open", "fail"]


class Item(BaseModel):
    """One line of the note: what was looked at, how it stands, what was found, and what to do."""

    name: str
    state: State
    finding: str
    mend: str = ""


def review(
    run: Run,
    model: Model,
    report: Report,
    *data: Dataset,
    reviewer: str = "",
    retention_days: Annotated[int, Field(ge=0)] = 90,
) -> Report:
    """Look at licences, consent, personal data, fairness, safety, open risks and marking before a release.

    Args:
        run: brings the goal: its use, targets and risks.
        model: what is to be released.
        report: the evaluation that speaks for it.
        *data: what it was made from, and content that was published with it, if any.
        reviewer: the person who stands for the note; without one the note says that nobody signed it.
        retention_days: for how long requests and feedback are kept, in days; 0: no end is set, which stays open.
    """
    facts = _facts(data)
    measured = report.read_json("report.json")
    figures = _figures(measured, report)
    items = [
        _licences(run.goal, model, data),
        _consent(facts),
        _personal(facts),
        *_gates(run.modality, run.goal, figures, _good_enough(run.goal, measured, figures)),
        _risks(run.goal),
        _marking(data),
        _retention(facts, retention_days),
        Item(name="sign-off", state="pass", finding=f"{reviewer} stands for this note")
        if reviewer
        else Item(name="sign-off", state="open", finding="no person has signed", mend="Set `reviewer`."),
    ]
    body = {
        "kind": "review",
        "model": model.digest,
        "report": report.digest,
        "data": [d.digest for d in data],
        "use": run.goal.use,
        "reviewer": reviewer,
        "blocking": any(item.state == "fail" for item in items),
        "items": [item.model_dump() for item in items],
    }
    (run.out / "report.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (run.out / "index.html").write_text(_page(body, items), encoding="utf-8")
    counts = Counter(item.state for item in items)
    run.say(f"review: {counts['pass']} pass, {counts['open']} open, {counts['fail']} fail")
    for item in items:
        if item.state == "fail":
            run.say(f"blocks: {item.name}: {item.finding}")
    return Report(run.out)


def _facts(data: Sequence[Dataset]) -> dict[str, Any]:
    """Counts over every kept record: consent by origin, and personal data by origin and kind."""
    from volant.modalities.personal import masked
    from volant.scorers.safety import PERSONAL, findings
    from volant.store.dataset import rows

    consent: Counter[tuple[str, str]] = Counter()
    personal: Counter[tuple[str, str, str]] = Counter()
    records = 0
    for sample in (sample for dataset in data for sample in rows(dataset)):
        records += 1
        origin, stated = sample.source.origin, sample.source.consent
        consent[origin, stated] += 1
        text, found = masked(sample.text)
        kinds = {*found, *(kind for kind in findings(text) if kind in PERSONAL)}
        personal.update((origin, stated, kind) for kind in kinds)
    return {"records": records, "consent": consent, "personal": personal}


def _figures(body: Mapping[str, Any], report: Report) -> dict[str, Score]:
    """The model's own figures of a report, by name."""
    stated = [Score.model_validate(score) for score in body.get("scores") or []]
    return {s.name: s for s in stated or (report.card.scores if report.card else []) if s.of == "model"}


def _licences(goal: Goal, model: Model, data: Sequence[Dataset]) -> Item:
    """Every licence inside, against the use that the goal states."""
    from volant.modalities.licence import canonical, forbids

    stated = set(model.licences).union(*(d.about["licences"] for d in data))
    if not stated:
        return Item(
            name="licences",
            state="open",
            finding="no licence is stated anywhere",
            mend="Say under which terms the data was taken (`licence` of collect).",
        )
    against = [reason for name in sorted(stated) if (reason := forbids(name, goal.use))]
    if against:
        return Item(name="licences", state="fail", finding="; ".join(against), mend="Leave that data or base out.")
    unknown = []
    for name in sorted(stated):
        try:
            canonical(name)
        except VolantError:
            unknown.append(name)
    unknown += [name for name in sorted(stated) if name.startswith("LicenseRef-") and name not in unknown]
    listed = ", ".join(sorted(stated))
    if unknown:
        return Item(
            name="licences",
            state="open",
            finding=f"{listed}; terms of one's own: {', '.join(unknown)}",
            mend=f"Have someone read those terms for {goal.use} use.",
        )
    return Item(name="licences", state="pass", finding=f"{listed}; none forbids {goal.use} use")


def _consent(facts: dict[str, Any]) -> Item:
    """Nothing withheld is inside, and feedback only with consent."""
    consent: Counter[tuple[str, str]] = facts["consent"]
    shown = ", ".join(f"{n:,} {stated or 'unstated'} ({origin})" for (origin, stated), n in sorted(consent.items()))
    wrong = sum(
        n
        for (origin, stated), n in consent.items()
        if stated == "withheld" or (origin == "feedback" and stated != "given")
    )
    if wrong:
        return Item(
            name="consent",
            state="fail",
            finding=f"{wrong:,} records without consent: {shown}",
            mend="Drop them and train again; `volant lineage` says what they reached.",
        )
    if not consent:
        return Item(name="consent", state="open", finding="no data was named to look at", mend="Name it as `data`.")
    if any(not stated for _, stated in consent):
        return Item(name="consent", state="open", finding=shown, mend="State the consent where it is collected.")
    return Item(name="consent", state="pass", finding=shown)


def _personal(facts: dict[str, Any]) -> Item:
    """Patterns of personal data in every kept record."""
    personal: Counter[tuple[str, str, str]] = facts["personal"]
    if not personal:
        return Item(
            name="personal data",
            state="pass" if facts["records"] else "open",
            finding=f"no pattern matches in {facts['records']:,} records; names of people are not looked for",
        )
    shown = ", ".join(f"{kind}: {n:,} records ({origin})" for (origin, _, kind), n in sorted(personal.items()))
    private = any(origin == "feedback" or stated in ("given", "withheld") for origin, stated, _ in personal)
    mend = "Mask it with collect.clean and train again." if private else "Look whether it was published on purpose."
    return Item(name="personal data", state="fail" if private else "open", finding=shown, mend=mend)


def _good_enough(goal: Goal, body: Mapping[str, Any], figures: Mapping[str, Score]) -> bool:
    """Whether quality passes: the report's own gates, or the task metric's target where it states none."""
    quality = [gate for gate in body.get("gates") or [] if gate.get("kind") == "quality"]
    target = goal.targets.get(goal.metric)
    task = target is not None and goal.metric in figures and target.met_by(figures[goal.metric].value)
    return all(gate.get("passed") for gate in quality) if quality else task


def _gates(modality: str, goal: Goal, figures: Mapping[str, Score], good: bool) -> list[Item]:
    """What the modality names to gate together: measured, and against its targets; it counts only with quality."""
    from volant.modalities import open_modality

    known = {"bias_gap": "fairness", "memorisation": "copied training data"}
    names = open_modality(modality).gates()
    return [_gate(n, known.get(n, n.replace("_", " ")), goal, figures.get(n), good) for n in names]


def _gate(name: str, what: str, goal: Goal, score: Score | None, good: bool) -> Item:
    """One guard. A target that is missed for certain blocks; one that chance may have missed stays open."""
    target = goal.targets.get(name)
    if score is None:
        return Item(
            name=what, state="open", finding=f"{name} was not measured", mend=f"Let evaluate.suite measure {name}."
        )
    finding = f"{score}, n = {score.n}"
    if target is None:
        return Item(name=what, state="open", finding=f"{finding}; no target", mend=f"Set goal.accept.{name}.")
    if not target.met_by(score.value):
        certain = not (target.met_by(score.low) or target.met_by(score.high))
        chance = "" if certain else "; the interval reaches the target, so it may be chance"
        mend = "Retrain on balanced or cleaner data." if certain else "Measure more examples."
        return Item(
            name=what, state="fail" if certain else "open", finding=f"{finding}; wanted {target}{chance}", mend=mend
        )
    if not good:
        held = f"{finding}; within {target}, which says little while the quality has not passed"
        return Item(name=what, state="open", finding=held, mend="Look again once the quality is there.")
    return Item(name=what, state="pass", finding=f"{finding}; within {target}")


def _risks(goal: Goal) -> Item:
    """Each named risk has an owner and a mitigation."""
    if not goal.risks:
        return Item(name="risks", state="open", finding="none is named", mend="Name them in goal.risks.")
    loose = [r.risk for r in goal.risks if r.owner in ("", "unassigned") or r.mitigation in ("", "none yet")]
    if loose:
        return Item(
            name="risks",
            state="open",
            finding=f"without owner or mitigation: {'; '.join(loose)}",
            mend="Name both in goal.risks.",
        )
    return Item(name="risks", state="pass", finding=f"{len(goal.risks)} named, each with owner and mitigation")


def _marking(data: Sequence[Dataset]) -> Item:
    """Whether published content says that a machine made it, to people and to programs (EU AI Act, Article 50)."""
    name = "marking of generated content"
    kinds = (".html", ".md", ".json", ".png", ".webp")  # a table is marked on its page and card
    files = [f for d in data for f in sorted((d.path / "site").rglob("*")) if f.suffix in kinds]
    bare = [f.name for f in files if b"trainedAlgorithmicMedia" not in f.read_bytes()]
    if bare:
        return Item(
            name=name,
            state="fail",
            finding=f"not marked: {', '.join(bare[:5])}",
            mend="Publish through deliver.publish, which marks.",
        )
    if files:
        return Item(
            name=name, state="pass", finding=f"{len(files)} published files, all marked for people and programs"
        )
    return Item(
        name=name,
        state="open",
        finding="no published content was named; EU AI Act Art. 50 asks for marking",
        mend="Publish through deliver.publish, and tell users of the service that they talk to a machine.",
    )


def _retention(facts: dict[str, Any], days: int) -> Item:
    """Requests and feedback have an end, and what came from people can be found again."""
    from_people = sum(n for (origin, _), n in facts["consent"].items() if origin == "feedback")
    held = f"{from_people:,} records come from feedback; each names it in `source`, so that it can be taken out"
    if not days:
        return Item(name="retention", state="open", finding=f"no end is set; {held}", mend="Set `retention_days`.")
    return Item(name="retention", state="pass", finding=f"requests and feedback are kept {days} days; {held}")


def _page(body: dict[str, Any], items: Sequence[Item]) -> str:
    """The note for people."""
    from volant.store.page import Html, badge, page, paragraph, section, table

    verdict = badge("blocks the release", "fail") if body["blocking"] else badge("does not block the release", "pass")
    rows = [(badge(item.state, item.state), item.name, item.finding, item.mend) for item in items]
    made_of = [("model", body["model"]), ("report", body["report"]), *(("data", digest) for digest in body["data"])]
    parts = [
        Html(f'<p class="lead">This note {verdict}</p>'),
        table(["", "looked at", "found", "to do"], rows),
        section("What it is about", table(["", "digest"], [(k, Html(f"<code>{v[:16]}</code>")) for k, v in made_of])),
        paragraph("A check list with evidence; it is no legal advice. Its date stands on its card.", kind="note"),
    ]
    return page("Law and ethics note", "\n".join(parts), eyebrow=f"Review for {body['use']} use")
