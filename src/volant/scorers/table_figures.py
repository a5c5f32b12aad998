"""From values to figures for sets of rows: the jackknife, placements, intervals.

A figure of a whole set has values an example too, so that intervals, paired tests and slices are those of every other
scorer. Everything here keeps one promise: the mean of the values is the figure.

Shape legend: N pairs of rows, M others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from volant.core.score import Direction, Score
from volant.scorers.measure import mean_score

Floats = npt.NDArray[np.float64]


def placements(left_N: Floats, right_M: Floats) -> Floats:
    """For each value of the left, the share of the right that is smaller, equal ones counted half.

    Their mean is the area under the curve of "left is larger" (Mann and Whitney 1947; DeLong et al. 1988 call
    them placement values).
    """
    ordered = np.sort(right_M)
    below, through = (np.searchsorted(ordered, left_N, side=side) for side in ("left", "right"))
    found: Floats = (below + through) / (2 * len(right_M))
    return found


def spread_over(effects_M: Floats, n: int) -> Floats:
    """What M other examples add to a mean, told over n examples [N]; its mean is 0, its weight that of M.

    More than n are averaged in n runs of neighbours, fewer are repeated, and made as uncertain as so few are.
    """
    centred = effects_M - effects_M.mean()
    if len(centred) >= n:
        told = np.array([run.mean() for run in np.array_split(centred, n)])
    else:
        told = np.resize(centred, n) * np.sqrt(n / len(centred))
    moved: Floats = told - told.mean()
    return moved


def bounded(score: Score, low: float, high: float) -> Score:
    """The score with its interval cut at the figure's bounds, and never narrower than so few examples allow.

    A bootstrap of equal values claims certainty; three in n more are compatible with none seen (rule of three).
    """
    reach = 3 / score.n if score.low == score.high else 0.0
    least, most = max(low, score.low - reach), min(high, score.high + reach)
    return score.model_copy(update={"low": min(least, score.value), "high": max(most, score.value)})


def share(name: str, hits: Sequence[bool] | npt.NDArray[np.bool_], note: str, direction: Direction = "lower") -> Score:
    """A share of examples as a second figure, with Wilson's interval."""
    return mean_score(name, [float(hit) for hit in hits], direction=direction, binary=True, note=note)
