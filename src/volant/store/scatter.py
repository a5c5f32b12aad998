"""Points over two axes as inline SVG: what was tried against what it gave, cost against quality.

Figures enter, markup leaves, as in `store/plots.py`, whose style they share.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from volant.store.page import Html
from volant.store.plots import WIDTH, figure, short

_HEIGHT = 190
_LEFT, _RIGHT, _TOP, _BASE = 46, 14, 12, 158


@dataclass(frozen=True)
class Point:
    """One point.

    Attributes:
        low, high: of its interval upwards; both at `y` where it has none.
        label: written beside it; empty for none.
        style: `a` for what matters, `b` for the others.
    """

    x: float
    y: float
    low: float
    high: float
    label: str = ""
    style: str = "b"


def scatter(
    title: str, subtitle: str, points: Sequence[Point], *, log: bool = False, ticks: Sequence[str] = ()
) -> Html:
    """Points over two axes.

    Args:
        points: at least one.
        log: equal factors of x are equally far apart.
        ticks: names of the places 0, 1, ... where x counts values without an order.
    """
    places = [math.log10(p.x) if log else p.x for p in points]
    left, right = (-0.5, len(ticks) - 0.5) if ticks else _ends(places)
    low, high = _ends([v for p in points for v in (p.low, p.y, p.high)])

    def x(value: float) -> float:
        return round(_LEFT + (value - left) / (right - left) * (WIDTH - _LEFT - _RIGHT), 2)

    def y(value: float) -> float:
        return round(_BASE - (value - low) / (high - low) * (_BASE - _TOP), 2)

    parts = []
    for value in (low, (low + high) / 2, high):
        at = y(value)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4}" text-anchor="end">{short(value)}</text>')
    named = [(float(i), name) for i, name in enumerate(ticks)] or [
        (v, short(10**v if log else v)) for v in (left, (left + right) / 2, right)
    ]
    for value, name in named:
        parts.append(f'<text x="{x(value)}" y="{_BASE + 18}" text-anchor="middle">{html.escape(name[:24])}</text>')
    for point, place in zip(points, places, strict=True):
        parts.append(_dot(point, x(place), y(point.low), y(point.y), y(point.high)))
    return figure(title, subtitle, _HEIGHT, "".join(parts))


def _dot(point: Point, x: float, low: float, y: float, high: float) -> str:
    line = "" if low == high else f'<line class="{point.style}" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>'
    right = x > WIDTH * 0.7
    anchor, beside = ("end", x - 8) if right else ("start", x + 8)
    own = "own" if point.style == "a" else "name"
    text = html.escape(point.label)
    label = f'<text class="{own}" x="{beside}" y="{y + 4}" text-anchor="{anchor}">{text}</text>' if text else ""
    return f'{line}<circle class="{point.style}" cx="{x}" cy="{y}" r="3.6"/>{label}'


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis, with a little room on both sides; below zero only where a value is."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room if low < 0 else max(0.0, low - room), high + room
