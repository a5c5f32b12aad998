"""How far two sets of examples are apart in each of their parts: a column of a row, the brightness of an image.

Enters: named parts of both sides, one value an example. Leaves: a p-value and a population stability index a part.
Numbers are tested with Kolmogorov-Smirnov, categories with a permutation test of the chi-square statistic (exact,
whatever is rare), and what is missing with the same. The index (PSI, sum of (q - p) ln (q / p) over ten bins of
the first side or over the categories) tells the size of a shift: below 0.1 it is commonly called small, above 0.25
large; with few examples chance alone makes it larger, so each says what chance makes. No value of a category is
told, for it may name a person.

Shape legend: N examples of the first side, T of both, K bins or categories, P permutations, R resamples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import DataError
from volant.core.score import Score

Floats = NDArray[np.float64]
Parts = Mapping[str, Sequence[float | str]]

BINS = 10
MOST_KINDS = 50  # further categories count together as one
RESAMPLES = 200
MISSING = "\0missing"


@dataclass(frozen=True)
class Apart:
    """What was found in one part: its index with interval, and p-values by test."""

    psi: Score
    tests: dict[str, float]


def compare(left: Parts, right: Parts, *, random: np.random.Generator, permutations: int) -> list[Apart]:
    """Compare two sides part by part; parts of one value only, the same on both sides, are left out.

    Args:
        left: the side that bins are cut by.
        right: the other side, with the same parts.
        random: for permutations and intervals.
        permutations: of the tests of categories.

    Raises:
        DataError: the sides have other parts.
    """
    if set(left) != set(right):
        what = f"the two sides differ in their parts: {sorted(set(left) ^ set(right))[:5]}"
        raise DataError(what, fix="Compare data with the same columns.")
    found = (_part(name, left[name], right[name], random, permutations) for name in left)
    return [apart for apart in found if apart is not None]


def _part(
    name: str, left: Sequence[float | str], right: Sequence[float | str], random: np.random.Generator, permutations: int
) -> Apart | None:
    if any(isinstance(value, str) for value in (*left, *right)):
        kinds_T, n = _kinds(left, right), len(left)
        if len(np.unique(kinds_T)) < 2:
            return None
        return Apart(_index(name, kinds_T, n, random), {name: permuted(kinds_T, n, random, permutations)})
    return _numbers(name, np.asarray(left, np.float64), np.asarray(right, np.float64), random, permutations)


def _numbers(name: str, left: Floats, right: Floats, random: np.random.Generator, permutations: int) -> Apart | None:
    from scipy.stats import ks_2samp

    both = np.concatenate([left, right])
    gone_T = np.isnan(both)
    kinds_T = _bins(left, both)
    if len(np.unique(kinds_T)) < 2 and len(np.unique(both[~gone_T])) < 2:
        return None
    tests = {}
    known = [side[~np.isnan(side)] for side in (left, right)]
    if min(map(len, known)):
        tests[name] = float(ks_2samp(*known, method="asymp").pvalue)
    if gone_T.any() and not gone_T.all():
        tests[f"{name} (missing)"] = permuted(gone_T.astype(np.int64), len(left), random, permutations)
    return Apart(_index(name, kinds_T, len(left), random), tests)


def _bins(left: Floats, both: Floats) -> NDArray[np.int64]:
    """Each value's bin, cut at tenths of the first side; a missing value has a bin of its own."""
    known = left[~np.isnan(left)]
    if not len(known):
        return np.isnan(both).astype(np.int64)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
    bins_T = np.searchsorted(edges, both, side="left").astype(np.int64)
    bins_T[np.isnan(both)] = len(edges) + 1
    return bins_T


def _kinds(left: Sequence[float | str], right: Sequence[float | str]) -> NDArray[np.int64]:
    """Each value's category as a number; rare ones are one category, and so is what is missing."""
    words = [_word(value) for value in (*left, *right)]
    ranked = sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0]))
    numbers = {word: number for number, (word, _) in enumerate(ranked[:MOST_KINDS])}
    return np.array([numbers.get(word, MOST_KINDS) for word in words], np.int64)


def _word(value: float | str) -> str:
    return MISSING if value == "" or value != value else str(value)


def permuted(kinds_T: NDArray[np.int64], n: int, random: np.random.Generator, permutations: int) -> float:
    """The p of the chi-square statistic of the first `n` against the rest, (1 + times as large) / (1 + P)."""
    _, kinds_T = np.unique(kinds_T, return_inverse=True)
    total, most = len(kinds_T), int(kinds_T.max()) + 1
    count_K = np.bincount(kinds_T, minlength=most).astype(np.float64)
    # With both margins fixed, the left counts decide the statistic.
    left_PK = np.stack(
        [np.bincount(kinds_T[:n], minlength=most)]
        + [np.bincount(kinds_T[random.permutation(total)[:n]], minlength=most) for _ in range(permutations)]
    ).astype(np.float64)
    expected_K = count_K * n / total
    statistic_P = ((left_PK - expected_K) ** 2 / (count_K * n * (total - n) / total**2)).sum(1)
    larger = int((statistic_P[1:] >= statistic_P[0] - 1e-9).sum())
    return (1 + larger) / (1 + permutations)


def _index(name: str, kinds_T: NDArray[np.int64], n: int, random: np.random.Generator) -> Score:
    """The population stability index, each count half an example larger so that an empty bin has a logarithm."""
    most = int(kinds_T.max()) + 1
    counts = [np.bincount(side, minlength=most) for side in (kinds_T[:n], kinds_T[n:])]
    value = _psi(counts[0][None], counts[1][None])[0]
    again = [random.multinomial(side.sum(), side / side.sum(), RESAMPLES) for side in counts]
    low, high = (float(q) for q in np.quantile(_psi(again[0], again[1]), [0.025, 0.975]))
    pooled_K = counts[0] + counts[1]
    sizes = (n, len(kinds_T) - n)
    alike = [random.multinomial(size, pooled_K / pooled_K.sum(), RESAMPLES) for size in sizes]
    chance = float(np.mean(_psi(alike[0], alike[1])))
    return Score(name="psi", value=value, low=min(low, value), high=max(high, value), n=sizes[1],
                 direction="lower", of=name, note=f"{chance:.2g} where nothing has changed")  # fmt: skip


def _psi(left_RK: NDArray[np.int64], right_RK: NDArray[np.int64]) -> list[float]:
    used_K = (left_RK.sum(0) + right_RK.sum(0)) > 0
    shares = []
    for side_RK in (left_RK, right_RK):
        smooth_RK = side_RK[:, used_K] + 0.5
        shares.append(smooth_RK / smooth_RK.sum(1, keepdims=True))
    p_RK, q_RK = shares
    return [float(v) for v in ((q_RK - p_RK) * np.log(q_RK / p_RK)).sum(1)]
