"""Candidate pairs among signatures: those that agree in a whole band (LSH), out of core.

In go signatures of any kind [N, P], in memory or mapped from a file; out come pairs (i < j), each once, sorted.
Every signature gives one key a band. Those of some bands at a time are sorted in memory. Where not even one band's
fit, keys are dealt by their top bits into files on disk, so that equal keys meet in one file, and each file is sorted
alone: memory is bounded by the size of a file, whatever N is. Pairs are dealt by their first text in the same way.

Within a big bucket a text is held against the bucket's first ones and its predecessor, not against all: what
belongs together is joined by `clusters` afterwards.

Legend: N signatures, P entries, B bands, M pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pairs = NDArray[np.int64]

KEYS = 1 << 22
"""Keys that are sorted at once, or of one file: 48 MB on disk, and about four times as much while it is sorted."""
_CHUNK_ROWS = 1 << 15
_EMPTY = np.uint32(0xFFFFFFFF)
_ENTRY = np.dtype([("key", "<u8"), ("at", "<u4")])


def candidate_pairs(
    signature_NP: NDArray[Any],
    bands: int,
    rows: int,
    *,
    work: Path | None = None,
    since: int = 0,
    keys: int = KEYS,
    threads: int = 1,
) -> Pairs:
    """Pairs [M, 2] of signatures that share a band, i < j, sorted.

    A signature whose entries are all equal to the type's maximum is of an empty text and has no pair.

    Args:
        bands, rows: the banding; `bands * rows` is at most P.
        work: folder for the files; a temporary one by default.
        since: only pairs whose second one is at or after this index are found: what lies before was compared in
            an earlier version of the dataset.
        keys: held in memory at once.
        threads: how many bands' keys are sorted side by side.
    """
    assert bands * rows <= signature_NP.shape[1], (bands, rows, signature_NP.shape)
    count = len(signature_NP)
    if count > keys:
        place: Any = tempfile.TemporaryDirectory() if work is None else nullcontext(str(work))
        with place as folder:
            return _on_disk(signature_NP, bands, rows, Path(folder), since, -(-count * bands // keys))
    # A band's number is in its keys: those of two bands never meet, so some bands at a time are enough.
    some = max(1, min(-(-bands // threads), keys // max(1, count) // threads))
    chunks = [(at, _full(signature_NP, at)) for at in range(0, count, _CHUNK_ROWS)]
    full_N = np.concatenate([np.zeros(0, np.int64), *(full + at for at, full in chunks)])

    def of(first: int) -> NDArray[np.uint64]:
        own = min(some, bands - first)
        found = [_keys(signature_NP, at, full, first, own, rows).ravel() for at, full in chunks]
        key_E = np.concatenate([np.zeros(0, np.uint64), *found])
        return _codes(key_E, lambda few: full_N[few // own], since)

    with ThreadPoolExecutor(threads) as pool:
        return _decoded(_once(np.concatenate(list(pool.map(of, range(0, bands, some))))))


def _once(codes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The different ones, rising; `np.unique` does it, too, and imports `numpy.ma` for it."""
    codes = np.sort(codes)
    new = np.ones(len(codes), bool)
    np.not_equal(codes[1:], codes[:-1], out=new[1:])
    return codes[new]


def _on_disk(signature_NP: NDArray[Any], bands: int, rows: int, folder: Path, since: int, parts: int) -> Pairs:
    dealt = _Files(folder / "keys", parts)
    for entries in _entries(signature_NP, bands, rows):
        dealt.deal(entries, _share(entries["key"] >> np.uint64(32), 1 << 32, parts))
    meeting = _Files(folder / "pairs", parts)
    for entries in dealt.each(_ENTRY):
        at_E = entries["at"]
        codes = np.unique(_codes(np.ascontiguousarray(entries["key"]), at_E.__getitem__, since))
        meeting.deal(codes, _share(codes >> np.uint64(32), len(signature_NP), parts))
    unique = [np.unique(codes) for codes in meeting.each(np.dtype("<u8"))]
    return _decoded(np.concatenate(unique))


class _Files:
    """Arrays dealt into files, which are read back one by one and removed."""

    def __init__(self, folder: Path, parts: int) -> None:
        self.folder, self.parts = folder, parts
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():  # of a run that was killed
            old.unlink()

    def deal(self, values: NDArray[Any], part: NDArray[np.int64]) -> None:
        order = np.argsort(part, kind="stable")
        edges = np.searchsorted(part[order], np.arange(self.parts + 1))
        for at in np.flatnonzero(np.diff(edges)):
            with (self.folder / f"{at}").open("ab") as file:
                file.write(values[order[edges[at] : edges[at + 1]]].tobytes())

    def each(self, kind: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        for at in range(self.parts):
            file = self.folder / f"{at}"
            yield np.fromfile(file, kind) if file.exists() else np.zeros(0, kind)
            file.unlink(missing_ok=True)


def _share(value: NDArray[np.uint64], below: int, parts: int) -> NDArray[np.int64]:
    """Which of `parts` equal ranges of 0 to `below` (at most 2^32) each value lies in."""
    return (value.astype(np.uint64) * np.uint64(parts) // np.uint64(max(1, below))).astype(np.int64)


def _full(signature_NP: NDArray[Any], at: int) -> NDArray[np.int64]:
    """Which signatures of the chunk that begins at `at` are of no empty text, by their place in it."""
    return np.flatnonzero((signature_NP[at : at + _CHUNK_ROWS] != _EMPTY).any(axis=1))


def _keys(
    signature_NP: NDArray[Any], at: int, full: NDArray[np.int64], first: int, bands: int, rows: int
) -> NDArray[np.uint64]:
    """The keys [n, B] of these bands, of the signatures at these places of the chunk that begins at `at`."""
    from volant.modalities.linking import band_keys

    chunk = signature_NP[at : at + _CHUNK_ROWS, first * rows : (first + bands) * rows]
    chunk = np.ascontiguousarray(chunk if len(full) == len(chunk) else chunk[full], dtype=np.uint32)
    return band_keys(chunk, first, bands, rows)


def _entries(signature_NP: NDArray[Any], bands: int, rows: int) -> Iterator[NDArray[Any]]:
    """Keys with the text of each, as files hold them."""
    for at in range(0, len(signature_NP), _CHUNK_ROWS):
        full = _full(signature_NP, at)
        entries = np.empty((len(full), bands), _ENTRY)
        entries["key"], entries["at"] = _keys(signature_NP, at, full, 0, bands, rows), (full + at)[:, None]
        yield entries.ravel()


def _codes(
    key_E: NDArray[np.uint64], at: Callable[[NDArray[np.int64]], NDArray[Any]], since: int
) -> NDArray[np.uint64]:
    """Pairs as `i << 32 | j`, of keys and what tells the text of each."""
    from volant.modalities.linking import bucket_pairs, meeting

    few = np.flatnonzero(meeting(key_E))
    key_E, at_E = key_E[few], at(few).astype(np.int64)
    order = np.lexsort((at_E, key_E))
    codes: NDArray[np.uint64] = bucket_pairs(key_E[order], at_E[order], since)
    return codes


def _decoded(code_M: NDArray[np.uint64]) -> Pairs:
    return np.stack([code_M >> np.uint64(32), code_M & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)
