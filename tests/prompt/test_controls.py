"""`prompt.controls`: the controls that measurably help, unless they cost a gate; nothing else."""

from __future__ import annotations

import json
from collections import Counter

import pytest

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import payload_digest
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Request
from volant.core.score import Score
from volant.engines import open_model
from volant.scorers import NAMES
from volant.stages.prompt import controls


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """More of them to measure on than the shelf has."""
    return tiny.stored(tmp_path_factory.mktemp("data") / "pictures", tiny.pictures(180, seed=2))


def noted(prompt):
    return json.loads((prompt.path / "prompt.json").read_text())


def test_what_helps_is_chosen_and_reaches_the_model(shelf, data, tmp_path):
    """One Euler step leaves a blur that the judge can tell; that four steps are truer is the control's own promise."""
    run = tiny.content_run(tmp_path / "a", "image", metric="class_accuracy")
    tried = {"temperature": [0.0, 1.0], "steps": [4.0]}
    made = controls(run, shelf.flow, data, judge=shelf.judge, candidates=tried, metric="image_diversity", limit=24)
    body = noted(made)
    assert [row["controls"] for row in body["measured"]["tried"]] == [
        {}, {"temperature": 0.0, "steps": 4.0}, {"temperature": 1.0, "steps": 4.0},
    ]  # fmt: skip
    assert body["model"] == shelf.flow.digest and body["measured"]["samples"] == 24
    # Without noise every picture of a class is the same one, so variety falls and nothing is chosen.
    assert body["controls"] == {} and any("the model's own controls stay" in line for line in watched(run).lines)
    again = controls(
        tiny.content_run(tmp_path / "b", "image", metric="class_accuracy"), shelf.flow, data, judge=shelf.judge,
        candidates=tried, metric="image_diversity", limit=24,
    )  # fmt: skip
    assert payload_digest(again.path) == payload_digest(made.path)


class Plain:
    """Whether a picture was drawn more than once, as all are at a temperature of nought."""

    name, version, unit, direction, ladder, modality = "plain", 1, "1", "higher", "fidelity", "image"

    def values(self, outputs, references):
        counts = Counter(o.sample.media for o in outputs)
        return [float(counts[o.sample.media] > 1) for o in outputs]

    def score(self, outputs, references):
        mean = sum(self.values(outputs, references)) / len(outputs)
        low_high = {"low": mean, "high": mean, "direction": self.direction}
        return [Score(name=self.name, value=mean, n=len(outputs), **low_high)]


class Costly(Plain):
    """A gate that the better control breaks."""

    name, direction = "costly", "lower"


@pytest.fixture
def gates(monkeypatch):
    """Scorers of a made-up kind: `plain` rewards one temperature, and the gate may forbid it."""
    from volant.modalities.image import Image
    from volant.scorers import relevance

    monkeypatch.setitem(NAMES, "plain", "relevance")
    monkeypatch.setitem(NAMES, "costly", "relevance")
    monkeypatch.setattr(relevance, "plain", Plain, raising=False)
    monkeypatch.setattr(relevance, "costly", Costly, raising=False)
    chosen: list[str] = []
    monkeypatch.setattr(Image, "gates", lambda self: tuple(chosen))
    return chosen


def test_the_better_one_is_taken_and_asked_with(gates, shelf, data, tmp_path):
    run = tiny.content_run(tmp_path, "image", metric="plain")
    made = controls(run, shelf.flow, data, candidates={"temperature": [0.0, 0.9]}, limit=12)
    assert noted(made)["controls"] == {"temperature": 0.0}
    (score,) = [s for s in watched(run).scores if s.name.startswith("plain")]
    assert score.value == 1
    by_prompt, by_hand = open_model(shelf.flow, prompt=made), open_model(shelf.flow)
    request = Request(id="a", prompt="left", seed=3)
    (one,) = by_prompt.generate([request])
    (two,) = by_hand.generate([Request(id="a", prompt="left", seed=3, controls={"temperature": 0.0})])
    (other,) = by_hand.generate([request])
    assert one.sample.media == two.sample.media != other.sample.media


def test_what_costs_a_gate_is_not_taken(gates, shelf, data, tmp_path):
    gates.append("costly")
    run = tiny.content_run(tmp_path, "image", metric="plain")
    made = controls(run, shelf.flow, data, candidates={"temperature": [0.0]}, limit=12)
    assert noted(made)["controls"] == {} and noted(made)["measured"]["tried"][1]["worse"] == ["costly"]


@pytest.mark.parametrize(
    "candidates, said",
    [
        ({"guidence": [1.0]}, "guidence.*guidance"), ({"guidance": [1.0, 99.0]}, "out of bounds"),
        ({"guidance": [0.1 * i for i in range(13)], "steps": [1.0, 2.0, 3.0, 4.0, 5.0]}, "65 combinations"),
        ({}, "no control"), ({"guidance": []}, "no control"),
    ],
)  # fmt: skip
def test_what_cannot_be_tried_is_refused(candidates, said, shelf, data, tmp_path):
    run = tiny.content_run(tmp_path, "image")
    with pytest.raises(SettingError, match=said) as refused:
        controls(run, shelf.flow, data, candidates=candidates, limit=4)
    assert refused.value.fix


def test_nothing_to_ask_for_is_refused(shelf, tmp_path):
    data = tiny.stored(tmp_path / "data", [s for s in tiny.pictures() if s.split == "train"])
    with pytest.raises(DataError, match="the validation split holds no content"):
        controls(tiny.content_run(tmp_path, "image"), shelf.flow, data, candidates={"steps": [2.0]})
