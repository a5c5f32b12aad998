"""Near-duplicate signatures: how alike two texts are, from 128 numbers each.

In go word hashes; out come signatures over 5-word shingles (equal entries / length estimates the Jaccard
similarity of two texts' shingle sets), the banding that finds pairs of a given similarity, and the exact
similarity of a pair, which decides: no text is ever dropped on an estimate.

**Which similarity is a near duplicate.** With a share e of its words changed, a shingle of 5 stays whole with
(1 - e)^5, and the similarity is s / (2 - s) of that: 0.95 at 0.5 %, 0.75 at 3 %, 0.63 at 5 %, 0.42 at 10 %. `NEAR`
is 0.65, below which a text with 3 % changed falls only where it is short. (0.8, as often chosen, ends at 2.2 %.)

**Which banding.** A pair of similarity s shares one of b bands of r entries with 1 - (1 - s^r)^b. FineWeb's 14
bands of 8 find 0.78 of the pairs at 3 % (s = 0.75) and 0.36 at 0.65. `bands_for` takes the longest rows that still
find 99 % at the threshold itself: 32 bands of 4 at 0.65, which find 1.00 of the pairs at 3 %; the price is more
candidates (half of the pairs at 0.38 are looked at), which the estimate sorts out at 128 comparisons each.

Legend: N texts, P entries of a signature.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volant.modalities.words import Words

LENGTH = 128
SHINGLE = 5
NEAR = 0.65
VERSION = 4  # of signatures and keys that lie beside a dataset: those of another version are made anew
Signatures = NDArray[np.uint32]


def signatures(words: Words) -> Signatures:
    """The signature of each text [N, P]; a text without a word has all entries at the maximum."""
    from volant.modalities.sketch import sketches

    return sketches(words.hash_W, words.begin_N, SHINGLE)


def fingerprint(text: str) -> list[int]:
    """The signature of one text, as plain integers."""
    from volant.modalities.text_features import word_hashes  # Arrow, which serving has no use for

    return [int(entry) for entry in signatures(word_hashes([text]))[0]]


def found_share(similarity: float, bands: int, rows: int) -> float:
    """The probability that a pair of that similarity shares a band: the S-curve of the banding."""
    return float(1 - (1 - similarity**rows) ** bands)


def bands_for(similarity: float, length: int = LENGTH) -> tuple[int, int]:
    """How many bands of how many entries find a pair of that similarity with 99 % probability or more.

    Args:
        length: of a signature.
    """
    rows = 1
    while rows < 16 and found_share(similarity, length // (rows + 1), rows + 1) >= 0.99:
        rows += 1
    return length // rows, rows


def jaccard(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    """Exact Jaccard similarity of two sets of shingle hashes, each sorted and unique; 0 for two empty ones."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common / max(1, len(a) + len(b) - common)
