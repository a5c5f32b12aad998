"""Rows put to use: does a model that learnt from them know the real ones, and can one tell them apart?

`tstr`, train on synthetic, test on real: gradient-boosted trees learn to predict one column from the outputs, and
the same trees from as many training rows; both are tested on the references, and the ratio of their figures is the
score (area under the curve for two classes, accuracy for more, R2 for numbers). 1 is as useful as real rows.

`c2st`, the classifier two-sample test (Lopez-Paz and Oquab 2017): the same trees learn to tell outputs from
references; the score is the area under the curve on pairs that they have not seen, over five folds. 0.5 cannot be
told apart, 1.0 always; clearly below 0.5 means that outputs repeat references.

An example's value in `tstr` is what its reference adds to the ratio (delta method, the two models as they are); in
`c2st` the placement of its output plus that of its reference (DeLong et al. 1988). Means of values are the figures,
so that intervals and paired tests are those of every scorer.

Everything is drawn by fixed seeds on one thread. Shape legend: N pairs of rows, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from volant.core.errors import DataError, did_you_mean
from volant.core.sample import Sample
from volant.core.score import Direction
from volant.scorers.table_figures import Floats, placements
from volant.scorers.table_rows import Ints, Measured, RowScoring, Sides, drawn

FOLDS = 5
MOST_CLASSES = 20
FEW_ROWS = 1000
MOST_CATEGORIES = 250  # of a column as categories; the trees' own limit is 255, above it codes count as numbers
LEAST_R2 = 0.05  # a real model that explains less is no measure to divide by


class Tstr(RowScoring):
    """See the module."""

    name = "tstr"

    def __init__(self, training: Sequence[Sample] | None, target: str) -> None:
        super().__init__(training)
        self.target = target
        self._real: dict[str, Floats] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The training data and the column to be predicted."""
        return {**super().settings, "target": self.target}

    def measure(self, sides: Sides) -> Measured:
        """The ratio, with both figures in the note."""
        column = target_of(sides, self.target)
        known = ~np.isnan(sides.references_NC[:, column]) | (sides.kinds[column] == "categorical")
        if not known.any():
            raise DataError(
                "no reference has a value of the target.", where=f"tstr: {sides.names[column]}", fix="Set `target`."
            )
        tested = sides.references_NC[known]
        metric, low = _metric(sides, column, tested)
        n = len(sides.outputs_NC)
        if sides.training_TC is None:
            guess_real, real = _crossed(sides, column, tested, metric), "the references, cross-fitted"
        else:
            rows = drawn(sides.training_TC, n)
            guess_real, real = _guess(sides, column, rows, tested, metric), f"{len(rows)} training rows"
        guess = _guess(sides, column, sides.outputs_NC, tested, metric)
        here, there = (_contributions(g, tested[:, column], metric) for g in (guess, guess_real))
        ratio = float(here.mean()) / max(low, float(there.mean()))
        added = ratio + ((here - here.mean()) - ratio * (there - there.mean())) / max(low, float(there.mean()))
        told = np.full(n, ratio)  # a reference without the target adds nothing
        told[known] = added
        note = f"{metric} of {sides.names[column]}: {here.mean():.4f} from outputs, {there.mean():.4f} from {real}"
        values = [float(v) for v in told]
        return Measured(values, [self.figure(values, note, low=-np.inf, high=np.inf)])


class TwoSample(RowScoring):
    """See the module."""

    name = "c2st"
    bar = "<= 0.7"  # trees of Adult come to 0.6, columns drawn each for itself to 0.99
    direction: Direction = "lower"

    def measure(self, sides: Sides) -> Measured:
        """The area under the curve on unseen pairs."""
        n = len(sides.outputs_NC)
        fold_N = np.random.default_rng(0).permutation(n) % min(FOLDS, n)
        placed = np.empty((2, n))
        for fold in range(min(FOLDS, n)):
            held, rest = fold_N == fold, fold_N != fold
            x = np.concatenate([sides.references_NC[rest], sides.outputs_NC[rest]])
            side = np.repeat([0, 1], int(rest.sum()))
            model = _trees(sides, range(len(sides.kinds)), x, side, classes=2)
            real, made = (_probability(model, rows[held]) for rows in (sides.references_NC, sides.outputs_NC))
            # Placed within the fold: each fold has a model of its own, whose probabilities have their own scale.
            placed[0, held], placed[1, held] = placements(made, real), 1 - placements(real, made)
        auc = float(placed[0].mean())
        values = [float(v) for v in placed[0] + placed[1] - auc]
        note = f"area under the curve, {min(FOLDS, n)} folds; 0.5: outputs and references cannot be told apart"
        return Measured(values, [self.figure(values, note)])


def tstr(*, training: Sequence[Sample] | None = None, target: str = "") -> Tstr:
    """The scorer.

    Args:
        training: the real rows that the rival learns from; without them it is cross-fitted on the references.
        target: the column to be predicted; by default the last one with 2 to 20 categories, else the last number.
    """
    return Tstr(training, target)


def c2st(*, training: Sequence[Sample] | None = None) -> TwoSample:
    """The scorer; `training` only helps to know the columns."""
    return TwoSample(training)


def target_of(sides: Sides, named: str = "") -> int:
    """The position of the column that is predicted.

    Raises:
        DataError: there is no such column, or none beside it to predict from.
    """
    if len(sides.names) < 2:
        raise DataError(
            "a table of one column has nothing to predict from.", where="tstr", fix="Leave this scorer out."
        )
    if named:
        if named not in sides.names:
            fix = did_you_mean(named, sides.names)
            raise DataError(f"the table has no column {named!r}.", where="tstr: target", fix=fix)
        return sides.names.index(named)
    few = [c for c in sides.categorical if 2 <= sides.sizes[c] <= MOST_CLASSES]
    numbers = [c for c in sides.ordered if sides.kinds[c] != "date"]
    return (few or numbers or [len(sides.names) - 1])[-1]


def _metric(sides: Sides, column: int, tested: Floats) -> tuple[str, float]:
    """The figure by its name, and the least that the real model's is divided as."""
    if sides.kinds[column] != "categorical":
        return "R2", LEAST_R2
    classes = {len(np.unique(_labels(rows[:, column]))) for rows in (sides.real, tested)}
    return ("AUC", 0.5) if classes == {2} else ("accuracy", 1 / len(tested))


def _guess(sides: Sides, column: int, rows: Floats, tested: Floats, metric: str) -> Floats:
    """What trees that learnt from `rows` say of the tested rows: a number, a class, or the later class's chance."""
    others = [c for c in range(len(sides.names)) if c != column]
    wanted = rows[:, column]
    if metric == "R2":
        rows, wanted = rows[~np.isnan(wanted)], wanted[~np.isnan(wanted)]
        if len(wanted) < 2 or wanted.min() == wanted.max():
            return np.full(len(tested), float(wanted.mean()) if len(wanted) else 0.0)
        return _predicted(_trees(sides, others, rows, wanted, classes=0), tested[:, others])
    labels = _labels(wanted)
    known = np.unique(labels)
    later = int(np.unique(_labels(tested[:, column]))[-1])
    if len(known) < 2:  # nothing was learnt: the same guess for all
        return np.full(len(tested), float(known[0] == later) if metric == "AUC" else float(known[0]))
    model = _trees(sides, others, rows, labels, classes=len(known))
    features = tested[:, others]
    return _probability(model, features, later) if metric == "AUC" else _predicted(model, features)


def _crossed(sides: Sides, column: int, tested: Floats, metric: str) -> Floats:
    """The same for real rows that are all there is: each fold is guessed by trees that have not seen it."""
    folds = min(FOLDS, len(tested))
    fold_N = np.random.default_rng(0).permutation(len(tested)) % folds
    guess = np.zeros(len(tested))
    for fold in range(folds):
        held = fold_N == fold
        guess[held] = _guess(sides, column, tested[~held], tested, metric)[held]
    return guess


def _contributions(guess_N: Floats, true_N: Floats, metric: str) -> Floats:
    """What each tested row adds to the figure; the mean is the figure.

    AUC by placements; R2 = 1 - e / s, with e the mean squared error and s the variance, by its first derivative.
    """
    if metric == "accuracy":
        right: Floats = (guess_N == _labels(true_N)).astype(np.float64)
        return right
    if metric == "R2":
        error, spread = (guess_N - true_N) ** 2, (true_N - true_N.mean()) ** 2
        e, s = float(error.mean()), float(spread.mean())
        if s == 0:  # nothing varies: a perfect guess explains all of it, any other nothing
            return np.full(len(true_N), float(e == 0))
        found: Floats = 1 - e / s - (error - e) / s + e / s * (spread - s) / s
        return found
    labels = _labels(true_N)
    later = labels == labels.max()
    placed = np.empty(len(labels))
    placed[later] = placements(guess_N[later], guess_N[~later])
    placed[~later] = 1 - placements(guess_N[~later], guess_N[later])
    auc = float(placed[later].mean())
    # Both classes' placements have the area as their mean; the rows of a rare class weigh more.
    both: Floats = auc + (placed - auc) / np.where(later, later.mean(), (~later).mean())
    return both


def _trees(sides: Sides, columns: Sequence[int], rows: Floats, wanted: Any, *, classes: int) -> Any:
    """Gradient-boosted trees that learnt `wanted` from the columns of rows; `classes` 0 for a number."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    columns = list(columns)
    rounds = 100 if len(rows) >= FEW_ROWS else 50  # few rows are soon learnt by heart
    settings: dict[str, Any] = {
        "max_iter": rounds if classes <= 2 else max(20, 2 * rounds // classes),  # a round is a tree a class
        "min_samples_leaf": min(20, max(1, len(rows) // 20)),
        "categorical_features": [sides.kinds[c] == "categorical" and sides.sizes[c] < MOST_CATEGORIES for c in columns],
        "early_stopping": False,
        "random_state": 0,
    }
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    with _one_thread():
        return kind(**settings).fit(rows[:, columns], wanted)


def _predicted(model: Any, features: Floats) -> Floats:
    """The number or the class that the trees say."""
    with _one_thread():
        found: Floats = model.predict(features).astype(np.float64)
    return found


def _probability(model: Any, features: Floats, label: int = 1) -> Floats:
    """How likely the label is; 0 where the model never saw it."""
    at = np.flatnonzero(model.classes_ == label)
    if not len(at):
        return np.zeros(len(features))
    with _one_thread():
        found: Floats = model.predict_proba(features)[:, int(at[0])]
    return found


def _one_thread() -> AbstractContextManager[Any]:
    """Sums of floats depend on how many threads share them."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limits


def _labels(x_N: Floats) -> Ints:
    """Classes as numbers; missing is a class of its own."""
    return np.where(np.isnan(x_N), -1, np.nan_to_num(x_N)).astype(np.int64)
