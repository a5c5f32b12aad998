"""The page of a search: what was best, how much each setting matters, every trial.

Enters: a `Search`. Leaves: one self-contained HTML page.
"""

from __future__ import annotations

from volant.project.ranges import Choice
from volant.project.trials import Search, Trial
from volant.project.tuning import CURVE, never_early
from volant.store.page import Html, badge, page, paragraph, section, table, tiles
from volant.store.plots import STYLE, meter
from volant.store.scatter import Point, scatter

_TONES = {"done": "pass", "pruned": "open", "failed": "fail"}
_WORDS = {"done": "done", "pruned": "ended early", "failed": "failed"}


def tuning_page(found: Search) -> str:
    """The page as HTML."""
    best = found.best
    parts: list[str] = [_lead(found)]
    if best is not None:
        parts.append(
            tiles([(found.metric, _figure(best.score)), *((c.name, best.values[c.name]) for c in found.choices)])
        )
    parts.append(_matters(found))
    parts.append(_trials(found))
    note = f"Search {found.seed}, {len(found.trials)} trials; {found.direction} is better."
    return page(f"Search of {found.step}", "\n".join(parts), eyebrow="volant tune", head=STYLE, footer=note)


def _lead(found: Search) -> Html:
    done = sum(t.state == "done" for t in found.trials)
    best = found.best
    where = "" if found.target == found.step else f" of {found.target}"
    if best is None:
        return paragraph(
            f"None of {len(found.trials)} trials came to a figure of {found.metric or 'its own'}.", kind="lead"
        )
    text = f"Trial {best.number} is the best of {done} that ended by {found.metric}{where}, measured on validation."
    note = (
        f"The best of {done} tries on one set of validation samples looks better than it is. "
        "Compare it with what stands now on samples that chose nothing: a turn does."
    )
    return Html(paragraph(text, kind="lead") + paragraph(note, kind="note"))


def _matters(found: Search) -> Html:
    if not found.importance:
        return section("What matters", paragraph("Too few trials with different figures to tell."))
    rows = [[name, f"{share:.0%}", meter(share)] for name, share in found.importance.items()]
    by_name = {c.name: c for c in found.choices}
    drawn = [_plot(found, by_name[name]) for name in found.importance]
    said = "Share of the differences between good and other trials that is due to each setting (PED-ANOVA)."
    return section(
        "What matters", paragraph(said), table(["setting", "share", ""], rows, numeric=[1]),
        f'<div class="plots">{"".join(p for p in drawn if p)}</div>',
    )  # fmt: skip


def _plot(found: Search, choice: Choice) -> Html:
    """The figure of every finished trial over one setting."""
    done = [t for t in found.trials if t.state == "done" and t.score is not None]
    best = found.best

    def at(trial: Trial) -> float:
        value = trial.values[choice.name]
        return float(choice.values.index(value)) if choice.values else float(value)

    points = [
        Point(at(t), t.score or 0.0, t.score or 0.0, t.score or 0.0, style="a" if best is t else "b") for t in done
    ]
    points.sort(key=lambda p: p.style, reverse=True)
    return scatter(
        choice.name, f"{found.metric} of each trial", points, log=choice.log, ticks=[str(v) for v in choice.values]
    )


def _trials(found: Search) -> Html:
    names = [c.name for c in found.choices]
    rows = []
    for trial in found.trials:
        state = badge(_WORDS[trial.state], _TONES[trial.state])  # type: ignore[arg-type]
        seconds = f"{trial.seconds:.0f}" if trial.seconds else ""
        rows.append(
            [trial.number, *(trial.values[n] for n in names), _figure(trial.score), state, seconds, trial.error]
        )
    said = f"A trial whose {CURVE} is worse than the middle of the earlier ones at the same look is ended early."
    if why := never_early(found):
        said = f"{why[0].upper()}{why[1:]}."
    heads = ["trial", *names, found.metric or "figure", "", "seconds", ""]
    stands = ", ".join(f"{name} {value}" for name, value in found.stands.items())
    return section(
        "Trials", paragraph(said), paragraph(f"What the file takes now: {stands}."),
        table(heads, rows, numeric=[0, len(names) + 1, len(names) + 3]),
    )  # fmt: skip


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
