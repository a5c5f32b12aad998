"""Plots as inline SVG: intervals of several candidates, two distributions, wins and losses.

Figures enter, markup leaves. Colours are the page's CSS variables, so a plot follows light and dark;
sizes are in the plot's own units and scale with the page. Text in plots is escaped like all other.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from volant.store.page import Html

WIDTH = 420
LABEL = 118  # units at the left for names
RIGHT = 62  # units at the right for figures
ROW = 19

STYLE = """<style>
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:1.1rem 2.2rem;margin:1.1rem 0}
figure{margin:0}figcaption{font-size:.8rem;font-weight:600;margin-bottom:.1rem}
figcaption span{font-weight:400;color:var(--soft)}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{font:11px system-ui,"Segoe UI",Roboto,Helvetica,sans-serif;fill:var(--soft);
font-variant-numeric:tabular-nums lining-nums}
svg .own{fill:var(--ink);font-weight:600}svg .axis{stroke:var(--line)}svg .zero{stroke:var(--soft)}
svg .goal{stroke:var(--pass);stroke-dasharray:3 2}
svg .a{fill:var(--accent);stroke:var(--accent)}svg .b{fill:var(--soft);stroke:var(--soft)}
svg.meter{width:9rem;height:.55rem;margin-top:.45em}
svg .hollow{fill:var(--paper)}svg .soft{opacity:.32}svg .up{fill:var(--pass)}
svg .down{fill:var(--fail);stroke:var(--fail)}svg .band{fill:var(--passbg)}svg .name{fill:var(--ink)}
.wide{margin:1rem 0;max-width:46rem}.plots.wide{grid-template-columns:1fr;max-width:none}
.absent{font-size:.84rem;color:var(--soft);margin:.2rem 0 0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:2.2rem}
.case{border-top:1px solid var(--line);padding:1rem 0 .4rem;display:grid;grid-template-columns:1fr 1.15fr;gap:1.4rem}
.case pre{margin:0;align-self:start;max-height:17rem;overflow:auto;font-size:.76rem}.case dl{margin:0;font-size:.93rem}
.case dt{font:600 .72rem system-ui,"Segoe UI",Roboto,sans-serif;color:var(--soft);margin-top:.55rem}
.case dt:first-child{margin-top:0}.case dd{margin:.05rem 0 0;overflow-wrap:anywhere}
.case dd.own{font-weight:600}.case dd.none{color:var(--soft);font-style:italic}
details{margin:.8rem 0}summary{cursor:pointer;font-size:.9rem;color:var(--accent)}
.verdict{display:flex;align-items:baseline;gap:.8rem;flex-wrap:wrap;margin:.4rem 0 .2rem}
.verdict .badge{font-size:1.02rem;padding:.38em .8em}.digest{font:.8em ui-monospace,Menlo,Consolas,monospace}
main{max-width:58rem}
@media(max-width:44rem){.case,.pair{grid-template-columns:1fr;gap:.8rem}}
</style>"""


@dataclass(frozen=True)
class Mark:
    """One candidate in a plot: its label, its figure with interval, and how it is drawn."""

    label: str
    value: float
    low: float
    high: float
    style: str = "b"  # `a`: the model, `b`: a rival, `hollow`: the references


def intervals(title: str, subtitle: str, marks: Sequence[Mark], *, goal: float | None = None) -> Html:
    """A dot with its interval for each candidate, on one scale; a dashed line where the target is."""
    ends = [x for m in marks for x in (m.low, m.high)] + ([goal] if goal is not None else [])
    low, high = _scale(min(ends), max(ends))
    plot = WIDTH - LABEL - RIGHT
    height = ROW * len(marks) + 20

    def x(value: float) -> float:
        return round(LABEL + (value - low) / (high - low) * plot, 2)

    parts = []
    for tick in (low, (low + high) / 2, high):
        at = x(tick)
        parts.append(f'<line class="axis" x1="{at}" x2="{at}" y1="2" y2="{height - 18}"/>')
        parts.append(f'<text x="{at}" y="{height - 6}" text-anchor="middle">{short(tick)}</text>')
    if goal is not None:
        parts.append(f'<line class="goal" x1="{x(goal)}" x2="{x(goal)}" y1="0" y2="{height - 18}"/>')
    for i, mark in enumerate(marks):
        y = 12 + i * ROW
        paint, own = ("a" if mark.style == "a" else "b"), ("own" if mark.style == "a" else "")
        dot = f"{paint} hollow" if mark.style == "hollow" else paint
        thick, radius = (2.4, 4.2) if own else (1.4, 3.4)
        ends_x = f'x1="{x(mark.low)}" x2="{x(mark.high)}"'
        parts.append(
            f'<text class="{own}" x="{LABEL - 12}" y="{y + 4}" text-anchor="end">{html.escape(mark.label)}</text>'
            f'<line class="{paint}" {ends_x} y1="{y}" y2="{y}" stroke-width="{thick}"/>'
            f'<circle class="{dot}" cx="{x(mark.value)}" cy="{y}" r="{radius}" stroke-width="1.4"/>'
            f'<text class="{own}" x="{WIDTH}" y="{y + 4}" text-anchor="end">{short(mark.value)}</text>'
        )
    return figure(title, subtitle, height, "".join(parts))


def histograms(title: str, subtitle: str, own: Sequence[float], rival: Sequence[float], names: tuple[str, str]) -> Html:
    """Two distributions over the same bins: the model's as bars, the rival's as an outline."""
    low, high = _scale(min(*own, *rival), max(*own, *rival))
    bins, height, base = 20, 150, 118

    def counts(values: Sequence[float]) -> list[int]:
        found = [0] * bins
        for value in values:
            found[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
        return found

    mine, theirs = counts(own), counts(rival)
    most, step = max(*mine, *theirs), WIDTH / bins
    parts = []
    for i, n in enumerate(mine):
        tall = n / most * (base - 14)
        parts.append(bar("a soft", i * step + 1, base - tall, step - 2, tall))
    line = f"M0 {base}"
    for i, n in enumerate(theirs):
        tall = base - n / most * (base - 14)
        line += f" L{i * step:.2f} {tall:.2f} L{(i + 1) * step:.2f} {tall:.2f}"
    parts.append(f'<path class="b" style="fill:none" stroke-width="1.5" d="{line} L{WIDTH} {base}"/>')
    parts.append(f'<line class="zero" x1="0" x2="{WIDTH}" y1="{base}" y2="{base}"/>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        tick = short(low + share * (high - low))
        parts.append(f'<text x="{share * WIDTH}" y="{base + 14}" text-anchor="{anchor}">{tick}</text>')
    parts.append(
        f'<rect class="a soft" x="0" y="{base + 22}" width="10" height="8" stroke="none"/>'
        f'<text x="15" y="{base + 30}">{html.escape(names[0])}</text>'
        f'<line class="b" x1="{WIDTH / 2}" x2="{WIDTH / 2 + 10}" y1="{base + 26}" y2="{base + 26}" stroke-width="1.5"/>'
        f'<text x="{WIDTH / 2 + 15}" y="{base + 30}">{html.escape(names[1])}</text>'
    )
    return figure(title, subtitle, height, "".join(parts))


def wins_and_losses(title: str, subtitle: str, gains: Sequence[float]) -> Html:
    """One bar an example, sorted: how much better or worse than the rival it got."""
    ordered = sorted(gains, reverse=True)
    reach = max(max(abs(g) for g in ordered), 1e-9)
    height, middle = 150, 66
    step = WIDTH / len(ordered)
    parts = []
    for i, gain in enumerate(ordered):
        tall = abs(gain) / reach * (middle - 8)
        top = middle - tall if gain > 0 else middle
        kind = "up" if gain > 0 else "down"
        parts.append(bar(kind, i * step, top, max(0.4, step * 0.86), tall))
    won, lost = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
    parts.append(f'<line class="zero" x1="0" x2="{WIDTH}" y1="{middle}" y2="{middle}"/>')
    parts.append(f'<text x="0" y="{height - 2}">{won} better</text>')
    parts.append(
        f'<text x="{WIDTH / 2}" y="{height - 2}" text-anchor="middle">{len(gains) - won - lost} the same</text>'
    )
    parts.append(f'<text x="{WIDTH}" y="{height - 2}" text-anchor="end">{lost} worse</text>')
    return figure(title, subtitle, height, "".join(parts))


def meter(share: float) -> Html:
    """A bar in a table's cell, as long as the share (0 to 1) of the column's width."""
    width = round(100 * min(max(share, 0.0), 1.0), 1)
    return Html(
        f'<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none">{bar("a soft", 0, 0, width, 8)}</svg>'
    )


def short(value: float) -> str:
    """A figure in about three digits."""
    if value == 0 or abs(value) >= 0.01:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:.1g}"


def _scale(low: float, high: float) -> tuple[float, float]:
    """Round ends of an axis, with 0 where it is near, and 1 for shares that come close to it."""
    if low >= 0 and high <= 1 and high > 0.7:
        return 0.0, 1.0
    low = 0.0 if 0 <= low < 0.6 * high else low
    if high - low < 1e-9:
        return low, low + 1.0
    step = 10 ** math.floor(math.log10(high - low)) / 2
    return math.floor(low / step) * step, math.ceil(high / step - 1e-9) * step


def bar(kind: str, x: float, y: float, width: float, height: float) -> str:
    """A rectangle of a plot, painted by its class."""
    size = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f'<rect class="{kind}" {size} stroke="none"/>'


def figure(title: str, subtitle: str, height: float, inner: str, *, width: float = WIDTH) -> Html:
    """A plot with its caption; `width` and `height` are the plot's own units."""
    caption = f"{html.escape(title)} <span>{html.escape(subtitle)}</span>"
    label = html.escape(f"{title}: {subtitle}", quote=True)
    svg = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{inner}</svg>'
    return Html(f"<figure><figcaption>{caption}</figcaption>{svg}</figure>")
