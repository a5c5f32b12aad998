"""The file of labels: it only grows, the last word of each rater counts, and nothing is lost by a crash."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from volant.core.errors import DataError, MachineError
from volant.store.labels import Judgement, append, read


def test_the_last_word_of_each_rater_counts(tmp_path):
    file = tmp_path / "labels.jsonl"
    assert read(file) == []
    append(file, Judgement(id="a", value="x", by="ana"), Judgement(id="a", value="y", by="ben"))
    append(file, Judgement(id="a", value="z", by="ana"), Judgement(id="a", name="tone", value="x", by="ana"))
    append(file, Judgement(id="a", value="y", by="ana", final=True))
    found = [(one.by, one.value, one.final) for one in read(file, "label")]
    assert found == [("ben", "y", False), ("ana", "z", False), ("ana", "y", True)]
    assert len(file.read_text().splitlines()) == 5 and all(one.at for one in read(file))


def test_a_line_that_a_crash_cut_does_not_swallow_the_next(tmp_path):
    file = tmp_path / "labels.jsonl"
    append(file, Judgement(id="a", value="x", by="ana"))
    file.write_bytes(file.read_bytes()[:-1])
    append(file, Judgement(id="b", value="y", by="ana"))
    assert [one.id for one in read(file)] == ["a", "b"]


def test_many_raters_at_once(tmp_path):
    file = tmp_path / "labels.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: append(file, Judgement(id=f"{n}", value="x" * 500, by="ana")), range(80)))
    assert {one.id for one in read(file)} == {str(n) for n in range(80)}


def test_wrong_lines(tmp_path):
    file = tmp_path / "labels.jsonl"
    for line in ("{", json.dumps({"id": "a", "value": "x"}), json.dumps({"id": "a", "value": "x", "by": " "}), "\xff"):
        file.write_bytes(b"\n" + line.encode("latin-1"))
        with pytest.raises(DataError, match=r"labels\.jsonl"):
            read(file)
    with pytest.raises(MachineError, match="cannot be kept"):
        append(tmp_path / "none" / "labels.jsonl", Judgement(id="a", value="x", by="ana"))
