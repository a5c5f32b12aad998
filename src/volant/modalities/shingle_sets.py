"""Sets of shingles of many texts, in memory or in a file, and the exact similarity of pairs of them.

In go word hashes; out come sorted sets of hashes, of which a file holds more than memory does: pairs are compared in
blocks whose sets fit into memory. Legend: S sets, M pairs, G shingles.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volant.modalities.minhash import SHINGLE
from volant.modalities.words import Words

Set = NDArray[np.uint64]
_NONE = np.zeros(0, np.uint64)
_BLOCK = 1 << 20
"""Shingles of one block of pairs: 8 MB."""
_GAP = 1 << 9
"""Shingles that may lie between two sets which are read at once: reading 4 kB more costs less than reading again."""


def shingle_sets(words: Words) -> Iterator[Set]:
    """The shingle hashes of each text, sorted and unique."""
    gram_G, size_N = joined_sets(words)
    edges = np.concatenate([[0], np.cumsum(size_N)]).tolist()
    return (gram_G[first:last] for first, last in pairwise(edges))


def joined_sets(words: Words) -> tuple[Set, NDArray[np.int64]]:
    """The same, one after the other, and how many each text has."""
    from volant.modalities.sketch import shingles

    gram_G, edge_N = shingles(words.hash_W, words.begin_N, SHINGLE)
    for first, last in pairwise(edge_N.tolist()):
        gram_G[first:last].sort()
    new_G = np.ones(len(gram_G) + 1, bool)
    np.not_equal(gram_G[1:], gram_G[:-1], out=new_G[1:-1])
    new_G[edge_N] = True
    edge_N = np.concatenate([[0], np.cumsum(new_G[:-1])])[edge_N]
    return gram_G[new_G[:-1]], np.diff(edge_N)


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
        self._edge_S: NDArray[np.int64] | None = None
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")

    def extend(self, sets: Iterable[Set]) -> None:
        """Add sets."""
        added = list(sets)
        self.put(np.concatenate([_NONE, *added]), np.array([len(own) for own in added], np.int64))

    def put(self, gram_G: Set, size_N: NDArray[np.int64]) -> None:
        """Add sets that lie one after the other, of these sizes."""
        self._sizes += size_N.tolist()
        if self._file:
            with self._file.open("ab") as file:
                file.write(gram_G.data)
        else:
            self._held += np.split(gram_G, np.cumsum(size_N)[:-1]) if len(size_N) else []

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

    def at(self, wanted: NDArray[np.int64]) -> tuple[Set, NDArray[np.int64], NDArray[np.int64]]:
        """The sets of these numbers, one at least: an array in which they lie, and where each begins and ends there."""
        wanted = wanted if self._order is None else self._order[wanted]
        if self._file is None:
            edge = np.concatenate([[0], np.cumsum(np.array(self._sizes, np.int64)[wanted])])
            return np.concatenate([self._held[i] for i in wanted.tolist()]), edge[:-1], edge[1:]
        if self._edge_S is None or len(self._edge_S) != len(self) + 1:
            self._edge_S = np.concatenate([[0], np.cumsum(self._sizes)]).astype(np.int64)
        first_N, last_N = self._edge_S[wanted], self._edge_S[wanted + 1]
        order = np.argsort(first_N, kind="stable")
        new = np.flatnonzero(first_N[order][1:] - last_N[order][:-1] > _GAP) + 1
        start_R, stop_R = np.concatenate([[0], new]), np.concatenate([new, [len(order)]])
        first_R, last_R = first_N[order[start_R]], last_N[order[stop_R - 1]]
        begin_R = np.concatenate([[0], np.cumsum(last_R - first_R)])
        gram_G = np.empty(begin_R[-1], np.uint64)
        with self._file.open("rb", buffering=0) as file:  # mapped into memory, all of the file would count for it
            for first, begin, end in zip(first_R.tolist(), begin_R[:-1].tolist(), begin_R[1:].tolist(), strict=True):
                file.seek(8 * first)
                assert file.readinto(gram_G[begin:end].data) == 8 * (end - begin)
        moved_N = np.empty(len(order), np.int64)
        moved_N[order] = np.repeat(begin_R[:-1] - first_R, stop_R - start_R)
        return gram_G, first_N + moved_N, last_N + moved_N


def jaccards_of(sets: Sets, pair_M2: NDArray[np.int64], threads: int = 1) -> NDArray[np.float32]:
    """The exact similarity of each pair [M] of sets, given by their numbers; by several threads, a block each."""
    if not len(pair_M2):
        return np.zeros(0, np.float32)
    block_M = np.cumsum(sets.sizes_S[pair_M2].sum(axis=1)) // _BLOCK
    blocks = np.split(pair_M2, np.flatnonzero(np.diff(block_M)) + 1)
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(partial(_of_block, sets), blocks)))


def _of_block(sets: Sets, pair_M2: NDArray[np.int64]) -> NDArray[np.float32]:
    from volant.modalities.linking import jaccards

    wanted, place = np.unique(pair_M2, return_inverse=True)
    place = place.reshape(-1, 2)
    return jaccards(*sets.at(wanted), place[:, 0], place[:, 1])
