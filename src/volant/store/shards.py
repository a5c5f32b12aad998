"""The Parquet files of one split: the schema, and rows in and out a row group at a time.

Enters: Arrow tables (or rows) of the schema. Leaves: shards whose bytes depend on the rows and their order alone,
never on how many came at once: a row group is full at 2,048 rows or 16 MB, a shard at 512 MB. One row group is
what a reader holds in memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from volant.core.errors import ArtifactError
from volant.store import arrow_functions as pc
from volant.store.arrow_values import one, values

_TEXT = pa.string()
SOURCE = pa.struct([(name, _TEXT) for name in ("uri", "licence", "consent", "collected_at", "origin")])
LABEL = pa.struct([(name, _TEXT) for name in ("name", "value", "by")])
SCHEMA = pa.schema(
    [
        pa.field("id", _TEXT, nullable=False),
        pa.field("shape", _TEXT, nullable=False),
        pa.field("content", _TEXT),
        pa.field("media", pa.binary()),
        pa.field("condition", _TEXT),
        pa.field("target", _TEXT),
        pa.field("rejected", _TEXT),
        pa.field("split", _TEXT, nullable=False),
        pa.field("group", _TEXT, nullable=False),
        pa.field("source", SOURCE, nullable=False),
        pa.field("parents", pa.list_(_TEXT), nullable=False),
        pa.field("labels", pa.list_(LABEL), nullable=False),
        pa.field("attrs", _TEXT, nullable=False),
        pa.field("drop", _TEXT, nullable=False),
    ]
)
_ROWS_A_GROUP = 2048
_BYTES_A_GROUP = 16 << 20
_BYTES_A_SHARD = 512 << 20
_BODY = ("content", "media", "condition", "target", "rejected", "attrs")


class _Hashed(io.BufferedWriter):
    """A file that is hashed as it is written, so that it is not read again for it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"), 1 << 20)
        self.sum = sha256()

    def write(self, data: Any) -> int:
        self.sum.update(data)
        return super().write(data)


class Shards:
    """The shard files of one split while they are written; the `-of-N` in their names comes at the end.

    Args:
        folder: made when the first row group is written.
        stem: how the files' names begin.
        schema: of the rows; columns of text and bytes count for the size of a row group.
        random: columns of hashes, which are written as they are.
        hashed: whether the files' sums are wanted.

    Attributes:
        sums: the sha256 of each finished file, if they are wanted.
    """

    def __init__(
        self, folder: Path, stem: str, schema: pa.Schema = SCHEMA, *, random: Sequence[str] = (), hashed: bool = False
    ) -> None:
        self.folder, self.stem, self.schema, self.hashed = folder, stem, schema, hashed
        # A column whose values rarely come twice has no use for a dictionary, and a random one none for a compressor.
        self._layout: dict[str, Any] = {"compression": "zstd"}
        if random:
            assert not any(pa.types.is_nested(field.type) for field in schema), "columns inside columns go by paths"
            self._layout["compression"] = {name: "none" if name in random else "zstd" for name in schema.names}
            self._layout["use_dictionary"] = [name for name in schema.names if name not in random]
        self._rows: list[dict[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._held = self._held_bytes = self._row_bytes = self._shard_bytes = 0
        self._files: list[tuple[Path, str]] = []
        self._open: tuple[pq.ParquetWriter, io.BufferedWriter] | None = None
        self.sums: dict[Path, str] = {}

    def add_row(self, row: dict[str, Any]) -> None:
        """Add one row, as a mapping of the schema's names."""
        self._rows.append(row)
        self._row_bytes += sum(len(row[name]) for name in _BODY if row.get(name))
        if len(self._rows) >= _ROWS_A_GROUP or self._row_bytes >= _BYTES_A_GROUP:
            self._take_rows()

    def add(self, table: pa.Table) -> None:
        """Add rows of the schema, in their order."""
        self._take_rows()
        ends = np.cumsum(_sizes(table))
        first = begun = 0
        while first < table.num_rows:
            by_bytes = int(np.searchsorted(ends, begun + _BYTES_A_GROUP - self._held_bytes)) + 1
            last = min(table.num_rows, by_bytes, first + _ROWS_A_GROUP - self._held)
            self._tables.append(table.slice(first, last - first))
            self._held += last - first
            self._held_bytes += int(ends[last - 1]) - begun
            first, begun = last, int(ends[last - 1])
            if self._held >= _ROWS_A_GROUP or self._held_bytes >= _BYTES_A_GROUP:
                self._write_group()

    def finish(self) -> None:
        """Write what is left and give the files their names; no row at all leaves one file with the schema."""
        self._take_rows()
        if self._held or not (self._files or self._open):
            self._write_group()
        self.close()
        for index, (part, found) in enumerate(self._files):
            name = self.folder / f"{self.stem}-{index:05d}-of-{len(self._files):05d}.parquet"
            part.rename(name)
            self.sums |= {name: found} if found else {}

    def close(self) -> None:
        """Close the open file, if any, as it is."""
        if self._open is not None:
            writer, file = self._open
            writer.close()
            file.close()
            self._files.append((Path(str(file.name)), file.sum.hexdigest() if isinstance(file, _Hashed) else ""))
        self._open, self._shard_bytes = None, 0

    def _take_rows(self) -> None:
        if self._rows:
            rows, self._rows, self._row_bytes = self._rows, [], 0
            self.add(pa.Table.from_pylist(rows, schema=self.schema))

    def _write_group(self) -> None:
        if self._open is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{self.stem}-{len(self._files):05d}.part"
            file = _Hashed(part) if self.hashed else part.open("wb")
            self._open = pq.ParquetWriter(file, self.schema, **self._layout), file
        if self._held:  # a row group of no rows is one that `datasets` cannot read
            # One chunk a column: where the pages begin must not depend on how the rows came.
            self._open[0].write_table(pa.concat_tables(self._tables).combine_chunks(), row_group_size=_ROWS_A_GROUP)
        self._shard_bytes += self._held_bytes
        self._tables, self._held, self._held_bytes = [], 0, 0
        if self._shard_bytes >= _BYTES_A_SHARD:
            self.close()


@dataclass(frozen=True)
class Part:
    """One row group of a dataset.

    Attributes:
        file: the shard.
        group: its number in the shard.
        rows: how many there are.
    """

    file: Path
    group: int
    rows: int

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows; of some columns only, where they are named.

        Raises:
            ArtifactError: the shard is damaged.
        """
        try:
            with pq.ParquetFile(self.file) as shard:
                return shard.read_row_group(self.group, columns=columns, use_threads=False)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise unreadable(self.file, error) from error


def parts_of(files: Sequence[Path]) -> Iterator[Part]:
    """The row groups of the files, in order.

    Raises:
        ArtifactError: a shard is damaged.
    """
    for file in files:
        try:
            with pq.ParquetFile(file) as shard:
                counts = [shard.metadata.row_group(n).num_rows for n in range(shard.num_row_groups)]
        except (pa.ArrowException, OSError) as error:
            raise unreadable(file, error) from error
        yield from (Part(file, number, count) for number, count in enumerate(counts) if count)


def unreadable(file: Path, error: Exception) -> ArtifactError:
    """The error that says that a shard is damaged."""
    first = str(error).split("\n", maxsplit=1)[0]
    return ArtifactError(f"the shard cannot be read: {first}", where=str(file), fix="Run `volant verify`.")


def _sizes(table: pa.Table) -> np.ndarray:
    """About how many bytes each row holds: its text and media, and 128 for the rest; int64 [rows]."""
    total = np.full(table.num_rows, 128, np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_string(column.type):
            sizes = pc.binary_length(column)
            total += values(pc.fill_null(sizes, one(0, sizes.type))).astype(np.int64)
    return total
