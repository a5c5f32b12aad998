import json
from itertools import pairwise

import pytest
from pydantic import ValidationError

from volant.core import Dataset, Model, Score
from volant.core.artifact import Artifact, Card, payload_digest
from volant.core.errors import ArtifactError, Interrupted, SettingError, VolantError, did_you_mean
from volant.core.outside import OutsideFile, Snapshot
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source, sample_id, split_of, spread
from volant.core.spaces import Grid, Mixed, Tokens, space_json
from volant.core.spec import Goal, Spec, Step, Target


def test_an_error_says_what_where_and_how_to_mend_it():
    error = SettingError("no setting 'rnak'.", where="spec.yaml:8", fix="Did you mean 'rank'?")
    assert str(error) == "spec.yaml:8: no setting 'rnak'. Did you mean 'rank'?"
    assert error.exit_code == 2
    assert str(error.at("tuned")) == "tuned spec.yaml:8: no setting 'rnak'. Did you mean 'rank'?"
    assert error.at("spec.yaml:8").where == "spec.yaml:8"
    assert str(VolantError("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("rnak", ["rank", "lr"], "Did you mean 'rank'?"),
        ("zzz", ["b", "a"], "Known: a, b."),
        ("x", [], "None are known"),
    ],
)
def test_did_you_mean(name, known, said):
    assert did_you_mean(name, known).startswith(said)


def test_a_score_refuses_what_is_no_measurement():
    good = Score(name="relevance", value=0.5, low=0.4, high=0.6, n=10)
    assert str(good) == "relevance 0.5 [0.4, 0.6]"
    assert str(Score.exact("size", 3, unit="MB")) == "size 3 MB"
    for wrong in ({"n": 0}, {"value": float("nan")}, {"low": 0.55}):
        with pytest.raises(ValidationError):
            Score(**{**good.model_dump(), **wrong})
    lower = Score.exact("loss", 1.0, direction="lower")
    assert lower.better_than(Score.exact("loss", 2.0)) and not good.better_than(Score.exact("relevance", 0.9))


def test_digest_ignores_the_card_and_sees_every_byte_and_name(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("2")
    first, entries = payload_digest(tmp_path)
    assert [e.path for e in entries] == ["a", "sub/b"]
    (tmp_path / "artifact.json").write_text("{}")
    assert payload_digest(tmp_path)[0] == first
    (tmp_path / "a").write_text("3")
    assert payload_digest(tmp_path)[0] != first
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(ArtifactError, match="not a plain file"):
        payload_digest(tmp_path)


def test_an_artifact_shows_itself_and_names_a_broken_file(tmp_path):
    (tmp_path / "x.json").write_text("{not json")
    artifact = Artifact(tmp_path)
    with pytest.raises(ArtifactError, match="no readable x.json"):
        artifact.read_json("x.json")
    assert artifact.licences == []
    score = Score(name="<b>", value=1, low=1, high=1, n=1)
    card = Card(kind="Model", digest="d" * 64, files=[], scores=[score], licences=["MIT"])
    shown = Model(tmp_path, card)._repr_html_()
    assert "&lt;b&gt;" in shown and "dddd" in shown
    assert Model(tmp_path, card).licences == ["MIT"] and card.size_bytes == 0
    assert "kind" in artifact._repr_html_()


def test_model_and_dataset_read_their_descriptions(tmp_path):
    (tmp_path / "volant.json").write_text(json.dumps({"family": "transformer", "modality": "text"}))
    assert Model(tmp_path).about.engine == "torch"
    (tmp_path / "volant.json").write_text(json.dumps({"family": 3}))
    with pytest.raises(ArtifactError, match="does not parse"):
        Model(tmp_path).about
    (tmp_path / "dataset.json").write_text('{"splits": {}}')
    assert Dataset(tmp_path).about == {"splits": {}}


def sample(**fields):
    return Sample(id="1", source=Source(uri="x", licence="MIT"), **fields)


def test_samples_speak_the_shapes_of_the_field():
    pair = sample(shape="completion", condition="Q", target="A")
    assert pair.messages == [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    assert pair.text == "Q\nA"
    assert sample(shape="completion", condition="Q").messages == [{"role": "user", "content": "Q"}]
    chat = sample(shape="messages", content=json.dumps(pair.messages))
    assert chat.messages == pair.messages and chat.text == "Q\nA"
    assert sample(shape="text", content="hi").messages == [{"role": "user", "content": "hi"}]


def test_ids_keep_parts_apart_and_splits_follow_the_group():
    assert sample_id("ab", "c") != sample_id("a", "bc") and sample_id(b"x") == sample_id("x")
    splits = [split_of(f"module{i}") for i in range(2000)]
    assert 120 < splits.count("test") < 280 and 120 < splits.count("validation") < 280
    assert split_of("a") == split_of("a")


def test_targets_and_goals():
    target = Target.parse(">= 0.55")
    assert target.met_by(0.55) and not target.met_by(0.54) and str(target) == ">= 0.55"
    assert Target.parse("< 3e-1").met_by(0.2)
    with pytest.raises(ValueError, match="no target"):
        Target.parse("about 3")
    with pytest.raises(ValidationError):
        Goal(accept={"x": "good"})
    assert Goal(accept={"x": "<= 2"}).targets["x"].bar == 2


def test_spec_names_are_plain_and_places_fall_back_to_the_nearest_parent():
    for wrong in ({"name": "a/b"}, {"name": "a", "steps": {"1 2": Step(use="x.y")}}):
        with pytest.raises(ValidationError):
            Spec(**wrong)
    spec = Spec(name="a", file="v.yaml", lines={(): 1, ("steps", "tuned"): 7, ("steps", "tuned", "rank"): 8})
    assert spec.where("steps", "tuned", "rank") == "v.yaml:8 tuned"
    assert spec.where("steps", "tuned", "lr") == "v.yaml:7 tuned"
    assert spec.where("loop", "into") == "v.yaml:1 loop.into"
    assert Spec(name="a", file="v.yaml").where() == "v.yaml"


def test_snapshots_change_with_names_hashes_and_facts_but_not_with_the_machine(tmp_path):
    one = OutsideFile(tmp_path / "a", "a", 1, "00")
    base = Snapshot("files", "a", (one,))
    assert base.digest == Snapshot("files", "a", (OutsideFile(tmp_path / "elsewhere", "a", 1, "00"),)).digest
    assert base.digest != Snapshot("files", "a", (OutsideFile(tmp_path / "a", "a", 1, "01"),)).digest
    assert Snapshot("machine", "here", facts={"cores": 2}).digest == Snapshot("machine", "here").digest


def test_a_run_tells_its_watcher_and_stops_when_asked(tmp_path):
    watcher = Silent()
    run = Run("tuned", tmp_path, tmp_path, watcher=watcher, outside={"glob": Snapshot("files", "x")})
    run.say("hello")
    run.metric("loss", 2.0, 1)
    run.score(Score.exact("size", 1))
    with run.progress("work", 3) as bar:
        bar.advance(1, loss=2.0)
    assert watcher.lines == ["hello"] and watcher.metrics == [("loss", 2.0, 1)] and watcher.scores[0].name == "size"
    assert run.snapshot("glob").value == "x"
    run.check_stop()
    run.stop.set()
    assert run.stopping
    for leave in (run.check_stop, run.interrupt):
        with pytest.raises(Interrupted) as caught:
            leave()
        assert caught.value.exit_code == 130


def test_spaces_as_json():
    assert space_json(Tokens(10, 5)) == {"vocab": 10, "length": 5, "type": "tokens"}
    assert space_json(Grid(1, (8, 8)))["dims"] == (8, 8)
    assert space_json(Mixed({"age": "integer"}))["columns"] == {"age": "integer"}


@pytest.mark.parametrize(("n", "most"), [(0, 4), (3, 4), (4, 4), (9, 4), (100, 4), (10_007, 64)])
def test_what_is_spread_comes_evenly_from_the_whole_in_order(n, most):
    found = spread(iter(range(n)), most)
    assert len(found) == min(n, most) and found == sorted(set(found)) == spread(range(n), most)
    gaps = [b - a for a, b in pairwise([*found, n])]
    assert not found or (found[0] == 0 and max(gaps) <= 1.5 * n / len(found) + 1)
