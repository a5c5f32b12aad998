import json
from collections import Counter
from pathlib import Path

import pytest

import toy_content
from volant.core.artifact import payload_digest
from volant.core.errors import DataError, LicenceError, SettingError
from volant.core.outside import Snapshot
from volant.core.run import Run, Silent
from volant.scorers.measure import answered
from volant.stages.evaluate.figures import baselines
from volant.stages.finetune.tuning import _tasks
from volant.stages.improve import harvest
from volant.stages.pretrain._text import gathered
from volant.store.dataset import dropped, rows


class FakeRecords:
    def __init__(self, feedback):
        self.given = feedback

    def feedback(self, snapshot):
        return (row for row in self.given if row["id"] <= snapshot.facts["feedback"])


def said(id: int, prompt: str = "", *, correction: str = "", **fields) -> dict:
    reply = {"choices": [{"message": {"role": "assistant", "content": f"answer {id}"}}]}
    request = {"messages": [{"role": "user", "content": prompt or f"def f{id}(): ..."}]}
    row = {"id": id, "at": f"2026-11-0{1 + id % 9}T10:00:00", "client": "c1", "rating": None, "correction": correction,
           "consent": "training", "request": request, "response": reply, "model": "m" * 64}  # fmt: skip
    return {**row, **fields}


def harvested(folder: Path, feedback: list[dict], mark: int = 10**9, modality: str = "text", **settings):
    out = folder / f"out{len(list(folder.iterdir()))}"
    out.mkdir()
    facts = {"workload": "*", "requests": 0, "feedback": mark, "ratings": 0}
    watcher = Silent()
    run = Run(step="h", out=out, work=folder, records=FakeRecords(feedback), watcher=watcher, modality=modality)
    run.outside["feedback"] = Snapshot("records", "*", facts=facts)
    return harvest(run, **settings), watcher


def test_corrections_and_praise_become_pairs_with_consent_and_source(tmp_path):
    data, watcher = harvested(tmp_path, [said(1, correction="Return one."), said(2, rating=1), said(3, rating=-1)])
    kept = {s.source.uri: s for s in rows(data)}
    assert kept["feedback:1"].target == "Return one." and kept["feedback:1"].condition == "def f1(): ..."
    assert kept["feedback:2"].target == "answer 2" and kept["feedback:2"].attrs["taught_by"] == "rating"
    assert set(kept) == {"feedback:1", "feedback:2"}
    one = kept["feedback:1"]
    assert (one.source.consent, one.source.origin, one.group, one.attrs["client"]) == ("given", "feedback", "c1", "c1")
    assert [s.drop for s in dropped(data)] == ["no better answer: rating -1 against 1"]
    assert "2 of 3 feedbacks taken (1 corrections); refused: 1 no better answer" in watcher.lines[-1]


def test_without_consent_nothing_is_copied(tmp_path):
    rest = [said(2, "secret plan", correction="x", consent=c) for c in ("", "none", "given")]
    data, watcher = harvested(tmp_path, [said(1, correction="y"), *rest])
    stored = b"".join(f.read_bytes() for f in data.path.rglob("*") if f.is_file())
    assert b"secret plan" not in stored and len(list(rows(data))) == 1 and not list(dropped(data))
    assert data.read_json("harvest.json")["refused"] == {"no consent to training": 3}


def test_terms_that_forbid_the_use_are_refused(tmp_path):
    with pytest.raises(LicenceError, match="forbids commercial use"):
        harvested(tmp_path, [said(1, correction="y")], licence="CC-BY-NC-4.0")
    data, _ = harvested(tmp_path, [said(1, correction="y")], licence="cc-by-4.0")
    assert {s.source.licence for s in rows(data)} == {"CC-BY-4.0"}


def test_nothing_enters_the_test_split_and_one_request_stays_on_one_side(tmp_path):
    feedback = [said(i, f"prompt {i % 60}", correction=f"c{i}", client=f"c{i}") for i in range(1, 121)]
    data, _ = harvested(tmp_path, feedback)
    splits = {}
    for sample in rows(data):
        splits.setdefault(sample.condition, set()).add(sample.split)
    assert all(len(s) == 1 for s in splits.values())
    counted = Counter(next(iter(s)) for s in splits.values())
    assert counted["test"] == 0 and 1 <= counted["validation"] <= 18 and len(splits) == 60


def test_personal_data_is_masked_everywhere(tmp_path):
    data, _ = harvested(tmp_path, [said(1, "mail ann@firm.org", correction="call +49 171 123 4567 or bob@firm.org")])
    sample = next(rows(data))
    assert sample.condition == "mail <email>" and sample.target == "call <phone> or <email>"
    assert sample.attrs["masked"] == {"email": 2, "phone": 1}


def test_what_no_mask_knows_is_not_kept_and_harm_is_dropped(tmp_path):
    feedback = [
        said(1, correction="y"),
        said(2, correction="pay 41 11 11 11 11 11 11 11"),
        said(3, correction="kill yourself"),
    ]
    data, _ = harvested(tmp_path, feedback)
    assert b"41 11" not in b"".join(f.read_bytes() for f in data.path.rglob("*") if f.is_file())
    assert data.read_json("harvest.json")["refused"] == {"personal data that could not be masked": 1, "unsafe": 1}
    assert [s.drop for s in dropped(data)] == ["unsafe: call to self-harm"]


def test_the_newest_word_counts_and_a_client_has_a_share(tmp_path):
    feedback = [said(1, "p", correction="old"), said(2, "p", correction="new"), said(3, "q", correction="x" * 50)]
    data, _ = harvested(tmp_path, feedback, max_characters=40)
    assert [s.target for s in rows(data)] == ["new"]
    assert sorted(s.drop.split(":")[0] for s in dropped(data)) == ["said again later", "too long"]
    many = [said(i, correction=f"c{i}") for i in range(1, 6)]
    data, _ = harvested(tmp_path, many, per_client=2)
    assert [s.source.uri for s in rows(data)] == ["feedback:4", "feedback:5"]


def test_every_rated_answer_is_taken_for_learning_from_good_and_bad_ones(tmp_path):
    feedback = [
        said(1, "def f(): ...", rating=-1, correction="Return f."), said(2, "def f(): ...", rating=1),
        said(3, correction="Right."), said(4),
        said(5, "def g(): ...", rating=1, response={"choices": [{"message": {"content": "same"}}]}),
        said(6, "def g(): ...", rating=-1, response={"choices": [{"message": {"content": "same"}}]}),
    ]  # fmt: skip
    data, watcher = harvested(tmp_path, feedback, rated=True)
    told = {(s.source.uri, s.target): (s.attrs["taught_by"], [label.value for label in s.labels]) for s in rows(data)}
    assert told == {
        ("feedback:1", "answer 1"): ("bad rating", ["-1"]),
        ("feedback:1", "Return f."): ("correction", ["-1"]),
        ("feedback:2", "answer 2"): ("rating", ["1"]),
        ("feedback:3", "Right."): ("correction", []),
        ("feedback:6", "same"): ("bad rating", ["-1"]),  # the newest word on an answer counts
    }
    wanted = {"Return f.", "answer 2", "Right."}
    bad = [s.rated_down for s in rows(data, "train")]
    assert bad == sorted(bad) and len(set(bad)) == 2  # a good answer stays where both are alike
    assert {s.target for s in rows(data) if answered(s)} == {s.target for s in _tasks(data, "train")} == wanted
    run = Run("base", tmp_path / "base", tmp_path / "work")
    assert {s.target for s in gathered(run, [data])[1]} == wanted
    assert set(dict(baselines(run, data, "text"))["baseline:nearest_neighbour"].answers) == wanted
    assert {s.drop.split(":")[0] for s in dropped(data)} == {"no rating and no correction", "said again later"}
    assert "refused: 1 no rating and no correction, 1 said again later" in watcher.lines[-1]
    with pytest.raises(SettingError, match="`rated` is for `align.kto`"):
        harvested(tmp_path, feedback, rated=True, modality="image")


def test_conversations_and_plain_completions_are_read(tmp_path):
    talk = {"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"text": "hi"}]}]}
    plain = {"prompt": "Once"}
    feedback = [
        said(1, request=talk, correction="yo"),
        said(2, request=plain, rating=1, response={"choices": [{"text": "upon"}]}),
    ]
    data, _ = harvested(tmp_path, feedback)
    first, second = sorted(rows(data), key=lambda s: s.source.uri)
    assert first.shape == "messages" and [m["content"] for m in json.loads(first.content)] == ["be brief", "hi", "yo"]
    assert (second.condition, second.target) == ("Once", "upon")


@pytest.mark.parametrize(
    "request_body", [{}, {"messages": []}, {"prompt": ["a", "b"]}, {"messages": ["x"]}, {"prompt": 3}]
)
def test_unreadable_requests_are_counted(tmp_path, request_body):
    data, _ = harvested(tmp_path, [said(1, correction="y"), said(2, request=request_body, correction="z")])
    assert data.read_json("harvest.json")["refused"] == {"no readable request": 1}


def test_no_usable_feedback_is_an_error_that_counts_why(tmp_path):
    with pytest.raises(DataError, match=r"no usable feedback among 0"):
        harvested(tmp_path, [])
    with pytest.raises(DataError, match=r"among 2 \(refused: 1 no better answer, 1 no consent.*consent: training"):
        harvested(tmp_path, [said(1, rating=0), said(2, consent="none")])


def test_only_up_to_the_mark_and_always_the_same_digest(tmp_path):
    feedback = [said(i, correction=f"c{i}") for i in range(1, 20)]
    first, _ = harvested(tmp_path, feedback[:9], mark=9)
    again, _ = harvested(tmp_path, [{**row, "at": "2031-01-01"} for row in feedback], mark=9)
    assert payload_digest(first.path)[0] == payload_digest(again.path)[0]


def made(id: int, prompt: str = "red", *, colours=((200, 0, 0),), **fields) -> dict:
    """Feedback to pictures, as the server records them."""
    samples = [toy_content.painted(c) for c in colours]
    request = {"prompt": prompt, "n": len(samples)}
    answer = toy_content.ROUTE.answer(samples, toy_content.Body(**request))
    return {**said(id), "request": request, "response": {**answer, "created": 1_700_000_000 + id}, **fields}


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr("volant.modalities.open_modality", lambda name: toy_content.Modality())
    return "toy"


def test_pictures_that_people_liked_are_learnt_from_and_a_correction_is_a_better_caption(tmp_path, toy):
    feedback = [
        made(1, rating=1, colours=[(200, 0, 0), (90, 0, 0)], client="c1"),
        made(2, colours=[(0, 0, 80)], correction="blue", rating=-1, client="c2"),
        made(3, colours=[(0, 70, 0)], rating=-1),
    ]
    data, watcher = harvested(tmp_path, feedback, modality=toy)
    kept = {s.source.uri: s for s in rows(data)}
    assert set(kept) == {"feedback:1#0", "feedback:1#1", "feedback:2"}
    assert [toy_content.colour_of(kept[f"feedback:1#{i}"]) for i in (0, 1)] == [(200, 0, 0), (90, 0, 0)]
    one, two = kept["feedback:1#0"], kept["feedback:2"]
    assert (one.shape, one.condition, one.attrs["taught_by"]) == ("media", "red", "rating")
    assert (two.condition, two.attrs["taught_by"], toy_content.colour_of(two)) == ("blue", "correction", (0, 0, 80))
    assert (one.source.origin, one.source.consent, one.group, one.split) == ("feedback", "given", "c1", one.split)
    assert one.split == kept["feedback:1#1"].split  # an answer stays on one side
    assert [s.drop for s in dropped(data)] == ["no better answer: rating -1 against 1"]
    assert "2 of 3 feedbacks taken as 3 samples (1 corrections)" in watcher.lines[-1]


def test_captions_are_held_to_the_same_rules_as_text(tmp_path, toy):
    feedback = [
        made(1, rating=1),
        made(2, correction="ann@firm.org in red", colours=[(9, 9, 9)]),
        made(3, correction="kill yourself", colours=[(8, 8, 8)]),
        made(4, correction="pay 41 11 11 11 11 11 11 11", colours=[(7, 7, 7)]),
        made(5, rating=1, colours=[(6, 6, 6)], consent=""),
        made(6, rating=1, response=None),
        made(7, rating=1, response={"data": [{"b64_json": "bm8="}]}),
        made(8, rating=1, response={"data": [{}]}),
    ]
    data, _ = harvested(tmp_path, feedback, modality=toy)
    assert sorted(s.condition for s in rows(data)) == ["<email> in red", "red"]
    assert data.read_json("harvest.json")["refused"] == {
        "unsafe": 1, "personal data that could not be masked": 1, "no consent to training": 1, "no readable answer": 2,
        "not usable": 1,
    }  # fmt: skip


def test_the_newest_word_on_a_picture_counts_and_the_digest_is_stable(tmp_path, toy):
    feedback = [made(1, correction="a"), made(2, correction="b"), made(3, correction="c", colours=[(1, 2, 3)])]
    data, _ = harvested(tmp_path, feedback, modality=toy)
    assert sorted(s.condition for s in rows(data)) == ["b", "c"]
    again, _ = harvested(tmp_path, [{**row, "at": "2031-01-01"} for row in feedback], modality=toy)
    assert payload_digest(data.path)[0] == payload_digest(again.path)[0]


def test_nothing_made_enters_the_test_split(tmp_path, toy):
    feedback = [made(i, rating=1, colours=[(i, 0, 0)], client=f"c{i}") for i in range(1, 120)]
    data, _ = harvested(tmp_path, feedback, modality=toy)
    counted = Counter(s.split for s in rows(data))
    assert counted["test"] == 0 and 3 <= counted["validation"] <= 25
