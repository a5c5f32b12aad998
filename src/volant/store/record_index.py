"""Where a record lies: an index beside each dataset, from ids and parents to rows.

Enters: a Dataset artifact. Leaves: for any ids, the rows that carry them and the rows that were made from
them. Finding one id among a million by reading the `id` column costs 0.3 s a dataset; a project has many.
The index is one sorted array of 16 bytes an entry, in `.volant/cache/records/<digest>.npy`, read by
`mmap`. It is made from the shards, is no payload, and may be lost: it is made again when it is asked for.

An id is kept as a 64-bit hash, so each hit is read from its shard and compared before it is believed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from volant.core.artifact import Dataset
from volant.core.sample import Source
from volant.store.mixing import mixed
from volant.store.shards import Part, parts_of, unreadable

ENTRY = np.dtype([("key", "<u8"), ("place", "<u8")])
"""`key`: hash of an id. `place`: row number in the order of `shards`, times two; odd where the id is a parent."""
_COLUMNS = ["id", "split", "source", "parents", "drop"]
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Held:
    """One record as one dataset holds it; `drop` is empty where it was kept."""

    id: str
    dataset: str
    split: str
    drop: str
    source: Source
    parents: list[str] = field(default_factory=list)

    @property
    def rule(self) -> str:
        """The rule that dropped it, without value and threshold."""
        return self.drop.partition(":")[0].strip()


def shards(data: Path) -> list[Path]:
    """The Parquet files of a dataset in the order that row numbers follow."""
    return [*sorted((data / "data").glob("*.parquet")), *sorted((data / "dropped").glob("*.parquet"))]


def hashed(ids: Sequence[str]) -> np.ndarray:
    """A 64-bit hash of each string, uint64 [N]; ids of one length are hashed together, eight bytes at a time.

    The mixing step is that of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
    2014). A collision costs a row that is read in vain. Arrow is not asked: to make an array of its own it imports
    pandas, which takes longer than a whole trace.
    """
    spelt = [id.encode() for id in ids]
    lengths = np.fromiter(map(len, spelt), np.int64, len(spelt))
    keys = np.zeros(len(spelt), dtype=np.uint64)
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        part = spelt if rows.size == len(spelt) else [spelt[row] for row in rows]
        raw = np.frombuffer(b"".join(part), dtype=np.uint8).reshape(rows.size, int(length))
        padded = np.zeros((rows.size, max(1, -(-int(length) // 8)) * 8), dtype=np.uint8)
        padded[:, : raw.shape[1]] = raw
        keys[rows] = _chained(padded.view("<u8"), int(length))
    return keys


def _chained(words: np.ndarray, length: int) -> np.ndarray:
    state = np.full(words.shape[0], (length * 0x9E3779B97F4A7C15) & _MASK, dtype=np.uint64)
    for column in range(words.shape[1]):
        state = mixed((state ^ words[:, column]) + np.uint64(0x9E3779B97F4A7C15))
    return state


def made_index(data: Path) -> np.ndarray:
    """The index of a dataset's directory: `ENTRY` [records + parents], sorted by key."""
    keys, places, start = [], [], 0
    for file in shards(data):
        table = pq.read_table(file, columns=["id", "parents"], use_threads=False)
        if not table.num_rows:
            continue
        keys.append(hashed(table["id"].to_pylist()))
        places.append(np.arange(start, start + table.num_rows, dtype=np.uint64) * np.uint64(2))
        parents = table["parents"].combine_chunks()
        above = parents.flatten()
        if len(above):
            keys.append(hashed(above.to_pylist()))
            rows = parents.value_parent_indices().to_numpy(zero_copy_only=False).astype(np.uint64)
            places.append((rows + np.uint64(start)) * np.uint64(2) + np.uint64(1))
        start += table.num_rows
    index = np.zeros(sum(map(len, keys)), dtype=ENTRY)
    if keys:
        index["key"], index["place"] = np.concatenate(keys), np.concatenate(places)
        index = index[np.argsort(index["key"], kind="stable")]
    return index


def index_of(root: Path) -> RecordIndex:
    """The index of the store at `root` (`.volant`)."""
    return RecordIndex(root / "cache" / "records")


class RecordIndex:
    """The indices of a store's datasets.

    Args:
        folder: where they are kept (`.volant/cache/records`); made when the first one is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, np.ndarray] = {}
        self._parts: dict[str, list[Part]] = {}

    def add(self, data: Dataset) -> np.ndarray:
        """The index of a dataset, made where there is none yet.

        Raises:
            ArtifactError: a shard cannot be read.
        """
        digest = data.digest
        if digest in self._open:
            return self._open[digest]
        file = self.folder / f"{digest}.npy"
        if not file.is_file():
            self._make(data, file)
        self._open[digest] = np.load(file, mmap_mode="r", allow_pickle=False)
        return self._open[digest]

    def _make(self, data: Dataset, file: Path) -> None:
        try:
            index = made_index(data.path)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(data.path, error) from error
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        with draft.open("wb") as out:
            np.save(out, index, allow_pickle=False)
        draft.replace(file)

    def remove(self, digest: str) -> None:
        """Forget the index of a dataset that is gone."""
        self._open.pop(digest, None)
        self._parts.pop(digest, None)
        (self.folder / f"{digest}.npy").unlink(missing_ok=True)

    def find(self, data: Dataset, ids: Collection[str], *, children: bool = False) -> list[Held]:
        """The rows of a dataset that carry one of the ids; with `children`, those that were made from one instead.

        Returns:
            In the order of the shards; an id stands once for each row that has it.
        """
        if not ids:
            return []
        wanted = set(ids)
        index = self.add(data)
        keys = np.sort(hashed(sorted(wanted)))
        low = np.searchsorted(index["key"], keys, "left")
        high = np.searchsorted(index["key"], keys, "right")
        places = np.unique([int(index["place"][i]) for a, b in zip(low, high, strict=True) for i in range(a, b)])
        rows = [int(p) // 2 for p in places if bool(int(p) % 2) == children]
        found = self._read(data, rows)
        if children:
            return [held for held in found if wanted & set(held.parents)]
        return [held for held in found if held.id in wanted]

    def _read(self, data: Dataset, rows: Sequence[int]) -> Iterator[Held]:
        """The rows of those numbers; only the row groups that hold one are read."""
        if not rows:
            return
        if data.digest not in self._parts:  # opening a shard costs more than reading a row group of it
            self._parts[data.digest] = list(parts_of(shards(data.path)))
        todo, start = sorted(set(rows)), 0
        for part in self._parts[data.digest]:
            here = [row - start for row in todo if row < start + part.rows]
            if here:
                table = part.read(_COLUMNS)
                yield from (_held(data.digest, table.slice(row, 1).to_pylist()[0]) for row in here)
                todo = todo[len(here) :]
            if not todo:
                return
            start += part.rows


def _held(digest: str, row: dict[str, Any]) -> Held:
    source = Source.model_validate(row["source"])
    return Held(row["id"], digest, row["split"], row["drop"], source, list(row["parents"]))
