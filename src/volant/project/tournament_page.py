"""The page of a tournament: who wins, quality over cost as a plot, every way's figures.

Enters: a `Tournament`. Leaves: one self-contained HTML page.
"""

from __future__ import annotations

from volant.project.tournament import Entrant, Tournament, as_rows
from volant.store.page import Html, badge, page, paragraph, section, table, tiles
from volant.store.plots import STYLE
from volant.store.scatter import Point, scatter


def tournament_page(found: Tournament) -> str:
    """The page as HTML."""
    parts: list[str] = [paragraph(found.said, kind="lead")]
    parts.append(tiles([("winner", found.winner or "no difference"), ("to take", found.choice), ("samples", found.n)]))
    parts.append(section("Quality and cost", f'<div class="plots">{_plot(found)}</div>', _table(found)))
    names = [name for name in found.entrants[0].scores if name != found.metric]
    if names:
        parts.append(section("Other figures", _others(found, names)))
    note = (
        f"{found.n} validation samples, the same for all. A way wins where the paired test against each other one has "
        f"p below {found.level:.3g}. Trainings are stopped early, and examples chosen, on validation samples as well, "
        "which favours what was tuned; a turn decides on the test split. Costs are those of the runs that made them."
    )
    return page("Base, few-shot, LoRA, full", "\n".join(parts), eyebrow="volant tournament", head=STYLE, footer=note)


def _plot(found: Tournament) -> Html:
    points = [_point(found, one) for one in found.entrants]
    return scatter(found.metric, "over CPU seconds of making it, with 95 % intervals", points)


def _point(found: Tournament, one: Entrant) -> Point:
    score = one.scores[found.metric]
    style = "a" if one.name == found.choice else "b"
    return Point(one.cpu_seconds, score.value, score.low, score.high, label=one.name, style=style)


def _table(found: Tournament) -> Html:
    heads = [
        "way", found.metric, "against the best", "CPU s", "seconds", "peak memory", "kept beside the base",
        "CPU s a sample", "",
    ]  # fmt: skip
    rows = []
    for row in as_rows(found):
        one, score = row["entrant"], row["score"]
        mark = badge("take this", "pass") if one.name == found.choice else ""
        rows.append(
            [one.name, f"{score.value:.4g} [{score.low:.4g}, {score.high:.4g}]", row["verdict"],
             *costs(one), f"{one.answer_cpu_seconds:.2g}", mark]
        )  # fmt: skip
    return table(heads, rows, numeric=(3, 4, 5, 6, 7))


def costs(one: Entrant) -> list[str]:
    """CPU seconds, seconds, peak memory and kept bytes as words; nothing of them for the base."""
    made = [f"{one.cpu_seconds:.1f}", f"{one.seconds:.1f}", f"{one.peak_bytes / 2**20:,.0f} MiB"]
    return [*(made if one.seconds else ["", "", ""]), f"{one.kept_bytes / 2**20:.2f} MiB"]


def _others(found: Tournament, names: list[str]) -> Html:
    rows = [
        [one.name, *(f"{s.value:.4g} [{s.low:.4g}, {s.high:.4g}]" for s in map(one.scores.get, names) if s is not None)]
        for one in found.entrants
    ]
    return table(["way", *names], rows)
