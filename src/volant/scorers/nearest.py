"""Memorisation of pictures: how far the outputs are from the nearest training picture, in pixels.

Outputs, references and the training samples enter. An output's value is its distance to the nearest training
picture over the references' median distance to theirs; the figure is the median. About 1 is as far from the
training data as new real pictures are, far below 1 is memorised, higher is better. Half the outputs may be
copies before a median shows it, so a second figure comes along: the share of outputs that are less than a third
as far away as a reference usually is. Pictures longer than 32 pixels a side are compared at 32, where a copy
that was only compressed or rescaled is one still.

Shape legend: N outputs or references, M training pictures, D pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from volant.core.errors import DataError, SettingError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Score
from volant.scorers.images import Bytes, Floats, Size, at_most, digest_of, samples_of, stacked, usual_size
from volant.scorers.judging import Picturing
from volant.scorers.measure import mean_score

SIDE = 32  # pixels
NEAR = 1 / 3  # of the references' median distance
_ROWS = 2048  # training pictures compared at once; bounds memory
_RESAMPLES = 2000


class NearestRatio(Picturing):
    """See the module."""

    name = "nearest_ratio"
    bar = ">= 0.9"  # fresh real pictures come to 1
    ladder = "memorisation"
    note = "median pixel distance to the nearest training picture over that of the references; far below 1: memorised"

    def __init__(self, training: Sequence[Sample] | None) -> None:
        self.training = None if training is None else list(training)

    @property
    def settings(self) -> dict[str, Any]:
        """What was taken for the training data."""
        return {"training": digest_of(self.training or [])}

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """One value an output."""
        own_N, real_N = self._distances(pictures, references)
        return [float(d) for d in own_N / _usual(real_N)]

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The ratio of the medians with its interval, and the share of near copies."""
        self.check(outputs, references)
        own_N, real_N = self._distances(samples_of(outputs, self.name), references)
        usual = _usual(real_N)
        ratio, low, high = _ratio_of_medians(own_N, real_N)
        near = [float(d < NEAR * usual) for d in own_N]
        of_references = float((real_N < NEAR * usual).mean())
        note = (
            f"outputs less than a third as far from the training data as usual; of the references {of_references:.1%}"
        )
        return [
            Score(name=self.name, value=ratio, low=low, high=high, n=len(own_N), note=self.note),
            mean_score("near_copies", near, direction="lower", binary=True, note=note),
        ]

    def _distances(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> tuple[Floats, Floats]:
        training_MD, size = self._trained
        return nearest(_flat(pictures, size), training_MD), nearest(_flat(references, size), training_MD)

    @cached_property
    def _trained(self) -> tuple[Bytes, Size]:
        if not self.training:
            raise SettingError(
                f"scorer {self.name!r} needs the training samples.",
                where="scorers", fix="Give it the model's training split as `training`.",
            )  # fmt: skip
        size = at_most(usual_size(self.training), SIDE)
        return _flat(self.training, size), size


def nearest(x_ND: Bytes, training_MD: Bytes) -> Floats:
    """The root mean squared difference of each picture to its nearest training picture, 0 to 255 [N]."""
    found_N = np.full(len(x_ND), np.inf)
    own_ND = x_ND.astype(np.float32)
    own_N = (own_ND.astype(np.float64) ** 2).sum(1)
    for start in range(0, len(training_MD), _ROWS):
        rows_MD = training_MD[start : start + _ROWS].astype(np.float32)
        square_NM = own_N[:, None] + (rows_MD.astype(np.float64) ** 2).sum(1)[None] - 2.0 * (own_ND @ rows_MD.T)
        closest_N = square_NM.argmin(1)
        # The differences themselves for the nearest one: the quick form loses what is small.
        exact_N = ((own_ND - rows_MD[closest_N]).astype(np.float64) ** 2).mean(1)
        found_N = np.minimum(found_N, exact_N)
    distance: Floats = np.sqrt(found_N)
    return distance


def _flat(samples: Sequence[Sample], size: Size) -> Bytes:
    return stacked(samples, size).reshape(len(samples), -1)


def _usual(real_N: Floats) -> float:
    usual = float(np.median(real_N))
    if usual == 0:
        raise DataError(
            "half of the references or more are training pictures.",
            where="nearest_ratio", fix="Split the data so that near duplicates stay together (`collect.split`).",
        )  # fmt: skip
    return usual


def _ratio_of_medians(own_N: Floats, real_N: Floats) -> tuple[float, float, float]:
    """The ratio and its 95 % bootstrap interval, each output drawn together with its reference."""
    value = float(np.median(own_N)) / _usual(real_N)
    rng, n = np.random.default_rng(0), len(own_N)
    ratios: list[float] = []
    for _ in range(0, _RESAMPLES, 100):
        drawn = rng.integers(0, n, (100, n))
        below = np.median(real_N[drawn], axis=1)
        above = np.median(own_N[drawn], axis=1)
        ratios += [float(a / b) for a, b in zip(above, below, strict=True) if b > 0]
    low, high = (float(q) for q in np.quantile(ratios, (0.025, 0.975)))
    return value, min(low, value), max(high, value)


def nearest_ratio(*, training: Sequence[Sample] | None = None) -> NearestRatio:
    """The scorer; `training` is what the judged model was trained on."""
    return NearestRatio(training)
