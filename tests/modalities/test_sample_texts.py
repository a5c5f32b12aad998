"""What is to be read in a sample, and the sample again with other texts."""

from __future__ import annotations

import json

import pytest

from volant.core.sample import Sample, Source
from volant.modalities.leakage import parts_of
from volant.modalities.sample_texts import texts_of, with_texts

TURNS = [{"role": "system", "content": "s"}, {"role": "user", "content": "ask"}]
SAID = [*TURNS, {"role": "assistant", "content": "answer"}]


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"shape": "text", "content": "plain"}, ["plain"]),
        ({"shape": "completion", "condition": "ask", "target": "answer"}, ["ask", "answer"]),
        ({"shape": "messages", "content": json.dumps(SAID)}, ["s", "ask", "answer"]),
        ({"shape": "preference", "condition": "ask", "target": "good", "rejected": "bad"}, ["ask", "good", "bad"]),
        ({"shape": "preference", "content": json.dumps(TURNS), "target": "good", "rejected": "bad"},
         ["good", "bad", "s", "ask"]),
    ],
)  # fmt: skip
def test_every_text_is_read_and_written_anew(fields, texts):
    sample = Sample(id="x", source=Source(uri="u", licence="MIT"), **fields)
    assert texts_of(sample) == texts
    other = with_texts(sample, [text.upper() for text in texts], masked=1)
    assert texts_of(other) == [text.upper() for text in texts] and other.shape == sample.shape
    assert other.id != "x" and other.parents == ["x"] and other.attrs == {"masked": 1}


def test_a_system_turn_is_part_of_no_guarded_item():
    asked = Sample(id="x", source=Source(uri="u", licence="MIT"), shape="preference", content=json.dumps(TURNS),
                   target="good", rejected="bad")  # fmt: skip
    assert parts_of(asked) == ["ask\ngood\nbad"]
