"""The spread of a table: is there an output near every real row?

`row_coverage` (Naeem et al. 2020, "coverage"): a reference is covered where an output lies no farther from it than
its k-th nearest other reference; the score is the share of covered references. Outputs that repeat a few good rows
leave most of the references bare. It is this table's figure for diversity. A figure of sets: compare equal sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volant.core.sample import Sample
from volant.scorers.table_distance import SAME, nearest, nearest_others, placed
from volant.scorers.table_figures import share
from volant.scorers.table_rows import LEANS_ON, Measured, RowScoring, Sides

NEIGHBOURS = 5


class RowCoverage(RowScoring):
    """See the module."""

    name = "row_coverage"
    bar = ">= 0.8"  # fresh real rows of Adult come to 0.97, trees to 0.94
    ladder = "diversity"
    binary = True
    leans_on = (*LEANS_ON, "volant.scorers.table_distance")

    def __init__(self, training: Sequence[Sample] | None, neighbours: int) -> None:
        super().__init__(training)
        self.neighbours = neighbours

    @property
    def settings(self) -> dict[str, Any]:
        """The training data and how many neighbours."""
        return {**super().settings, "neighbours": self.neighbours}

    def measure(self, sides: Sides) -> Measured:
        """The share of covered references."""
        references, outputs = placed(sides.references_NC, sides), placed(sides.outputs_NC, sides)
        k = min(self.neighbours, len(references) - 1)
        covered = nearest(references, outputs) <= nearest_others(references, k) + SAME
        score = share(self.name, covered, f"references with an output among {k} neighbours", "higher")
        return Measured([float(c) for c in covered], [score])


def row_coverage(*, training: Sequence[Sample] | None = None, neighbours: int = NEIGHBOURS) -> RowCoverage:
    """The scorer.

    Args:
        training: only helps to know the columns and their scales.
        neighbours: how far the neighbourhood of a reference goes.
    """
    return RowCoverage(training, neighbours)
