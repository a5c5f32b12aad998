"""Sets of shingles of many texts, in memory or in a file, and the exact similarity of pairs of them.

In go word hashes; out come sorted sets of hashes, of which a file holds more than memory does: pairs are compared in
blocks whose sets fit into memory. Legend: S sets, M pairs, G shingles.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volant.modalities.minhash import SHINGLE
from volant.modalities.words import Words

Set = NDArray[np.uint64]
_BLOCK = 1 << 23
"""Shingles of one block of pairs: 64 MB."""


def shingle_sets(words: Words) -> Iterator[Set]:
    """The shingle hashes of each text, sorted and unique."""
    from volant.modalities.sketch import shingles

    gram_G, edge_N = shingles(words.hash_W, words.begin_N, SHINGLE)
    for first, last in pairwise(edge_N.tolist()):
        gram_G[first:last].sort()
    new_G = np.ones(len(gram_G) + 1, bool)
    np.not_equal(gram_G[1:], gram_G[:-1], out=new_G[1:-1])
    new_G[edge_N] = True
    edge_N = np.concatenate([[0], np.cumsum(new_G[:-1])])[edge_N]
    gram_G = gram_G[new_G[:-1]]
    return (gram_G[first:last] for first, last in pairwise(edge_N.tolist()))


class Sets:
    """Sets of shingles by number.

    Args:
        sets: the first ones.
        file: where they are kept; in memory if there is none.
    """

    def __init__(self, sets: Sequence[Set] = (), file: Path | None = None) -> None:
        self._file, self._held = file, list(sets)
        self._order: NDArray[np.int64] | None = None
        self._sizes = [len(own) for own in sets]
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")

    def extend(self, sets: Iterable[Set]) -> None:
        """Add sets."""
        added = list(sets)
        self._sizes += [len(own) for own in added]
        if self._file and added:
            with self._file.open("ab") as file:
                file.write(np.concatenate(added).tobytes())
        elif not self._file:
            self._held += added

    def reorder(self, order: NDArray[np.int64]) -> None:
        """Name set `order[i]` number i from now on."""
        self._order = order

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def sizes_S(self) -> NDArray[np.int64]:
        """How many shingles each one has."""
        sizes = np.array(self._sizes, np.int64)
        return sizes if self._order is None else sizes[self._order]

    def at(self, wanted: NDArray[np.int64]) -> list[Set]:
        """The sets of these numbers."""
        wanted = wanted if self._order is None else self._order[wanted]
        if self._file is None:
            return [self._held[i] for i in wanted.tolist()]
        edge_S = np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64)
        places = zip(edge_S[wanted].tolist(), edge_S[wanted + 1].tolist(), strict=True)
        with self._file.open("rb") as file:
            read, number = os.pread, file.fileno()  # mapped into memory, all of the file would count for it
            return [np.frombuffer(read(number, 8 * (last - first), 8 * first), np.uint64) for first, last in places]


def jaccards_of(sets: Sets, pair_M2: NDArray[np.int64]) -> NDArray[np.float32]:
    """The exact similarity of each pair [M] of sets, given by their numbers."""
    from volant.modalities.linking import jaccards

    share_M = np.zeros(len(pair_M2), np.float32)
    size_M = sets.sizes_S[pair_M2].sum(axis=1) if len(pair_M2) else np.zeros(0, np.int64)
    ends = np.cumsum(size_M)
    first = 0
    while first < len(pair_M2):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _BLOCK, side="right")))
        wanted, place = np.unique(pair_M2[first:last], return_inverse=True)
        place = place.reshape(-1, 2)
        own = sets.at(wanted)
        edge = np.concatenate([[0], np.cumsum([len(s) for s in own])]).astype(np.int64)
        share_M[first:last] = jaccards(np.concatenate(own), edge, place[:, 0], place[:, 1])
        first = last
    return share_M
