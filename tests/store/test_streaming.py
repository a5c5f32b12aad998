"""A stream is a full pass in another order each time, and any step gives its sample whatever was read before."""

import pytest

from volant.core.artifact import Dataset
from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Sample, Source
from volant.store import dataset, shards, streaming
from volant.store.streaming import Stream


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_ROWS_A_GROUP", 8)
    monkeypatch.setattr(shards, "_BYTES_A_SHARD", 4000)
    monkeypatch.setattr(streaming, "GROUPS", 3)
    source = Source(uri="u", licence="MIT")
    with dataset.writer(tmp_path / "d") as out:
        out.write_all(Sample(id=f"s{n}", shape="text", content=f"t{n}", source=source) for n in range(99))
    assert len(list((tmp_path / "d" / "data").iterdir())) > 2
    return Dataset(tmp_path / "d")


def test_each_pass_gives_every_sample_once(data):
    stream = Stream(data, seed=2)
    assert stream.size == 99
    first, second = ([stream.at(step).id for step in range(start, start + 99)] for start in (0, 99))
    assert sorted(first) == sorted(second) == sorted(s.id for s in dataset.rows(data, "train"))
    assert first != second and first != [s.id for s in dataset.rows(data, "train")]
    assert [Stream(data, seed=3).at(step).id for step in range(99)] != first


def test_a_reader_goes_on_where_another_was_killed(data):
    whole = Stream(data, seed=2).samples()
    expected = [next(whole) for _ in range(150)]
    again = Stream(data, seed=2).samples(start=120)
    assert [next(again) for _ in range(30)] == expected[120:]
    assert Stream(data, seed=2).at(77) == expected[77]


def test_refusals(data):
    with pytest.raises(DataError, match="no 'test' split"):
        Stream(data, "test")
    stream = Stream(data)
    assert stream.size
    for file in (data.path / "data").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ArtifactError, match="volant verify"):
        stream.at(0)
