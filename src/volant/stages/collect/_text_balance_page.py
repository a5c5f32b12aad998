"""The bias of texts as sections of a page: what was counted enters, markup leaves."""

from __future__ import annotations

from typing import Any

from volant.stages.collect._text_balance import FAIR, Bond, Counted, Removal

_SHOWN = 24  # rows of a table or a plot before the rest is folded away
_TONES: dict[str, Any] = {"outside": "fail", "unclear": "open", "inside": "pass"}


def bias_sections(found: Counted) -> list[str]:
    """Representation, removal and occupations, each with how to read it."""
    from volant.store.page import paragraph, section

    about = (
        "A term list is a coarse measure: it misses who is named otherwise and counts who is only mentioned. "
        "What it shows is where to look."
    )
    return [
        section("Who is spoken of", paragraph(about), _representation(found)),
        section("What the rules took from whom", *_removal(found)),
        section("Occupations and gender", *_occupations(found)),
    ]


def _representation(found: Counted) -> str:
    from volant.store.charts import bars
    from volant.store.page import Html, escaped

    kept = found.rules == ""
    plots = []
    for axis, own in found.axes.items():
        counts = {g: int((found.named[axis, g] & kept).sum()) for g in own if (axis, g) in found.named}
        ranked = sorted((item for item in counts.items() if item[1]), key=lambda item: (-item[1], item[0]))
        absent = ", ".join(group for group in own if not counts.get(group))
        missing = f'<p class="absent">No text names {escaped(absent)}.</p>' if absent else ""
        plots.append(f"<div>{bars(axis.capitalize(), 'texts that name', ranked)}{missing}</div>")
    return Html(f'<div class="plots">{"".join(plots)}</div>')


def _removal(found: Counted) -> list[str]:
    from volant.store.charts import forest
    from volant.store.page import Html, paragraph
    from volant.store.plots import Mark

    if not found.gone:
        return [paragraph("Nothing was dropped before this step, so no rule can be looked at.")]
    if not found.removals:
        return [paragraph("No rule took away enough texts of two groups of one axis for a comparison.")]
    outside = sum(r.state == "outside" for r in found.removals)
    told = (
        f"A ratio of 1 says that a rule takes away texts that name a group as often as texts that name others of the "
        f"same axis. {len(found.removals)} pairs of rule and group were compared; {outside} "
        f"{'lies' if outside == 1 else 'lie'} outside of {FAIR[0]:g} to {FAIR[1]:g} and no chance explains it (red). "
        "The intervals hold for all comparisons together at 95 %. A ratio has innocent reasons too, as when one group "
        "is spoken of in longer texts."
    )
    order = {"outside": 0, "unclear": 1, "inside": 2}
    ranked = sorted(found.removals, key=lambda r: (order[r.state], -r.certain, r.rule, r.group))
    shown = sorted(ranked[:_SHOWN], key=lambda r: (order[r.state], r.rule, -r.ratio, r.group))
    marks = [
        Mark(f"{r.rule}: {r.group}", r.ratio, r.low, r.high, "down" if r.state == "outside" else "b") for r in shown
    ]
    rest = f", the {_SHOWN} farthest from it of {len(ranked)}" if ranked[_SHOWN:] else ""
    plot = forest("Taken away, against others of the axis", f"1 is even{rest}", marks, band=FAIR, ratio=True)
    listed = _removal_table(ranked)
    return [
        paragraph(told),
        Html(f'<div class="plots wide">{plot}</div>'),
        Html(f"<details><summary>Every rule and group, with the counts</summary>{listed}</details>"),
    ]


def _removal_table(removals: list[Removal]) -> str:
    from volant.store.page import badge, table

    rows = [
        (f"`{r.rule}`", r.group, f"{r.gone:,} of {r.texts:,} ({r.gone / r.texts:.1%})", f"{r.ratio:.2f}",
         f"{r.low:.2f} to {r.high:.2f}", badge(r.state, _TONES[r.state]))
        for r in removals
    ]  # fmt: skip
    return table(("rule", "texts that name", "taken away", "ratio", "interval", ""), rows, numeric=(2, 3, 4))


def _occupations(found: Counted) -> list[str]:
    from volant.store.charts import forest
    from volant.store.page import Html, paragraph, table
    from volant.store.plots import Mark

    if not found.bonds:
        return [paragraph("No occupation stands in enough sentences with words for one gender.")]
    ranked = sorted(found.bonds, key=lambda b: (-b.certain, -abs(b.value), b.occupation))
    shown = sorted(ranked[:_SHOWN], key=lambda b: (-b.value, b.occupation))
    marks = [Mark(b.occupation, b.value, b.low, b.high, "a" if b.certain else "b") for b in shown]
    told = (
        "Each dot is the log odds ratio of sentences with words for women alone against those for men alone: above 0 "
        "the occupation stands with women oftener than other sentences do, below 0 with men. Blue where chance does "
        f"not explain it. {found.sentences:,} sentences were read."
    )
    plot = forest("Log odds", "with women (right) or with men (left)", marks)
    rows = [_bond_row(b) for b in ranked]
    heads = ("occupation", "sentences", "women alone", "men alone", "PMI women", "PMI men")
    listed = table(heads, rows, numeric=(1, 2, 3, 4, 5))
    return [
        paragraph(told),
        Html(f'<div class="plots wide">{plot}</div>'),
        Html(f"<details><summary>The counts, with pointwise mutual information in bits</summary>{listed}</details>"),
    ]


def _bond_row(bond: Bond) -> tuple[object, ...]:
    from math import isfinite

    values = (f"{v:+.2f}" if isfinite(v) else "never" for v in (bond.pmi_women, bond.pmi_men))
    return (bond.occupation, f"{bond.sentences:,}", f"{bond.women:,}", f"{bond.men:,}", *values)
