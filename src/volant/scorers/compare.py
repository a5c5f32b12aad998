"""Is one thing better than another, measured on the same examples?

Two equally long lists of values enter, one value an example in the same order; a `Comparison` leaves.
Binary values go through McNemar's exact test. Real ones go through the paired permutation test of the mean
(Fisher 1935: under "no difference" the sign of each difference is a coin's), because the mean is what we
report: a rank test answers another question, and misses a gain that a third of the examples carries. One
outlier cannot make it significant, since flipping its sign is half of all flips. The interval is the bootstrap's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from volant.core.errors import DataError
from volant.core.score import Direction, Score

RESAMPLES = 5000
FLIPS = 9999
EXACT_UP_TO = 13  # pairs that differ; up to there all flips are counted

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of `after` with `before`.

    Attributes:
        before, after: the two means.
        change: `after - before` with its 95 % interval; positive is better only where higher is.
        p: two-sided.
        p_better: one-sided, for "after is better than before"; what a promotion looks at.
        test: which test gave the p.
        n: how many pairs.
        level: below which p the verdict leaves "no difference".
    """

    name: str
    before: float
    after: float
    change: Score
    p: float
    p_better: float
    test: str
    n: int
    level: float = 0.05

    @property
    def gain(self) -> float:
        """The change counted so that positive is better."""
        return self.change.value if self.change.direction == "higher" else -self.change.value

    @property
    def verdict(self) -> Literal["better", "worse", "no difference"]:
        """`better` or `worse` where p is below the level, else `no difference`."""
        if self.p >= self.level or self.gain == 0:
            return "no difference"
        return "better" if self.gain > 0 else "worse"

    def as_json(self) -> dict[str, Any]:
        """Everything above as plain values, for a report."""
        return {**asdict(self), "change": self.change.model_dump(), "gain": self.gain, "verdict": self.verdict}

    def __str__(self) -> str:
        span = f"[{self.change.low:+.3g}, {self.change.high:+.3g}]"
        change = f"{self.before:.4g} -> {self.after:.4g}, {self.change.value:+.3g} {span}"
        return f"{self.name} {change}, p={self.p:.3g}: {self.verdict}"


def paired(
    name: str,
    before: Sequence[float],
    after: Sequence[float],
    *,
    direction: Direction = "higher",
    seed: int = 0,
    unit: str = "1",
    level: float = 0.05,
) -> Comparison:
    """Compare two lists of values of the same examples.

    Args:
        name: the metric; the change is called `<name>_change`.
        before: values of the old one (or of the baseline).
        after: values of the new one, in the same order.
        direction: whether higher values are better.
        seed: of the bootstrap and of the flips.
        unit: of the values.
        level: of the verdict.

    Raises:
        DataError: the lists differ in length, are empty, or hold something that is not finite.
    """
    if len(before) != len(after):
        raise DataError(
            f"cannot pair {len(before)} values with {len(after)}.", where=name, fix="Measure both on the same examples."
        )
    if not before:
        raise DataError("there is nothing to compare (n=0).", where=name, fix="Give at least one example.")
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("a value is not finite.", where=name, fix="Look for an example without a value.")
    difference = second - first
    # A mean of differences carries rounding; the same values must give exactly 0.
    difference[np.abs(difference) < 1e-12] = 0.0
    means = resampled_means(difference, seed)
    change = float(difference.mean())
    low, high = (float(q) for q in np.quantile(means, (0.025, 0.975)))
    toward = difference if direction == "higher" else -difference
    if set(np.unique(np.concatenate([first, second]))) <= {0.0, 1.0}:
        test = "McNemar (exact)"
        two_sided, better = _mcnemar(toward)
    else:
        test = "paired permutation of the mean"
        two_sided, better = _flipped(toward, seed)
    score = Score(
        name=f"{name}_change", value=change, low=min(low, change), high=max(high, change), n=len(before),
        unit=unit, direction=direction, note=test,
    )  # fmt: skip
    return Comparison(
        name, float(first.mean()), float(second.mean()), score, two_sided, better, test, len(before), level
    )


def resampled_means(values: Floats, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Means of `resamples` samples with replacement; in slices, so that memory stays flat in n."""
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, 1_000_000 // len(values))
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        means[start:stop] = values[rng.integers(0, len(values), (stop - start, len(values)))].mean(axis=1)
    return means


def _mcnemar(toward: Floats) -> tuple[float, float]:
    """Two-sided and one-sided exact p of McNemar's test; `toward` is +1 where only the new one is right."""
    gained, lost = int((toward > 0).sum()), int((toward < 0).sum())
    return min(1.0, 2 * _binomial_tail(max(gained, lost), gained + lost)), _binomial_tail(gained, gained + lost)


def _binomial_tail(k: int, n: int) -> float:
    """P(X >= k) for X ~ Binomial(n, 1/2), exactly."""
    return float(sum(math.comb(n, i) for i in range(k, n + 1)) / 2**n)


def _flipped(toward: Floats, seed: int) -> tuple[float, float]:
    """Two-sided and one-sided p of the sign-flip permutation test of the mean."""
    moved = toward[toward != 0]
    if not len(moved):
        return 1.0, 1.0
    if len(moved) <= EXACT_UP_TO:
        every = np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1
        sums = (1.0 - 2.0 * every) @ moved
        counted = 0
    else:
        signs = np.random.default_rng(seed).integers(0, 2, (FLIPS, len(moved)), dtype=np.int8)
        sums = (1.0 - 2.0 * signs) @ moved
        counted = 1  # the data as they are count as one of the flips, so that p is never 0
    observed = float(moved.sum())
    slack = 1e-9 * float(np.abs(moved).sum())
    up, down = (
        (int((sums * sign >= observed * sign - slack).sum()) + counted) / (len(sums) + counted) for sign in (1, -1)
    )
    return min(1.0, 2 * min(up, down)), up
