"""A classification or regression tree for each column, as flat arrays, and sampling from their leaves.

What enters: columns as codes (places in the sorted list of the values that were seen, a missing one first). What
leaves: trees over the columns before, whose leaves hold the codes that were seen there. scikit-learn grows the
trees; everything after that is numpy on whole columns.

A categorical predictor is split by an order of its categories, made anew for each tree: by the mean of what is
predicted (optimal for two classes and for squared error: Fisher 1958, Breiman et al. 1984), by its first principal
component where that is several numbers (Coppersmith, Hong and Hosking 1999).

Shape legend: R training rows, B rows, P predictors, K codes of a column, N nodes of a tree, T targets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
_CLASSES = 64  # a column of more categories is predicted through a random projection of so many numbers
_PROJECTED = 16


@dataclass(frozen=True)
class Leaves:
    """The tree of one column.

    Attributes:
        predictors: which columns it looks at, by place.
        ranks: for each predictor its order of codes [K], or an empty array where the codes are in order as they are.
        feature_N: the predictor that a node asks for, by place in `predictors`; -1 at a leaf.
        threshold_N: at most this goes left.
        left_N, right_N: the nodes below; their numbers are greater than the node's own.
        first_N: where a leaf's codes begin in `held`; 0 for other nodes.
        count_N: how many there are; 0 for other nodes.
        held: codes of the column seen in training [R], leaf by leaf, sorted within each.
    """

    predictors: tuple[int, ...]
    ranks: tuple[I32, ...]
    feature_N: I32
    threshold_N: F64
    left_N: I32
    right_N: I32
    first_N: I32
    count_N: I32
    held: I32

    def leaf(self, codes: Sequence[I64], rows: int) -> I64:
        """The leaf that each of `rows` rows falls into [B].

        Args:
            codes: of all columns before this one, [B] each.
            rows: how many; there may be no column before.
        """
        at_B: I64 = np.zeros(rows, dtype=np.int64)
        if len(self.feature_N) == 1:
            return at_B
        asked_PB = np.stack([_ordered(codes[p], r) for p, r in zip(self.predictors, self.ranks, strict=True)])
        going = np.arange(rows)
        while len(going):
            node = at_B[going]
            left = asked_PB[self.feature_N[node], going] <= self.threshold_N[node]
            at_B[going] = np.where(left, self.left_N[node], self.right_N[node])
            going = going[self.feature_N[at_B[going]] >= 0]
        return at_B

    def draw(self, leaf_B: I64, uniform_B: F64) -> tuple[I64, I64, F64]:
        """One training value of each leaf: its code, the next greater one in the leaf, and how far between them."""
        place_B = uniform_B * self.count_N[leaf_B]
        whole_B = np.minimum(place_B.astype(np.int64), self.count_N[leaf_B] - 1)
        next_B = np.minimum(whole_B + 1, self.count_N[leaf_B] - 1)
        first_B = self.first_N[leaf_B].astype(np.int64)
        between_B: F64 = place_B - whole_B
        return self.held[first_B + whole_B].astype(np.int64), self.held[first_B + next_B].astype(np.int64), between_B

    def share(self, leaf_B: I64, code_B: I64, kinds: int) -> F64:
        """The probability of each code in its leaf, with one value's weight spread over all `kinds` of codes."""
        # Leaves lie one after the other and are sorted within: (leaf's first place, code) is sorted as a whole.
        spread = np.int64(kinds + 1)
        places = np.repeat(self.first_N[self.count_N > 0], self.count_N[self.count_N > 0]).astype(np.int64)
        keys = np.sort(places * spread + self.held)
        asked_B = self.first_N[leaf_B].astype(np.int64) * spread + code_B
        seen_B = np.searchsorted(keys, asked_B, side="right") - np.searchsorted(keys, asked_B, side="left")
        found: F64 = (np.where(code_B < 0, 0, seen_B) + 1 / kinds) / (self.count_N[leaf_B] + 1)
        return found


def grow(
    before: Mapping[int, I64],
    target_R: I64,
    *,
    unordered: Collection[int],
    classes: bool,
    missing: bool,
    leaf: int,
    seed: int,
) -> Leaves:
    """The tree of one column on the columns before.

    Args:
        before: the predictors' codes [R], by their place; none for a column that depends on nothing.
        target_R: codes of the column.
        unordered: which predictors have no order, by their place.
        classes: whether the column itself has no order.
        missing: whether code 0 stands for a missing value.
        leaf: the fewest training rows in a leaf.
        seed: of ties and of the projection of many classes.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if not before or len(target_R) < 2 * leaf or int(target_R.min()) == int(target_R.max()):
        return _bare(target_R)
    plain = classes and int(target_R.max()) < _CLASSES
    wanted_RT = np.empty((0, 0)) if plain else _targets(target_R, classes=classes, missing=missing, seed=seed)
    ranks = tuple(
        _order(_means(code, target_R if plain else wanted_RT), code) if place in unordered else np.empty(0, np.int32)
        for place, code in before.items()
    )
    asked_RP = np.stack([_ordered(c, r) for c, r in zip(before.values(), ranks, strict=True)], axis=1)
    asked_RP = asked_RP.astype(np.float32)  # what scikit-learn computes with; exact for codes below 2**24
    kind: Any = DecisionTreeClassifier if plain else DecisionTreeRegressor
    grown = kind(min_samples_leaf=leaf, random_state=seed % 2**32)
    grown.fit(asked_RP, target_R if plain else wanted_RT)
    return _flat(grown.tree_, grown.apply(asked_RP), target_R, tuple(before), ranks)


def _targets(target_R: I64, *, classes: bool, missing: bool, seed: int) -> F64:
    """What a regression tree predicts, as numbers [R, T]: many classes projected, others by rank."""
    kinds = int(target_R.max()) + 1
    if classes:
        # Squared distances between one-hot vectors survive a random projection (Johnson and Lindenstrauss 1984).
        made = np.random.default_rng([seed, kinds]).standard_normal((kinds, _PROJECTED))
        found: F64 = made[target_R] / np.sqrt(_PROJECTED)
        return found
    # Ranks, so that a few huge values do not decide all splits; ties share their mean rank.
    counts = np.bincount(target_R, minlength=kinds)
    rank_R = ((np.cumsum(counts) - counts / 2) / len(target_R))[target_R]
    if not missing:
        return rank_R[:, None]
    gone_R = target_R == 0
    here = rank_R[~gone_R].mean() if not gone_R.all() else 0.0
    return np.stack([np.where(gone_R, here, rank_R), gone_R.astype(np.float64)], axis=1)


def _means(code_R: I64, wanted: F64 | I64) -> F64:
    """What is predicted, on average for each code of a predictor [K, T]: shares of few classes, or numbers."""
    kinds = int(code_R.max()) + 1
    counts_K = np.maximum(1, np.bincount(code_R, minlength=kinds))
    if wanted.ndim == 1:
        classes = int(wanted.max()) + 1
        table = np.bincount(code_R * classes + wanted.astype(np.int64), minlength=kinds * classes)
        sums_KT = table.reshape(kinds, classes).astype(np.float64)
    else:
        sums_KT = np.stack([np.bincount(code_R, t, kinds) for t in wanted.T], axis=1)
    found: F64 = sums_KT / counts_K[:, None]
    return found


def _order(means_KT: F64, code_R: I64) -> I32:
    """The places of a predictor's codes [K] when they are ordered by what is to be predicted."""
    kinds = len(means_KT)
    counts = np.maximum(1, np.bincount(code_R, minlength=kinds))
    along_K = means_KT[:, 0]
    if means_KT.shape[1] > 1:
        centred = means_KT - np.average(means_KT, axis=0, weights=counts)
        _, directions = np.linalg.eigh((centred * counts[:, None]).T @ centred)
        main = directions[:, -1]
        along_K = centred @ (main * np.sign(main[np.abs(main).argmax()]))  # the sign is free: fix it
    places = np.empty(kinds, dtype=np.int32)
    places[np.argsort(along_K, kind="stable")] = np.arange(kinds, dtype=np.int32)
    return places


def _ordered(code_B: I64, ranks: I32) -> I64:
    return ranks[code_B].astype(np.int64) if len(ranks) else code_B


def _flat(tree: Any, leaf_R: I64, target_R: I64, predictors: tuple[int, ...], ranks: tuple[I32, ...]) -> Leaves:
    """scikit-learn's tree, and what was seen in its leaves."""
    inner = tree.children_left >= 0
    counts = np.bincount(leaf_R, minlength=tree.node_count)
    order = np.lexsort((target_R, leaf_R))
    used = np.unique(tree.feature[inner])
    place = np.full(len(predictors), -1, dtype=np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    return Leaves(
        predictors=tuple(predictors[u] for u in used),
        ranks=tuple(ranks[u] for u in used),
        feature_N=np.where(inner, place[np.maximum(tree.feature, 0)], -1).astype(np.int32),
        threshold_N=np.where(inner, tree.threshold, 0.0),
        left_N=np.where(inner, tree.children_left, 0).astype(np.int32),
        right_N=np.where(inner, tree.children_right, 0).astype(np.int32),
        first_N=np.where(counts > 0, np.cumsum(counts) - counts, 0).astype(np.int32),
        count_N=counts.astype(np.int32),
        held=target_R[order].astype(np.int32),
    )


def _bare(target_R: I64) -> Leaves:
    """One leaf that holds everything."""
    nothing = np.zeros(1, dtype=np.int32)
    count = np.array([len(target_R)], dtype=np.int32)
    held = np.sort(target_R).astype(np.int32)
    return Leaves((), (), nothing - 1, np.zeros(1), nothing, nothing.copy(), nothing.copy(), count, held)
