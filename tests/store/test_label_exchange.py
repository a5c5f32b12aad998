"""Labels go to Label Studio and Argilla and come back: what these carry comes back the same, the rest is said."""

import json

import pytest

from volant.core.errors import DataError
from volant.core.sample import Label, Sample, Source
from volant.store.label_exchange import exported, imported, labelling_config
from volant.store.labels import Judgement

SOURCE = Source(uri="", licence="CC0-1.0")


def sample(number, **more):
    return Sample(id=f"id-{number}", shape="text", source=SOURCE, content=f"Text {number} <b>&", **more)


SAMPLES = [
    sample(0),
    sample(1, labels=[Label(name="tone", value="good", by="vote")], attrs={"sure": {"tone": 0.75}}),
    sample(2),
]
SAID = [
    Judgement(id="id-0", name="tone", value="good", by="ana"),
    Judgement(id="id-0", name="tone", value="bad", by="ben"),
    Judgement(id="id-0", name="tone", value="bad", by="cem", final=True),
    Judgement(id="id-2", name="tone", value="", by="ana"),
]


def words(found):
    return [(one.id, one.by, one.value, one.final) for one in found]


def test_label_studio_and_back():
    tasks = json.loads(json.dumps(exported("label-studio", SAMPLES, SAID, "tone")))
    assert [task["data"]["text"] for task in tasks] == [s.content for s in SAMPLES]
    (guess,) = tasks[1]["predictions"]
    assert guess["score"] == 0.75 and guess["result"][0]["value"] == {"choices": ["good"]}
    taken, refused = imported("label-studio", tasks, "tone")
    assert words(taken) == words(SAID) and not refused


def test_what_a_tool_would_not_export_is_left_out_and_told():
    def task(**more):
        return {"data": {"id": "id-0"}, "annotations": [{"result": [result(**more)]}]}

    def result(**more):
        return {"from_name": "tone", "type": "choices", "value": {"choices": ["good"]}, **more}

    odd = [
        task(value=["good"]), task(meta=["ana"]), {"data": {"id": "id-0"}, "annotations": 5},
        task(meta={"text": [" "]}), task(meta={"text": ["a\ud800"]}),
    ]  # fmt: skip
    taken, refused = imported("label-studio", [*odd, task(meta={"text": ["ana"]})], "tone")
    assert words(taken) == [("id-0", "ana", "good", False)] and len(refused) == len(odd)
    record = {"id": "id-0", "fields": {"text": ""}}
    answers = [{"tone": 5}, {"tone": [{"value": None, "user_id": "u"}]}, {"tone": [{"value": "bad", "user_id": " "}]}]
    taken, refused = imported("argilla", [{**record, "responses": one} for one in answers], "tone")
    assert words(taken) == [("id-0", "u", "", False)] and len(refused) == 2  # nothing chosen: it cannot be told


def test_argilla_and_back():
    records = json.loads(json.dumps(exported("argilla", SAMPLES, SAID, "tone")))
    assert records[1]["suggestions"] == {"tone": {"value": "good", "score": 0.75, "agent": "volant"}}
    taken, refused = imported("argilla", records, "tone", {"ana", "ben"})
    assert words(taken) == words(SAID[:2]) and not refused  # neither the final word nor "cannot tell"
    stranger, _ = imported("argilla", records, "tone")
    assert len({one.by for one in stranger}) == 2 and all(len(one.by) == 36 for one in stranger)


def test_what_label_studio_itself_writes():
    """Users by number, a cancelled annotation, another question, several choices, a task that is not ours."""
    choice = {"from_name": "tone", "to_name": "text", "type": "choices", "value": {"choices": ["good"]}, "id": "x"}
    other = {"from_name": "topic", "to_name": "text", "type": "choices", "value": {"choices": ["sport"]}}
    both = {**choice, "value": {"choices": ["good", "bad"]}}
    task = {"id": 7, "data": {"id": "id-0", "text": "a"}, "annotations": [
        {"id": 1, "completed_by": 10, "was_cancelled": False, "result": [choice, other]},
        {"id": 2, "completed_by": {"id": 11, "email": "ben@example.org"}, "result": [choice], "ground_truth": True},
        {"id": 3, "completed_by": 12, "was_cancelled": True, "result": [choice]},
        {"id": 4, "completed_by": 13, "result": [other]},
        {"id": 5, "completed_by": 14, "result": [both]},
    ]}  # fmt: skip
    taken, refused = imported("label-studio", [task, {"id": 8, "data": {"text": "b"}, "annotations": []}], "tone")
    assert words(taken) == [("id-0", "user-10", "good", False), ("id-0", "ben@example.org", "good", True)]
    assert refused == [
        "record 1: user-14 names 2 classes, and one is asked",
        "record 2: it has no id of ours; `id` of the record has to come back as it was sent",
    ]


@pytest.mark.parametrize("tool", ["label-studio", "argilla"])
@pytest.mark.parametrize("found", [{}, [1], [{"data": "x", "fields": 3}], "text", None])
def test_what_is_no_export(tool, found):
    with pytest.raises(DataError, match=tool):
        imported(tool, found, "tone")


@pytest.mark.parametrize("tool", ["label-studio", "argilla"])
def test_pictures_are_refused(tool):
    picture = Sample(id="p", shape="media", source=SOURCE, media=b"x")
    with pytest.raises(DataError, match="pictures"):
        exported(tool, [picture], [], "tone")


def test_the_interface_is_xml_whatever_the_classes():
    from xml.etree import ElementTree

    tree = ElementTree.fromstring(labelling_config("tone", ["good", 'a "b" <c>']))
    assert [one.get("value") for one in tree.iter("Choice")] == ["good", 'a "b" <c>']
