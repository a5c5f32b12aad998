import json

import pyarrow as pa
import pytest

from volant.core.artifact import Card, Dataset, file_sha256
from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Label, Sample, Source
from volant.store import croissant, dataset, shards


def sample(i: int, split: str = "train", **fields) -> Sample:
    source = fields.pop("source", Source(uri=f"file-{i}.txt", licence="PSF-2.0"))
    values = {"shape": "completion", "condition": f"p{i}", "target": f"é {i}", **fields}
    return Sample(id=f"s{i}", split=split, source=source, **values)


def written(folder, samples, **options) -> Dataset:
    with dataset.writer(folder, **options) as out:
        out.write_all(samples)
    return Dataset(folder)


def test_round_trip_keeps_every_field(tmp_path):
    full = Sample(
        id="a",
        shape="preference",
        source=Source(uri="u", licence="MIT", consent="given", collected_at="2026-01-02", origin="feedback"),
        content="c",
        media=b"\x00\xff",
        condition="p",
        target="t",
        rejected="r",
        split="validation",
        group="g",
        parents=["x", "y"],
        labels=[Label(name="n", value="v", by="b")],
        attrs={"n": [1, {"é": None}], "f": 0.5},
    )
    data = written(tmp_path / "d", [full, sample(1)])
    assert list(dataset.rows(data, "validation")) == [full]
    assert list(dataset.rows(data)) == [sample(1), full]  # splits in their order


def test_about_counts_kept_and_dropped(tmp_path):
    gone = [sample(i, drop="length: 3 against 5") for i in (4, 5)] + [sample(6, "test", drop="near: 0.9 against 0.8")]
    data = written(tmp_path / "d", [sample(1), sample(2), sample(3, "test"), *gone], modality="code")
    assert data.about == {
        "splits": {"train": 2, "validation": 0, "test": 1},
        "dropped": 3,
        "dropped_by_rule": {"length": 2, "near": 1},
        "licences": {"PSF-2.0": 3},
        "shapes": {"completion": 3},
        "origins": {"human": 3},
        "modality": "code",
    }
    assert sorted(s.id for s in dataset.dropped(data)) == ["s4", "s5", "s6"]
    assert dataset.count(data, "test") == 1
    names = sorted(file.name for file in data.path.rglob("*.parquet"))
    assert names == [
        "dropped-test-00000-of-00001.parquet",
        "dropped-train-00000-of-00001.parquet",
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
    ]


def test_same_samples_same_bytes(tmp_path):
    first = written(tmp_path / "a", [sample(i) for i in range(50)])
    second = written(tmp_path / "b", [sample(i) for i in range(50)])
    assert first.digest == second.digest
    assert first.digest != written(tmp_path / "c", [sample(i) for i in range(51)]).digest


def test_batches(tmp_path):
    data = written(tmp_path / "d", [sample(i) for i in range(7)])
    assert [len(batch) for batch in dataset.batches(data, "train", 3)] == [3, 3, 1]
    assert [len(batch) for batch in dataset.batches(data, "train", 7)] == [7]


def test_large_data_takes_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_ROWS_A_GROUP", 2)
    monkeypatch.setattr(shards, "_BYTES_A_SHARD", 1200)
    data = written(tmp_path / "d", [sample(i) for i in range(9)])
    names = sorted(file.name for file in (data.path / "data").iterdir())
    assert len(names) > 1
    assert names[0] == f"train-00000-of-{len(names):05d}.parquet"
    assert [s.id for s in dataset.rows(data, "train")] == [f"s{i}" for i in range(9)]


def test_absent_and_empty_splits_name_the_mend(tmp_path):
    data = written(tmp_path / "d", [sample(1)])
    with pytest.raises(DataError, match=r"no 'validation' split \(it has train 1\).*collect.split"):
        dataset.rows(data, "validation")
    empty = written(tmp_path / "e", [])
    with pytest.raises(DataError, match="no samples at all.*Check the files"):
        dataset.rows(empty, "train")
    assert list(dataset.rows(empty)) == list(dataset.dropped(empty)) == []


def test_sealed_split_says_so(tmp_path):
    data = written(tmp_path / "d", [sample(1), sample(2, "test")])
    next((data.path / "data").glob("test-*")).unlink()
    with pytest.raises(DataError, match="sealed.*Measure on 'validation'"):
        dataset.rows(data, "test")
    card = Card(kind="Dataset", digest="0" * 64, files=[], step="corpus")
    with pytest.raises(DataError, match="dataset corpus"):
        dataset.rows(Dataset(data.path, card), "test")


@pytest.mark.parametrize(
    "bad", [{"target": "\ud800"}, {"attrs": {"x": float("nan")}}, {"attrs": {"x": b"1"}}, {"group": "\udcff"}]
)
def test_unstorable_samples_are_refused(tmp_path, bad):
    with pytest.raises(DataError, match=r"file-1\.txt.*s1 cannot be stored"), dataset.writer(tmp_path / "d") as out:
        out.write(sample(1, **bad))
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_error_inside_the_writer_leaves_no_metadata(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_ROWS_A_GROUP", 1)
    with pytest.raises(ZeroDivisionError), dataset.writer(tmp_path / "d") as out:
        out.write(sample(1))
        raise ZeroDivisionError
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_damaged_shard_is_an_artifact_error(tmp_path):
    data = written(tmp_path / "d", [sample(1)])
    shard = next((data.path / "data").iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="volant verify"):
        list(dataset.rows(data))


def test_opens_with_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    data = written(tmp_path / "d", [sample(i) for i in range(3)] + [sample(9, "test"), sample(7, drop="x: 1")])
    loaded = datasets.load_dataset(str(data.path), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in loaded.items()} == {"train": 3, "test": 1}
    assert loaded["train"][0]["source"]["licence"] == "PSF-2.0"


def test_without_samples_the_schema_remains(tmp_path):
    import pyarrow.parquet as pq

    (shard,) = (written(tmp_path / "d", []).path / "data").iterdir()
    assert shard.name == "train-00000-of-00001.parquet"
    assert pq.read_table(shard).num_rows == 0 and pq.read_schema(shard).names == dataset.SCHEMA.names


def test_croissant_describes_the_files(tmp_path):
    other = sample(2, "test", source=Source(uri="u", licence="LicenseRef-mine"))
    data = written(tmp_path / "d", [sample(1), other])
    text = (data.path / "croissant.json").read_text()
    document = json.loads(text)
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert document["license"] == ["LicenseRef-mine", "https://spdx.org/licenses/PSF-2.0.html"]
    parts = {part["@id"]: part for part in document["distribution"]}
    assert [p["@type"] for p in parts.values()] == ["cr:FileSet"] * 2 + ["cr:FileObject"] * 2
    assert all(list(data.path.glob(parts[f"{split}-shards"]["includes"])) for split in ("train", "test"))
    shard = "data/test-00000-of-00001.parquet"
    assert parts[shard]["sha256"] == file_sha256(data.path / shard) and parts[shard]["contentUrl"] == shard
    sets = {record["@id"]: record for record in document["recordSet"]}
    assert set(sets) == {"train", "test"}
    assert [field["name"] for field in sets["train"]["field"]] == dataset.SCHEMA.names
    assert "date" not in text.lower().replace("validation", "")
    assert croissant.licence_address("MIT OR Apache-2.0") == "MIT OR Apache-2.0"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the reference library's own
def test_croissant_is_valid_to_the_reference_library(tmp_path):
    reference = pytest.importorskip("mlcroissant", reason="the reference library is not installed")
    data = written(tmp_path / "d", [sample(i) for i in range(3)])
    opened = reference.Dataset(jsonld=str(data.path / "croissant.json"))
    assert not opened.metadata.ctx.issues.errors
    assert next(iter(opened.records("train")))["train/id"] == b"s0"


def many(count: int) -> list[Sample]:
    splits, drops = ("train", "train", "test", "validation"), ("", "", "length: 3 against 5", "near: 0.9 against 0.8")
    return [sample(i, splits[i % 4], drop=drops[i // 4 % 4], content="é" * (i * 13 % 50)) for i in range(count)]


@pytest.mark.parametrize("step", [1, 3, 7, 100])
def test_rows_and_tables_of_any_size_give_the_same_bytes(tmp_path, monkeypatch, step):
    monkeypatch.setattr(shards, "_ROWS_A_GROUP", 5)
    monkeypatch.setattr(shards, "_BYTES_A_GROUP", 700)
    monkeypatch.setattr(shards, "_BYTES_A_SHARD", 3000)
    samples = many(90)
    first = written(tmp_path / "rows", samples)
    table = pa.Table.from_pylist([dataset._row(s) for s in samples], schema=dataset.SCHEMA)
    with dataset.writer(tmp_path / "tables") as out:
        for at in range(0, len(samples), step):
            piece = table.slice(at, step)
            if at % 2:
                piece = piece.cast(pa.schema([f.with_type(wide(f.type)) for f in piece.schema]))
            if at % 3:
                out.write_table(piece)
            else:
                out.write_all(samples[at : at + step])
    assert first.digest == Dataset(tmp_path / "tables").digest
    assert sum(1 for p in (first.path / "data").iterdir()) > 3


def wide(kind):
    return pa.large_string() if kind == pa.string() else kind


def test_tables_are_the_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_ROWS_A_GROUP", 4)
    data = written(tmp_path / "d", many(30))
    tables = list(dataset.tables(data))
    assert [s for t in tables for s in dataset.from_table(t)] == list(dataset.rows(data))
    assert max(t.num_rows for t in tables) == 4
    ids = [i for t in dataset.tables(data, "train", ["id"]) for i in t["id"].to_pylist()]
    assert ids == [s.id for s in dataset.rows(data, "train")]
    parts = dataset.parts(data, "test")
    assert parts[-1].read(["split"]).num_rows == parts[-1].rows
    with pytest.raises(DataError, match="no 'test' split"):
        dataset.tables(written(tmp_path / "e", [sample(1)]), "test")
    parts[0].file.write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match="volant verify"):
        list(dataset.tables(data, "test"))


def test_a_table_of_another_schema_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="Give the columns id, shape"), dataset.writer(tmp_path / "d") as out:
        out.write_table(pa.table({"id": ["a"]}))
