"""How far rows lie apart: the mean over columns of a difference from 0 to 1 (Gower 1971).

Numbers and dates differ by their rank among the real rows, categories by 0 or 1, a missing value by 0 from a missing
one and by 1 from any other. Distances are made block by block and never all at once: two sets of 5,000 rows are
25 million of them.

Shape legend: N and M rows, C columns, O ordered columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from volant.scorers.table_figures import Floats
from volant.scorers.table_rows import Sides, grades

SAME = 1e-9  # what rounding makes of equal distances
_AT_ONCE = 2_000_000  # distances of a block; 16 MB


@dataclass(frozen=True)
class Placed:
    """Rows in the space where distances are taken.

    Attributes:
        grades_NO: ordered columns, missing values as 0.
        missing_NO: which of them are missing.
        codes_NK: categories, -1 for missing.
    """

    grades_NO: Floats
    missing_NO: Floats
    codes_NK: Floats

    def __len__(self) -> int:
        return len(self.grades_NO)

    def __getitem__(self, rows: slice) -> Placed:
        return Placed(self.grades_NO[rows], self.missing_NO[rows], self.codes_NK[rows])


def placed(x_NC: Floats, sides: Sides) -> Placed:
    """Rows of any origin, on the scale of the training rows and references together.

    Not of the training rows alone: their ranks would be spread evenly, those of others at random, and an even
    grid lies nearer to everything.
    """
    real = sides.references_NC if sides.training_TC is None else np.vstack([sides.training_TC, sides.references_NC])
    graded = grades(x_NC[:, sides.ordered], real[:, sides.ordered])
    codes = x_NC[:, sides.categorical]
    missing = np.isnan(graded)
    return Placed(np.where(missing, 0.0, graded), missing.astype(np.float64), np.where(np.isnan(codes), -1.0, codes))


def blocks(left: Placed, right: Placed) -> Iterator[tuple[slice, Floats]]:
    """The distances of all rows of the left to all of the right, some rows of the left at a time."""
    step = max(1, _AT_ONCE // max(1, len(right)))
    for start in range(0, len(left), step):
        rows = slice(start, min(start + step, len(left)))
        yield rows, _distances(left[rows], right)


def nearest(left: Placed, right: Placed) -> Floats:
    """The distance of each row of the left to the nearest of the right."""
    found = np.empty(len(left))
    for rows, distances in blocks(left, right):
        found[rows] = distances.min(axis=1)
    return found


def nearest_others(rows: Placed, k: int) -> Floats:
    """The distance of each row to its k-th nearest among the other rows."""
    found = np.empty(len(rows))
    for part, distances in blocks(rows, rows):
        # The row itself is one of those at distance 0, so that the k-th other is the k-th from 0 on.
        found[part] = np.partition(distances, k, axis=1)[:, k]
    return found


def _distances(left: Placed, right: Placed) -> Floats:
    from scipy.spatial.distance import cdist

    ordered, categories = left.grades_NO.shape[1], left.codes_NK.shape[1]
    total = np.zeros((len(left), len(right)))
    if ordered:
        total += cdist(left.grades_NO, right.grades_NO, "cityblock")
    if categories:
        total += cdist(left.codes_NK, right.codes_NK, "hamming") * categories
    for c in range(ordered):
        here, there = left.missing_NO[:, c], right.missing_NO[:, c]
        if here.any() or there.any():  # the grade of a missing value was taken as 0: put right what that gave
            one = here[:, None] != there[None, :]
            wrong = np.abs(left.grades_NO[:, c][:, None] - right.grades_NO[:, c][None, :])
            total += one * (1.0 - wrong)
    total /= ordered + categories
    return total
