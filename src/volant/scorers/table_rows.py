"""Rows as numbers, once for all scorers of tables: outputs, references and training rows in one encoding.

Outputs whose `sample` is a row, their reference rows and the training rows enter; `Sides` leaves. The columns are
fitted on the real rows (training and references), so a category that only the references have is no stranger. What
was encoded is kept for the last few calls, because every scorer of a table asks for the same.

`RowScoring` is what those scorers have in common: the checks, and one measuring for `values` and `score`.

Shape legend: N outputs (and references), T training rows, C columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from volant.core.errors import DataError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Direction, Score
from volant.scorers.measure import mean_score
from volant.scorers.scoring import Scoring

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
KEPT = 4  # encoded calls that are kept; a report measures a model and two or three rivals on the same references


@dataclass(frozen=True)
class Sides:
    """The rows of one call as float64 matrices; NaN is missing, a category is its index.

    Attributes:
        names: of the columns.
        kinds: `numeric`, `integer`, `date` or `categorical`, one a column.
        sizes: how many categories; 0 for the others.
        outputs_NC, references_NC: in pairs, row by row.
        training_TC: None where no training rows were given.
        digest: of everything above.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    sizes: tuple[int, ...]
    outputs_NC: Floats
    references_NC: Floats
    training_TC: Floats | None
    digest: str

    @property
    def real(self) -> Floats:
        """The rows that scales are taken from: the training rows, without them the references."""
        return self.references_NC if self.training_TC is None else self.training_TC

    @property
    def categorical(self) -> list[int]:
        """Positions of the categorical columns."""
        return [i for i, kind in enumerate(self.kinds) if kind == "categorical"]

    @property
    def ordered(self) -> list[int]:
        """Positions of the columns whose values have an order: numbers and dates."""
        return [i for i, kind in enumerate(self.kinds) if kind != "categorical"]


@dataclass(frozen=True)
class Measured:
    """What one scorer says of one call."""

    values: list[float]
    scores: list[Score]


_encoded: dict[str, Sides] = {}


def sides(outputs: Sequence[Sample], references: Sequence[Sample], training: Sequence[Sample] | None) -> Sides:
    """Encode the rows of one call, or take them from the last few calls.

    Raises:
        DataError: a row that is none, or whose columns are not those of the real rows.
    """
    from volant.modalities.table_columns import fit_columns

    key = digest_of(outputs) + digest_of(references) + ("" if training is None else digest_of(training))
    if key in _encoded:
        return _encoded[key]
    columns = fit_columns([*(training or ()), *references])
    space = columns.space.columns
    found = Sides(
        names=tuple(columns.names),
        kinds=tuple(space[name].kind for name in columns.names),
        sizes=tuple(space[name].categories for name in columns.names),
        outputs_NC=columns.matrix(outputs),
        references_NC=columns.matrix(references),
        training_TC=None if training is None else columns.matrix(training),
        digest=hashlib.sha256(key.encode()).hexdigest(),
    )
    while len(_encoded) >= KEPT:
        del _encoded[next(iter(_encoded))]
    _encoded[key] = found
    return found


def digest_of(samples: Sequence[Sample]) -> str:
    """sha256 over the contents of rows and what was declared of them, in order."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{sample.content}\0{sample.attrs.get('table', '')}\0".encode())
    return digest.hexdigest()


def grades(x_NC: Floats, real_TC: Floats) -> Floats:
    """Ordered columns as the share of real values below, in (0, 1), between real values interpolated.

    Ranks are immune to outliers and skew; a value that was in the real rows gets its mid-rank there. Beyond the
    real range the grade goes on by the excess over the range, at most by 1, so that nothing far off looks near.
    NaN stays NaN; a column without a real value is 0.
    """
    graded = np.full_like(x_NC, np.nan)
    for c in range(x_NC.shape[1]):
        known = real_TC[~np.isnan(real_TC[:, c]), c]
        at = ~np.isnan(x_NC[:, c])
        if not len(known):
            graded[at, c] = 0.0
            continue
        steps, counts = np.unique(known, return_counts=True)
        middle = (np.cumsum(counts) - counts / 2) / len(known)
        x, reach = x_NC[at, c], float(steps[-1] - steps[0]) or max(1.0, abs(float(steps[0])))
        excess = np.maximum(x - steps[-1], 0.0) - np.maximum(steps[0] - x, 0.0)
        graded[at, c] = np.interp(x, steps, middle) + np.clip(excess / reach, -1.0, 1.0)
    return graded


def equal_rows(x_NC: Floats, known_MC: Floats) -> npt.NDArray[np.bool_]:
    """Which rows occur among the known ones, all columns equal; missing equals missing."""
    known = {row.tobytes() for row in _canonical(known_MC)}
    return np.array([row.tobytes() in known for row in _canonical(x_NC)], np.bool_)


def _canonical(x_NC: Floats) -> Floats:
    """Rows whose bytes are equal where their values are: one NaN, no negative zero."""
    return np.where(np.isnan(x_NC), np.nan, x_NC) + 0.0


def drawn(x_TC: Floats, most: int) -> Floats:
    """At most `most` rows, drawn without replacement by a fixed seed, in their order."""
    if len(x_TC) <= most:
        return x_TC
    chosen: Floats = x_TC[np.sort(np.random.default_rng(0).choice(len(x_TC), most, replace=False))]
    return chosen


def pseudo_values(whole: float, without_N: Floats) -> list[float]:
    """The jackknife's pseudo-values of a figure of a whole set, moved so that their mean is the figure.

    Args:
        whole: the figure of all N pairs.
        without_N: the figure without pair i (output and reference), for each i.

    The plain pseudo-values N x whole - (N - 1) x without_i (Tukey 1958) have the bias-corrected figure as their
    mean. Distances between samples have a bias of another order, so the correction would be none; the spread,
    which intervals and paired tests live on, is the same.
    """
    n = len(without_N)
    moved: Floats = whole + (n - 1) * (without_N.mean() - without_N)
    return [float(v) for v in moved]


def placements(left_N: Floats, right_M: Floats) -> Floats:
    """For each value of the left, the share of the right that is smaller, equal ones counted half.

    Their mean is the area under the curve of "left is larger" (Mann and Whitney 1947; DeLong et al. 1988 call
    them placement values).
    """
    ordered = np.sort(right_M)
    below, through = (np.searchsorted(ordered, left_N, side=side) for side in ("left", "right"))
    found: Floats = (below + through) / (2 * len(right_M))
    return found


def bounded(score: Score, low: float, high: float) -> Score:
    """The score with its interval cut at the figure's bounds, and never narrower than so few examples allow.

    A bootstrap of equal values claims certainty; three in n more are compatible with none seen (rule of three).
    """
    reach = 3 / score.n if score.low == score.high else 0.0
    least, most = max(low, score.low - reach), min(high, score.high + reach)
    return score.model_copy(update={"low": min(least, score.value), "high": max(most, score.value)})


class RowScoring(Scoring):
    """A scorer of rows: it overrides `measure`, and `values` and `score` are read from that.

    Attributes:
        least: how many outputs there have to be.
        needs_training: whether it says anything without training rows.
    """

    modality = "table"
    least: int = 2
    needs_training: bool = False
    leans_on: tuple[str, ...] = ("volant.scorers.table_rows",)

    def __init__(self, training: Sequence[Sample] | None) -> None:
        self._training = None if training is None else list(training)
        self._last: tuple[str, Measured] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What was taken for the training data."""
        return {"training": self._training_digest}

    @cached_property
    def _training_digest(self) -> str:
        return "none" if self._training is None else digest_of(self._training)

    def measure(self, sides: Sides) -> Measured:
        """The values and figures of one call."""
        raise NotImplementedError

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """One value an example, in the order given; their mean is the figure."""
        return list(self._measured(outputs, references).values)

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The figures with intervals.

        Raises:
            DataError: too few outputs, not one for each reference, one without a row, or no training rows
                where the scorer needs them.
        """
        return list(self._measured(outputs, references).scores)

    def figure(self, values: Sequence[float], note: str, *, low: float = 0.0, high: float = 1.0) -> Score:
        """The scorer's first figure from its values."""
        score = mean_score(self.name, values, unit=self.unit, direction=self.direction, note=note)
        return bounded(score, low, high)

    def _measured(self, outputs: Sequence[Output], references: Sequence[Sample]) -> Measured:
        self.check(outputs, references)
        rows = self._rows(outputs)
        given = sides(rows, references, self._training)
        if self._last is None or self._last[0] != given.digest:
            self._last = (given.digest, self.measure(given))
        return self._last[1]

    def _rows(self, outputs: Sequence[Output]) -> list[Sample]:
        if len(outputs) < self.least:
            raise DataError(
                f"one output is no set of rows (n={len(outputs)}).",
                where=self.name, fix=f"Give at least {self.least} examples.",
            )  # fmt: skip
        if self.needs_training and not self._training:
            raise DataError(
                "nothing can be said without training rows.", where=self.name, fix="Give the train split as `training`."
            )
        rows = [output.sample for output in outputs]
        for i, row in enumerate(rows):
            if row is None or row.shape != "row":
                raise DataError(
                    f"output {i} holds no row.", where=self.name, fix="Measure outputs of a table's model with it."
                )
        return [row for row in rows if row is not None]


def share(name: str, hits: Sequence[bool] | npt.NDArray[np.bool_], note: str, direction: Direction = "lower") -> Score:
    """A share of examples as a second figure, with Wilson's interval."""
    return mean_score(name, [float(hit) for hit in hits], direction=direction, binary=True, note=note)


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
