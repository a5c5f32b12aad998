"""Loss and time of `pretrain.transformer` against `depth` and `tokens`, fitted; what `plan.sizing` predicts with.

    python bench/scaling.py [--out bench/scaling.json] [--write] [--fit-only]

Trains each depth at each budget on 2 million characters of the standard library (collect.python_sources), with the
settings that a user gets: vocabulary 2048, context 256, the recipe of the depth. Measured: bits per byte of 64 texts of
held-out modules, and process CPU seconds of the whole step on one thread. Fitted: L(N, D) = E + A/N^a + B/D^b, by a
Huber loss of the logarithms (Hoffmann et al. 2022, approach 3), intervals by resampling the points; seconds = a fixed
part + D x (N + N0) x a rate. Some pairs of depth and budget are held out and predicted. Rows that stand in the JSON
already are not trained again. `--write` renews `src/volant/stages/plan/scaling.json` and `docs/scaling.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from pathlib import Path
from typing import Any

from volant.stages.plan.scaling import expected, loss

ROOT = Path(__file__).parent.parent
MARKS = ("<!-- table by bench/scaling.py -->", "<!-- end of the table -->")
DELTA, RESAMPLED = 1e-3, 100
FITTED = [(d, t) for t in (50_000, 100_000, 200_000) for d in (1, 2, 3, 4) if (d, t) != (4, 200_000)]
FITTED += [(6, 50_000), (1, 400_000), (2, 400_000)]
HELD_OUT = [(4, 200_000), (5, 100_000)]
MEGABYTES = 2.0


def trained(out: Path) -> list[dict[str, Any]]:
    """One row for each pair of depth and budget; those of the file are taken from it."""
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if out.exists() else []
    wanted = [pair for pair in FITTED + HELD_OUT if pair not in {(r["depth"], r["asked"]) for r in rows}]
    if not wanted:
        return rows
    from volant.project import Project
    from volant.stages import collect, pretrain

    with tempfile.TemporaryDirectory() as folder:
        project = Project(folder, device="cpu", threads=1)
        data = project.run(collect.python_sources, max_megabytes=MEGABYTES)
        project.step("warm").run(pretrain.transformer, data, depth=1, tokens=4096, patience=0, looks=1)
        for depth, tokens in wanted:
            name = f"d{depth}t{tokens}"
            settings: dict[str, Any] = {"depth": depth, "tokens": tokens, "patience": 0, "looks": 1}
            model = project.step(name).run(pretrain.transformer, data, **settings)
            record = project.records.runs(step=name)[0]
            scores = {s.name: s for s in model.card.scores} if model.card else {}
            bits = scores["bits_per_byte"]
            row = {
                "depth": depth, "asked": tokens, "parameters": model.about.parameters,
                "tokens": model.about.extra["tokens"], "bits_per_byte": round(bits.value, 5),
                "low": round(bits.low, 5), "high": round(bits.high, 5), "cpu_seconds": round(record.cpu_seconds, 1),
            }  # fmt: skip
            rows.append(row)
            print(row, flush=True)
            out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return rows


def law_of(rows: list[dict[str, Any]], starts: list[list[float]]) -> tuple[list[float], float]:
    """(E, A, alpha, B, beta) that fit the rows best from one of the starts, and the Huber loss."""
    import numpy as np
    from scipy.optimize import minimize
    from scipy.special import huber

    n, d = (np.array([float(r[key]) for r in rows]) for key in ("parameters", "tokens"))
    y = np.log([r["bits_per_byte"] for r in rows])

    def miss(x: Any) -> float:
        said = np.exp(x[0]) + np.exp(x[1] - x[2] * np.log(n)) + np.exp(x[3] - x[4] * np.log(d))
        return float(huber(DELTA, np.log(said) - y).sum() / DELTA)

    bounds = [(-6, 2), (-5, 25), (0.05, 2), (-5, 25), (0.05, 2)]
    found = min((minimize(miss, x, method="L-BFGS-B", bounds=bounds) for x in starts), key=lambda f: f.fun)
    e, a, alpha, b, beta = found.x
    return [math.exp(e), math.exp(a), float(alpha), math.exp(b), float(beta)], float(found.fun)


def time_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds = fixed + tokens x (N + N0) x a rate, by least squares of relative errors, nothing negative."""
    import numpy as np
    from scipy.optimize import nnls

    seconds = np.array([r["cpu_seconds"] for r in rows])
    terms = np.array([[1.0, r["tokens"], r["tokens"] * r["parameters"]] for r in rows])
    fixed, token, weight = nnls(terms / seconds[:, None], np.ones(len(rows)))[0]
    return {"fixed": fixed, "every_token": token / weight, "flops_a_second": 6 / weight}


def fitted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What `src/volant/stages/plan/scaling.json` holds."""
    known = [r for r in rows if (r["depth"], r["asked"]) in FITTED]
    starts = [
        [e, a, alpha, b, beta]
        for e in (-3.0, 0.0, 0.4) for alpha, a in ((0.2, 1.0), (0.5, 5.0)) for beta, b in ((0.3, 3.0), (0.6, 6.0))
    ]  # fmt: skip
    law, _ = law_of(known, starts)
    own = [math.log(x) for x in law]
    start = [[own[0], own[1], law[2], own[3], law[4]]]
    rng = random.Random(0)
    resampled = [law_of(rng.choices(known, k=len(known)), start)[0] for _ in range(RESAMPLED)]
    misses = [math.log(r["bits_per_byte"] / loss(law, r["parameters"], r["tokens"])) for r in known]
    time = time_of(known)
    return {
        "law": rounded(law),
        "resampled": [rounded(x) for x in resampled],
        # Five numbers were chosen by the points that they are measured on.
        "scatter": float(f"{math.sqrt(sum(m * m for m in misses) / max(1, len(misses) - 5)):.3g}"),
        "parameters": [min(r["parameters"] for r in known), max(r["parameters"] for r in known)],
        "tokens": [min(r["tokens"] for r in known), max(r["tokens"] for r in known)],
        "time": {name: float(f"{value:.3g}") for name, value in time.items()},
    }


def rounded(law: list[float]) -> list[float]:
    return [float(f"{x:.5g}") for x in law]


def table(rows: list[dict[str, Any]], fit: dict[str, Any]) -> str:
    """All pairs, measured and expected."""
    time = fit["time"]
    lines = [
        "| depth | weights | tokens | bits per byte | expected | error | CPU s | expected | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: (r["depth"], r["asked"])):
        said = expected(r["parameters"], r["tokens"], fit)
        seconds = time["fixed"] + 6 * r["tokens"] * (r["parameters"] + time["every_token"]) / time["flops_a_second"]
        held = "held out" if (r["depth"], r["asked"]) in HELD_OUT else ""
        lines.append(
            f"| {r['depth']} | {r['parameters']:,} | {r['tokens']:,} | {r['bits_per_byte']:.3f} | {said.bits:.3f} "
            f"({said.low:.3f} to {said.high:.3f}) | {r['bits_per_byte'] / said.bits - 1:+.1%} | {r['cpu_seconds']:.0f} "
            f"| {seconds:.0f} | {held} |"
        )
    return "\n".join(lines)


def drawn(rows: list[dict[str, Any]], fit: dict[str, Any]) -> str:
    """Loss and seconds over tokens, a line for each depth, as SVG."""
    time = fit["time"]
    depths = sorted({r["depth"] for r in rows})
    size = {r["depth"]: r["parameters"] for r in rows}

    def seconds(n: float, d: float) -> float:
        return float(time["fixed"] + 6 * d * (n + time["every_token"]) / time["flops_a_second"])

    panels = [
        ("bits per byte of held-out text", "bits_per_byte", lambda n, d: loss(fit["law"], n, d)),
        ("CPU seconds, one thread", "cpu_seconds", seconds),
    ]
    few, many = (math.log(x * f) for x, f in zip(fit["tokens"], (0.85, 1.9), strict=True))
    parts = []
    for number, (title, key, curve) in enumerate(panels):
        left = 60 + 480 * number
        values = [r[key] for r in rows] + [curve(size[d], math.exp(many)) for d in depths]
        low, high = math.log(min(values) * 0.97), math.log(max(values) * 1.03)

        def at(d: float, v: float, left: int = left, low: float = low, high: float = high) -> str:
            x = left + (math.log(d) - few) / (many - few) * 360
            return f"{x:.1f},{330 - (math.log(v) - low) / (high - low) * 280:.1f}"

        parts.append(f'<text class="title" x="{left}" y="30">{title}</text>')
        for tokens in (50_000, 100_000, 200_000, 400_000):
            x = at(tokens, math.exp(low)).split(",")[0]
            parts.append(f'<text x="{x}" y="350" text-anchor="middle">{tokens // 1000}k</text>')
        for share in (0, 1 / 3, 2 / 3, 1):
            value = math.exp(low + share * (high - low))
            y = 330 - share * 280
            parts.append(f'<line class="axis" x1="{left}" x2="{left + 360}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        ends: list[tuple[float, int]] = []
        for index, depth in enumerate(depths):
            colour = f"hsl({30 + 230 * index // max(1, len(depths) - 1)} 60% 48%)"
            steps = [math.exp(few + (many - few) * i / 30) for i in range(31)]
            points = " ".join(at(d, curve(size[depth], d)) for d in steps)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
            ends.append((float(points.rsplit(",", 1)[1]) + 4, depth))
            for r in (r for r in rows if r["depth"] == depth):
                x, y = at(r["tokens"], r[key]).split(",")
                fill = "none" if (depth, r["asked"]) in HELD_OUT else colour
                parts.append(f'<circle cx="{x}" cy="{y}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="1.6"/>')
        lowest = 0.0
        for y, depth in sorted(ends):
            lowest = max(y, lowest + 13)
            parts.append(f'<text x="{left + 365}" y="{lowest:.1f}">depth {depth}</text>')
    style = (
        "text{font:12px ui-sans-serif,system-ui,Arial,sans-serif;fill:#5b6474}.title{font-size:14px;font-weight:600}"
        ".axis{stroke:#aab2c0;stroke-width:.5}"
    )
    note = "lines: the fitted laws, by depth; full dots were fitted, hollow ones held out; below: tokens of training"
    label = "Loss and seconds against tokens for each depth, measured and fitted"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 390" role="img" aria-label="{label}">'
    return "\n".join([head, f"<style>{style}</style>", *parts, f'<text x="60" y="378">{note}</text>', "</svg>\n"])


def written(rows: list[dict[str, Any]], fit: dict[str, Any]) -> None:
    """Renew what is shipped: the fit, the plot, and the table of the page."""
    body = json.dumps(fit, separators=(",", ":")).replace('],"', '],\n"')
    (ROOT / "src/volant/stages/plan/scaling.json").write_text(body + "\n")
    (ROOT / "docs/scaling.svg").write_text(drawn(rows, fit))
    page = ROOT / "docs/scaling.md"
    before, _, rest = page.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    page.write_text(f"{before}{MARKS[0]}\n{table(rows, fit)}\n{MARKS[1]}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--fit-only", action="store_true", help="train nothing; fit the rows of the file")
    parser.add_argument("--write", action="store_true", help="renew the product's file and the page")
    asked = parser.parse_args()
    rows = json.loads(asked.out.read_text())["rows"] if asked.fit_only else trained(asked.out)
    fit = fitted(rows)
    print(table(rows, fit))
    for name, index in (("E", 0), ("alpha", 2), ("beta", 4)):
        values = sorted(law[index] for law in fit["resampled"])
        low, high = values[len(values) // 20], values[-1 - len(values) // 20]
        print(f"{name} {fit['law'][index]:.3g}, 90 % of the resampled fits between {low:.3g} and {high:.3g}")
    print("time", fit["time"], "scatter", fit["scatter"])
    asked.out.write_text(json.dumps({"rows": rows, "fit": fit}, indent=1) + "\n")
    if asked.write:
        written(rows, fit)


if __name__ == "__main__":
    main()
