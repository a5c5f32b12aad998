"""How near the outputs as a set are to real pictures: the Fréchet distance and the maximum mean discrepancy.

Outputs and references enter, one of each a condition; figures in the features of the judge leave, lower is
better. The bare Fréchet distance depends on the judge, on the number of pictures (it falls with it), and on how
often each class occurs. So it is told as a ratio: over the distance of as many training pictures, one of the
same condition for each reference, drawn several times. 1 is as near as real pictures are. (All of the training
data as the measure would not do: where a split by hash leaves 43 sevens here and 52 there, that difference is
ten times all others, and a Gaussian for each digit passes for better than real.) Values an example are the
jackknife's pseudo-values, each example left out together with its reference, so that an interval holds the
chance in both.

Sources: Heusel et al. 2017 (arXiv 1706.08500), equation 6; Gretton et al. 2012 (JMLR 13), equation 4.

Shape legend: N examples, D features, R directions with spread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from volant.core.artifact import Model
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Direction, Score
from volant.scorers.images import digest_of
from volant.scorers.jackknife import Floats, Moments, clipped, pseudo_values
from volant.scorers.judging import Judge, Judged

DRAWS = 8  # of training pictures; one draw's distance varies by about an eighth
_AT_ONCE = 512  # matrices whose eigenvalues are taken together; bounds memory at 512 * D * D * 8 bytes, three times


def frechet(first: Moments, second: Moments) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), 0 for equal moments."""
    inner_RR = second.factor_DR.T @ first.cov_DD @ second.factor_DR
    apart = float(((first.mean_D - second.mean_D) ** 2).sum())
    spreads = float(np.trace(first.cov_DD) + np.trace(second.cov_DD))
    return max(0.0, apart + spreads - 2 * float(_roots(inner_RR[None])[0]))


def frechet_without(first: Moments, second: Moments) -> Floats:
    """The distance without each pair of examples [N].

    Leaving one out takes a rank-one piece from each covariance. With L L^T = S2 and w = L^-1 c2, the root of
    the smaller S2 is L (I - g w w^T), so that the product's eigenvalues are those of a symmetric R x R
    matrix that differs from L^T S1 L by rank-one pieces: no root is taken again.
    """
    inner_RR = second.factor_DR.T @ first.cov_DD @ second.factor_DR
    u_NR, w_NR = first.centred_ND @ second.factor_DR, second.white_NR
    left_N = np.sqrt(np.maximum(0.0, 1.0 - second.weight * (w_NR**2).sum(1)))
    # (1 - left) / |w|^2, written so that it also holds where the example is the mean.
    g_N = second.weight / (1.0 + left_N)
    roots_N = np.empty(len(w_NR))
    for start in range(0, len(w_NR), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        roots_N[part] = _roots(_shrunk(inner_RR, u_NR[part], first.weight, w_NR[part], g_N[part]))
    apart_N = ((first.means_without() - second.means_without()) ** 2).sum(1)
    spreads_N = first.traces_without() + second.traces_without()
    distance_N: Floats = apart_N + spreads_N - 2 * np.sqrt(first.scale * second.scale) * roots_N
    return np.maximum(0.0, distance_N)


def _shrunk(inner_RR: Floats, u_NR: Floats, weight: float, w_NR: Floats, g_N: Floats) -> Floats:
    """(I - g w w^T)(inner - weight u u^T)(I - g w w^T) for each example [N, R, R]."""
    bw_NR = w_NR @ inner_RR - weight * u_NR * (u_NR * w_NR).sum(1, keepdims=True)
    wbw_N = (w_NR * bw_NR).sum(1)
    # Both mixed pieces and the one of w w^T in one symmetric pair: a w^T + w a^T.
    a_NR = g_N[:, None] * (0.5 * g_N * wbw_N)[:, None] * w_NR - g_N[:, None] * bw_NR
    mixed_NRR = a_NR[:, :, None] * w_NR[:, None, :]
    found_NRR: Floats = inner_RR + mixed_NRR + mixed_NRR.transpose(0, 2, 1)
    found_NRR -= weight * u_NR[:, :, None] * u_NR[:, None, :]
    return found_NRR


def _roots(matrices_NRR: Floats) -> Floats:
    """The sum of the roots of the eigenvalues of symmetric matrices [N]; rounding below 0 counts as 0."""
    sums: Floats = np.sqrt(np.maximum(0.0, np.linalg.eigvalsh(matrices_NRR))).sum(-1)
    return sums


class FrechetRatio(Judged):
    """See the module."""

    name = "frechet_ratio"
    bar = "<= 2.5"  # a Gaussian of the pixels comes to 3 and more on digits
    direction: Direction = "lower"
    ladder = "fidelity"
    said = "Fréchet distance from the references over that of as many training pictures; 1 is as near"
    least = 3

    def __init__(self, judge: Model | Judge | None, training: Sequence[Sample] | None) -> None:
        super().__init__(judge)
        self.training = None if training is None else list(training)

    @property
    def settings(self) -> dict[str, Any]:
        """Who judges, and on what it stands."""
        return {**super().settings, "training": digest_of(self.training or [])}

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """Pseudo-values of the ratio."""
        eyes, real = self.eyes, Moments(self.eyes.features(references))
        made = Moments(eyes.features(pictures))
        known = [Moments(x_ND) for x_ND in self._real_ones(references)]
        floor = float(np.mean([frechet(own, real) for own in known]))
        if floor <= 1e-9 * np.trace(real.cov_DD):
            raise DataError(
                "the references are the training data: their Fréchet distance is 0.",
                where=self.name, fix="Score references that the model was not trained on.",
            )  # fmt: skip
        floor_N = np.mean([frechet_without(own, real) for own in known], axis=0)
        return pseudo_values(frechet(made, real) / floor, frechet_without(made, real) / floor_N)

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The ratio with its interval."""
        return clipped(super().score(outputs, references), low=0.0)

    def _real_ones(self, references: Sequence[Sample]) -> list[Floats]:
        """Features of training pictures, one for each reference [N, D], as often as they are drawn."""
        if self.training is None or len(self.training) < self.least:
            raise SettingError(
                f"scorer {self.name!r} needs the training samples.",
                where="scorers", fix="Give it the model's training split as `training`.",
            )  # fmt: skip
        draws = alike(self.training, references)
        looked = sorted({i for draw in draws for i in draw})
        x_ND = self.eyes.features([self.training[i] for i in looked])
        row = {i: number for number, i in enumerate(looked)}
        return [x_ND[[row[i] for i in draw]] for draw in draws]


def alike(training: Sequence[Sample], references: Sequence[Sample], *, draws: int = DRAWS) -> list[list[int]]:
    """For each draw, and in it for each reference, which training sample of the same condition stands for it.

    No sample comes again before all of its condition had their turn. Where the training data lacks the
    condition of a reference (captions, or none), conditions are not looked at.
    """
    rng = np.random.default_rng(0)
    pools: dict[str | None, list[int]] = {}
    for i, sample in enumerate(training):
        pools.setdefault(sample.condition, []).append(i)
    if not {r.condition for r in references} <= set(pools):
        every = _turns(list(range(len(training))), rng)
        return [[next(every) for _ in references] for _ in range(draws)]
    turns = {condition: _turns(pool, rng) for condition, pool in pools.items()}
    return [[next(turns[r.condition]) for r in references] for _ in range(draws)]


def _turns(pool: list[int], rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from (int(i) for i in rng.permutation(pool))


class Discrepancy(Judged):
    """The unbiased squared maximum mean discrepancy; around 0, also below, for sets of one distribution.

    The kernel is exp(-d^2 / m) with m the median squared distance between references, so that it does not
    move with the outputs and two models are judged with one kernel. Cross terms of an output with its own
    reference are left out, as both were asked for by one condition.
    """

    name = "mmd"
    direction: Direction = "lower"
    ladder = "fidelity"
    said = "squared maximum mean discrepancy; 0 is none"
    least = 3

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """Pseudo-values."""
        made_ND, real_ND = self.eyes.features(pictures), self.eyes.features(references)
        within = squared_distances(real_ND, real_ND)
        upper = within[np.triu_indices(len(within), 1)]
        width = float(np.median(upper)) or float(upper.mean()) or 1.0
        h_NN = np.exp(-within / width) + np.exp(-squared_distances(made_ND, made_ND) / width)
        across_NN = np.exp(-squared_distances(made_ND, real_ND) / width)
        h_NN -= across_NN + across_NN.T
        np.fill_diagonal(h_NN, 0.0)
        n, rows_N = len(h_NN), h_NN.sum(1)
        whole = float(rows_N.sum())
        return pseudo_values(whole / (n * (n - 1)), (whole - 2 * rows_N) / ((n - 1) * (n - 2)))


def squared_distances(x_ND: Floats, y_MD: Floats) -> Floats:
    """Squared Euclidean distances [N, M]; what is within rounding of equal has distance 0."""
    square = (x_ND**2).sum(1)[:, None] + (y_MD**2).sum(1)[None]
    distance: Floats = square - 2 * x_ND @ y_MD.T
    distance[distance < 1e-13 * square] = 0.0
    return distance


def frechet_ratio(*, judge: Model | None = None, training: Sequence[Sample] | None = None) -> FrechetRatio:
    """The scorer.

    Args:
        judge: a model of `pretrain.judge`.
        training: what the judged model was trained on; shows how near real pictures come.
    """
    return FrechetRatio(judge, training)


def mmd(*, judge: Model | None = None) -> Discrepancy:
    """The scorer; `judge` is a model of `pretrain.judge`."""
    return Discrepancy(judge)
