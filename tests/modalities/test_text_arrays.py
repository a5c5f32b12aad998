"""Texts of a table are those of its samples."""

import json

import pytest

from volant.core.artifact import Dataset
from volant.core.sample import Sample, Source
from volant.modalities.text_arrays import answer_array, text_array
from volant.store import dataset

SOURCE = Source(uri="u", licence="MIT")
TURNS = (("user", "hi é"), ("assistant", "ho"), ("assistant", ""))
CHAT = json.dumps([{"role": role, "content": content} for role, content in TURNS])
SAMPLES = [
    {"shape": "text", "content": "plain é\n"},
    {"shape": "text", "content": "", "condition": ""},
    {"shape": "completion", "condition": "ask", "target": "answer"},
    {"shape": "completion", "condition": "", "target": "answer"},
    {"shape": "preference", "condition": "ask", "target": "good", "rejected": "bad"},
    {"shape": "messages", "content": CHAT},
    {"shape": "messages", "content": "[]"},
    {"shape": "media", "media": b"\xff", "condition": "a cat"},
    {"shape": "row", "content": '{"a": 1}'},
    {"shape": "preference", "content": CHAT, "target": "good", "rejected": "bad"},
]  # fmt: skip
ANSWERS = ["plain é\n", "", "answer", "answer", "good", "ho\n", "", "", "", "good"]


def tables_of(folder, samples):
    with dataset.writer(folder) as out:
        out.write_all(samples)
    return list(dataset.tables(Dataset(folder)))


@pytest.mark.parametrize("which", [slice(None), slice(0, 1), slice(0, 2), slice(5, 6), slice(2, 5)])
def test_texts_of_a_table_are_those_of_its_samples(tmp_path, which):
    samples = [Sample(id=str(i), source=SOURCE, **fields) for i, fields in enumerate(SAMPLES)][which]
    (table,) = tables_of(tmp_path, samples)
    assert text_array(table).to_pylist() == [sample.text for sample in samples]
    assert answer_array(table).to_pylist() == ANSWERS[which]


def test_no_rows_give_no_texts(tmp_path):
    table = dataset.SCHEMA.empty_table()
    assert len(text_array(table)) == len(answer_array(table)) == 0


def test_a_broken_chat_says_nothing(tmp_path):
    for number, content in enumerate(('{"a": 1}', "[1, 2]", "no json", "[null]", "3")):
        (table,) = tables_of(tmp_path / str(number), [Sample(id="a", shape="messages", content=content, source=SOURCE)])
        assert text_array(table).to_pylist() == answer_array(table).to_pylist() == [""]
