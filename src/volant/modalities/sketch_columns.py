"""Sketches beside a dataset: narrow columns by which later data are compared with it, without its texts.

    sketches/train-00000-of-00001.parquet    id, right, kind, two keys, 128 bytes of sketch

In go rows, or the sketches that were made of them; out come Parquet files, a split each, and the columns again. Of each
entry of a sketch the lowest byte is kept: equal entries stay equal, unequal ones agree by chance in one of 256, so that
no pair is lost and few come in addition, which exact similarity sorts out. An entry of a picture fits into a byte.

Legend: N records, P entries of a sketch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from volant.core.sample import SPLITS
from volant.modalities.minhash import LENGTH, VERSION, signatures
from volant.modalities.record_columns import MEDIA, TEXT, equal_keys, kinds, rights
from volant.modalities.text_arrays import text_array
from volant.modalities.text_features import likeness
from volant.store import arrow_functions as pc
from volant.store.arrow_values import numbers
from volant.store.dataset import from_table
from volant.store.shards import Shards, unreadable

FOLDER = "sketches"
_RIGHTS = ("test", "validation", "train")
_MARK = b"volant.sketches"
_RANDOM = ("key_a", "key_b", "mark")  # columns that nothing makes smaller
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("right", pa.uint8(), nullable=False),
        pa.field("kind", pa.uint8(), nullable=False),
        pa.field("key_a", pa.uint64(), nullable=False),
        pa.field("key_b", pa.uint64(), nullable=False),
        pa.field("mark", pa.binary(LENGTH), nullable=False),
    ],
    metadata={_MARK: str(VERSION).encode()},
)


@dataclass(frozen=True)
class Sketches:
    """What records are compared by.

    Attributes:
        ids: of each, Arrow strings.
        right_N: 0 test, 1 validation, 2 train, 3 feedback.
        kind_N: `TEXT`, `MEDIA` or `ROW`.
        key_N2: equal for equal records.
        mark_NP: lowest bytes of the sketch; all 255 for a text without a word.
    """

    ids: Any
    right_N: NDArray[np.uint8]
    kind_N: NDArray[np.uint8]
    key_N2: NDArray[np.uint64]
    mark_NP: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.right_N)

    def taken(self, own: NDArray[Any]) -> Sketches:
        """Those of these numbers, in their order."""
        parts = (self.right_N, self.kind_N, self.key_N2, self.mark_NP)
        return Sketches(pc.take(self.ids, numbers(own)), *(part[own] for part in parts))

    @property
    def table(self) -> pa.Table:
        """The columns as they are kept."""
        marks = np.ascontiguousarray(self.mark_NP).tobytes()
        columns = [
            self.ids, numbers(self.right_N), numbers(self.kind_N), numbers(self.key_N2[:, 0]),
            numbers(self.key_N2[:, 1]),
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(LENGTH), len(self), [None, pa.py_buffer(marks)]),
        ]  # fmt: skip
        return pa.Table.from_arrays(columns, schema=SCHEMA)


def sketched(table: pa.Table, modality: Any) -> Sketches:
    """The sketches of rows of a dataset's schema."""
    kind_N = kinds(table)
    alike = likeness(text_array(table))
    mark_NP = signatures(alike.words)
    mark_NP[kind_N != TEXT] = 0
    media_N = kind_N == MEDIA
    for place, sample in zip(np.flatnonzero(media_N), from_table(pc.filter(table, numbers(media_N))), strict=True):
        mark_NP[place] = np.asarray(modality.fingerprint(sample)).astype(np.uint32)
    return Sketches(table["id"].combine_chunks(), rights(table), kind_N, equal_keys(table), narrowed(mark_NP))


def narrowed(mark_NP: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The lowest byte of each entry."""
    return (mark_NP & np.uint32(0xFF)).astype(np.uint8)


def keep(folder: Path, parts: Iterable[Sketches]) -> None:
    """Write sketches beside the dataset in `folder`, each split in files of its own, as its texts are."""
    shards: dict[str, Shards] = {}
    for part in parts:
        for right, split in enumerate(_RIGHTS):
            own = part.right_N >= right if split == "train" else part.right_N == right
            if own.any():
                files = shards.setdefault(split, Shards(folder / FOLDER, split, SCHEMA, random=_RANDOM))
                files.add(part.taken(np.flatnonzero(own)).table)
    for files in shards.values():
        files.finish()


def kept(folder: Path) -> Sketches | None:
    """The sketches beside a dataset; None where there are none, or of another version.

    Raises:
        ArtifactError: a file is damaged.
    """
    tables = []
    for split in SPLITS:
        for file in sorted((folder / FOLDER).glob(f"{split}-*.parquet")):
            try:
                tables.append(pq.read_table(file, use_threads=False))
            except (pa.ArrowException, OSError) as error:
                raise unreadable(file, error) from error
            if (tables[-1].schema.metadata or {}).get(_MARK) != SCHEMA.metadata[_MARK]:
                return None
    return joined([_read(table) for table in tables]) if tables else None


def joined(parts: Iterable[Sketches]) -> Sketches:
    """Sketches one after another."""
    found = list(parts)
    if not found:
        none = np.zeros(0, np.uint8)
        return Sketches(
            pa.array([], pa.string()), none, none, np.zeros((0, 2), np.uint64), np.zeros((0, LENGTH), np.uint8)
        )
    ids = pa.concat_arrays([part.ids for part in found])
    names = ("right_N", "kind_N", "key_N2", "mark_NP")
    return Sketches(ids, *(np.concatenate([getattr(part, name) for part in found]) for name in names))


def _read(table: pa.Table) -> Sketches:
    table = table.combine_chunks()
    marks = table["mark"].combine_chunks()
    raw = np.frombuffer(marks.buffers()[1], np.uint8)[marks.offset * LENGTH :][: len(marks) * LENGTH]
    keys = np.stack([table["key_a"].to_numpy(), table["key_b"].to_numpy()], axis=1)
    right_N, kind_N = table["right"].to_numpy(), table["kind"].to_numpy()
    return Sketches(table["id"].combine_chunks(), right_N, kind_N, keys, raw.reshape(-1, LENGTH))
