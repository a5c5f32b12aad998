"""`collect.suspects`: planted wrong labels are found, a person's word stands, what is dropped says why."""

import json

import numpy as np
import pytest
from test_collect import made, run_in
from test_screen import text

from volant.core.errors import DataError
from volant.core.sample import Label, Sample, Source
from volant.scorers.classifier import fit, held_out
from volant.scorers.confident import judge
from volant.stages import collect
from volant.store.dataset import dropped, rows, writer

WORDS = {
    "sea": ["boat", "wave", "sail", "harbour", "tide", "fish", "salt", "anchor"],
    "wood": ["tree", "leaf", "moss", "deer", "path", "fern", "bark", "owl"],
}


def forest_and_sea(count=40, wrong=(3, 50), by="ana"):
    """Texts of two kinds, `wrong` of them labelled as the other kind."""
    random, found = np.random.default_rng(0), []
    for number in range(2 * count):
        kind = ("sea", "wood")[number >= count]
        given = {"sea": "wood", "wood": "sea"}[kind] if number in wrong else kind
        said = f"{number} " + " ".join(random.choice(WORDS[kind], 12))
        found.append(text(said, labels=[Label(name="place", value=given, by=by)]))
    return found


def judged(folder, samples, step="suspects", **settings):
    run = run_in(folder, step)
    return collect.suspects(run, made(folder, samples, f"{step}-in"), **settings), run


def test_wrong_labels_are_found_and_marked(tmp_path):
    samples = forest_and_sea()
    data, run = judged(tmp_path, [*samples, text("without a label")])
    found = {s.text: s.attrs["suspect"]["place"] for s in rows(data) if "suspect" in s.attrs}
    assert set(found) == {samples[3].text, samples[50].text}
    assert found[samples[3].text]["given"] == "wood" and found[samples[3].text]["suggested"] == "sea"
    assert [s.id for s in rows(data)] == [*(s.id for s in samples), text("without a label").id]
    told = data.read_json("suspects.json")
    assert (told["judged"], told["suspects"]) == (80, 2) and told["noise"] == pytest.approx(0.025, abs=0.02)
    margins = [one["margin"] for one in told["first"]]
    assert margins == sorted(margins, reverse=True) and {s.name for s in run.watcher.scores} == {
        "label_suspects", "label_noise",
    }  # fmt: skip
    assert "rather" in (data.path / "index.html").read_text()
    again, _ = judged(tmp_path, rows(data), "again", margin=0.99)  # no longer a suspect, so no longer marked
    assert not any("suspect" in s.attrs for s in rows(again))


def test_suspects_are_dropped_with_the_reason(tmp_path):
    data, _ = judged(tmp_path, forest_and_sea(), drop=True)
    gone = {s.labels[0].value: s.drop for s in dropped(data)}
    assert set(gone) == {"wood", "sea"} and len(list(rows(data))) == 78
    assert "(wood, rather sea) against 0" in gone["wood"] and gone["wood"].startswith("wrong_label: 0.")


def test_what_a_person_decided_is_no_suspect(tmp_path):
    samples = forest_and_sea(wrong=(3,))
    decided = Label(name="place", value="wood", by="person:final")
    samples[3] = samples[3].model_copy(update={"labels": [decided]})
    data, _ = judged(tmp_path, samples)
    assert not any("suspect" in s.attrs for s in rows(data))


def test_columns_and_answers_are_not_shown_to_the_classifier(tmp_path):
    """A column that is the label, or an answer, would tell the class; a planted error has to be found all the same."""
    random, given = np.random.default_rng(1), []
    for number in range(80):
        kind = number % 2
        said = 1 - kind if number == 7 else kind
        row = {"size": float(random.normal(100 * kind + 10, 5)), "kind": f"k{said}"}
        source = Source(uri="t", licence="MIT")
        given.append(Sample(id=str(number), shape="row", source=source, content=json.dumps(row)))
    run = run_in(tmp_path, "in")
    with writer(run.out, modality="table") as out:
        out.write_all(given)
    from volant.core.artifact import Dataset

    run_2 = run_in(tmp_path, "out", modality="table")
    data = collect.suspects(run_2, Dataset(run.out), name="kind")
    assert [s.id for s in rows(data) if "suspect" in s.attrs] == ["7"]
    pairs = [
        s.model_copy(update={"shape": "completion", "condition": s.content, "content": None, "labels": [], "target": t})
        for s in forest_and_sea() for t in [s.labels[0].value]
    ]  # fmt: skip
    data, _ = judged(tmp_path, pairs, "answers", name="target")
    assert sum("suspect" in s.attrs for s in rows(data)) == 2


def test_what_is_refused(tmp_path):
    few = [text(f"a {n}", labels=[Label(name="x", value=str(n), by="ana")]) for n in range(4)]
    for step, given, settings, sentence in [
        ("few", few, {}, "two are needed"), ("none", [text("a")], {}, "not said which label"),
        ("other", few, {"name": "xx"}, "no record has the label 'xx'"),
        ("two", [text("a", labels=[Label(name=n, value="1", by="b") for n in "xy"])], {}, "not said which label"),
    ]:  # fmt: skip
        with pytest.raises(DataError, match=sentence) as caught:
            judged(tmp_path, given, step, **settings)
        assert caught.value.fix


def test_probabilities_come_from_the_others():
    features = np.eye(12, dtype=np.float32)  # nothing in common: the others know nothing of any
    labels = np.arange(12) % 2
    chances = held_out(features, labels, 2, folds=3)
    assert chances.shape == (12, 2) and np.abs(chances - 0.5).max() < 0.35
    assert (fit(features, labels, 2).probabilities(features).argmax(1) == labels).all()
    alone = fit(features[:3], np.array([1, 1, 1]), 3)
    assert alone.probabilities(features).tolist() == [[0, 1, 0]] * 12


def test_a_class_that_is_rarely_sure_is_not_suspected_as_a_whole():
    """Class 1 never reaches the half; by its own threshold its records are of it, and the joint says no noise."""
    chances = np.array([[0.9, 0.1]] * 20 + [[0.52, 0.48]] * 4 + [[0.95, 0.05]])
    labels = np.array([0] * 20 + [1] * 5)
    found = judge(chances, labels)
    assert found.suspects.tolist() == [24]
    assert found.joint.sum() == pytest.approx(1) and found.noise == pytest.approx(0.04)
    assert judge(chances, labels, margin=0.95).suspects.tolist() == []
