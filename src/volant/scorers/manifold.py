"""Do the outputs lie among the real pictures (precision, density), and are all real ones reached (recall, coverage)?

Outputs and references enter; shares in the features of the judge leave, higher is better. A set's manifold is
all that lies within the distance of one of its members to that member's k-th nearest neighbour. Precision and
density have a value an output; recall and coverage one a reference.

Precision and recall: Kynkäänniemi et al. 2019 (arXiv 1904.06991). One far outlier makes its ball huge, and
either then says too much. Density and coverage: Naeem et al. 2020 (arXiv 2002.09797), which hold against that:
density counts balls (1 for real pictures, and above it where outputs crowd), coverage asks each reference's ball
for an output. All depend on the number of examples: compare sets of equal size only.

Shape legend: N outputs, M references.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from volant.core.artifact import Model
from volant.core.errors import DataError
from volant.core.sample import Sample
from volant.scorers.fidelity import squared_distances
from volant.scorers.judging import Floats, Judge, Judged

NEIGHBOURS = 5  # Naeem et al.'s choice; Kynkäänniemi et al. take 3 for 50,000 pictures
Kind = Literal["precision", "recall", "density", "coverage"]

_SAID = {
    "precision": "outputs that lie among the references",
    "recall": "references that lie among the outputs",
    "density": "references around an output, against what is usual for them (1)",
    "coverage": "references with an output near them",
}


class Manifold(Judged):
    """Precision, recall, density or coverage; see the module."""

    leans_on = (*Judged.leans_on, "volant.scorers.fidelity")

    def __init__(self, kind: Kind, judge: Model | Judge | None, k: int) -> None:
        self.kind: Kind = kind
        self.name = kind
        self.bar = ">= 0.8" if kind == "recall" else ""  # real pictures come to 0.9
        self.k = k
        self.least = k + 1
        self.binary = kind != "density"
        self.ladder = "fidelity" if kind in ("precision", "density") else "diversity"
        self.said = f"{_SAID[kind]}; {k} neighbours"
        super().__init__(judge)

    @property
    def settings(self) -> dict[str, Any]:
        """Who judges, which of the four, and how many neighbours."""
        return {**super().settings, "kind": self.kind, "k": self.k}

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """One value an output, or a reference."""
        made_ND, real_MD = self.eyes.features(pictures), self.eyes.features(references)
        apart_NM = squared_distances(made_ND, real_MD)
        if self.kind == "recall":
            inside_NM = apart_NM <= radii(made_ND, self.k)[:, None]
            return _listed(inside_NM.any(0))
        inside_NM = apart_NM <= radii(real_MD, self.k)[None]
        if self.kind == "coverage":
            return _listed(inside_NM.any(0))
        if self.kind == "density":
            return _listed(inside_NM.sum(1) / self.k)
        return _listed(inside_NM.any(1))


def radii(x_ND: Floats, k: int) -> Floats:
    """The squared distance of each point to its k-th nearest other one [N].

    Raises:
        DataError: there are not more than k points.
    """
    if len(x_ND) <= k:
        raise DataError(f"{len(x_ND)} points have no {k}-th neighbour.", fix="Score more examples together.")
    apart_NN = squared_distances(x_ND, x_ND)
    np.fill_diagonal(apart_NN, 0.0)  # so that each one's nearest is itself, whatever rounding says
    radius: Floats = np.partition(apart_NN, k, axis=1)[:, k]
    return radius


def _listed(values: Any) -> list[float]:
    return [float(value) for value in values]


def precision(*, judge: Model | None = None, k: int = NEIGHBOURS) -> Manifold:
    """Share of the outputs among the references; `k` is the number of neighbours."""
    return Manifold("precision", judge, k)


def recall(*, judge: Model | None = None, k: int = NEIGHBOURS) -> Manifold:
    """Share of the references among the outputs; `k` is the number of neighbours."""
    return Manifold("recall", judge, k)


def density(*, judge: Model | None = None, k: int = NEIGHBOURS) -> Manifold:
    """References around an output, 1 being usual; `k` is the number of neighbours."""
    return Manifold("density", judge, k)


def coverage(*, judge: Model | None = None, k: int = NEIGHBOURS) -> Manifold:
    """Share of the references with an output near them; `k` is the number of neighbours."""
    return Manifold("coverage", judge, k)
