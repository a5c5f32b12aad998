"""`align.reward_weighted`: what is rewarded gets more frequent, and what cannot be learnt is refused."""

from __future__ import annotations

import json

import pytest

import small_content as tiny
from tiny_models import model as text_model
from tiny_models import watched
from volant.core.artifact import payload_digest
from volant.core.errors import SettingError
from volant.core.protocols import Request
from volant.core.score import Score
from volant.engines import open_model
from volant.modalities.image import pixels
from volant.scorers import NAMES, relevance
from volant.scorers.scoring import Scoring
from volant.stages.align import reward_weighted


class Bright(Scoring):
    """The mean brightness of a picture, 0 to 1."""

    name, version, unit, direction, ladder, modality = "bright", 1, "1", "higher", "fidelity", "image"

    def values(self, outputs, references):
        return [float(pixels(o.sample).mean()) / 255 for o in outputs]


class Rich(Bright):
    """Whether a row is of somebody rich."""

    name, modality = "rich", "table"

    def values(self, outputs, references):
        return [float(json.loads(o.sample.content)["rich"] == "yes") for o in outputs]


class Flat(Bright):
    """The same for all."""

    name = "flat"

    def values(self, outputs, references):
        return [0.5] * len(outputs)


@pytest.fixture(autouse=True)
def rules(monkeypatch):
    for kind in (Bright, Rich, Flat):
        monkeypatch.setitem(NAMES, kind.name, "relevance")
        monkeypatch.setattr(relevance, kind.name, kind, raising=False)


def change(run, name) -> Score:
    (found,) = [s for s in watched(run).scores if s.name.startswith(name)]
    return found


@pytest.mark.slow
def test_a_flow_draws_more_of_what_is_rewarded(shelf, tmp_path):
    settings = {"scorers": ["bright"], "samples": 48, "strength": 3.0, "steps": 16, "batch": 16, "rate": 1.0}
    run = tiny.content_run(tmp_path / "a", "image")
    made = reward_weighted(run, shelf.flow, shelf.pictures, **settings)
    assert change(run, "bright").low > 0
    assert any(s.name.startswith("validation_loss") for s in watched(run).scores)  # how far it went from real data
    assert made.about.extra["aligned"] == "reward_weighted" and made.about.extra["rewards"] == ["bright"]
    again = reward_weighted(tiny.content_run(tmp_path / "b", "image"), shelf.flow, shelf.pictures, **settings)
    assert payload_digest(again.path) == payload_digest(made.path)


def test_a_tree_is_fitted_to_rewarded_rows(shelf, tmp_path):
    run = tiny.content_run(tmp_path, "table")
    made = reward_weighted(run, shelf.tree, shelf.people, scorers=["rich"], samples=200, strength=2.0, real=0.1)
    assert change(run, "rich").low > 0
    session = open_model(made)
    requests = [Request(id=str(i), prompt="", seed=i) for i in range(60)]
    rich = [json.loads(c.sample.content)["rich"] == "yes" for c in session.generate(requests)]
    known = [json.loads(s.content)["rich"] == "yes" for s in tiny.people()]
    assert sum(rich) / len(rich) > sum(known) / len(known) + 0.1


def test_one_reward_for_all_leaves_the_model_as_it_is(shelf, tmp_path):
    run = tiny.content_run(tmp_path, "table")
    made = reward_weighted(run, shelf.tree, shelf.people, scorers=["flat"], samples=16)
    assert any("nothing to learn" in line for line in run.watcher.lines)
    kept = {f.name: f.read_bytes() for f in made.path.glob("*.safetensors")}
    assert kept and kept == {f.name: f.read_bytes() for f in shelf.tree.path.glob("*.safetensors")}


def test_a_model_that_writes_text_is_refused(shelf, tmp_path):
    text = text_model(tmp_path, steps=0)
    with pytest.raises(SettingError, match="writes text.*align.dpo"):
        reward_weighted(tiny.content_run(tmp_path / "run", "image"), text, shelf.pictures, scorers=["bright"])


@pytest.mark.parametrize("scorers, said", [(["brihgt"], "bright"), ([], "no scorer")])
def test_rewards_that_are_none_are_refused(scorers, said, shelf, tmp_path):
    with pytest.raises(SettingError, match=said):
        reward_weighted(tiny.content_run(tmp_path, "table"), shelf.tree, shelf.people, scorers=scorers, samples=16)
