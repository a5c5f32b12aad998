"""Plots of counts as inline SVG: columns of a histogram, bars with names, ratios and differences with their intervals.

Figures enter, markup leaves, as in `store/plots.py`, whose style they share.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from volant.store.page import Html
from volant.store.plots import ROW, WIDTH, Mark, bar, figure, short

_WIDE = 760  # units of a plot that takes the page's whole width
_NAME = 300  # of these, for names
_END = 50  # and for figures
_LONGEST = 30  # characters of a bar's name


def columns(title: str, subtitle: str, counts: Sequence[int], names: Sequence[str], *, limit: float = -1) -> Html:
    """A histogram of counts.

    Args:
        counts: one a bin.
        names: the bins' edges, of which as many as fit are written.
        limit: where a dashed line stands, as a share (0 to 1) of the width; none below 0.
    """
    height, base, most = 140, 112, max([*counts, 1])
    step = WIDTH / max(1, len(counts))
    parts = [
        bar("a soft", i * step + 1, base - n / most * (base - 16), max(1.0, step - 2), n / most * (base - 16))
        for i, n in enumerate(counts)
        if n
    ]
    parts.append(f'<line class="zero" x1="0" x2="{WIDTH}" y1="{base}" y2="{base}"/>')
    if limit >= 0:
        parts.append(f'<line class="goal" x1="{limit * WIDTH:.1f}" x2="{limit * WIDTH:.1f}" y1="4" y2="{base}"/>')
    skipped = math.ceil(len(names) / 7)
    for i in range(0, len(names), skipped):
        share = i / max(1, len(names) - 1)
        anchor = "start" if i == 0 else "end" if i == len(names) - 1 else "middle"
        parts.append(
            f'<text x="{share * WIDTH:.1f}" y="{base + 15}" text-anchor="{anchor}">{html.escape(names[i])}</text>'
        )
    tallest = max(range(len(counts)), key=lambda i: counts[i])
    at = min(max((tallest + 0.5) * step, 24), WIDTH - 24)
    parts.append(f'<text class="own" x="{at:.1f}" y="11" text-anchor="middle">{counts[tallest]:,}</text>')
    return figure(title, subtitle, height, "".join(parts))


def bars(title: str, subtitle: str, rows: Sequence[tuple[str, int]]) -> Html:
    """One bar for each name, as long as its count."""
    most, start, room = max([*(n for _, n in rows), 1]), 178, WIDTH - 178 - _END
    parts = []
    for i, (name, n) in enumerate(rows):
        y = 4 + i * ROW
        shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        long = max(1.0, n / most * room)
        parts.append(
            f'<text class="name" x="{start - 10}" y="{y + 11}" text-anchor="end">{html.escape(shown)}'
            f"<title>{html.escape(name)}</title></text>{bar('a soft', start, y + 1, long, ROW - 7)}"
            f'<text x="{start + long + 6:.1f}" y="{y + 11}">{n:,}</text>'
        )
    return figure(title, subtitle, 8 + ROW * len(rows), "".join(parts))


def forest(
    title: str, subtitle: str, marks: Sequence[Mark], *, band: tuple[float, float] | None = None, ratio: bool = False
) -> Html:
    """A dot with its interval for each name, one below the other, on one scale as wide as the page.

    Args:
        marks: what is shown; `style` is the class that paints it (`a`, `b`, `down`).
        band: values that are well, as a stripe; without one a line stands at 0, or at 1 of ratios.
        ratio: equal factors are equally far apart (1/8 to 8 at the widest); intervals beyond are cut off.
    """
    low, high = _ends(marks, ratio)
    plot, height = _WIDE - _NAME - _END, ROW * len(marks) + 24

    def x(value: float) -> float:
        at = math.log2(max(value, 1e-9)) if ratio else value
        return round(_NAME + (min(max(at, low), high) - low) / (high - low) * plot, 2)

    parts = []
    if band:
        parts.append(bar("band", x(band[0]), 0, x(band[1]) - x(band[0]), height - 20))
    for tick in range(math.ceil(low), math.floor(high) + 1):
        value, at = (2.0**tick if ratio else tick), x(2.0**tick if ratio else tick)
        parts.append(f'<line class="{"axis" if tick else "zero"}" x1="{at}" x2="{at}" y1="0" y2="{height - 20}"/>')
        name = f"1/{2**-tick}" if ratio and tick < 0 else short(value)
        parts.append(f'<text x="{at}" y="{height - 6}" text-anchor="middle">{name}</text>')
    for i, mark in enumerate(marks):
        y, paint = 10 + i * ROW, mark.style
        name = "own" if paint != "b" else "name"
        parts.append(
            f'<text class="{name}" x="{_NAME - 14}" y="{y + 4}" text-anchor="end">{html.escape(mark.label)}</text>'
            f'<line class="{paint}" x1="{x(mark.low)}" x2="{x(mark.high)}" y1="{y}" y2="{y}" stroke-width="1.6"/>'
            f'<circle class="{paint}" cx="{x(mark.value)}" cy="{y}" r="3.6"/>'
            f'<text class="{name}" x="{_WIDE}" y="{y + 4}" text-anchor="end">{mark.value:.2f}</text>'
        )
    return figure(title, subtitle, height, "".join(parts), width=_WIDE)


def _ends(marks: Sequence[Mark], ratio: bool) -> tuple[float, float]:
    """The scale's ends, a unit apart at least on both sides of what changes nothing."""
    values = [v for mark in marks for v in (mark.low, mark.value, mark.high)]
    if ratio:
        values = [math.log2(max(v, 1e-9)) for v in values]
    reach = (-3.0, 3.0) if ratio else (-math.inf, math.inf)
    return max(reach[0], min(-1.0, *values)), min(reach[1], max(1.0, *values))
