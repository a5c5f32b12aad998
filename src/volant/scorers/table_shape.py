"""The shape of a table: does each column, and each pair of columns, look like the references'?

`marginals`: the mean over columns of 1 - the Kolmogorov-Smirnov distance (numbers, dates) or 1 - the total variation
distance (categories). A missing value counts as a value of its own: a category, or above all numbers.

`pair_correlations`: the mean over pairs of columns. Two ordered columns: 1 - |difference of their correlation| / 2,
where values are first replaced by their rank among the training rows (Spearman's correlation where the marginals
agree), over the rows that have both. Any other pair: 1 - the total variation distance of the joint table, ordered
columns cut at the quantiles of the training rows, missing values in a bin of their own. These are the two figures
that sdmetrics calls column shapes and column pair trends; there numbers are correlated as they are and cut evenly,
so the second one is not comparable digit by digit.

Both are figures of a whole set, from 0 to 1, and fall short of 1 for real rows too, the more the fewer there are:
compare sets of equal size, and look at the figure that the training rows get (in the note). An example's value is
the jackknife's pseudo-value, output and reference left out together, exact for both figures.

Shape legend: N pairs of rows, C columns, M different values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

import numpy as np

from volant.core.errors import DataError
from volant.core.sample import Sample
from volant.scorers.jackknife import pseudo_values
from volant.scorers.table_figures import Floats
from volant.scorers.table_rows import Ints, Measured, RowScoring, Sides, drawn, grades

BINS = 10
ROWS_A_BIN = 50  # fewer rows get fewer bins, or the joint table is mostly noise
MOST_PAIRS = 2000  # all of a table of 63 columns; beyond, pairs are drawn by a fixed seed

Parts = tuple[float, Floats]  # a figure of all rows, and the figure without pair i [N]


class Marginals(RowScoring):
    """See the module."""

    name = "marginals"

    def measure(self, sides: Sides) -> Measured:
        """The mean over columns, and what the training rows get."""

        def figure(x_NC: Floats) -> Parts:
            return _mean(
                categories_distance(_codes(x_NC[:, c]), _codes(sides.references_NC[:, c]))
                if kind == "categorical"
                else numbers_distance(x_NC[:, c], sides.references_NC[:, c])
                for c, kind in enumerate(sides.kinds)
            )

        whole, without_N = figure(sides.outputs_NC)
        values = pseudo_values(whole, without_N)
        return Measured(values, [self.figure(values, f"mean over {len(sides.kinds)} columns{_ceiling(sides, figure)}")])


class PairCorrelations(RowScoring):
    """See the module."""

    name = "pair_correlations"

    def measure(self, sides: Sides) -> Measured:
        """The mean over pairs of columns, and what the training rows get.

        Raises:
            DataError: the table has one column only.
        """
        pairs = _pairs(len(sides.kinds))
        if not pairs:
            raise DataError(
                "a table of one column has no pairs of columns.", where=self.name, fix="Leave this scorer out."
            )
        references = _Graded(sides.references_NC, sides)

        def figure(x_NC: Floats) -> Parts:
            outputs = _Graded(x_NC, sides)
            return _mean(_pair_distance(outputs, references, a, b, sides.kinds) for a, b in pairs)

        whole, without_N = figure(sides.outputs_NC)
        values = pseudo_values(whole, without_N)
        return Measured(
            values, [self.figure(values, f"mean over {len(pairs)} pairs of columns{_ceiling(sides, figure)}")]
        )


def marginals(*, training: Sequence[Sample] | None = None) -> Marginals:
    """The scorer; `training` gives the figure that real rows get, in the note."""
    return Marginals(training)


def pair_correlations(*, training: Sequence[Sample] | None = None) -> PairCorrelations:
    """The scorer; ranks and cuts are taken from `training`, without it from the references."""
    return PairCorrelations(training)


def numbers_distance(x_N: Floats, y_N: Floats) -> Parts:
    """The Kolmogorov-Smirnov distance of two equally large sets; NaN counts as above all numbers.

    With H(t) = how many y are <= t less how many x are, the distance is max |H| / N. Leaving out the pair
    (x_i, y_i) changes H between the two only, by one, so that each distance without a pair is the largest of
    three stretches of H.
    """
    x_N, y_N = np.where(np.isnan(x_N), np.inf, x_N), np.where(np.isnan(y_N), np.inf, y_N)
    n = len(x_N)
    _, at = np.unique(np.concatenate([x_N, y_N]), return_inverse=True)
    at_x, at_y = at[:n], at[n:]
    steps = int(at.max()) + 1
    h_M = np.cumsum(np.bincount(at_y, minlength=steps) - np.bincount(at_x, minlength=steps))
    size_M = np.abs(h_M)
    before = np.concatenate([[0], np.maximum.accumulate(size_M)])  # largest |H| of the first k steps
    after = np.concatenate([np.maximum.accumulate(size_M[::-1])[::-1], [0]])  # ... from step k on
    first, last = np.minimum(at_x, at_y), np.maximum(at_x, at_y)
    # x_i gone lifts H from x_i on, y_i gone lowers it from y_i on: +1 between where x comes first, else -1.
    lifted = np.where(at_x < at_y, 1, -1)
    highest, lowest = _range_max(h_M, first, last), -_range_max(-h_M, first, last)
    between = np.where(first < last, np.maximum(highest + lifted, -(lowest + lifted)), 0)
    largest = np.maximum(np.maximum(before[first], after[last]), between)
    return float(size_M.max()) / n, largest / max(1, n - 1)


def categories_distance(x_N: Ints, y_N: Ints) -> Parts:
    """The total variation distance of two equally large sets of codes from 0 on, and without each pair."""
    n = len(x_N)
    cells = int(max(x_N.max(), y_N.max())) + 1
    h = np.bincount(y_N, minlength=cells) - np.bincount(x_N, minlength=cells)
    total = int(np.abs(h).sum())
    at_x, at_y = h[x_N], h[y_N]
    changed = total - np.abs(at_x) + np.abs(at_x + 1) - np.abs(at_y) + np.abs(at_y - 1)
    return total / (2 * n), np.where(x_N == y_N, total, changed) / (2 * max(1, n - 1))


def correlations(u_N: Floats, v_N: Floats) -> Parts:
    """Pearson's correlation over the rows that have both values, and without each row; 0 where it is undefined."""
    both = ~(np.isnan(u_N) | np.isnan(v_N))
    count = int(both.sum())
    u_N, v_N = np.where(both, u_N, 0.0), np.where(both, v_N, 0.0)
    if count:  # centred first, so that the sums below lose no digits
        u_N, v_N = np.where(both, u_N - u_N.sum() / count, 0.0), np.where(both, v_N - v_N.sum() / count, 0.0)
    sums = [part.sum() for part in (u_N, v_N, u_N * u_N, v_N * v_N, u_N * v_N)]
    left = [s - part for s, part in zip(sums, (u_N, v_N, u_N * u_N, v_N * v_N, u_N * v_N), strict=True)]
    whole = _correlation(np.array([float(count)]), *(np.array([s]) for s in sums))
    return float(whole[0]), _correlation(count - both.astype(np.float64), *left)


def _correlation(n: Floats, u: Floats, v: Floats, uu: Floats, vv: Floats, uv: Floats) -> Floats:
    """Pearson's correlation from sums."""
    n = np.maximum(n, 1.0)
    spread_u, spread_v = uu - u * u / n, vv - v * v / n
    product = spread_u * spread_v
    # What rounding leaves of a constant is far below 1e-9 of the sums.
    defined = (spread_u > 1e-9 * n) & (spread_v > 1e-9 * n)
    together: Floats = np.where(defined, (uv - u * v / n) / np.sqrt(np.where(defined, product, 1.0)), 0.0)
    return np.clip(together, -1.0, 1.0)


class _Graded:
    """One side of a comparison of pairs: ordered columns as ranks and as bins, categories as codes."""

    def __init__(self, x_NC: Floats, sides: Sides) -> None:
        self.codes: dict[int, Ints] = {c: _codes(x_NC[:, c]) for c in sides.categorical}
        self.grades: dict[int, Floats] = {}
        bins = min(BINS, max(2, len(sides.references_NC) // ROWS_A_BIN))
        for c in sides.ordered:
            self.grades[c] = grades(x_NC[:, c : c + 1], sides.real[:, c : c + 1])[:, 0]
            binned = np.clip(np.floor(np.nan_to_num(self.grades[c]) * bins), 0, bins - 1).astype(np.int64)
            self.codes[c] = np.where(np.isnan(self.grades[c]), 0, binned + 1)


def _pair_distance(outputs: _Graded, references: _Graded, a: int, b: int, kinds: Sequence[str]) -> Parts:
    if kinds[a] != "categorical" and kinds[b] != "categorical":
        there, there_N = correlations(references.grades[a], references.grades[b])
        here, here_N = correlations(outputs.grades[a], outputs.grades[b])
        return abs(there - here) / 2, np.abs(there_N - here_N) / 2
    width = int(max(outputs.codes[b].max(), references.codes[b].max())) + 1
    joint_x, joint_y = (side.codes[a] * width + side.codes[b] for side in (outputs, references))
    if width * int(max(outputs.codes[a].max(), references.codes[a].max())) > 8 * len(joint_x):  # mostly empty cells
        _, joint = np.unique(np.concatenate([joint_x, joint_y]), return_inverse=True)
        joint_x, joint_y = joint[: len(joint_x)], joint[len(joint_x) :]
    return categories_distance(joint_x, joint_y)


def _pairs(columns: int) -> list[tuple[int, int]]:
    pairs = list(combinations(range(columns), 2))
    if len(pairs) <= MOST_PAIRS:
        return pairs
    return [pairs[i] for i in np.sort(np.random.default_rng(0).choice(len(pairs), MOST_PAIRS, replace=False))]


def _codes(x_N: Floats) -> Ints:
    """Category indices from 1 on, 0 for missing."""
    return np.where(np.isnan(x_N), 0, np.nan_to_num(x_N) + 1).astype(np.int64)


def _mean(distances: Iterable[Parts]) -> Parts:
    """1 - the mean of distances, for all rows and without each pair; they are summed as they come."""
    whole, without_N, count = 0.0, np.zeros(1), 0
    for one, one_N in distances:
        whole, without_N, count = whole + one, without_N + one_N, count + 1
    return 1 - whole / count, 1 - without_N / count


def _ceiling(sides: Sides, figure: Callable[[Floats], Parts]) -> str:
    """What as many training rows get against the references, as a part of the note."""
    n = len(sides.references_NC)
    if sides.training_TC is None or len(sides.training_TC) < n:
        return ""
    return f"; real training rows get {figure(drawn(sides.training_TC, n))[0]:.4f}"


def _range_max(values_M: Ints, first: Ints, last: Ints) -> Ints:
    """The largest of values[first : last] for each range, 0 for an empty one (sparse table)."""
    levels = [values_M]
    while 2 ** len(levels) <= len(values_M):
        half = 2 ** (len(levels) - 1)
        levels.append(np.maximum(levels[-1][:-half], levels[-1][half:]))
    length = last - first
    level = np.log2(np.maximum(length, 1)).astype(np.int64)
    found = np.zeros_like(first)
    for k, row in enumerate(levels):
        at = (level == k) & (length > 0)
        found[at] = np.maximum(row[first[at]], row[last[at] - 2**k])
    return found
