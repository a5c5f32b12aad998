"""How varied the outputs are: the mean distance between two of them over that between two references.

Outputs and references enter; the ratio in the features of the judge leaves, higher is better and 1 is as
varied as real pictures. Noise is varied too: read it together with a figure of fidelity. Values an example
are the jackknife's pseudo-values. (The scorer `diversity` counts words and is for text.)

Shape legend: N examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from volant.core.artifact import Model
from volant.core.errors import DataError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Score
from volant.scorers.fidelity import squared_distances
from volant.scorers.jackknife import Floats, clipped, pseudo_values
from volant.scorers.judging import Judged


class ImageDiversity(Judged):
    """See the module."""

    name = "image_diversity"
    ladder = "diversity"
    leans_on = (*Judged.leans_on, "volant.scorers.fidelity")
    said = "mean distance between outputs over that between references"
    least = 3

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """Pseudo-values of the ratio."""
        made_N, real_N = _rows(self.eyes.features(pictures)), _rows(self.eyes.features(references))
        without_N = real_N.sum() - 2 * real_N
        if without_N.min() <= 0:
            raise DataError(
                "the references look all the same to the judge.",
                where=self.name, fix="Score more and different references, or train the judge longer.",
            )  # fmt: skip
        return pseudo_values(float(made_N.sum() / real_N.sum()), (made_N.sum() - 2 * made_N) / without_N)

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The ratio with its interval."""
        return clipped(super().score(outputs, references), low=0.0)


def _rows(x_ND: Floats) -> Floats:
    """The sum of each one's distances to all others [N]."""
    apart_NN = np.sqrt(squared_distances(x_ND, x_ND))
    np.fill_diagonal(apart_NN, 0.0)
    rows: Floats = apart_NN.sum(1)
    return rows


def image_diversity(*, judge: Model | None = None) -> ImageDiversity:
    """The scorer; `judge` is a model of `pretrain.judge`."""
    return ImageDiversity(judge)
