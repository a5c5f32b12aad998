"""Scorers, channels and the local runner keep their contracts; broken ones are found out."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import small_content
from volant import scorers
from volant.core.artifact import Model
from volant.core.errors import DataError
from volant.core.protocols import Receipt
from volant.core.score import Score
from volant.modalities import open_modality
from volant.runners.local import Done, runner
from volant.scorers import sandbox
from volant.scorers.ladders import modality_of, training
from volant.scorers.relevance import Relevance
from volant.stages.deliver.channels import CHANNELS, refusal
from volant.testing import arrived_in, check_channel, check_runner, check_scorer, tasks

FORMS = {"file": ("markdown", "html", "json"), "whole": ("json",), "page": ("html",)}
BUILT = scorers.build(list(scorers.NAMES))
TEXT, IMAGE, TABLE = (sorted(n for n, s in BUILT.items() if modality_of(s) == m) for m in ("text", "image", "table"))
OF_EXAMPLES = {"class_accuracy", "caption_accuracy", "violations"}  # the other figures are those of a whole set


@pytest.mark.parametrize("name", TEXT)
def test_scorer(name):
    if name == "passes_tests" and not sandbox.available():
        pytest.skip("there is no bubblewrap here")
    found = check_scorer(scorers.build([name])[name], n=40, means=name != "perplexity")
    assert len(found) == 3


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Model:
    """What `pretrain.judge` makes of the training pictures of the ladders."""
    folder = tmp_path_factory.mktemp("judge")
    return small_content.judge(folder / "run", small_content.stored(folder / "data", training("image")), steps=120)


@pytest.mark.parametrize("name", IMAGE)
def test_scorer_of_images(name, judge):
    made = scorers.build([name], {"judge": judge, "training": training("image")})[name]
    assert len(check_scorer(made, n=48, seeds=(0,), means=name in OF_EXAMPLES)) == 3


@pytest.mark.parametrize("name", TABLE)
def test_scorer_of_tables(name):
    made = scorers.build([name], {"training": training("table")})[name]
    assert len(check_scorer(made, seeds=(0,), means=name in OF_EXAMPLES)) == 3


def test_no_scorer_is_missing():
    assert sorted([*TEXT, *IMAGE, *TABLE]) == sorted(scorers.NAMES)
    for name in ("text", "image", "table"):
        modality = open_modality(name)
        assert (
            set(modality.gates()) <= set(modality.scorers()) <= {n for n, s in BUILT.items() if modality_of(s) == name}
        )


class Upside(Relevance):
    def values(self, outputs, references):
        return [1 - v for v in super().values(outputs, references)]


class Moody(Relevance):
    def values(self, outputs, references):
        return [v + random.random() / 1e6 for v in super().values(outputs, references)]


class Certain(Relevance):
    def score(self, outputs, references):
        return [Score.exact(s.name, s.value, n=s.n) for s in super().score(outputs, references)]


class Hopeful(Relevance):
    def check(self, outputs, references):
        pass

    def score(self, outputs, references):
        return super().score(outputs, references) if outputs else [Score.exact("relevance", 0.0)]


class Lazy(Relevance):
    def values(self, outputs, references):
        return super().values(outputs, references)[:-1]


class Renamed(Relevance):
    def score(self, outputs, references):
        return [s.model_copy(update={"name": "quality"}) for s in super().score(outputs, references)]


@pytest.mark.parametrize(
    "broken, sentence",
    [
        (Upside, "does not rank its ladder 'fidelity'"), (Moody, "other figures for the same outputs"),
        (Certain, "cover the figure in"), (Hopeful, "has to refuse n = 0"), (Lazy, "one value an example"),
        (Renamed, "is not the one that it declares"),
    ],
)  # fmt: skip
def test_broken_scorer(broken, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_scorer(broken(), n=40)


@pytest.mark.parametrize("name, form", [(n, f) for n, forms in FORMS.items() for f in forms])
def test_channel(name, form, tmp_path):
    receipts = check_channel(
        lambda: CHANNELS[name](tmp_path, "Contract", form, open_modality("text")),
        tasks(3),
        delivered=arrived_in(tmp_path),
    )
    assert len(receipts) == 3


def test_no_channel_is_missing():
    assert set(FORMS) == set(CHANNELS)


@dataclass
class Letters:
    """A channel that can be broken in one way at a time."""

    folder: Path
    fault: str
    name: str = "letters"
    told: list[str] = field(default_factory=list)

    def send(self, sample):
        why = refusal(sample)
        if why and self.fault != "refusals":
            return Receipt(sample.id, refused="" if self.fault == "silence" else why)
        name = f"{sample.id}-{len(list(self.folder.iterdir()))}" if self.fault == "twice" else sample.id
        name = "all" if self.fault == "one place" else name.replace("/", "_")
        (self.folder / name).write_text(sample.target)
        return Receipt(sample.id, where=name)


@pytest.mark.parametrize(
    "fault, sentence",
    [
        ("twice", "another receipt|once, however often"), ("refusals", "has to refuse a dropped sample"),
        ("silence", "say why"), ("one place", "has to deliver .* once"),
    ],
)  # fmt: skip
def test_broken_channel(fault, sentence, tmp_path):
    with pytest.raises(AssertionError, match=sentence):
        check_channel(lambda: Letters(tmp_path, fault), tasks(3), delivered=arrived_in(tmp_path))


def test_local_runner(tmp_path):
    assert check_runner(runner, folder=tmp_path)


class Forgets:
    """Hands over a fresh run, without the seed."""

    name = "forgets"

    def submit(self, call: Any, run: Any, *arguments: Any) -> Done:
        run.seed = 0
        return runner.submit(call, run, *arguments)


class Wraps:
    """Turns every error into one of its own."""

    name = "wraps"

    def submit(self, call: Any, run: Any, *arguments: Any) -> Done:
        done = runner.submit(call, run, *arguments)
        return Done(done.value, DataError(str(done.error)) if done.error else None)


@pytest.mark.parametrize("broken, sentence", [(Forgets, "makes another artifact"), (Wraps, "loses parts of an error")])
def test_broken_runner(broken, sentence, tmp_path):
    with pytest.raises(AssertionError, match=sentence):
        check_runner(broken(), folder=tmp_path)
