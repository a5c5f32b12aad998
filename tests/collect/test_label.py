"""`collect.label`: votes of rules, functions, a model and people, and the label that they come to."""

import json

import pytest
from test_collect import made, run_in, snapshot_of
from test_screen import text

import stand_in_service
from volant.core.errors import DataError, SettingError
from volant.core.sample import Label
from volant.stages import collect
from volant.store.dataset import rows

RULES = """
- {label: bad, words: [awful, "not good"], name: sad}
- {label: good, words: [good, fine]}
- {label: good, pattern: "10/\\\\d+"}
"""
TEXTS = ["A good film.", "An awful film.", "Not good, awful.", "10/10, fine", "A film.", "goodness"]


def labelled(folder, samples, *, step="label", files=None, labeller=None, **settings):
    run = run_in(folder, step)
    source = folder / f"{step}-files"
    source.mkdir()
    for setting in ("rules", "functions", "people"):
        content = (files or {}).get(setting)
        if content is not None:
            (source / f"{setting}.x.py").write_text(content)
            run.outside[setting] = snapshot_of(source, [f"{setting}.x.py"])
    data = made(folder, samples, f"{step}-in")
    return collect.label(run, data, labeller=labeller, **settings), run


def person(sample, value, by, **more):
    return json.dumps({"id": sample.id, "name": "tone", "value": value, "by": by, **more})


def votes_of(data, name="tone"):
    return {s.text: s.attrs.get("votes", {}).get(name, {}) for s in rows(data)}


def label_of(data, name="tone"):
    return {s.text: next((one.value for one in s.labels if one.name == name), None) for s in rows(data)}


def test_rules_vote_and_say_so(tmp_path):
    data, run = labelled(tmp_path, [text(t) for t in TEXTS], files={"rules": RULES}, name="tone")
    sad, nice, ten = "rule:sad", "rule:good-words-2", "rule:good-pattern-3"
    assert votes_of(data) == {
        "A good film.": {nice: "good"}, "An awful film.": {sad: "bad"}, "Not good, awful.": {sad: "bad", nice: "good"},
        "10/10, fine": {nice: "good", ten: "good"}, "A film.": {}, "goodness": {},
    }  # fmt: skip
    found = label_of(data)
    assert found["A good film."] == found["10/10, fine"] == "good" and found["An awful film."] == "bad"
    assert found["A film."] is None and found["goodness"] is None
    assert all(0.5 <= s.attrs["sure"]["tone"] <= 1 for s in rows(data) if s.labels)
    assert {one.by for s in rows(data) for one in s.labels} == {"collect.label"}
    told = json.loads((data.path / "label.json").read_text())
    assert told["voters"][sad]["votes"] == 2 and told["voters"][sad]["coverage"] == pytest.approx(2 / 6, abs=1e-6)
    assert told["voters"][nice]["conflicts"] == pytest.approx(1 / 6, abs=1e-6) and told["in_conflict"] == 1
    assert {s.name: s.value for s in run.watcher.scores}["label_conflicts"] == pytest.approx(1 / 6)


def test_functions_scorers_and_columns(tmp_path):
    code = (
        "import re\n\ndef loud(sample):\n    return 'loud' if '!' in sample.text else None\n\ndef _hidden(s): 1 / 0\n"
    )
    rules = "- {label: brief, scorer: word_count, settings: {most: 3}, above: 0.99}\n"
    given = [text("Stop!"), text("a b c d e f g h")]
    data, _ = labelled(tmp_path, given, files={"rules": rules, "functions": code})
    assert votes_of(data, "label")["Stop!"] == {"function:loud": "loud", "rule:brief-scorer-1": "brief"}
    assert votes_of(data, "label")["a b c d e f g h"] == {}
    row = [
        text("").model_copy(update={"shape": "row", "id": f"r{n}", "content": json.dumps({"age": age})})
        for n, age in enumerate([17, 18, None, "old"])
    ]
    rules = "- {label: adult, column: age, above: 17.5}\n- {label: odd, column: age, equals: old}"
    data, _ = labelled(tmp_path, row, files={"rules": rules}, step="rows")
    said = [list(s.attrs.get("votes", {}).get("label", {}).values()) for s in rows(data)]
    assert said == [[], ["adult"], [], ["odd"]]


def test_a_model_votes_and_its_accuracy_is_told_only_where_somebody_else_judged(tmp_path):
    def answer(messages, seed):
        said = messages[-1]["content"].split("\n\n")[0]
        return "It is good." if "film" in said else "Either good or bad." if "good" in said else "nothing"

    samples = [text(t) for t in TEXTS]
    with stand_in_service.serving(answer) as service:
        model = stand_in_service.hosted(tmp_path / "hosted", service.url)
        data, run = labelled(tmp_path, samples, labeller=model, name="tone", classes=["good", "bad"])
        asked = service.bodies[0]["messages"][-1]["content"]
        people = "\n".join(person(s, "bad", "ana") for s in samples[:2])
        both, _ = labelled(
            tmp_path,
            samples,
            labeller=model,
            name="tone",
            classes=["good", "bad"],
            files={"people": people},
            step="two",
        )
    assert "Which is it: good, bad?" in asked
    assert {t for t, votes in votes_of(data).items() if votes == {"model": "good"}} == {t for t in TEXTS if "film" in t}
    assert sum(votes == {} for votes in votes_of(data).values()) == 3  # both classes named, or none: no vote
    assert "accuracy" not in json.loads((data.path / "label.json").read_text())["voters"]["model"]
    assert any("which nobody else's can be held against" in line for line in run.watcher.lines)
    told = json.loads((both.path / "label.json").read_text())["voters"]
    assert 0 < told["model"]["accuracy"] < 1 and told["person:ana"]["overlap"] == pytest.approx(2 / 6, abs=1e-6)


def test_people_vote_and_whoever_decides_overrules(tmp_path):
    samples = [text(f"record {n}") for n in range(6)]
    words = [person(s, "good", by) for s in samples[:4] for by in ("ana", "ben")]
    words += [person(samples[3], "bad", "ben"), person(samples[4], "", "ana"), person(text("gone"), "bad", "ana")]
    words += [person(samples[3], "bad", "cleo", final=True)]
    data, run = labelled(tmp_path, samples, files={"people": "\n".join(words)}, name="tone")
    found = label_of(data)
    assert [found[s.text] for s in samples] == ["good", "good", "good", "bad", None, None]
    decided = next(s for s in rows(data) if s.text == "record 3")
    assert decided.labels == [Label(name="tone", value="bad", by="person:final")]
    assert decided.attrs["votes"]["tone"] == {"person:ana": "good", "person:ben": "bad"}
    told = json.loads((data.path / "label.json").read_text())
    pair = {"people": ["ana", "ben"], "records": 4, "alpha": 0.0}
    assert told["people"]["pairs"] == [pair]
    assert (
        told["people"]["rated_twice"] == 4
        and told["voters"]["person:ben"] | {"judged": 1, "right": 1} == told["voters"]["person:ben"]
    )
    assert any("1 records that are not in the data" in line for line in run.watcher.lines)


def test_labels_that_came_along_count_as_votes(tmp_path):
    samples = [text("a", labels=[Label(name="tone", value="good", by="web"), Label(name="x", value="1", by="web")])]
    data, _ = labelled(tmp_path, samples, files={"people": person(samples[0], "good", "ana")}, name="tone")
    sample = next(iter(rows(data)))
    assert [one.name for one in sample.labels] == ["x", "tone"]
    assert sample.attrs["votes"]["tone"] == {"person:ana": "good", "web": "good"}


def test_below_the_bar_a_record_stays_without_a_label(tmp_path):
    rules = "- {label: a, words: [x]}\n- {label: b, words: [x]}"
    data, _ = labelled(tmp_path, [text("x 1"), text("x 2")], files={"rules": rules}, sure=0.9)
    assert [s.labels for s in rows(data)] == [[], []] and all("sure" in s.attrs for s in rows(data))


@pytest.mark.parametrize(
    "files, sentence",
    [
        ({"rules": "- {label: a}"}, "decides by nothing"), ({"rules": "a: b"}, "no list of rules"),
        ({"rules": "- {label: a, words: [b], pattern: c}"}, "decides by words and pattern"),
        ({"rules": "- {label: a, pattern: '('}"}, "no regular expression"),
        ({"rules": "- {label: a, scorer: word_count}"}, "has no bound"), ({"rules": "- {lable: a}"}, "rule 1"),
        ({"rules": "- {label: a, words: [b], name: c}\n- {label: a, words: [b], name: c}"}, "two rules are named"),
        ({"rules": "- {label: a, words: [zzz]}"}, "nobody voted"), ({"functions": "def"}, "cannot be imported"),
        ({"functions": "_a = 1"}, "no label function"), ({"functions": "def f(s): return 1 / 0"}, "f failed on"),
        ({"rules": "- {label: c, words: [record]}"}, "a vote is for 'c'"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, files, sentence):
    with pytest.raises(DataError, match=sentence) as caught:
        labelled(tmp_path, [text("record 1")], files=files, classes=["a", "b"])
    assert caught.value.fix


def test_without_voters_or_classes(tmp_path):
    with pytest.raises(SettingError, match="nobody is asked"):
        labelled(tmp_path, [text("record 1")])
