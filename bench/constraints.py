"""Declared constraints at size: 100,000 rows, none of which may break one.

    python bench/constraints.py [--rows 100000] [--seed 0] [--out bench/constraints.json]

The patients of the template with its constraints (`age between 18 and 100`, `tc >= ldl`, `tc >= hdl`). A VAE and
sequential trees learn the training rows; each then draws under the constraints (what breaks one is drawn again) and
without. Told: rows that break a constraint, counted here and not by the engine; the share of draws that was accepted;
the likeness of the columns to held-out rows both ways, where that with constraints has to lie in the interval of that
without; process CPU seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volant.core.outside import OutsideFile
from volant.core.protocols import Output, Request
from volant.core.run import Run
from volant.core.sample import Sample, Source

CONSTRAINTS = ["age between 18 and 100", "tc >= ldl", "tc >= hdl"]
BATCH = 4096


def patients(folder: Path) -> list[Sample]:
    """The template's own table, read as the template reads it."""
    from volant.cli.samples import write_patients
    from volant.modalities import open_modality

    write_patients(folder)
    file = folder / "patients.csv"
    source = Source(uri="", licence="BSD-3-Clause")
    options = {"types": {"sex": "categorical"}, "constraints": CONSTRAINTS}
    found = open_modality("table").load(OutsideFile(file, file.name, file.stat().st_size, ""), source, **options)
    return [item for item in found if isinstance(item, Sample)]


def breaks(row: dict[str, Any]) -> bool:
    """Whether a row breaks a constraint; written out here, so that the product does not judge itself."""
    return not (18 <= row["age"] <= 100 and row["tc"] >= row["ldl"] and row["tc"] >= row["hdl"])


def drawn(session: Any, count: int, seed: int) -> tuple[list[Sample], float]:
    """So many rows, and the CPU seconds that they took."""
    begun, found = time.process_time(), list[Sample]()
    for start in range(0, count, BATCH):
        asked = [
            Request(id=str(i), prompt="", seed=seed * 10_000_000 + i) for i in range(start, min(count, start + BATCH))
        ]
        for chunk in session.generate(asked):
            assert chunk.sample is not None, chunk
            found.append(chunk.sample)
    return found, time.process_time() - begun


def likeness(rows: Sequence[Sample], references: list[Sample]) -> tuple[float, float, float]:
    """The marginals' score of as many rows as there are references, with its interval; the mean of twenty sets."""
    from volant.scorers import build

    scorer, told = build(["marginals"])["marginals"], []
    for start in range(0, min(len(rows), 20 * len(references)), len(references)):
        part = [Output("", Request(prompt=""), sample=s) for s in rows[start : start + len(references)]]
        if len(part) == len(references):
            told.append(next(s for s in scorer.score(part, references) if s.name == "marginals"))
    return tuple(round(sum(getattr(s, n) for s in told) / len(told), 4) for n in ("value", "low", "high"))  # type: ignore[return-value]


def one(name: str, samples: list[Sample], chosen: argparse.Namespace) -> dict[str, Any]:
    """Learn, draw both ways, and count."""
    from volant.engines.sampler import SamplerSession
    from volant.modalities import open_modality
    from volant.nets import content, open_family

    training = [s for s in samples if s.split == "train"]
    references = [s for s in samples if s.split != "train"]
    family = open_family(name)
    codec = open_modality("table").codec(training)
    examples = content.encoded(codec, training)
    net = content.build(family, codec, examples, seed=chosen.seed, size={})
    with tempfile.TemporaryDirectory() as folder:
        run = Run(step=name, out=Path(folder), work=Path(folder), threads=1, seed=chosen.seed)
        steps = 2400 if name == "vae" else 0
        content.fit(run, family, net, codec, examples, [], content.Budget(steps=steps), title=name)
    if hasattr(net, "eval"):
        net.eval()
    kept, spent = drawn(SamplerSession(family, net, codec), chosen.rows, chosen.seed)
    free, _ = drawn(SamplerSession(family, net, codec, strict=False), chosen.rows, chosen.seed)
    broken = [sum(breaks(json.loads(s.content or "{}")) for s in part) for part in (kept, free)]
    tries = sum(int(s.attrs.get("tries", 1)) for s in kept)
    with_rules, without = likeness(kept, references), likeness(free, references)
    return {
        "rows": len(kept), "broken": broken[0], "broken_without": broken[1], "acceptance": round(len(kept) / tries, 4),
        "marginals": with_rules, "marginals_without": without,
        "within": without[1] <= with_rules[0] <= without[2], "cpu_seconds": round(spent, 1),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }  # fmt: skip


def main() -> None:
    """Both families."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        samples = patients(Path(folder))
    found = {}
    for name in ("tree", "vae"):
        found[name] = one(name, samples, chosen)
        print(f"{name:6} {json.dumps(found[name])}", flush=True)
    chosen.out.write_text(json.dumps(found, indent=2) + "\n")
    if any(told["broken"] or not told["within"] for told in found.values()):
        raise SystemExit("a row breaks a constraint, or the columns moved")


if __name__ == "__main__":
    main()
