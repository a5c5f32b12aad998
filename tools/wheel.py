"""Draws the wheel: eleven stages on a ring, each with the figure that the demo printed.

Enters: `docs/wheel.json`: `{"title", "before", "after", "caption": [lines], "stages": {stage: [figure, note]}}`.
Leaves: `docs/wheel.svg`, readable on light and dark pages. Text outside the ring keeps one side, so that
nothing has to be turned to be read.
"""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STAGES = (
    "plan", "collect", "pretrain", "prompt", "finetune", "align",
    "evaluate", "compress", "deploy", "deliver", "improve",
)  # fmt: skip
WIDTH, HEIGHT = 960, 700
CX, CY = WIDTH / 2, HEIGHT / 2 + 4
OUTER, INNER = 232.0, 158.0
GAP = 1.6  # degrees between two slices

STYLE = """
  text { font-family: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Arial, sans-serif; fill: #1c2330; }
  .name { font-size: 14.5px; font-weight: 600; fill: #ffffff; text-anchor: middle; }
  .index { font-size: 11px; fill: #ffffff; opacity: .8; text-anchor: middle; }
  .figure { font-size: 16px; font-weight: 650; }
  .note { font-size: 12.5px; fill: #5b6474; }
  .title { font-size: 30px; font-weight: 700; text-anchor: middle; letter-spacing: .5px; }
  .before { font-size: 15px; fill: #5b6474; text-anchor: middle; }
  .after { font-size: 21px; font-weight: 700; text-anchor: middle; fill: #0f7a55; }
  .caption { font-size: 12.5px; fill: #5b6474; text-anchor: middle; }
  .spoke { stroke: #aab2c0; stroke-width: 1.2; fill: none; }
  .turn { stroke: #0f7a55; stroke-width: 3; fill: none; stroke-linecap: round; }
  .head { fill: #0f7a55; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e8ecf3; } .note, .before, .caption { fill: #9aa5b8; } .spoke { stroke: #4a5466; }
    .after { fill: #4fd1a1; } .turn { stroke: #4fd1a1; } .head { fill: #4fd1a1; }
  }
"""


def point(radius: float, degrees: float) -> tuple[float, float]:
    """A point on a circle around the centre; 0 degrees is the top, clockwise."""
    angle = math.radians(degrees - 90)
    return CX + radius * math.cos(angle), CY + radius * math.sin(angle)


def at(radius: float, degrees: float) -> str:
    """The same as path data."""
    x, y = point(radius, degrees)
    return f"{x:.1f} {y:.1f}"


def colour(index: int) -> str:
    """From deep blue to teal and back, so that the last stage meets the first; white text is readable on each."""
    share = (1 - math.cos(2 * math.pi * index / len(STAGES))) / 2
    return f"hsl({222 - 58 * share:.0f} {44 + 8 * share:.0f}% {40 - 9 * share:.0f}%)"


def slice_of(index: int, stage: str, figure: str, note: str) -> list[str]:
    """One slice with its name inside, its figure outside."""
    step = 360 / len(STAGES)
    middle = index * step
    a, b = middle - step / 2 + GAP / 2, middle + step / 2 - GAP / 2
    mid_r = (OUTER + INNER) / 2
    nose = 7.0  # each slice points at the next one
    path = (
        f"M {at(OUTER, a)} A {OUTER} {OUTER} 0 0 1 {at(OUTER, b)} L {at(mid_r, b + nose / 2)} L {at(INNER, b)} "
        f"A {INNER} {INNER} 0 0 0 {at(INNER, a)} L {at(mid_r, a + nose / 2)} Z"
    )
    x, y = point(mid_r, middle + 1.5)
    lines = [
        f'<path d="{path}" fill="{colour(index)}"/>',
        f'<text class="index" x="{x:.1f}" y="{y - 10:.1f}">{index + 1}</text>',
        f'<text class="name" x="{x:.1f}" y="{y + 8:.1f}">{stage}</text>',
    ]
    if not figure:
        return lines
    across, up = point(1.0, middle)
    across, up = across - CX, up - CY
    anchor = "middle" if abs(across) < 0.25 else "start" if across > 0 else "end"
    tx, ty = point(OUTER + (30 if anchor != "middle" else 34), middle)
    lines.append(f'<path class="spoke" d="M {at(OUTER + 5, middle)} L {at(OUTER + 21, middle)}"/>')
    ty += -12 if up < -0.9 else 4
    lines.append(f'<text class="figure" text-anchor="{anchor}" x="{tx:.1f}" y="{ty:.1f}">{escape(figure)}</text>')
    lines.append(f'<text class="note" text-anchor="{anchor}" x="{tx:.1f}" y="{ty + 17:.1f}">{escape(note)}</text>')
    return lines


def draw(numbers: dict[str, Any]) -> str:
    """The whole picture."""
    body = []
    for index, stage in enumerate(STAGES):
        figure, note = [*numbers["stages"].get(stage, ["", ""]), ""][:2]
        body += slice_of(index, stage, str(figure), str(note))
    r = INNER - 22
    x, y = point(r, 318)
    body += [
        f'<path class="turn" d="M {at(r, 42)} A {r} {r} 0 1 1 {at(r, 318)}"/>',
        f'<path class="head" d="M -3 -9 L 13 0 L -3 9 Z" transform="translate({x:.1f} {y:.1f}) rotate(318)"/>',
        f'<text class="title" x="{CX}" y="{CY - 34}">{escape(numbers.get("title", "volant"))}</text>',
        f'<text class="before" x="{CX}" y="{CY + 2}">{escape(numbers.get("before", ""))}</text>',
        f'<text class="after" x="{CX}" y="{CY + 32}">{escape(numbers.get("after", ""))}</text>',
    ]
    for number, line in enumerate(numbers.get("caption", [])):
        body.append(f'<text class="caption" x="{CX}" y="{CY + 58 + 17 * number}">{escape(line)}</text>')
    inner = "\n".join(body)
    label = "The eleven stages of Volant as a wheel, each with the figure that the demo printed."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">\n'
        f"<style>{STYLE}</style>\n{inner}\n</svg>\n"
    )


def from_demo(found: dict[str, Any]) -> dict[str, Any]:
    """The picture's numbers from what `volant demo` kept: each stage's last figure, and the two turns."""
    stages: dict[str, list[str]] = {}
    for row in found["steps"]:
        score = row.get("score")
        if score:
            unit = "" if score["unit"] == "1" else f" {score['unit']}"
            value = f"{score['value']:,.0f}" if abs(score["value"]) >= 1000 else f"{score['value']:.3g}"
            stages[row["method"].split(".")[0]] = [
                f"{value}{unit}",
                f"{score['name'].replace('_', ' ')} ({row['step']})",
            ]
    second = found["turns"][-1]
    if second.get("harvested"):
        stages["improve"] = [f"{second['harvested']:,} corrections", "harvested from use, with consent"]
    return {
        "title": "volant",
        "before": f"second turn, {second['metric'].replace('_', ' ')}",
        "after": f"gain {second['gain']:.3f}",
        "caption": [second["outcome"], f"p = {second['p']:.2g}, needed below {second['needed_p']:.2g}"],
        "stages": stages,
    }


def main() -> int:
    """Draw `docs/wheel.json`; given the demo's `demo.json`, write that first."""
    page = ROOT / "docs" / "wheel.json"
    if len(sys.argv) > 1:
        numbers = from_demo(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
        page.write_text(json.dumps(numbers, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    svg = draw(json.loads(page.read_text(encoding="utf-8")))
    (ROOT / "docs" / "wheel.svg").write_text(svg, encoding="utf-8")
    print("wrote docs/wheel.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
