"""Digits at 8x8: image families against the bar, under a judge whose recipe is fixed here.

    python bench/digits.py [--families flow] [--seeds 0 1 2] [--out bench/digits.json]

scikit-learn's digits, 1297 to train on and 500 to test, each class in its share. A judge is trained on the train
split alone; the bench is void unless it is right on 98 % of the test split, gives the per-class Gaussian a Fréchet
ratio of 2.5 or more, and noise one of 40 or more. Each seed trains with a family's own defaults and draws one set of
samples, as many as there are training pictures and of the same classes; all figures are of that one set. Times are
process CPU seconds on one thread.

The formulas below stand in for `volant/scorers` (fidelity, manifold, nearest) and are to be replaced by them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.spatial.distance import cdist
from scipy.stats import t as student

from volant.core.protocols import Example, Grid
from volant.core.run import Run
from volant.nets import open_family
from volant.nets.arrays import Arrays
from volant.nets.conv import Judge, fit_examples
from volant.nets.conv import family as conv
from volant.nets.loop import train
from volant.nets.recipe import Recipe

JUDGE_SEED, JUDGE_STEPS, NEAREST, SPARE = 0, 800, 5, 8
VOID = {"judge accuracy": 0.98, "gaussian ratio": 2.5, "noise ratio": 40.0}
BARS = {"ratio": ("<=", 1.5), "recall": (">=", 0.90), "nearest": (">=", 0.9), "accuracy": (">=", 0.97)}
BUDGET = 120.0  # CPU seconds of training
Grids = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Both splits: grids [n, 1, 8, 8] in [-1, 1] and their classes."""

    train: Grids
    train_class: Ids
    test: Grids
    test_class: Ids

    @property
    def examples(self) -> list[Example]:
        """The train split as a codec would give it."""
        return [Example(v, (int(c),)) for v, c in zip(self.train, self.train_class, strict=True)]


def digits() -> Digits:
    """The same split for everyone."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    values = (found.images.astype(np.float32) / 8 - 1)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        values, found.target, train_size=1297, test_size=500, stratify=found.target, random_state=0
    )
    return Digits(train_x, train_y, test_x, test_y)


def frechet(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features [n, F]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    one, two = np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.maximum(np.linalg.eigvals(one @ two).real, 0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * roots)


def covered(points: npt.NDArray[Any], by: npt.NDArray[Any]) -> float:
    """Share of the points that lie within the distance of some point of `by` to its k-th neighbour there."""
    reach = np.sort(cdist(by, by), 1)[:, NEAREST]
    return float((cdist(points, by) <= reach).any(1).mean())


def figures(judge: Judge, data: Digits, made: Grids, asked: Ids) -> dict[str, float]:
    """All figures of one set of samples."""
    drawn, known, test = (judge.features_of(x) for x in (made, data.train, data.test))
    flat, train_flat, test_flat = (x.reshape(len(x), -1) for x in (made, data.train, data.test))
    usual = np.median(cdist(test_flat, train_flat).min(1))
    found = {
        "ratio": frechet(drawn, test) / frechet(known, test),
        "recall": covered(test, drawn),
        "precision": covered(drawn, test),
        "nearest": float(np.median(cdist(flat, train_flat).min(1)) / usual),
        "accuracy": float((judge.probabilities_of(made).argmax(1) == asked).mean()),
    }
    return {name: round(value, 4) for name, value in found.items()}


def gaussians(data: Digits) -> tuple[Grids, Ids]:
    """The trivial rival: a Gaussian over the pixels of each class, as many of each as there are."""
    rng = np.random.default_rng(0)
    made, asked = list[Any](), list[Any]()
    for one in np.unique(data.train_class):
        flat = data.train[data.train_class == one].reshape(-1, 64).astype(np.float64)
        spread = np.cov(flat.T) + 1e-6 * np.eye(64)
        made.append(rng.multivariate_normal(flat.mean(0), spread, size=len(flat), method="eigh"))
        asked.append(np.full(len(flat), one))
    grids = np.clip(np.concatenate(made), -1, 1).reshape(-1, 1, 8, 8)
    return grids.astype(np.float32), np.concatenate(asked)


def judged(data: Digits) -> tuple[Judge, dict[str, Any]]:
    """The judge and what it says of the trivial rivals; ends the bench where that voids it."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(step="judge", out=Path(folder), work=Path(folder), seed=JUDGE_SEED)
        names = [str(i) for i in range(10)]
        net = fit_examples(run, data.examples, names, steps=JUDGE_STEPS)
        conv.save(net, Path(folder) / "judge")
        from volant.core.artifact import payload_digest

        judge = Judge(net, payload_digest(Path(folder) / "judge")[0])
    noise = np.random.default_rng(0).uniform(-1, 1, data.train.shape).astype(np.float32)
    right = float((judge.probabilities_of(data.test).argmax(1) == data.test_class).mean())
    facts: dict[str, Any] = {
        "digest": judge.digest,
        "accuracy": right,
        "gaussian": figures(judge, data, *gaussians(data)),
        "noise": figures(judge, data, noise, data.train_class),
    }
    told = dict(zip(VOID, (right, facts["gaussian"]["ratio"], facts["noise"]["ratio"]), strict=True))
    short = {name: value for name, value in told.items() if value < VOID[name]}
    if short:
        raise SystemExit(f"void: {short} below {VOID}")
    return judge, facts


def one_seed(name: str, judge: Judge, data: Digits, seed: int) -> dict[str, float]:
    """Train a family with its defaults, draw one set, and judge it."""
    family = open_family(name)
    space = Grid(1, (8, 8), conditions=10 + SPARE)
    steps, rows = family.default_steps, family.default_batch
    with tempfile.TemporaryDirectory() as folder:
        run = Run(step=name, out=Path(folder), work=Path(folder), seed=seed)
        start = time.process_time()
        net = family.build(space, seed=seed)
        recipe = Recipe(**family.recipe(space, steps=steps, batch=rows), checkpoint_every=0)
        train(run, net, Arrays(data.examples, rows=rows, seed=seed), recipe, loss=family.step_loss)
        spent = time.process_time() - start
    start = time.process_time()
    made = np.clip(family.sample(net, [(int(c),) for c in data.train_class], seed=seed), -1, 1)
    drawn = time.process_time() - start
    found = figures(judge, data, made, data.train_class)
    return {**found, "train_cpu_seconds": round(spent, 1), "sample_cpu_seconds": round(drawn, 1)}


def summary(seeds: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and 95 % interval (Student) of each figure over the seeds."""
    told = {}
    for name in seeds[0]:
        values = np.array([s[name] for s in seeds])
        half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0
        told[name] = {"mean": round(float(values.mean()), 3), "half_interval": round(float(half), 3)}
    return told


def missed(seed: dict[str, float]) -> list[str]:
    """The bars that one set of samples does not meet."""
    wrong = [n for n, (way, bar) in BARS.items() if (seed[n] > bar if way == "<=" else seed[n] < bar)]
    return wrong + (["train_cpu_seconds"] if seed["train_cpu_seconds"] > BUDGET else [])


def main() -> None:
    """Run all and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=["flow"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = digits()
    judge, facts = judged(data)
    print(f"judge {json.dumps(facts)}", flush=True)
    body: dict[str, Any] = {"judge": facts, "families": {}}
    for name in chosen.families:
        seeds = []
        for seed in chosen.seeds:
            seeds.append(one_seed(name, judge, data, seed))
            print(f"{name} seed {seed} {json.dumps(seeds[-1])} misses {missed(seeds[-1]) or 'nothing'}", flush=True)
        body["families"][name] = {"seeds": seeds, "summary": summary(seeds), "missed": [missed(s) for s in seeds]}
    body["versions"] = {"torch": torch.__version__, "threads": 1}
    chosen.out.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
