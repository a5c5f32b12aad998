"""Rows as numbers, once for all scorers of tables: outputs, references and training rows in one encoding.

Outputs whose `sample` is a row, their reference rows and the training rows enter; `Sides` leaves. The columns are
fitted on the real rows (training and references), so a category that only the references have is no stranger. What
was encoded is kept for the last few calls, because every scorer of a table asks for the same.

`RowScoring` is what those scorers have in common: the checks, and one measuring for `values` and `score`.

Shape legend: N outputs (and references), T training rows, C columns.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from volant.core.errors import DataError, SettingError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Score
from volant.modalities.table_column import MOST_CATEGORIES
from volant.modalities.table_columns import Columns, fit_columns
from volant.scorers.measure import mean_score
from volant.scorers.scoring import Scoring
from volant.scorers.table_figures import Floats, bounded

Ints = npt.NDArray[np.int64]
LEANS_ON = ("volant.scorers.table_rows", "volant.scorers.table_figures")
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


_encoded: OrderedDict[str, Sides] = OrderedDict()
_fitted: OrderedDict[str, Columns] = OrderedDict()


def columns_of(references: Sequence[Sample], training: Sequence[Sample] | None) -> Columns:
    """The columns of the real rows, every category by itself; kept for the last few calls.

    The kinds are those that the training rows have, as a model's codec sees them; the values are everybody's.

    Raises:
        DataError: the rows cannot be fitted.
    """
    key = digest_of(references) + ("" if training is None else digest_of(training))
    if key in _fitted:
        return _fitted[key]
    types = None
    if training:
        types = {column.name: column.kind for column in fit_columns(training, max_categories=MOST_CATEGORIES).all}
    _make_room(_fitted)
    _fitted[key] = fit_columns([*(training or ()), *references], types, max_categories=MOST_CATEGORIES)
    return _fitted[key]


def sides(outputs: Sequence[Sample], references: Sequence[Sample], training: Sequence[Sample] | None) -> Sides:
    """Encode the rows of one call, or take them from the last few calls.

    Raises:
        DataError: a row has a value of another kind than its column.
    """
    key = "".join(digest_of(rows) for rows in (outputs, references, training or ()))
    if key in _encoded:
        return _encoded[key]
    columns = columns_of(references, training)
    _make_room(_encoded)
    _encoded[key] = Sides(
        names=columns.names,
        kinds=tuple(column.kind for column in columns.learnt),
        sizes=tuple(column.column.categories for column in columns.learnt),
        outputs_NC=columns.matrix(outputs),
        references_NC=columns.matrix(references),
        training_TC=columns.matrix(training) if training else None,
        digest=hashlib.sha256(key.encode()).hexdigest(),
    )
    return _encoded[key]


def _make_room(kept: OrderedDict[str, Any]) -> None:
    while len(kept) >= KEPT:
        kept.popitem(last=False)


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


class RowScoring(Scoring):
    """A scorer of rows: it overrides `measure`, and `values` and `score` are read from that.

    Attributes:
        least: how many outputs there have to be.
        needs_training: whether it says anything without training rows.
    """

    modality = "table"
    least: int = 2
    needs_training: bool = False
    leans_on: tuple[str, ...] = LEANS_ON

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
            DataError: too few outputs, not one for each reference, or one without a row.
            SettingError: no training rows where the scorer needs them.
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
            raise SettingError(
                "nothing can be said without training rows.", where=self.name, fix="Give the train split as `training`."
            )
        rows = [output.sample for output in outputs]
        for i, row in enumerate(rows):
            if row is None or row.shape != "row":
                raise DataError(
                    f"output {i} holds no row.", where=self.name, fix="Measure outputs of a table's model with it."
                )
        return [row for row in rows if row is not None]
