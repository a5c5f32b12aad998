"""Which record a person should label next, so that few labels teach a classifier much.

Features, and the classes of the records that are labelled, enter; the next records leave, the most useful first. Four
ways: **uncertain** takes those whose two likeliest classes are closest (margin sampling); **diverse** those that stand
for the most others that nothing labelled stands for yet (greedy facility location, which needs no label at all);
**mixed** spreads out in that sense over the least certain ones (Wei, Iyer and Bilmes 2015), so that a batch is not ten
times the same doubt; **random** is what the others are measured against. The classifier is that of `classifier.py`.
The same features, labels and seed give the same records.

Shape legend: n records, d features, k classes, o records that are open, s records that are stood for.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from volant.scorers.classifier import Classes, fit

How = Literal["mixed", "uncertain", "diverse", "random"]
HOW: tuple[How, ...] = get_args(How)
OPEN, ASIDE = -1, -2
"""In place of a class: not labelled yet; not to be asked again, for nobody can tell."""
_SHORTLIST = 10  # times as many of the least certain are looked at as are taken
_STOOD_FOR = 2000  # records that the others stand for at most, drawn by chance: the cost is their product


def pick(
    features_ND: npt.NDArray[Any], labels_N: Classes, classes: int, count: int, *, how: How = "mixed", seed: int = 0
) -> Classes:
    """The next records to label, as indices, the most useful first.

    Args:
        features_ND: of all records, labelled or not.
        labels_N: the class of each, int below `classes`; `OPEN` where it is to be found out, `ASIDE` where it is not.
        classes: how many there are.
        count: how many are wanted; fewer leave where fewer are open.
        how: see above. With labels of fewer than two classes there is nothing to be uncertain about: then `mixed` is
            `diverse`, and `uncertain` is `random`.
        seed: of what is left to chance: the order at random, and which of two equals comes first.
    """
    assert len(features_ND) == len(labels_N), (len(features_ND), len(labels_N))
    chance_N = np.random.default_rng(seed).permutation(len(labels_N))
    open_ones = np.flatnonzero(labels_N == OPEN)
    open_ones = open_ones[np.argsort(chance_N[open_ones])]
    known = np.flatnonzero(labels_N >= 0)
    taught = len(np.unique(labels_N[known])) > 1
    if not len(open_ones) or how == "random" or (how == "uncertain" and not taught):
        return open_ones[:count]
    if how == "diverse" or not taught:
        return open_ones[_spread(_centred(features_ND), open_ones, known, count)]
    margins_O = _margins(features_ND, labels_N, known, open_ones, classes)
    order = np.argsort(margins_O, kind="stable")
    if how == "uncertain":
        return open_ones[order[:count]]
    short = open_ones[order[: _SHORTLIST * count]]
    return short[_spread(_centred(features_ND[short]), np.arange(len(short)), known[:0], count)]


def _margins(
    features_ND: npt.NDArray[Any], labels_N: Classes, known: Classes, open_ones: Classes, classes: int
) -> npt.NDArray[np.float64]:
    """How far the likeliest class is ahead of the next, 0 to 1, float [o]."""
    chances = fit(features_ND[known], labels_N[known], classes).probabilities(features_ND[open_ones])
    first_two = np.sort(chances, axis=1)[:, -2:]
    return np.asarray(first_two[:, 1] - first_two[:, 0])


def _centred(features_ND: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The features less their mean, of unit length: their products are what two records have in common."""
    moved = features_ND - features_ND.mean(0, keepdims=True)
    length = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.where(length > 0, length, 1.0), np.float32)


def _spread(unit_ND: npt.NDArray[np.float32], open_ones: Classes, known: Classes, count: int) -> Classes:
    """Which of the open records (places in `open_ones`), one after another, add most to what is stood for."""
    candidates = open_ones[:_STOOD_FOR]
    common_OS = unit_ND[candidates] @ unit_ND[candidates].T
    stood_S = np.zeros(len(candidates), np.float32)
    if len(known):
        stood_S = np.maximum(stood_S, (unit_ND[known] @ unit_ND[candidates].T).max(0))
    found: list[int] = []
    for _ in range(min(count, len(candidates))):
        gain_O = np.maximum(common_OS - stood_S, 0).sum(1)
        gain_O[found] = -1.0
        found.append(int(gain_O.argmax()))
        stood_S = np.maximum(stood_S, common_OS[found[-1]])
    return np.array(found, np.int64)
