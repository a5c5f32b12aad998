"""What one example does to a figure of a whole set: the jackknife's pseudo-values.

A figure of a set (a Fréchet distance) and the same figure without each example enter; one value an example
leaves. So the paired tests, the intervals and the slices are those of every other scorer. Source: Efron and
Tibshirani, An Introduction to the Bootstrap (1993), chapter 11.

Shape legend: N examples, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from volant.core.score import Score

Floats = NDArray[np.float64]


def pseudo_values(whole: float, without_N: Floats) -> list[float]:
    """One value an example; their mean is the figure of the whole set, their spread is what one example weighs.

    The textbook's pseudo-value is n T - (n - 1) T_i, whose mean corrects the bias of T. Ours are moved so that
    the mean is T itself: bars and published figures are plain, and a report must not hold two figures of one name.

    Args:
        whole: the figure of all examples.
        without_N: the figure without each of them.
    """
    values: Floats = whole + (len(without_N) - 1) * (without_N.mean() - without_N)
    return [float(value) for value in values]


def clipped(scores: Sequence[Score], *, low: float = -np.inf, high: float = np.inf) -> list[Score]:
    """Scores whose intervals end where the figure cannot go beyond."""
    return [s.model_copy(update={"low": max(s.low, low), "high": min(s.high, high)}) for s in scores]


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features, and what they are without each example.

    Without example i the covariance is `scale * (cov - weight * c_i c_i^T)`, where c_i is the centred example.
    """

    x_ND: Floats

    @property
    def n(self) -> int:
        """How many examples."""
        return len(self.x_ND)

    @cached_property
    def mean_D(self) -> Floats:
        """The mean."""
        mean: Floats = self.x_ND.mean(0)
        return mean

    @cached_property
    def centred_ND(self) -> Floats:
        """The examples less their mean."""
        return self.x_ND - self.mean_D

    @cached_property
    def cov_DD(self) -> Floats:
        """The covariance, divided by n - 1."""
        cov: Floats = self.centred_ND.T @ self.centred_ND / (self.n - 1)
        return cov

    @property
    def scale(self) -> float:
        """See the class."""
        return (self.n - 1) / (self.n - 2)

    @property
    def weight(self) -> float:
        """See the class."""
        return self.n / (self.n - 1) ** 2

    def means_without(self) -> Floats:
        """The mean without each example [N, D]."""
        return self.mean_D - self.centred_ND / (self.n - 1)

    def traces_without(self) -> Floats:
        """The trace of the covariance without each example [N]."""
        square_N = (self.centred_ND**2).sum(1)
        traces: Floats = self.scale * (np.trace(self.cov_DD) - self.weight * square_N)
        return traces

    @cached_property
    def factor_DR(self) -> Floats:
        """L with L L^T = the covariance, directions without spread left out [D, R]."""
        spread_D, turn_DD = np.linalg.eigh(self.cov_DD)
        kept = spread_D > max(float(spread_D[-1]), 0.0) * 1e-12
        factor: Floats = turn_DD[:, kept] * np.sqrt(spread_D[kept])
        return factor

    @cached_property
    def white_NR(self) -> Floats:
        """The centred examples in the factor's terms: factor @ white = centred [N, R]."""
        factor_DR = self.factor_DR
        white: Floats = self.centred_ND @ (factor_DR / (factor_DR**2).sum(0))
        return white
