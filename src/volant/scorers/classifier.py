"""A simple classifier over a modality's features, and what it says of records that it has not learnt from.

Features and classes enter; probabilities of each class leave. It is the mean of two that err differently: logistic
regression, and the vote of the nearest records by cosine. Both are fitted within seconds, draw nothing at random, and
need no model to be fetched. It serves what asks "what would the other records say of this one": wrong labels
(`confident.py`) and which record to label next (`selection.py`).

Shape legend: n records, d features, k classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]
_NEIGHBOURS = 15
_ROUNDS = 300
_PART = 20_000  # records that are judged by one another at once: neighbours cost the square of it


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier; `fit` makes it."""

    parts: tuple[Any, ...]
    seen: Classes
    classes: int

    def probabilities(self, features_ND: npt.NDArray[Any]) -> Floats:
        """Of each class, float [n, k]; 0 for a class that it has not seen."""
        found = np.zeros((len(features_ND), self.classes))
        if not self.parts:
            found[:, self.seen] = 1.0
        for part in self.parts if len(features_ND) else ():
            found[:, self.seen] += part.predict_proba(features_ND) / len(self.parts)
        return found


def fit(features_ND: npt.NDArray[Any], labels_N: Classes, classes: int) -> Classifier:
    """Learn the classes of records; one class alone is what it always says."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    assert len(features_ND) == len(labels_N) and len(labels_N)
    seen = np.unique(labels_N)
    if len(seen) == 1:
        return Classifier((), seen, classes)
    straight = LogisticRegression(C=1.0, max_iter=_ROUNDS)
    near = KNeighborsClassifier(min(_NEIGHBOURS, len(labels_N)), weights="distance", metric="cosine")
    return Classifier(tuple(part.fit(features_ND, labels_N) for part in (straight, near)), seen, classes)


def held_out(
    features_ND: npt.NDArray[Any], labels_N: Classes, classes: int, *, folds: int = 5, seed: int = 0
) -> Floats:
    """The probabilities of each record's classes by a classifier that was fitted without it, float [n, k].

    Args:
        features_ND: of the records.
        labels_N: what they are labelled as, int below `classes`.
        classes: how many there are; one with fewer than two records is not to be told apart.
        folds: into how many parts the records are dealt, each class evenly; each is judged by the others.
        seed: of the deal. Above 20,000 records it also deals them into parts that are judged one by one.
    """
    found = np.zeros((len(labels_N), classes))
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels_N))
    for part in np.array_split(order, max(1, -(-len(order) // _PART))):
        deal = _deal(labels_N[part], folds)
        for fold in range(folds):
            mine, others = part[deal == fold], part[deal != fold]
            if len(mine) and len(others):
                found[mine] = fit(features_ND[others], labels_N[others], classes).probabilities(features_ND[mine])
    return found


def _deal(labels_N: Classes, folds: int) -> Classes:
    """The fold of each record: the records of a class in turn, going on where the class before ended."""
    by_class = np.argsort(labels_N, kind="stable")
    found = np.empty(len(labels_N), np.int64)
    found[by_class] = np.arange(len(labels_N)) % folds
    return found


def features_of(modality: Any, samples: Sequence[Any]) -> npt.NDArray[np.float32]:
    """The modality's features of samples, a thousand at a time."""
    parts = [modality.features(samples[at : at + 1000]) for at in range(0, len(samples), 1000)]
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
