"""Which records to label next: how many labels does choosing them save, against labelling at random?

    python bench/active.py [--data ../shared/data] [--seeds 5] [--labels 200] [--errors 0] [--out bench/active.json]

A set whose labels are known is dealt anew for each seed: a third is for the test, of the rest up to 2,000 records are
the pool. Each way (`volant label --pick`) starts without a label and takes ten at a time; after each ten the classifier
of the product is fitted on what is labelled, and its accuracy on the test is taken. **The target** is what labelling at
random has with `--labels` labels, in the mean of three orders; **labels needed** is where a way's curve reaches it
(the curve made monotone, straight between its points). **Saved** is the share of these labels that a way does without,
with the t interval of 95 % over the seeds; a way that does not get there within one and a half times the labels counts
as that. Labelling at random, in an order of its own, is held to the same target: what it saves is the measure's error.
With `--errors 0.1` whoever labels is wrong on a tenth of the records, whatever the way.

* digits: 1,797 pictures; tumours: 569 rows (a target of 100 labels, for the pool has 380); texts: articles of
  BOLD by domain; mnist: 4,000 pictures; adult: 6,000 rows by income. See `wrong_labels.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from clean_corpus import SHARED
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from wrong_labels import SETS, SHAPES, SOURCE

from volant.core import Sample
from volant.modalities import open_modality
from volant.scorers.classifier import features_of, fit
from volant.scorers.selection import HOW, OPEN, How, pick

BATCH, POOL, ORDERS = 10, 2000, 3
FEWER = {"tumours": 100}
HERE = Path(__file__).parent


def accuracies(
    features: Any, labels: Any, said: Any, pool: Any, test: Any, how: How, seed: int, most: int
) -> list[tuple[int, float]]:
    """The accuracy on the test after each batch of labels, which are what was `said` of the records."""
    classes = int(labels.max()) + 1
    known, found = np.full(len(pool), OPEN), []
    while (count := int((known != OPEN).sum())) < min(most, len(pool)):
        chosen = pick(features[pool], known, classes, min(BATCH, most - count), how=how, seed=seed)
        known[chosen] = said[pool[chosen]]
        taught = known != OPEN
        told = fit(features[pool[taught]], known[taught], classes).probabilities(features[test]).argmax(1)
        found.append((int(taught.sum()), float((told == labels[test]).mean())))
    return found


def needed(curve: list[tuple[int, float]], target: float) -> float:
    """How many labels reach the target."""
    counts, values = np.array(curve, float).T
    rising = IsotonicRegression().fit_transform(counts, values)
    if rising[-1] < target - 1e-12:
        return float(counts[-1])
    at = int(np.argmax(rising >= target - 1e-12))
    if at == 0:
        return float(counts[0])
    part = (target - rising[at - 1]) / (rising[at] - rising[at - 1])
    return float(counts[at - 1] + part * (counts[at] - counts[at - 1]))


def once(features: Any, labels: Any, seed: int, goal: int, errors: float) -> dict[str, Any]:
    """All ways on one deal."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    others = (labels + random.integers(1, int(labels.max()) + 1, len(labels))) % (int(labels.max()) + 1)
    said = np.where(random.random(len(labels)) < errors, others, labels)
    third = len(order) // 3
    test, pool = order[:third], order[third : third + POOL]
    most = math.ceil(1.5 * goal / BATCH) * BATCH
    same = [
        accuracies(features, labels, said, pool, test, "random", 1000 + 10 * seed + k, goal)[-1][1]
        for k in range(ORDERS)
    ]
    target = float(np.mean(same))
    told: dict[str, Any] = {"target": target}
    for how in HOW:
        start = time.process_time()
        curve = accuracies(features, labels, said, pool, test, how, seed, most)
        told[how] = {"needed": needed(curve, target), "curve": curve, "seconds": time.process_time() - start}
    return told


def saved(runs: list[dict[str, Any]], how: str, goal: int) -> tuple[float, float, float]:
    """The share of labels that a way does without, with its interval."""
    shares = np.array([1 - run[how]["needed"] / goal for run in runs])
    mean, error = float(shares.mean()), float(shares.std(ddof=1) / math.sqrt(len(shares)))
    reach = float(stats.t.ppf(0.975, len(shares) - 1)) * error
    return mean, mean - reach, mean + reach


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--errors", type=float, default=0.0)
    parser.add_argument("--sets", nargs="*", default=["digits", "texts", "tumours", "mnist", "adult"])
    parser.add_argument("--out", type=Path, default=HERE / "active.json")
    asked = parser.parse_args()
    body: dict[str, Any] = {"seeds": asked.seeds, "sets": {}}
    print(f"{'set':<9}{'target':>8}{'labels':>8}  {'way':<11}{'needed':>7}{'saved':>8}{'95 %':>17}{'CPU s':>7}")
    for name in asked.sets:
        try:
            modality, known = SETS[name][0](asked.data)
        except FileNotFoundError:
            print(f"{name:<9}left out: no data in {asked.data}")
            continue
        samples = [
            Sample(id=str(n), shape=SHAPES[modality], source=SOURCE, **content) for n, (content, _) in enumerate(known)
        ]
        features = features_of(open_modality(modality), samples)
        labels = np.unique([value for _, value in known], return_inverse=True)[1]
        goal = FEWER.get(name, asked.labels)
        runs = [once(features, labels, seed, goal, asked.errors) for seed in range(asked.seeds)]
        target = np.mean([run["target"] for run in runs])
        told: dict[str, Any] = {"target": float(target), "labels": goal, "records": len(labels), "runs": runs}
        for how in HOW:
            mean, low, high = told[f"saved by {how}"] = saved(runs, how, goal)
            need = np.mean([run[how]["needed"] for run in runs])
            share = f"{mean:>8.2f}   {low:>6.2f} to {high:.2f}"
            seconds = np.mean([run[how]["seconds"] for run in runs])
            print(f"{name:<9}{target:>8.3f}{goal:>8}  {how:<11}{need:>7.0f}{share:<26}{seconds:>6.1f}", flush=True)
        body["sets"][name] = told
    asked.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
