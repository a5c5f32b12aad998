"""From pairs to clusters, in compiled loops: band keys, buckets, shares of equal entries, union and find.

Legend: N texts, P entries of a signature, B bands, E entries of buckets, M pairs, G shingles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled
from volant.modalities.text_scan import mix

Offsets = NDArray[np.int64]

_THREE = np.uint64(3)
_FIRST = 4
"""How many of a bucket's first texts each later one is held against; its predecessor comes on top."""


def band_keys(signature_NP: NDArray[np.uint32], first: int, bands: int, rows: int) -> NDArray[np.uint64]:
    """The key of each band [N, B] from `first` on; the band's number is in it, so that all bands share one key space.

    Args:
        signature_NP: the entries of these bands.
    """
    key_NB = np.empty((len(signature_NP), bands), np.uint64)
    _band_keys(signature_NP, first, bands, rows, key_NB)
    return key_NB


@compiled
def _band_keys(signature_NP: NDArray[np.uint32], first: int, bands: int, rows: int, key_NB: NDArray[np.uint64]) -> None:
    for i in range(len(signature_NP)):
        for b in range(bands):
            key = np.uint64(first + b + 1)
            for r in range(rows):
                key = mix(key * _THREE + np.uint64(signature_NP[i, b * rows + r]))
            key_NB[i, b] = key


def meeting(key_E: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which keys [E] may occur again: all that do, and of the others at most one in eight.

    It goes by their last bits: the first ones are much alike in keys that were dealt to files by them.
    """
    bits = max(10, int(8 * len(key_E)).bit_length())
    once, again = (np.zeros(1 << bits - 3, np.uint8) for _ in range(2))
    met_E = np.zeros(len(key_E), bool)
    _meeting(key_E, (1 << bits) - 1, once, again, met_E.view(np.uint8))
    return met_E


@compiled
def _meeting(
    key_E: NDArray[np.uint64], last: int, once: NDArray[np.uint8], again: NDArray[np.uint8], met_E: NDArray[np.uint8]
) -> None:
    for e in range(len(key_E)):
        slot = np.int64(key_E[e] & np.uint64(last))
        bit = np.uint8(1 << (slot & 7))
        again[slot >> 3] |= once[slot >> 3] & bit
        once[slot >> 3] |= bit
    for e in range(len(key_E)):
        slot = np.int64(key_E[e] & np.uint64(last))
        met_E[e] = (again[slot >> 3] >> (slot & 7)) & 1


def bucket_pairs(key_E: NDArray[np.uint64], at_E: NDArray[np.int64], since: int) -> NDArray[np.uint64]:
    """Pairs of the texts in equal keys as `i << 32 | j`, of keys that are sorted and texts that rise in each."""
    out_M = np.empty(len(key_E) * (_FIRST + 1), np.uint64)
    return out_M[: _bucket_pairs(key_E, at_E, since, out_M)]


@compiled
def _bucket_pairs(key_E: NDArray[np.uint64], at_E: NDArray[np.int64], since: int, out_M: NDArray[np.uint64]) -> int:
    found = 0
    start = 0
    for e in range(len(key_E)):
        if key_E[e] != key_E[start]:
            start = e
        later = at_E[e]
        if later < since:
            continue
        for k in range(start, min(e, start + _FIRST)):
            if at_E[k] != later:
                out_M[found] = (np.uint64(at_E[k]) << np.uint64(32)) | np.uint64(later)
                found += 1
        if e > start + _FIRST and at_E[e - 1] != later:
            out_M[found] = (np.uint64(at_E[e - 1]) << np.uint64(32)) | np.uint64(later)
            found += 1
    return found


def equal_shares(signature_NP: NDArray[Any], pair_M2: NDArray[np.int64]) -> NDArray[np.float32]:
    """The share of equal entries of each pair [M]: an estimate of its similarity."""
    share_M = np.empty(len(pair_M2), np.float32)
    _equal_shares(signature_NP, pair_M2, share_M)
    return share_M


@compiled
def _equal_shares(signature_NP: NDArray[Any], pair_M2: NDArray[np.int64], share_M: NDArray[np.float32]) -> None:
    length = signature_NP.shape[1]
    for m in range(len(pair_M2)):
        i, j = pair_M2[m, 0], pair_M2[m, 1]
        equal = 0
        for p in range(length):
            equal += signature_NP[i, p] == signature_NP[j, p]
        share_M[m] = equal / length


def jaccards(
    gram_G: NDArray[np.uint64], begin_N: Offsets, end_N: Offsets, left_M: Offsets, right_M: Offsets
) -> NDArray[np.float32]:
    """The exact similarity of each pair [M] of sets, each sorted and unique; 0 where both are empty."""
    out_M = np.empty(len(left_M), np.float32)
    _jaccards(gram_G, begin_N, end_N, np.ascontiguousarray(left_M), np.ascontiguousarray(right_M), out_M)
    return out_M


@compiled
def _jaccards(
    gram_G: NDArray[np.uint64], begin_N: Offsets, end_N: Offsets, left_M: Offsets, right_M: Offsets,
    out_M: NDArray[np.float32],
) -> None:  # fmt: skip
    for m in range(len(left_M)):
        a, a_end = begin_N[left_M[m]], end_N[left_M[m]]
        b, b_end = begin_N[right_M[m]], end_N[right_M[m]]
        total = (a_end - a) + (b_end - b)
        common = 0
        while a < a_end and b < b_end:
            if gram_G[a] == gram_G[b]:
                common += 1
                a += 1
                b += 1
            elif gram_G[a] < gram_G[b]:
                a += 1
            else:
                b += 1
        out_M[m] = common / max(1, total - common)


@compiled
def _root(parent_N: NDArray[np.int64], i: int) -> int:
    while parent_N[i] != i:
        parent_N[i] = parent_N[parent_N[i]]
        i = parent_N[i]
    return i


def clusters(pair_M2: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """For each of `count` texts the first text of its cluster: those that a chain of pairs joins (union and find)."""
    parent_N = np.arange(count)
    _joined(pair_M2, parent_N)
    return parent_N


@compiled
def _joined(pair_M2: NDArray[np.int64], parent_N: NDArray[np.int64]) -> None:
    for m in range(len(pair_M2)):
        i, j = _root(parent_N, pair_M2[m, 0]), _root(parent_N, pair_M2[m, 1])
        if i < j:
            parent_N[j] = i
        elif j < i:
            parent_N[i] = j
    for i in range(len(parent_N)):
        parent_N[i] = _root(parent_N, i)
