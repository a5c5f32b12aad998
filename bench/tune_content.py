"""Fine-tuning what draws whole samples: a new class from 50 pictures, and a table whose rows have shifted.

    python bench/tune_content.py [--data ../shared/data] [--seeds 0 1 2] [--out bench/tune_content.json]

Pictures: a flow (width 16) learns the digits 0 to 8; then 50 pictures of the 9 are all that `finetune.lora` and
`finetune.full` get. A judge that knows all ten counts how many of 60 draws of each class it reads as asked: of the 9,
and of the old ones before and after. Rows: a VAE learns 2,500 rows of Adult, one in ten a woman's; then 500 rows of
women are what `finetune.full` gets. Told is how well columns and pairs of columns of 500 draws fit held-out rows of
women: before, after, and of a VAE that never saw anything but the 500. Process CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import adult
import numpy as np
import torch
from align_digits import samples
from digits import Digits, digits, judged

from volant.core.artifact import Dataset, Model
from volant.core.protocols import Output, Request
from volant.core.run import Run
from volant.core.sample import Sample
from volant.core.spec import Goal
from volant.engines import open_model
from volant.nets.conv import Judge
from volant.scorers import build
from volant.stages import finetune, pretrain
from volant.store.dataset import writer

NEW, SHOWN, DRAWS = 9, 50, 60
WAYS = {"lora": finetune.lora, "full": finetune.full}


def run_in(folder: Path, modality: str, seed: int) -> Run:
    """A run in a folder of its own."""
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True)
    work.mkdir()
    metric, baseline = ("class_accuracy", "gaussian") if modality == "image" else ("marginals", "marginals")
    goal = Goal(modality=modality, metric=metric, baseline=baseline)
    return Run(folder.name, out, work, seed=seed, modality=modality, goal=goal)


def stored(folder: Path, kept: Sequence[Sample], modality: str) -> Dataset:
    """Samples as a Dataset."""
    with writer(folder, modality=modality) as out:
        out.write_all(kept)
    return Dataset(folder)


def spent(call: Any) -> tuple[Any, float]:
    """What a call gives, and its CPU seconds."""
    begun = time.process_time()
    found = call()
    return found, round(time.process_time() - begun, 1)


def drawn(model: Model, asks: Sequence[str], seed: int) -> list[Output]:
    """One output for each condition."""
    session = open_model(model)
    try:
        requests = [Request(id=str(n), prompt=ask, seed=seed * 100_000 + n) for n, ask in enumerate(asks)]
        ends = {c.id: c.sample for c in session.generate(requests) if c.sample}
    finally:
        session.close()
    return [Output("", request, sample=ends[request.id]) for request in requests]


def read_right(judge: Judge, model: Model, classes: Sequence[int], seed: int) -> float:
    """The share of draws that the judge reads as asked."""
    from volant.modalities.image_pixels import pixels

    asks = [str(c) for c in classes for _ in range(DRAWS)]
    grids = np.stack([pixels(o.sample)[..., 0] for o in drawn(model, asks, seed) if o.sample])
    read = judge.probabilities_of((grids.astype(np.float32) / 127.5 - 1)[:, None]).argmax(1)
    return round(float((read == np.array([int(a) for a in asks])).mean()), 4)


def pictures(folder: Path, judge: Judge, data: Digits, seed: int, steps: int) -> dict[str, Any]:
    """The new class, by both ways."""
    every = samples(data.train, data.train_class)
    old = [s for s in every if s.condition != str(NEW)]
    new = [s for s in every if s.condition == str(NEW)]
    shown = [new[int(i)] for i in np.random.default_rng(seed).permutation(len(new))[:SHOWN]]
    base, took = spent(
        lambda: pretrain.fit(
            run_in(folder / "base", "image", seed), stored(folder / "old", old, "image"), family="flow", steps=steps,
            batch=32, size={"width": 16}, controls={"steps": 10},
        )
    )  # fmt: skip
    fresh = stored(folder / "new", shown, "image")
    known = list(range(NEW))
    found: dict[str, Any] = {"base": {"old": read_right(judge, base, known, seed), "cpu_seconds": took}}
    for name, way in WAYS.items():
        made, took = spent(lambda way=way, name=name: way(run_in(folder / name, "image", seed), base, fresh, steps=300))
        right = {kind: read_right(judge, made, asked, seed) for kind, asked in (("new", [NEW]), ("old", known))}
        found[name] = {**right, "cpu_seconds": took}
    return found


def table(folder: Path, known: Sequence[Sample], seed: int) -> dict[str, Any]:
    """Rows that have shifted: marginals of draws against rows of the kind that came later."""
    split: dict[str, list[Sample]] = {"Male": [], "Female": []}
    for sample in known:
        split[json.loads(sample.content or "{}")["sex"]].append(sample)
    before, later = split["Male"][:2250] + split["Female"][:250], split["Female"][250:750]
    held = [s.model_copy(update={"split": "test"}) for s in split["Female"][750:1250]]
    base = pretrain.fit(
        run_in(folder / "base", "table", seed), stored(folder / "a", before, "table"), family="vae", steps=1200
    )
    few = stored(folder / "b", later, "table")
    tuned, took = spent(lambda: finetune.full(run_in(folder / "tuned", "table", seed), base, few, steps=300))
    alone = pretrain.fit(run_in(folder / "alone", "table", seed), few, family="vae", steps=300)
    scorers = build(["marginals", "pair_correlations"], {"training": later})
    found: dict[str, Any] = {"cpu_seconds": took}
    for name, model in {"before": base, "tuned": tuned, "from scratch": alone}.items():
        outputs = drawn(model, [""] * len(held), seed)
        found[name] = {n: round(s.score(outputs, held)[0].value, 4) for n, s in scorers.items()}
    return found


def main() -> None:
    """Run all and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve()
    parser.add_argument("--data", type=Path, default=here.parents[2] / "shared" / "data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--out", type=Path, default=here.with_suffix(".json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = digits()
    judge, facts = judged(data)
    body: dict[str, Any] = {"judge": facts["digest"], "accuracy": facts["accuracy"], "seeds": {}}
    source = chosen.data / "uci-tabular" / "adult-train.csv"
    known = adult.rows(source, seed=0) if source.is_file() else []
    for seed in chosen.seeds:
        with tempfile.TemporaryDirectory() as place:
            found = {"pictures": pictures(Path(place) / "p", judge, data, seed, chosen.steps)}
            found["rows"] = (
                table(Path(place) / "t", known, seed) if known else {"skipped": f"there is no {source.name}"}
            )
        print(f"seed {seed} {json.dumps(found)}", flush=True)
        body["seeds"][str(seed)] = found
        chosen.out.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
