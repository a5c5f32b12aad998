"""Small pictures and a small table that a network learns something of in a few steps, and models of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tiny_models import run_in
from volant.core.artifact import Dataset, Model
from volant.core.run import Run
from volant.core.sample import Label, Sample, Source, Split, content_text, sample_id, split_of
from volant.core.spec import Goal
from volant.modalities.image_pixels import image_sample
from volant.store.dataset import writer

SOURCE = Source(uri="test:tiny", licence="CC0-1.0")
SIDE = 8
CLASSES = ("left", "right")
SPLITS: tuple[Split, ...] = ("train",) * 4 + ("validation", "test")
JOBS = ("cook", "nurse", "smith")
TYPES = {"age": "integer", "job": "categorical", "sex": "categorical", "pay": "numeric", "rich": "categorical"}
FLOW = {"width": 8, "depth": 1, "average": 0.5}


def picture(name: str, rng: np.random.Generator) -> Sample:
    """A bar at the side that the name says (`left`, `right`, `top`), grey and grainy."""
    array = np.zeros((SIDE, SIDE, 1))
    half = slice(0, SIDE // 2) if name in ("left", "top") else slice(SIDE // 2, SIDE)
    if name in ("top", "bottom"):
        array[half] = 200
    else:
        array[:, half] = 200
    array = np.clip(array + rng.normal(20, 12, array.shape), 0, 255).astype(np.uint8)
    return image_sample(array, SOURCE, name)


def pictures(n: int = 48, *, classes: Sequence[str] = CLASSES, seed: int = 0) -> list[Sample]:
    """`n` pictures, the classes and splits taking turns."""
    rng = np.random.default_rng(seed)
    made = [picture(classes[i % len(classes)], rng) for i in range(n)]
    return [s.model_copy(update={"split": SPLITS[i // len(classes) % 6]}) for i, s in enumerate(made)]


def pair(chosen: Sample, rejected: Sample) -> Sample:
    """Two contents as a preference of Ana's, a fifth of them for validation."""
    id, media_type = sample_id("pair", chosen.id, rejected.id), "image/png"
    return Sample(
        id=id, shape="preference", source=SOURCE, condition=chosen.condition,
        target=content_text(chosen, media_type), rejected=content_text(rejected, media_type),
        split=split_of(id, test=0, validation=2), labels=[Label(name="preference", value="chosen", by="person:ana")],
    )  # fmt: skip


def row(number: int, rng: np.random.Generator, constraints: Sequence[str] = ()) -> Sample:
    """A person whose pay hangs on age and job, and who is called rich from 3000 on."""
    age, job = int(rng.integers(18, 70)), JOBS[int(rng.integers(3))]
    pay = round(500 + 40 * age + 800 * JOBS.index(job) + float(rng.normal(0, 30)), 2)
    body = {
        "age": age, "job": job, "sex": ("f", "m")[number % 2], "pay": pay, "rich": "yes" if pay > 3000 else "no",
    }  # fmt: skip
    about: dict[str, Any] = {"types": TYPES}
    if constraints:
        about["constraints"] = list(constraints)
    content, split = json.dumps(body), SPLITS[number % 6]
    name = sample_id(content, str(number))
    return Sample(id=name, shape="row", source=SOURCE, content=content, attrs={"table": about}, group=name, split=split)


def people(n: int = 60, *, seed: int = 0, constraints: Sequence[str] = ()) -> list[Sample]:
    """`n` rows, the splits taking turns."""
    rng = np.random.default_rng(seed)
    return [row(i, rng, constraints) for i in range(n)]


def stored(folder: Path, samples: Sequence[Sample]) -> Dataset:
    """Samples as a Dataset of their modality."""
    modality = {"media": "image", "row": "table"}[samples[0].shape]
    with writer(folder, modality=modality) as out:
        out.write_all(samples)
    return Dataset(folder)


def content_run(folder: Path, modality: str, *, seed: int = 0, outside: Any = None, **goal: Any) -> Run:
    """A run with a goal of that modality; its metric needs no judge."""
    torch.set_num_threads(1)
    run = run_in(folder, seed=seed, outside=outside)
    metric = {"image": "sharpness", "table": "marginals"}[modality]
    baseline = {"image": "gaussian", "table": "cart"}[modality]
    run.modality = modality
    run.goal = Goal(**{"modality": modality, "metric": metric, "baseline": baseline, **goal})
    return run


def flow(folder: Path, data: Dataset, *, steps: int = 60, seed: int = 0) -> Model:
    """A flow that tells left from right."""
    from volant.stages.pretrain import fit

    controls = {"steps": 4.0}
    return fit(content_run(folder, "image", seed=seed), data, steps=steps, batch=16, size=FLOW, controls=controls)


def tree(folder: Path, data: Dataset, *, seed: int = 0) -> Model:
    """Sequential trees of the people."""
    from volant.stages.pretrain import fit

    return fit(content_run(folder, "table", seed=seed), data, size={"leaf": 5})


def judge(folder: Path, data: Dataset, *, steps: int = 40) -> Model:
    """A judge of the pictures."""
    from volant.stages.pretrain import judge as train

    return train(content_run(folder, "image"), data, steps=steps, batch=16)


class Shelf:
    """Data and models that are made when they are first asked for, once for all tests; nobody may change them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def pictures(self) -> Dataset:
        """48 pictures of two classes."""
        return stored(self.folder / "pictures", pictures())

    @cached_property
    def pairs(self) -> Dataset:
        """Pairs of pictures of one class, the first one chosen, and the pictures for validation."""
        samples = pictures()
        held = [s for s in samples if s.split == "validation"]
        return stored(self.folder / "pairs", [*held, *(pair(a, b) for a, b in zip(samples, samples[2:], strict=False))])

    @cached_property
    def people(self) -> Dataset:
        """60 rows."""
        return stored(self.folder / "people", people())

    @cached_property
    def flow(self) -> Model:
        """See `flow`."""
        return flow(self.folder / "flow", self.pictures)

    @cached_property
    def vae(self) -> Model:
        """A VAE of the pictures that has hardly begun."""
        from volant.stages.pretrain import fit

        run = content_run(self.folder / "vae", "image")
        return fit(run, self.pictures, family="vae", steps=8, batch=16, size={"z": 3, "width": 8})

    @cached_property
    def tree(self) -> Model:
        """See `tree`."""
        return tree(self.folder / "tree", self.people)

    @cached_property
    def judge(self) -> Model:
        """See `judge`."""
        return judge(self.folder / "judge", self.pictures)
