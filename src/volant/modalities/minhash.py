"""Near-duplicate signatures and the search for duplicates among them.

In go word hashes; out come MinHash signatures over 5-word shingles (equal entries / length estimates
the Jaccard similarity of two texts' shingle sets), candidate pairs by banding (LSH), and the exact
similarity of a pair, which decides: no text is ever dropped on an estimate.

Legend: N texts, P permutations (the signature's length), G shingles of all texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from volant.modalities.words import Words, mixed, ngrams, words_of

LENGTH = 128
SHINGLE = 5
Signatures = NDArray[np.uint32]


def _constants() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    seeds = mixed(np.arange(1, 2 * LENGTH + 1, dtype=np.uint64))
    return seeds[:LENGTH] | np.uint64(1), seeds[LENGTH:]


_MULTIPLY_P, _ADD_P = _constants()


def signatures(words: Words) -> Signatures:
    """The MinHash signature of each text [N, P]; a text without a word has all entries at the maximum."""
    grams_G, owner_G = ngrams(words, SHINGLE)
    out = np.full((len(words), LENGTH), np.iinfo(np.uint32).max, np.uint32)
    # Blocks of whole texts, so that the [block, P] product stays in the cache.
    edges = np.searchsorted(owner_G, np.arange(len(words) + 1))
    first = 0
    while first < len(words):
        last = max(first + 1, int(np.searchsorted(edges, edges[first] + 16_384, side="right")) - 1)
        block = grams_G[edges[first] : edges[last]]
        if len(block):
            starts = edges[first:last] - edges[first]
            filled = np.flatnonzero(np.diff(edges[first : last + 1]) > 0)
            for p in range(LENGTH):
                hashed = ((block * _MULTIPLY_P[p] + _ADD_P[p]) >> np.uint64(32)).astype(np.uint32)
                out[first + filled, p] = np.minimum.reduceat(hashed, starts[filled])
        first = last
    return out


def fingerprint(text: str) -> list[int]:
    """The signature of one text, as plain integers."""
    return [int(entry) for entry in signatures(words_of([text]))[0]]


def bands_for(similarity: float, length: int = LENGTH) -> tuple[int, int]:
    """How many bands of how many entries find a pair of that similarity with 99 % probability or more.

    Args:
        length: of a signature.
    """
    rows = 1
    while rows < 16 and 1 - (1 - similarity ** (rows + 1)) ** (length // (rows + 1)) >= 0.99:
        rows += 1
    return length // rows, rows


def candidates(signature_NP: Signatures, similarity: float) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) that share a band, each once, in a fixed order."""
    bands, rows = bands_for(similarity, signature_NP.shape[1])
    seen: set[tuple[int, int]] = set()
    for band in range(bands):
        part = signature_NP[:, band * rows : (band + 1) * rows].astype(np.uint64)
        key = np.zeros(len(part), np.uint64)
        for row in range(rows):
            key = mixed(key * np.uint64(3) + part[:, row])
        order = np.argsort(key, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            # Within a big bucket each text is held against the first ones only: one kept text is enough.
            for at, j in enumerate(group[1:], start=1):
                for i in group[: min(at, 8)]:
                    pair = (int(i), int(j))
                    if pair not in seen:
                        seen.add(pair)
                        yield pair


def near_signatures(signatures: Sequence[Sequence[int]], similarity: float) -> dict[int, tuple[int, float]]:
    """As `near_duplicates`, for signatures of any kind: likeness is the share of equal entries."""
    if not signatures:
        return {}
    signature_NP = np.asarray(signatures)
    found: dict[int, tuple[int, float]] = {}
    for i, j in sorted(candidates(signature_NP, similarity), key=lambda pair: (pair[1], pair[0])):
        if i in found or j in found:
            continue
        share = float(np.mean(signature_NP[i] == signature_NP[j]))
        if share >= similarity:
            found[j] = (i, share)
    return found


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Exact Jaccard similarity of two sets of shingle hashes, each sorted and unique."""
    if not len(a) or not len(b):
        return 0.0
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / (len(a) + len(b) - common)


def near_duplicates(texts: Sequence[str], similarity: float) -> dict[int, tuple[int, float]]:
    """Each text that repeats an earlier one: its index to (the earlier kept one, their exact similarity).

    Earlier texts win, so the caller orders them by what must be kept.
    """
    words = words_of(texts)
    signature_NP = signatures(words)
    grams_G, owner_G = ngrams(words, SHINGLE)
    edges = np.searchsorted(owner_G, np.arange(len(words) + 1))
    sets: dict[int, NDArray[np.uint64]] = {}

    def shingles(i: int) -> NDArray[np.uint64]:
        if i not in sets:
            sets[i] = np.unique(grams_G[edges[i] : edges[i + 1]])
        return sets[i]

    found: dict[int, tuple[int, float]] = {}
    for i, j in sorted(candidates(signature_NP, similarity), key=lambda pair: (pair[1], pair[0])):
        if i in found or j in found:
            continue
        # The estimate has a standard error of at most 0.045; far below the bar the exact one is not needed.
        if float(np.mean(signature_NP[i] == signature_NP[j])) < similarity - 0.2:
            continue
        exact = jaccard(shingles(i), shingles(j))
        if exact >= similarity:
            found[j] = (i, exact)
    return found
