"""Near duplicates: which texts repeat an earlier one, and which cluster each belongs to.

In go texts (or signatures of any kind) in the order of their right to stay; out comes for each later one of a
cluster the earlier one that it repeats and how much they share. Candidates come from banded signatures
(`banding`), are weighed by their estimate, and decided by the exact Jaccard similarity of their 5-word shingles.
Pairs that hold join into clusters; the first of each cluster stays, whatever order the pairs came in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.modalities.banding import Pairs, candidate_pairs
from volant.modalities.minhash import LENGTH, bands_for, signatures
from volant.modalities.shingle_sets import Sets, jaccards_of, shingle_sets
from volant.modalities.text_features import word_hashes
from volant.modalities.words import Words, picked

MARGIN = 0.15
"""An estimate from 128 entries has a standard error of 0.044 at most: 3.4 of them below the bar are looked at."""


@dataclass(frozen=True)
class Clusters:
    """What belongs together.

    Attributes:
        first_N: for each text the first one of its cluster; itself where it stands alone.
        pair_M2: the pairs that hold, i < j, sorted.
        similarity_M: of each pair.
    """

    first_N: NDArray[np.int64]
    pair_M2: Pairs
    similarity_M: NDArray[np.float32]

    def repeats(self) -> dict[int, tuple[int, float]]:
        """Each text but the first of its cluster: to one that it repeats, and their similarity.

        That one is the cluster's first where the two are alike enough themselves, else the most like of those that
        join it to the first.
        """
        later_M = np.concatenate([self.pair_M2[:, 1], self.pair_M2[:, 0]])
        other_M = np.concatenate([self.pair_M2[:, 0], self.pair_M2[:, 1]])
        share_M = np.tile(self.similarity_M, 2)
        first_M = self.first_N[later_M]
        order = np.lexsort((other_M, share_M, other_M == first_M, later_M))
        order = order[later_M[order] != first_M[order]]
        last = np.ones(len(order), bool)  # the best pair of each text
        last[:-1] = later_M[order][1:] != later_M[order][:-1]
        best = order[last]
        pairs = zip(other_M[best].tolist(), share_M[best].tolist(), strict=True)
        return dict(zip(later_M[best].tolist(), pairs, strict=True))


def near_clusters(
    signature_NP: NDArray[Any],
    similarity: float,
    shingles_of: Callable[[NDArray[np.int64]], Sets] | None = None,
    *,
    work: Path | None = None,
    since: int = 0,
    threads: int = 1,
) -> Clusters:
    """Clusters of what is at least so similar.

    Args:
        signature_NP: of each text, in memory or mapped from a file.
        similarity: Jaccard similarity from which on two belong together.
        shingles_of: gives the shingle sets (sorted, unique) of the texts at these rising indices; with none the share
            of equal entries decides, as for pictures.
        work: folder for files that memory does not hold.
        since: pairs of two texts before this index are not looked for.
        threads: how many make keys and compare sets side by side.
    """
    from volant.modalities.linking import clusters, equal_shares

    bands, rows = bands_for(similarity, signature_NP.shape[1])
    pair_M2 = candidate_pairs(signature_NP, bands, rows, work=work, since=since, threads=threads)
    share_M = equal_shares(signature_NP, pair_M2)
    if shingles_of is None:
        held = share_M >= np.float32(similarity)
        pair_M2, share_M = pair_M2[held], share_M[held]
    else:
        pair_M2 = pair_M2[share_M >= similarity - MARGIN]
        wanted, place = np.unique(pair_M2, return_inverse=True)
        share_M = jaccards_of(shingles_of(wanted), place.reshape(pair_M2.shape), threads)
        held = share_M >= np.float32(similarity)
        pair_M2, share_M = pair_M2[held], share_M[held]
    return Clusters(clusters(pair_M2, len(signature_NP)), pair_M2, share_M)


def text_clusters(texts: Sequence[str], similarity: float) -> Clusters:
    """Clusters of texts that fit into memory."""
    words = word_hashes(texts)
    return near_clusters(signatures(words), similarity, lambda wanted: shingles_at(words, wanted))


def streamed_clusters(
    texts: Callable[[], Iterator[Sequence[str]]], similarity: float, *, work: Path, since: int = 0
) -> Clusters:
    """Clusters of texts that are read batch by batch and never held: for each 512 bytes stay, on disk.

    Args:
        texts: gives all texts in batches, each time that it is called the same ones: once for the signatures, once
            more for the exact similarity of candidates.
        work: folder for the signatures and the bands.
        since: pairs of two texts before this index are not looked for.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / "signatures").open("wb") as file:
        for batch in texts():
            file.write(signatures(word_hashes(batch)).tobytes())
    count = (work / "signatures").stat().st_size // (4 * LENGTH)
    shape = (count, LENGTH)
    signature_NP = np.memmap(work / "signatures", np.uint32, "r", shape=shape) if count else np.zeros(shape, np.uint32)

    def shingles_of(wanted: NDArray[np.int64]) -> Sets:
        found = Sets(file=work / "shingles")
        first = 0
        for batch in texts() if len(wanted) else ():
            inside = wanted[np.searchsorted(wanted, first) : np.searchsorted(wanted, first + len(batch))] - first
            found.extend(shingle_sets(word_hashes([batch[i] for i in inside.tolist()])))
            first += len(batch)
        return found

    return near_clusters(signature_NP, similarity, shingles_of, work=work / "bands", since=since)


def shingles_at(words: Words, wanted: NDArray[np.int64]) -> Sets:
    """The shingle sets of the texts at these indices."""
    return Sets([*shingle_sets(picked(words, wanted))])


def near_duplicates(texts: Sequence[str], similarity: float) -> dict[int, tuple[int, float]]:
    """Each text that repeats an earlier one: its index to (that earlier one, their exact similarity).

    The first of a cluster stays, so the caller orders texts by what must be kept.
    """
    return text_clusters(texts, similarity).repeats()


def near_signatures(found: Sequence[Sequence[int]], similarity: float) -> dict[int, tuple[int, float]]:
    """As `near_duplicates`, for signatures of any kind: likeness is the share of equal entries."""
    if not found:
        return {}
    return near_clusters(np.asarray(found).astype(np.uint32), similarity).repeats()
