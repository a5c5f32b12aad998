"""Samples in and out of Parquet: the interface of a Dataset artifact.

Enters: samples, one at a time. Leaves: a directory that `datasets`, `polars` and `duckdb` open, and
samples again. One shard set a split, so that the test split can be left out of a view by its files:

    data/train-00000-of-00001.parquet            kept samples
    dropped/dropped-train-00000-of-00001.parquet what a rule dropped, with the reason in `drop`
    dataset.json  croissant.json  README.md      counts; metadata for machines; card for `load_dataset`
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from volant.core.artifact import Dataset
from volant.core.errors import ArtifactError, DataError
from volant.core.sample import SPLITS, Sample, Split
from volant.store import arrow_functions as pc
from volant.store.arrow_values import one
from volant.store.croissant import croissant
from volant.store.datacard import short_card
from volant.store.shards import SCHEMA as SCHEMA
from volant.store.shards import Part, Shards, parts_of, unreadable


class Writer:
    """Writes samples into a directory; use as a context manager, the metadata comes at its end."""

    def __init__(self, folder: Path, modality: str, threads: int) -> None:
        self.folder, self.modality, self.threads = folder, modality, threads
        self._shards: dict[str, Shards] = {}
        self._kept: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._licences: Counter[str] = Counter()
        self._shapes: Counter[str] = Counter()
        self._origins: Counter[str] = Counter()

    def write(self, sample: Sample) -> None:
        """Add one sample: to its split, or to the dropped ones if its `drop` names a reason.

        Raises:
            DataError: the sample holds what cannot be stored (half a surrogate pair, a NaN in `attrs`).
        """
        row = _row(sample)
        if sample.drop:
            self._dropped[sample.drop.split(":")[0].strip()] += 1
            self._shard("dropped", f"dropped-{sample.split}").add_row(row)
            return
        self._kept[sample.split] += 1
        self._licences[sample.source.licence] += 1
        self._shapes[sample.shape] += 1
        self._origins[sample.source.origin] += 1
        self._shard("data", sample.split).add_row(row)

    def write_table(self, table: pa.Table) -> None:
        """Add rows of the schema in their order, as `write` would; no Sample is made of them.

        The bytes written depend on the rows alone, not on how many come at once.

        Raises:
            ArtifactError: the table has other columns than the schema.
        """
        if not table.schema.equals(SCHEMA):
            table = _cast(table)
        place = pc.binary_join_element_wise(
            pc.if_else(pc.equal(table["drop"], one("")), one("data"), one("dropped")), table["split"], one("/")
        )
        names = pc.unique(place).to_pylist()
        for name in names:
            part = pc.filter(table, pc.equal(place, one(name))) if len(names) > 1 else table
            folder, _, split = name.partition("/")
            if folder == "dropped":
                _count(self._dropped, pc.list_element(pc.split_pattern(part["drop"], ":", max_splits=1), one(0)))
            else:
                self._kept[split] += part.num_rows
                _count(self._licences, pc.struct_field(part["source"], "licence"))
                _count(self._shapes, part["shape"])
                _count(self._origins, pc.struct_field(part["source"], "origin"))
            self._shard(folder, split if folder == "data" else f"dropped-{split}").add(part)

    def write_all(self, samples: Iterable[Sample]) -> None:
        """Add samples in their order."""
        for sample in samples:
            self.write(sample)

    @property
    def about(self) -> dict[str, Any]:
        """What `dataset.json` says of the samples written so far."""
        return {
            "splits": {split: self._kept[split] for split in SPLITS},
            "dropped": self._dropped.total(),
            "dropped_by_rule": dict(sorted(self._dropped.items())),
            "licences": dict(sorted(self._licences.items())),
            "shapes": dict(sorted(self._shapes.items())),
            "origins": dict(sorted(self._origins.items())),
            "modality": self.modality,
        }

    def close(self) -> None:
        """Finish the shards and write the metadata."""
        if not self._kept:  # an empty shard keeps the schema, so that readers of Parquet still open it
            self._shard("data", "train")
        with ThreadPoolExecutor(self.threads) as pool:  # the last row group of each is compressed now
            list(pool.map(Shards.finish, self._shards.values()))
        about = self.about
        _write_json(self.folder / "dataset.json", about)
        sums = {file: found for shards in self._shards.values() for file, found in shards.sums.items()}
        _write_json(self.folder / "croissant.json", croissant(about, columns(), self.folder, sums=sums))
        (self.folder / "README.md").write_text(short_card(about), encoding="utf-8")

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        for shards in self._shards.values():  # leave no open file behind; the directory is thrown away
            shards.close()

    def _shard(self, place: str, stem: str) -> Shards:
        if stem not in self._shards:
            self._shards[stem] = Shards(self.folder / place, stem, hashed=place == "data")
        return self._shards[stem]


def writer(folder: Path, *, modality: str = "text", threads: int = 1) -> Writer:
    """Open a directory for writing samples; `dataset.json`, the shards and the cards are there when it closes.

    Args:
        threads: how many finish the shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return Writer(folder, modality, threads)


def rows(data: Dataset, split: Split | None = None) -> Iterator[Sample]:
    """The kept samples of a split, or of every split that is there, in the order written.

    Raises:
        DataError: the split is empty, absent or sealed; the message says how to mend it.
        ArtifactError: a shard is damaged.
    """
    if split is not None:
        _check_split(data, split)
    return _read(_files(data, split))


def parts(data: Dataset, split: Split | None = None) -> list[Part]:
    """The row groups of a split, or of every split that is there, in the order written: what a pool shares out.

    Raises:
        DataError: the split is empty, absent or sealed.
        ArtifactError: a shard is damaged.
    """
    if split is not None:
        _check_split(data, split)
    return list(parts_of(_files(data, split)))


def tables(data: Dataset, split: Split | None = None, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The kept samples as Arrow tables of the schema, one row group (at most 2,048 rows or about 16 MB) at a time.

    Args:
        split: one split, or every split that is there.
        columns: only these, where text is not needed.

    Raises:
        DataError: the split is empty, absent or sealed.
        ArtifactError: a shard is damaged.
    """
    return (part.read(columns) for part in parts(data, split))


def dropped(data: Dataset) -> Iterator[Sample]:
    """The samples that a rule dropped, each with its reason in `drop`."""
    return _read(sorted((data.path / "dropped").glob("dropped-*.parquet")))


def batches(data: Dataset, split: Split, size: int) -> Iterator[list[Sample]]:
    """The samples of a split in lists of `size`; the last one may be shorter.

    Raises:
        DataError: as `rows`.
    """
    assert size >= 1, size
    return batched(rows(data, split), size)


def count(data: Dataset, split: Split) -> int:
    """How many kept samples the split has, read from `dataset.json`."""
    return int(data.about["splits"].get(split, 0))


def _files(data: Dataset, split: Split | None) -> list[Path]:
    splits = SPLITS if split is None else (split,)
    return [file for name in splits for file in sorted((data.path / "data").glob(f"{name}-*.parquet"))]


def batched(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """The samples in lists of `size`; the last one may be shorter."""
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _check_split(data: Dataset, split: Split) -> None:
    where = f"dataset {data.card.step or data.card.digest[:12]}" if data.card else data.path.name
    if any((data.path / "data").glob(f"{split}-*.parquet")) and count(data, split):
        return
    if count(data, split):
        what = f"the {split} split is sealed: its {count(data, split)} samples are opened by evaluate.* only"
        raise DataError(f"{what}.", where=where, fix="Measure on 'validation'.")
    have = ", ".join(f"{name} {n}" for name, n in data.about["splits"].items() if n) or "no samples at all"
    fix = "Add a collect.split step, or more groups of records." if have[0] != "n" else "Check the files and rules."
    raise DataError(f"the dataset has no {split!r} split (it has {have}).", where=where, fix=fix)


def _row(sample: Sample) -> dict[str, Any]:
    row = sample.model_dump(exclude={"media"})
    try:
        row["attrs"] = json.dumps(sample.attrs, ensure_ascii=False, sort_keys=True, allow_nan=False)
        json.dumps(row, ensure_ascii=False).encode()  # refuses half a surrogate pair, wherever it is
    except (ValueError, TypeError) as error:
        where, first = sample.source.uri, str(error).split("\n", maxsplit=1)[0]
        raise DataError(
            f"sample {sample.id} cannot be stored: {first}.", where=where, fix="Clean or drop it."
        ) from error
    row["media"] = sample.media
    return row


def from_table(table: pa.Table | pa.RecordBatch) -> Iterator[Sample]:
    """The samples in rows of the schema."""
    for row in table.to_pylist():
        row["attrs"] = json.loads(row["attrs"])
        yield Sample.model_validate(row)


def to_table(samples: Iterable[Sample]) -> pa.Table:
    """Samples as rows of the schema.

    Raises:
        DataError: a sample holds what cannot be stored.
    """
    return pa.Table.from_pylist([_row(sample) for sample in samples], schema=SCHEMA)


def dropped_tables(data: Dataset) -> Iterator[pa.Table]:
    """The samples that a rule dropped, as Arrow tables of the schema.

    Raises:
        ArtifactError: a shard is damaged.
    """
    return (part.read() for part in parts_of(sorted((data.path / "dropped").glob("dropped-*.parquet"))))


def _read(files: list[Path]) -> Iterator[Sample]:
    for file in files:
        try:
            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=1024):
                    yield from from_table(batch)
        except (pa.ArrowException, OSError, ValidationError, KeyError, ValueError) as error:
            raise unreadable(file, error) from error


def _cast(table: pa.Table) -> pa.Table:
    """Rows in the schema's order and types; `large_string` becomes `string`."""
    try:
        return table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowException, KeyError, ValueError) as error:
        what = f"the rows are not of the dataset's schema: {str(error).splitlines()[0]}"
        raise ArtifactError(what, fix=f"Give the columns {', '.join(SCHEMA.names)}.") from error


def _count(counter: Counter[str], values: pa.ChunkedArray) -> None:
    for found in pc.value_counts(values).to_pylist():
        counter[found["values"].strip()] += found["counts"]


def columns() -> list[tuple[str, bool, list[str]]]:
    """Each column's name, whether it repeats, and the names of its parts (empty: plain)."""
    found = []
    for field in SCHEMA:
        inner = field.type.value_type if pa.types.is_list(field.type) else field.type
        parts = [part.name for part in inner] if pa.types.is_struct(inner) else []
        found.append((field.name, pa.types.is_list(field.type), parts))
    return found


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
