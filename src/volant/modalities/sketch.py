"""Shingles of words, and a sketch of a set of them, in compiled loops.

In go word hashes (see `words`); out come hashes of runs of n words, and for each text a sketch: entry b is the
smallest hash of the text's shingles that fall into bin b. Two texts agree in an entry with a probability that
is the Jaccard similarity of their shingle sets.

The sketch is that of Dahlgaard, Knudsen and Thorup ("Fast similarity sketching", FOCS 2017). A round throws
every shingle into one random bin; rounds go on until no bin is empty. A text of many shingles takes one or two
rounds where MinHash takes one for each entry, and a short one loses nothing: bins filled in a later round are
samples of their own. Entries vary less than MinHash's, which draws with replacement.

Legend: N texts, W words of all texts, G shingles of all texts, P entries of a sketch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled
from volant.modalities.text_scan import Hashes, mix

Offsets = NDArray[np.int64]

LENGTH = 128
"""Entries of a sketch: a power of two, so that the top bits of a hash name a bin."""

_BIN_SHIFT = np.uint64(57)  # 64 - log2(LENGTH)
_VALUE_SHIFT = np.uint64(33)
_VALUE_MASK = np.uint64(0xFFFFFF)
_ROUND_STEP = np.uint64(0x9E3779B97F4A7C15)
_BASE = np.uint64(0xD1342543DE82EF95)
_EMPTY = np.uint32(0xFFFFFFFF)
_ONE = np.uint64(1)


@compiled
def shingles_into(word_W: Hashes, first: int, last: int, n: int, out_G: Hashes) -> int:
    """Hashes of the runs of `n` words in `word_W[first:last]`, written to `out_G`; returns how many.

    A text of fewer words is one run of all of them (its length is in the hash); one without a word has none.
    The hash is a polynomial in the word hashes, rolled on by one word in three operations.
    """
    words = last - first
    if words <= 0:
        return 0
    width = n if words > n else words
    top = _ONE
    rolled = np.uint64(0)
    for k in range(width):
        rolled = rolled * _BASE + word_W[first + k]
        if k:
            top *= _BASE
    salt = np.uint64(width)
    out_G[0] = mix(rolled + salt)
    for k in range(words - width):
        rolled = (rolled - word_W[first + k] * top) * _BASE + word_W[first + k + width]
        out_G[k + 1] = mix(rolled + salt)
    return words - width + 1


@compiled
def sketch_into(gram_G: Hashes, count: int, out_P: NDArray[np.uint32]) -> None:
    """The sketch of the set of the first `count` shingle hashes, written to `out_P`; all ones for an empty set."""
    out_P[:] = _EMPTY
    if count == 0:
        return
    empty = LENGTH
    for turn in range(2 * LENGTH):
        step = np.uint64(turn) * _ROUND_STEP
        head = np.uint32(turn << 24)
        for g in range(count):
            hashed = gram_G[g] if turn == 0 else mix(gram_G[g] + step)
            # From round P on bin by bin, so that a single shingle fills them all too.
            place = np.int64(hashed >> _BIN_SHIFT) if turn < LENGTH else np.int64(turn - LENGTH)
            entry = head | np.uint32((hashed >> _VALUE_SHIFT) & _VALUE_MASK)
            if entry < out_P[place]:
                if out_P[place] == _EMPTY:
                    empty -= 1
                out_P[place] = entry
        if empty == 0:
            return


def shingles(word_W: Hashes, begin_N: Offsets, n: int) -> tuple[Hashes, Offsets]:
    """Hashes [G] of the runs of `n` words of each text, and where each text's begin."""
    words_N = np.diff(begin_N)
    edge_N = np.zeros(len(begin_N), np.int64)
    np.cumsum(np.where(words_N > 0, np.maximum(1, words_N - n + 1), 0), out=edge_N[1:])
    gram_G = np.empty(edge_N[-1], np.uint64)
    _shingles(word_W, begin_N, n, gram_G, edge_N)
    return gram_G, edge_N


def sketches(word_W: Hashes, begin_N: Offsets, n: int) -> NDArray[np.uint32]:
    """The sketch [N, P] of each text's runs of `n` words."""
    out_NP = np.empty((len(begin_N) - 1, LENGTH), np.uint32)
    _sketches(word_W, begin_N, n, np.empty(np.diff(begin_N).max(initial=1), np.uint64), out_NP)
    return out_NP


@compiled
def copy_runs(from_W: NDArray[Any], first_R: Offsets, last_R: Offsets, out_W: Hashes) -> None:
    """Write the runs `from_W[first_R[r]:last_R[r]]`, one after the other, to `out_W`."""
    at = 0
    for r in range(len(first_R)):
        for w in range(first_R[r], last_R[r]):
            out_W[at] = np.uint64(from_W[w])
            at += 1


def word_sums(word_W: Hashes, begin_N: Offsets) -> Hashes:
    """The sum of each text's words [N], modulo 2^64."""
    sum_N = np.zeros(len(begin_N) - 1, np.uint64)
    _word_sums(word_W, begin_N, sum_N)
    return sum_N


@compiled
def _word_sums(word_W: Hashes, begin_N: Offsets, sum_N: Hashes) -> None:
    for i in range(len(begin_N) - 1):
        for w in range(begin_N[i], begin_N[i + 1]):
            sum_N[i] += word_W[w]


@compiled
def _shingles(word_W: Hashes, begin_N: Offsets, n: int, gram_G: Hashes, edge_N: Offsets) -> None:
    for i in range(len(begin_N) - 1):
        shingles_into(word_W, begin_N[i], begin_N[i + 1], n, gram_G[edge_N[i] :])


@compiled
def _sketches(word_W: Hashes, begin_N: Offsets, n: int, gram_G: Hashes, out_NP: NDArray[np.uint32]) -> None:
    for i in range(len(begin_N) - 1):
        found = shingles_into(word_W, begin_N[i], begin_N[i + 1], n, gram_G)
        sketch_into(gram_G, found, out_NP[i])
