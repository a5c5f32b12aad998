"""Wrong labels at 10 % noise: does `collect.suspects` find them, and is it right?

    python bench/wrong_labels.py [--data ../shared/data] [--seeds 3] [--noise 0.1] [--out bench/wrong_labels.json]

Wrong labels are planted in sets whose labels are taken for right: **uniform**, to any other class with equal chance,
and **by class**, where every class is always taken for one certain other. The method then marks suspects, through its
own interface. Precision: of the suspects, how many were planted. Recall: of those planted, how many are suspects.
Errors of the sets' own count against precision.

* digits: 1,797 pictures of 8x8; tumours: 569 rows of 30 measurements. Both come with scikit-learn.
* mnist: 4,000 pictures of 28x28; texts: 5,480 articles of BOLD on people, professions and beliefs, by which of the
  three; adult: 6,000 rows, by income. Only where the data is there.

The bar is precision 0.8 and recall 0.6, in the mean over the seeds. `adult` is shown and not held to it: a sixth of its
records are of the class that their columns speak against, which no finder can tell from a wrong label.

Exit code 1 if the bar is missed.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from clean_corpus import SHARED
from PIL import Image

from volant.core import Dataset, Run, Sample
from volant.core.sample import Label, Source
from volant.stages import collect
from volant.store.dataset import rows, writer

PRECISION, RECALL = 0.8, 0.6
HERE = Path(__file__).parent
SOURCE = Source(uri="bench", licence="LicenseRef-bench")
Labelled = list[tuple[dict[str, Any], str]]
DOMAINS = {
    "gender": "people", "race": "people", "profession": "professions", "political_ideology": "beliefs",
    "religious_ideology": "beliefs",
}  # fmt: skip


def _png(array: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def digits(folder: Path) -> tuple[str, Labelled]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    arrays = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return "image", [({"media": _png(a)}, str(v)) for a, v in zip(arrays, labels, strict=True)]


def tumours(folder: Path) -> tuple[str, Labelled]:
    from sklearn.datasets import load_breast_cancer

    told = load_breast_cancer()
    names = [str(name) for name in told.feature_names]
    found = [
        ({"content": json.dumps(dict(zip(names, map(float, row), strict=True)))}, str(told.target_names[value]))
        for row, value in zip(told.data, told.target, strict=True)
    ]
    return "table", found


def mnist(folder: Path) -> tuple[str, Labelled]:
    raw = gzip.decompress((folder / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "mnist" / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)[:4000]
    return "image", [({"media": _png(a)}, str(v)) for a, v in zip(images, labels, strict=False)]


def texts(folder: Path) -> tuple[str, Labelled]:
    found: dict[str, tuple[dict[str, Any], str]] = {}
    for domain, name in DOMAINS.items():
        groups = json.loads((folder / "bold" / f"{domain}_wiki.json").read_text("utf-8"))
        for group in groups.values():
            for title, sentences in group.items():
                text = " ".join(sentences)
                if len(text) >= 80:
                    found.setdefault(title, ({"content": text}, name))
    return "text", list(found.values())


def adult(folder: Path) -> tuple[str, Labelled]:
    with (folder / "uci-tabular" / "adult-test.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))[:6000]
    target = list(read[0])[-1]
    found: Labelled = []
    for row in read:
        value = row.pop(target)
        cells = {name: float(cell) if cell.lstrip("-").isdigit() else cell for name, cell in row.items()}
        found.append(({"content": json.dumps(cells)}, value))
    return "table", found


SETS: dict[str, tuple[Callable[[Path], tuple[str, Labelled]], bool]] = {
    "digits": (digits, True), "tumours": (tumours, True), "mnist": (mnist, True), "texts": (texts, True),
    "adult": (adult, False),
}  # fmt: skip
SHAPES = {"image": "media", "table": "row", "text": "text"}


def spoilt(values: Sequence[str], noise: float, kind: str, seed: int) -> list[str]:
    """The labels with a share of them wrong."""
    random = np.random.default_rng(seed)
    classes = sorted(set(values))
    found = list(values)
    for at in random.permutation(len(values))[: round(noise * len(values))]:
        own = classes.index(values[at])
        step = 1 if kind == "by class" else int(random.integers(1, len(classes)))
        found[at] = classes[(own + step) % len(classes)]
    return found


def once(modality: str, known: Labelled, given: Sequence[str], seed: int) -> dict[str, float]:
    """Precision, recall and CPU seconds of one run of the method."""
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place, name) for name in ("in", "out", "work")]
        for folder in folders:
            folder.mkdir()
        with writer(folders[0], modality=modality) as out:
            for number, ((content, _), value) in enumerate(zip(known, given, strict=True)):
                labels = [Label(name="kind", value=value, by="bench")]
                shape: Any = SHAPES[modality]
                out.write(Sample(id=str(number), shape=shape, source=SOURCE, labels=labels, **content))
        start = time.process_time()
        run = Run(step="suspects", out=folders[1], work=folders[2], seed=seed, modality=modality)
        made = collect.suspects(run, Dataset(folders[0]))
        seconds = time.process_time() - start
        found = {int(sample.id) for sample in rows(made) if "suspect" in sample.attrs}
        told = made.read_json("suspects.json")
    planted = {n for n, (_, value) in enumerate(known) if value != given[n]}
    hits = len(found & planted)
    right = sum(1 for n in found & planted if any(one["id"] == str(n) for one in told["first"]))
    return {
        "precision": hits / max(1, len(found)), "recall": hits / max(1, len(planted)), "suspects": len(found),
        "planted": len(planted), "first hundred": right / max(1, min(100, len(found))), "noise": told["noise"],
        "seconds": seconds,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--out", type=Path, default=HERE / "wrong_labels.json")
    asked = parser.parse_args()
    body: dict[str, Any] = {"noise": asked.noise, "seeds": asked.seeds, "sets": {}}
    missed = []
    print(
        f"{'set':<9}{'noise':<10}{'precision':>10}{'recall':>8}{'worst':>14}"
        f"{'first 100':>11}{'estimate':>10}{'CPU s':>7}"
    )
    for name, (load, held) in SETS.items():
        try:
            modality, known = load(asked.data)
        except FileNotFoundError:
            print(f"{name:<9}left out: no data in {asked.data}")
            continue
        for kind in ("uniform", "by class"):
            given = [spoilt([value for _, value in known], asked.noise, kind, seed) for seed in range(asked.seeds)]
            runs = [once(modality, known, one, seed) for seed, one in enumerate(given)]
            mean = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
            worst = f"{min(r['precision'] for r in runs):.2f} / {min(r['recall'] for r in runs):.2f}"
            good = mean["precision"] >= PRECISION and mean["recall"] >= RECALL
            missed += [] if good or not held else [f"{name}, {kind}"]
            note = "" if held else "  (not held to the bar)"
            print(
                f"{name:<9}{kind:<10}{mean['precision']:>10.3f}{mean['recall']:>8.3f}{worst:>14}"
                f"{mean['first hundred']:>11.2f}{mean['noise']:>10.3f}{mean['seconds']:>7.1f}{note}",
                flush=True,
            )
            body["sets"][f"{name}, {kind}"] = {"records": len(known), "held": held, "mean": mean, "runs": runs}
    asked.out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    print("missed: " + "; ".join(missed) if missed else f"precision {PRECISION} and recall {RECALL}: reached")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
