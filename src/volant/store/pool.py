"""Some records out of any number, by what narrow columns say of them: what people are offered to label.

Enters: a Dataset, and ids that must be among them. Leaves: as many Samples as were asked for, drawn by a hash of their
ids, so that the same dataset and seed give the same ones; or those first that a vote was least sure of. Texts and
pictures are read of the chosen ones only, a row group at a time, however many records there are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from volant.core.artifact import Dataset
from volant.core.sample import Sample
from volant.store.dataset import from_table, parts
from volant.store.mixing import mixed
from volant.store.record_index import hashed
from volant.store.shards import Part, unreadable

_RANK = np.dtype([("free", "?"), ("sure", "<f8"), ("chance", "<u8"), ("part", "<u4"), ("place", "<u4")])


def pool(
    data: Dataset, name: str, size: int, *, seed: int = 0, keep: Collection[str] = (), by_votes: bool = False
) -> list[Sample]:
    """Up to `size` records, in the order in which they were ranked.

    Args:
        name: of the label that they are chosen for.
        size: how many; more only where more are to be kept.
        seed: another one draws others.
        keep: ids that are among them whatever happens, with all that `collect.suspects` marked.
        by_votes: those first that `collect.label` was least sure of.

    Raises:
        ArtifactError: a shard is damaged.
    """
    best = np.zeros(0, _RANK)
    kept = pa.array(sorted(keep), pa.string())
    for number, table in enumerate(_tables(parts(data), ["id", "attrs"])):
        found = np.zeros(table.num_rows, _RANK)
        suspect, sure = _marks(table["attrs"], name)
        found["free"] = ~(suspect | np.asarray(pc.is_in(table["id"], kept)))
        found["sure"] = sure if by_votes else 0.0
        found["chance"] = _drawn(hashed(table["id"].to_pylist()), seed)
        found["part"], found["place"] = number, np.arange(table.num_rows)
        best = np.concatenate([best, found])
        most = max(size, int((~best["free"]).sum()))
        best = best[np.lexsort((best["chance"], best["sure"], best["free"]))[:most]]
    best = best[np.lexsort((best["chance"], best["sure"]))]
    return _read(data, best)


def values(data: Dataset, name: str) -> list[str]:
    """What records are labelled as under a name, sorted; read from the column of labels alone."""
    found: set[str] = set()
    for table in _tables(parts(data), ["labels"]):
        labels = table["labels"].combine_chunks().flatten()
        named = labels.filter(pc.equal(labels.field("name"), name))
        found |= set(pc.unique(named.field("value")).to_pylist())
    return sorted(found)


def _marks(attrs: pa.ChunkedArray, name: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which records are suspected, and how sure the vote was of each: 0 where there was none."""
    suspect, sure = np.zeros(len(attrs), bool), np.zeros(len(attrs))
    told = pc.or_(pc.match_substring(attrs, '"suspect"'), pc.match_substring(attrs, '"sure"'))
    for place in np.flatnonzero(np.asarray(told)).tolist():
        known = json.loads(attrs[place].as_py())
        suspect[place] = name in known.get("suspect", {})
        sure[place] = float(known.get("sure", {}).get(name, 0.0))
    return suspect, sure


def _drawn(keys: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Hashes that a seed has mixed: another one orders the same ids otherwise."""
    return mixed(keys ^ np.uint64((seed * 0x9E3779B97F4A7C15 + 0xD1342543DE82EF95) & ((1 << 64) - 1)))


def _tables(groups: Sequence[Part], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of row groups; a shard is opened once, for opening one of many groups takes longer than to read one."""
    for file, own in groupby(groups, key=lambda part: part.file):
        try:
            with pq.ParquetFile(file) as shard:
                for part in own:
                    yield shard.read_row_group(part.group, columns=columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise unreadable(file, error) from error


def _read(data: Dataset, chosen: npt.NDArray[np.void]) -> list[Sample]:
    groups = parts(data)
    found: dict[tuple[int, int], Sample] = {}
    wanted: dict[int, list[int]] = {}
    for part, place in sorted(zip(chosen["part"].tolist(), chosen["place"].tolist(), strict=True)):
        wanted.setdefault(part, []).append(place)
    tables = _tables([groups[part] for part in wanted])
    for (part, places), table in zip(wanted.items(), tables, strict=True):
        rows = from_table(table.take(pa.array(places)))
        found |= {(part, place): sample for place, sample in zip(places, rows, strict=True)}
    return [found[int(one["part"]), int(one["place"])] for one in chosen]
