"""`pretrain.judge`: a classifier that scorers look through."""

from __future__ import annotations

import pytest

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import payload_digest
from volant.core.errors import DataError
from volant.nets.conv import open_judge
from volant.scorers import build
from volant.scorers.measure import output_of
from volant.stages.pretrain import judge


def test_it_tells_the_classes_and_says_how_well(tmp_path):
    data = tiny.stored(tmp_path / "data", tiny.pictures())
    run = tiny.content_run(tmp_path / "a", "image")
    made = judge(run, data, steps=30, batch=16)
    (score,) = [s for s in watched(run).scores if s.name == "judge_accuracy"]
    assert score.value == 1 and score.n == 8 and score.low < 1
    fresh = tiny.pictures(12, seed=9)
    assert open_judge(made).classify(fresh) == [s.condition for s in fresh]
    assert (made.about.family, made.about.engine, made.about.extra["classes"]) == ("conv", "none", 2)
    again = judge(tiny.content_run(tmp_path / "b", "image"), data, steps=30, batch=16)
    assert payload_digest(again.path) == payload_digest(made.path)
    # What it says reaches a scorer by its parameter's name.
    accuracy = build(["class_accuracy"], {"judge": made})["class_accuracy"]
    assert accuracy.score([output_of(s) for s in fresh], fresh)[0].value == 1


@pytest.mark.parametrize("classes, said", [(("left",), "1 classes"), ((), "0 classes")])
def test_fewer_than_two_classes_are_refused(classes, said, tmp_path):
    samples = tiny.pictures(24, classes=classes or ("left",))
    if not classes:
        samples = [s.model_copy(update={"condition": None}) for s in samples]
    data = tiny.stored(tmp_path / "data", samples)
    with pytest.raises(DataError, match=said) as refused:
        judge(tiny.content_run(tmp_path, "image"), data, steps=2)
    assert refused.value.fix
