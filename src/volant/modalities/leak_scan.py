"""Runs of words that texts share with guarded ones, in compiled loops.

An index holds every run of `WIDTH` words of the guarded texts; a text is read once, one look-up a word. Shared
runs that lie side by side at the same distance are one longer run: six in a row of 8 words are 13 words.

Legend: W words, K different runs of the index, Q places where they stand, S slots of the hash table, H hits,
R shared stretches of words.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled
from volant.modalities.sketch import shingles_into

WIDTH = 8
_FREE = np.int64(-1)
_ONE, _LOW = np.uint64(1), np.uint64(63)
_HIGH, _BIT = np.uint64(38), np.uint64(32)  # bits of a hash that the table of slots does not look at first


def table_of(gram_K: NDArray[np.uint64], slots: int) -> NDArray[np.int64]:
    """A hash table [S] of different hashes: each slot holds an index or -1; `slots` is a power of two above K."""
    table_S = np.full(slots, _FREE, np.int64)
    _table(gram_K, table_S)
    return table_S


@compiled
def _table(gram_K: NDArray[np.uint64], table_S: NDArray[np.int64]) -> None:
    slots = len(table_S)
    mask = np.uint64(slots - 1)
    for k in range(len(gram_K)):
        at = np.int64(gram_K[k] & mask)
        while table_S[at] != _FREE:
            at = (at + 1) & (slots - 1)
        table_S[at] = k


def seen_of(gram_K: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bit for each of these hashes in a small table, sixteen times as many bits as hashes: most runs of a text end
    there, in the nearest cache."""
    seen_B = np.zeros(1 << max(0, (len(gram_K) // 4).bit_length()), np.uint64)
    at = (gram_K >> _HIGH) & np.uint64(len(seen_B) - 1)
    np.bitwise_or.at(seen_B, at.astype(np.int64), np.uint64(1) << ((gram_K >> _BIT) & np.uint64(63)))
    return seen_B


@compiled
def _looked_up(gram: np.uint64, gram_K: NDArray[np.uint64], table_S: NDArray[np.int64]) -> np.int64:
    slots = len(table_S)
    at = np.int64(gram & np.uint64(slots - 1))
    while table_S[at] != _FREE:
        if gram_K[table_S[at]] == gram:
            return np.int64(table_S[at])
        at = (at + 1) & (slots - 1)
    return _FREE


def hits_of(
    word_W: NDArray[np.uint64],
    begin_N: NDArray[np.int64],
    gram_K: NDArray[np.uint64],
    table_S: NDArray[np.int64],
    edge_K: NDArray[np.int64],
    place_Q: NDArray[np.int64],
    owner_Q: NDArray[np.int64],
    seen_B: NDArray[np.uint64],
) -> NDArray[np.int64]:
    """Every shared run of texts [H, 4]: the text, the guarded part, and where it begins in each (in words)."""
    gram_G = np.empty(np.diff(begin_N).max(initial=1), np.uint64)
    hit_H4 = np.empty((1024, 4), np.int64)
    while True:
        found = _hits(word_W, begin_N, gram_K, table_S, edge_K, place_Q, owner_Q, seen_B, gram_G, hit_H4)
        if found <= len(hit_H4):
            return hit_H4[:found]
        hit_H4 = np.empty((found, 4), np.int64)


@compiled
def _hits(
    word_W: NDArray[np.uint64], begin_N: NDArray[np.int64], gram_K: NDArray[np.uint64], table_S: NDArray[np.int64],
    edge_K: NDArray[np.int64], place_Q: NDArray[np.int64], owner_Q: NDArray[np.int64], seen_B: NDArray[np.uint64],
    gram_G: NDArray[np.uint64], hit_H4: NDArray[np.int64],
) -> int:  # fmt: skip
    """Write as many as there is room for; how many there are."""
    found = 0
    mask = np.uint64(len(seen_B) - 1)
    for i in range(len(begin_N) - 1):
        if begin_N[i + 1] - begin_N[i] < WIDTH:
            continue
        count = shingles_into(word_W, begin_N[i], begin_N[i + 1], WIDTH, gram_G)
        for g in range(count):
            gram = gram_G[g]
            if not (seen_B[(gram >> _HIGH) & mask] >> ((gram >> _BIT) & _LOW)) & _ONE:
                continue
            k = _looked_up(gram, gram_K, table_S)
            if k == _FREE:
                continue
            for q in range(edge_K[k], edge_K[k + 1]):
                if found < len(hit_H4):
                    hit_H4[found, 0] = i
                    hit_H4[found, 1] = owner_Q[q]
                    hit_H4[found, 2] = g
                    hit_H4[found, 3] = place_Q[q]
                found += 1
    return found


@compiled
def points_of(word_W: NDArray[np.uint64], point_W: NDArray[np.uint8], first: int, last: int, enough: int) -> int:
    """How much the different words of a stretch tell, counted until it is `enough`."""
    total = 0
    for w in range(first, last):
        if not point_W[w]:
            continue
        known = False
        for v in range(first, w):
            if word_W[v] == word_W[w]:
                known = True
                break
        if not known:
            total += int(point_W[w])
            if total >= enough:
                return total
    return total


def stretches_of(
    hit_H4: NDArray[np.int64],
    word_W: NDArray[np.uint64],
    point_W: NDArray[np.uint8],
    begin_P: NDArray[np.int64],
    enough: int,
) -> NDArray[np.int64]:
    """Hits joined into stretches [R, 6]: text, part, begin in the text, begin in the part, words, whether telling.

    Args:
        hit_H4: sorted by text, part, distance and place.
        word_W, point_W, begin_P: hashes and points of the guarded parts' words, and where each part begins.
        enough: points that make a stretch telling.
    """
    out = np.empty((len(hit_H4), 6), np.int64)
    return out[: _stretches(hit_H4, word_W, point_W, begin_P, enough, out)]


@compiled
def _stretches(
    hit_H4: NDArray[np.int64], word_W: NDArray[np.uint64], point_W: NDArray[np.uint8], begin_P: NDArray[np.int64],
    enough: int, out: NDArray[np.int64],
) -> int:  # fmt: skip
    found = 0
    start = 0
    for h in range(1, len(hit_H4) + 1):
        if h < len(hit_H4):
            same = hit_H4[h, 0] == hit_H4[h - 1, 0] and hit_H4[h, 1] == hit_H4[h - 1, 1]
            if same and hit_H4[h, 2] == hit_H4[h - 1, 2] + 1 and hit_H4[h, 3] == hit_H4[h - 1, 3] + 1:
                continue
        first = begin_P[hit_H4[start, 1]] + hit_H4[start, 3]
        words = h - start - 1 + WIDTH
        for c in range(4):
            out[found, c] = hit_H4[start, c]
        out[found, 4] = words
        out[found, 5] = points_of(word_W, point_W, first, first + words, enough) >= enough
        found += 1
        start = h
    return found


def verdicts_of(
    stretch_R6: NDArray[np.int64], words_P: NDArray[np.int64], least_P: NDArray[np.int64], run: int, share: float
) -> NDArray[Any]:
    """Text and part pairs that leak [L, 6]: text, part, begin in text, begin in part, longest, words covered.

    Args:
        stretch_R6: sorted by text, part and begin in the part.
        words_P: of each part.
        least_P: words of the part from which any stretches leak, telling or not.
        run: words from which a telling stretch leaks whatever its share is.
        share: of the part's words that telling stretches have to cover, otherwise.
    """
    out = np.empty((len(stretch_R6), 6), np.int64)
    return out[: _verdicts(stretch_R6, words_P, least_P, run, share, out)]


@compiled
def _verdicts(
    stretch_R6: NDArray[np.int64], words_P: NDArray[np.int64], least_P: NDArray[np.int64], run: int, share: float,
    out: NDArray[np.int64],
) -> int:  # fmt: skip
    found = 0
    r = 0
    while r < len(stretch_R6):
        text, part = stretch_R6[r, 0], stretch_R6[r, 1]
        covered, end, any_covered, any_end, longest, best, any_longest, any_best = 0, 0, 0, 0, 0, r, 0, r
        while r < len(stretch_R6) and stretch_R6[r, 0] == text and stretch_R6[r, 1] == part:
            first, last = stretch_R6[r, 3], stretch_R6[r, 3] + stretch_R6[r, 4]
            any_covered += max(0, last - max(first, any_end))
            any_end = max(any_end, last)
            if stretch_R6[r, 4] > any_longest:
                any_longest, any_best = stretch_R6[r, 4], r
            if stretch_R6[r, 5]:
                covered += max(0, last - max(first, end))
                end = max(end, last)
                if stretch_R6[r, 4] > longest:
                    longest, best = stretch_R6[r, 4], r
            r += 1
        if any_covered >= least_P[part]:
            covered, longest, best = any_covered, any_longest, any_best
        elif longest == 0 or (longest < run and covered < share * words_P[part]):
            continue
        out[found, 0], out[found, 1] = text, part
        out[found, 2], out[found, 3] = stretch_R6[best, 2], stretch_R6[best, 3]
        out[found, 4], out[found, 5] = longest, covered
        found += 1
    return found
