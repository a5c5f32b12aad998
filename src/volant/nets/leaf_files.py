"""Trees as arrays that safetensors holds, and back.

What enters: the values of each column and its tree. What leaves: a dozen arrays, those of all columns end to end
with their lengths beside them. Reading follows no number that it has not checked, since a file from elsewhere may
hold anything: a child's number is greater than its parent's (so no walk runs in circles), and every place that a
node, a leaf or a code names exists.

Shape legend: C columns, P predictors of all columns, N nodes of all columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from volant.nets.leaves import F64, Leaves

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
_NODES = ("feature", "threshold", "left", "right", "first", "count")


def write(seen: Sequence[F64], trees: Sequence[Leaves]) -> Arrays:
    """The arrays by name."""
    ranks = [r for t in trees for r in t.ranks]
    found: Arrays = {
        "seen": np.concatenate(list(seen)),
        "seen_C": _lengths(seen),
        "predictors": np.array([p for t in trees for p in t.predictors], dtype=np.int32),
        "predictors_C": _lengths([t.predictors for t in trees]),
        "ranks": np.concatenate([np.empty(0, np.int32), *ranks]),
        "ranks_P": _lengths(ranks),
        "nodes_C": _lengths([t.feature_N for t in trees]),
        "held": np.stack([t.held for t in trees]),
    }
    for name in _NODES:
        found[name] = np.concatenate([getattr(t, f"{name}_N") for t in trees])
    if found["held"].max() < 2**16:
        found["held"] = found["held"].astype(np.uint16)
    return found


def read(arrays: Mapping[str, Any]) -> tuple[list[F64], list[Leaves]]:
    """The columns' values and trees.

    Raises:
        ValueError: a number points nowhere.
        KeyError: an array is missing.
    """
    seen = _cut(arrays["seen"], arrays["seen_C"])
    predictors = _cut(arrays["predictors"], arrays["predictors_C"])
    ranks = iter(_cut(arrays["ranks"], arrays["ranks_P"]))
    nodes = {name: _cut(arrays[name], arrays["nodes_C"]) for name in _NODES}
    held = arrays["held"].astype(np.int32)
    _expect(held.ndim == 2 and len(held) == len(seen) == len(predictors) == len(nodes["feature"]), "columns")
    _expect(len(arrays["ranks_P"]) == len(arrays["predictors"]), "ranks")
    trees = []
    for column, values in enumerate(seen):
        chosen = tuple(int(p) for p in predictors[column])
        of_column = {f"{name}_N": nodes[name][column] for name in _NODES}
        tree = Leaves(chosen, tuple(next(ranks) for _ in chosen), held=held[column], **of_column)
        _check(tree, column, [len(s) for s in seen], len(values))
        trees.append(tree)
    return seen, trees


def _check(tree: Leaves, column: int, sizes: Sequence[int], kinds: int) -> None:
    """Whether every number of a tree points to something."""
    nodes, rows = len(tree.feature_N), len(tree.held)
    inner = tree.feature_N >= 0
    here = np.arange(nodes)
    leaves = ~inner
    _expect(nodes > 0 and kinds > 0, f"column {column} is empty")
    _expect(all(0 <= p < column for p in tree.predictors), f"column {column} looks at one that is not before it")
    _expect(bool((tree.feature_N < len(tree.predictors)).all()), f"features of column {column}")
    for below in (tree.left_N, tree.right_N):
        _expect(bool(((below[inner] > here[inner]) & (below[inner] < nodes)).all()), f"nodes of column {column}")
    last = tree.first_N[leaves].astype(np.int64) + tree.count_N[leaves]
    _expect(bool((tree.count_N[leaves] > 0).all() and (tree.first_N >= 0).all()), f"leaves of column {column}")
    _expect(bool((last <= rows).all()), f"leaves of column {column}")
    _expect(bool((tree.held >= 0).all() and (tree.held < kinds).all()), f"codes of column {column}")
    for predictor, ranks in zip(tree.predictors, tree.ranks, strict=True):
        _expect(len(ranks) in (0, sizes[predictor]), f"ranks of column {column}")


def _lengths(parts: Sequence[Any]) -> npt.NDArray[np.int64]:
    return np.array([len(p) for p in parts], dtype=np.int64)


def _cut(whole: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[Any]]:
    _expect(bool((lengths >= 0).all()) and int(lengths.sum()) == len(whole), "lengths")
    return np.split(whole, np.cumsum(lengths)[:-1]) if len(lengths) else []


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"numbers that point nowhere ({what})")
