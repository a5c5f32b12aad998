"""DPO on pictures: a flow of digits learns from pairs that a judge chose, and another judge says what it gained.

    python bench/align_digits.py [--seeds 0 1 2] [--steps 1400] [--prompts 1297] [--out bench/align_digits.json]

The template's flow (width 16) is trained on scikit-learn's digits; `align.preferences` lets it draw several times for
each picture of the train split and has one judge choose; `align.dpo` learns from the pairs. Judged is by a judge of
another seed that no pair has seen: class accuracy of 2,000 draws (the same classes and seeds before and after, McNemar)
and the Fréchet ratio of 500 draws for the test split (paired permutation test of each draw's part in it); beside them
the figures of `digits.py` on one set of 1,297 draws. Process CPU seconds, one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digits import JUDGE_STEPS, Digits, Grids, Ids, digits, figures

from volant.core.artifact import Dataset, Model
from volant.core.outside import Snapshot
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source
from volant.core.spec import Goal
from volant.modalities.image_pixels import image_sample
from volant.nets.conv import open_judge
from volant.nets.opened import opened
from volant.nets.session import DrawSession
from volant.scorers import build
from volant.scorers.compare import paired
from volant.scorers.measure import answers
from volant.stages import align, pretrain
from volant.store.dataset import rows, writer

DRAWS, OTHER = 2000, 7  # draws that accuracy is counted on; the seed of the judge that counts
SOURCE = Source(uri="https://archive.ics.uci.edu/dataset/80", licence="CC-BY-4.0")
NO_RATINGS = {"ratings": Snapshot("ratings", "*", facts={"workload": "*", "ratings": 0})}


def run_in(folder: Path, seed: int) -> Run:
    """A run of its own in a folder."""
    out, work = folder / "out", folder / "work"
    out.mkdir(parents=True)
    work.mkdir()
    goal = Goal(modality="image", metric="class_accuracy", baseline="gaussian")
    return Run(folder.name, out, work, seed=seed, modality="image", goal=goal, outside=NO_RATINGS)


def samples(grids: Grids, classes: Ids) -> list[Sample]:
    """Grids as samples."""
    arrays = np.rint((grids.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
    made = [image_sample(array, SOURCE, str(int(one))) for array, one in zip(arrays, classes, strict=True)]
    return [s.model_copy(update={"id": f"{number:04d}", "split": "train"}) for number, s in enumerate(made)]


def dataset(folder: Path, kept: Sequence[Sample]) -> Dataset:
    """Samples as a Dataset."""
    with writer(folder, modality="image") as out:
        out.write_all(kept)
    return Dataset(folder)


def judged(other: Model, data: Digits, model: Model) -> tuple[list[float], list[float], dict[str, float]]:
    """Which of the draws are of the class asked for, each draw's part in the Fréchet ratio, the figures of one set."""
    found, judge = opened(model), open_judge(other)
    asked = np.arange(DRAWS) % 10
    ids = {str(c): found.codec.condition(str(c)) for c in range(10)}
    own = found.controls
    made = found.family.sample(found.net.eval(), [ids[str(c)] for c in asked], seed=1, **own)
    right = judge.probabilities_of(np.clip(made, -1, 1)).argmax(1) == asked
    prompts = [ids[str(int(c))] for c in data.train_class]
    one = np.clip(found.family.sample(found.net, prompts, seed=2, **own), -1, 1)
    test = samples(data.test, data.test_class)
    known = {"judge": other, "training": samples(data.train, data.train_class)}
    session = DrawSession(found.family, found.net, found.codec, own)
    parts = build(["frechet_ratio"], known)["frechet_ratio"].values(answers(session, test), test)
    return [float(r) for r in right], parts, figures(judge, data, one, data.train_class)


def one_seed(folder: Path, data: Digits, other: Model, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """A model of one seed, before and after."""
    kept = samples(data.train, data.train_class)
    held = [s.model_copy(update={"split": "validation"}) if n % 7 == 0 else s for n, s in enumerate(kept)]
    made = dataset(folder / "data", held)
    judge = pretrain.judge(run_in(folder / "judge", seed), made, steps=JUDGE_STEPS)
    run = run_in(folder / "base", seed)
    size, controls = {"width": 16}, {"steps": 10.0}
    base = pretrain.fit(run, made, judge=judge, steps=asked.steps, batch=32, size=size, controls=controls)
    begun = time.process_time()
    pairs = align.preferences(
        run_in(folder / "pairs", seed), base, made, judge=judge, scorers=asked.scorers, prompts=asked.prompts,
        answers=asked.answers, margin=asked.margin,
    )  # fmt: skip
    choosing = time.process_time() - begun
    begun = time.process_time()
    settings = {n: v for n in ("beta", "epochs", "rows", "lr", "anchor") if (v := getattr(asked, n)) is not None}
    run = run_in(folder / "dpo", seed)
    tuned = align.dpo(run, base, pairs, judge=judge, **settings)
    aligning = time.process_time() - begun
    assert isinstance(run.watcher, Silent)
    scores = {s.name: [round(v, 4) for v in (s.value, s.low, s.high)] for s in run.watcher.scores}
    (before, ratio, first), (after, other_ratio, second) = (judged(other, data, model) for model in (base, tuned))
    told = paired("class_accuracy", before, after)
    moved = paired("frechet_ratio", ratio, other_ratio, direction="lower")
    return {
        "pairs": sum(s.shape == "preference" for s in rows(pairs, "train")),
        "accuracy": [told.before, told.after], "accuracy_p": told.p, "accuracy_is": told.verdict,
        "frechet": [moved.before, moved.after], "frechet_p": moved.p, "frechet_is": moved.verdict,
        "before": first, "after": second, "scores": scores,
        "cpu_seconds": {"choosing": choosing, "dpo": aligning},
        "said": [line for line in run.watcher.lines if len(line) < 300],
    }  # fmt: skip


def main() -> None:
    """Run all and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--prompts", type=int, default=1482, help="a quarter of them from the validation split")
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--margin", type=float, default=0.5)
    parser.add_argument("--scorers", nargs="+", default=["class_accuracy"])
    for name in ("beta", "epochs", "lr", "anchor"):
        parser.add_argument(f"--{name}", type=float, help="the method's own by default")
    parser.add_argument("--rows", type=int, help="the method's own by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = digits()
    with tempfile.TemporaryDirectory() as place:
        whole = dataset(Path(place) / "whole", samples(data.train, data.train_class))
        other = pretrain.judge(run_in(Path(place) / "other", OTHER), whole, steps=JUDGE_STEPS)
        body: dict[str, Any] = {"asked": {k: v for k, v in vars(asked).items() if k != "out"}, "seeds": {}}
        for seed in asked.seeds:
            found = one_seed(Path(place) / str(seed), data, other, seed, asked)
            body["seeds"][str(seed)] = found
            print(f"seed {seed}: {json.dumps(found)}", flush=True)
    body["versions"] = {"torch": torch.__version__, "threads": 1}
    asked.out.write_text(json.dumps(body, indent=2) + "\n")


if __name__ == "__main__":
    main()
