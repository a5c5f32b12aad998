"""Rows of a table that repeat others: equal, equal in all columns but one, or with numbers that differ by little.

In go columns of values, rows in the order of their right to stay; out come pairs of rows that are held together, each
with the columns in which they differ. Nothing is quadratic: rows are compared only where all but the columns that may
differ are equal (a sum of hashes, from which a column is taken out again), along a number that both have nearly the
same. What was found is checked value by value.

Legend: N rows, D columns, M pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.store.mixing import mixed

Ids = NDArray[np.int64]
WINDOW = 64
"""With how many rows before it, in a block sorted by a number, a row is compared; and with the block's first."""


@dataclass(frozen=True)
class Alike:
    """A later row, the earlier one that it repeats, and the columns in which they differ."""

    later: int
    earlier: int
    differ: tuple[str, ...]


class Rows:
    """Columns made comparable: codes of equal values, and numbers where a column holds numbers alone.

    Args:
        columns: by name, each with one value a row; None is a value like others.
        tolerance: share (0 to 1) of a column's range by which two numbers may differ and still count as equal.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]], tolerance: float) -> None:
        self.names = list(columns)
        self.count = len(next(iter(columns.values()), ()))
        self._codes: list[Ids] = []
        self._numbers: dict[int, tuple[NDArray[np.float64], float]] = {}
        for place, values in enumerate(columns.values()):
            known: dict[str, int] = {}
            told = (json.dumps(value, sort_keys=True, ensure_ascii=False) for value in values)
            self._codes.append(np.array([known.setdefault(text, len(known)) for text in told], np.int64))
            given = [value for value in values if value is not None]
            if tolerance and given and all(isinstance(v, int | float) and not isinstance(v, bool) for v in given):
                number_N = np.array([np.nan if value is None else float(value) for value in values])
                reach = float(np.nanmax(number_N) - np.nanmin(number_N)) * tolerance
                self._numbers[place] = number_N, reach * (1 + 1e-9)
        self._hashes = [_mixed(code_N, place) for place, code_N in enumerate(self._codes)]

    def equal(self) -> Iterator[Alike]:
        """Rows that are equal to an earlier one in every column."""
        first: dict[int, int] = {}
        total_N = sum(self._hashes, np.zeros(self.count, np.uint64))
        for at, key in enumerate(total_N.tolist()):
            earlier = first.setdefault(key, at)
            if earlier != at and all(code_N[earlier] == code_N[at] for code_N in self._codes):
                yield Alike(at, earlier, ())

    def near(self, rows_N: Ids, differ: int) -> list[Alike]:
        """Pairs among these rows that differ in at most so many columns, by the later row and then the earlier one.

        Args:
            differ: 0 or 1.
        """
        ways = range(len(self.names)) if differ else [-1]
        key_M = np.unique(np.concatenate([self._candidates(rows_N, left_out) for left_out in ways]))
        later_M, earlier_M = (key_M >> np.int64(32)), key_M & np.int64(0xFFFFFFFF)
        unequal_MD = np.stack([~self._same(place, earlier_M, later_M) for place in range(len(self.names))], axis=1)
        held_M = unequal_MD.sum(axis=1) <= differ
        return [
            Alike(later, earlier, tuple(name for name, other in zip(self.names, unequal, strict=True) if other))
            for later, earlier, unequal in zip(
                later_M[held_M].tolist(), earlier_M[held_M].tolist(), unequal_MD[held_M].tolist(), strict=True
            )
        ]

    def _same(self, place: int, one_M: Ids, other_M: Ids) -> NDArray[np.bool_]:
        code_N = self._codes[place]
        same_M: NDArray[np.bool_] = code_N[one_M] == code_N[other_M]
        if place in self._numbers:
            number_N, reach = self._numbers[place]
            same_M |= np.abs(number_N[one_M] - number_N[other_M]) <= reach
        return same_M

    def _candidates(self, rows_N: Ids, left_out: int) -> Ids:
        """Pairs, `later << 32 | earlier`, equal in all but the column left out and numbers, and near in one number."""
        block_N = np.zeros(len(rows_N), np.uint64)
        for place, hash_N in enumerate(self._hashes):
            if place != left_out and place not in self._numbers:
                block_N += hash_N[rows_N]
        numeric = [place for place in self._numbers if place != left_out]
        along = max(numeric, key=lambda place: int(self._codes[place].max(initial=0)), default=-1)
        if along < 0:
            value_N, reach = np.zeros(len(rows_N)), 0.0
        else:
            value_N, reach = np.nan_to_num(self._numbers[along][0][rows_N], nan=-np.inf), self._numbers[along][1]
        order = np.lexsort((rows_N, value_N, block_N))
        block_N, value_N, row_N = block_N[order], value_N[order], rows_N[order]
        fresh_N = np.r_[True, block_N[1:] != block_N[:-1]] if len(block_N) else np.zeros(0, bool)
        first_N = np.maximum.accumulate(np.where(fresh_N, np.arange(len(block_N)), 0))
        found = [np.zeros(0, np.int64)]
        with np.errstate(invalid="ignore"):
            for back in range(1, min(WINDOW, len(row_N) - 1) + 1):
                near_N = (block_N[back:] == block_N[:-back]) & _within(value_N[back:], value_N[:-back], reach)
                if not near_N.any():
                    break
                found.append(_pairs(row_N[back:][near_N], row_N[:-back][near_N]))
            near_N = ~fresh_N & _within(value_N, value_N[first_N], reach)
            found.append(_pairs(row_N[near_N], row_N[first_N][near_N]))
        return np.unique(np.concatenate(found))


def _within(one_N: NDArray[np.float64], other_N: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    near_N: NDArray[np.bool_] = (one_N == other_N) | (np.abs(one_N - other_N) <= reach)
    return near_N


def _pairs(one_M: Ids, other_M: Ids) -> Ids:
    key_M: Ids = (np.maximum(one_M, other_M) << np.int64(32)) | np.minimum(one_M, other_M)
    return key_M


def _mixed(code_N: Ids, place: int) -> NDArray[np.uint64]:
    """SplitMix64's finaliser over code and column: sums of such hashes tell rows apart."""
    with np.errstate(over="ignore"):
        x = code_N.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(place + 1) * np.uint64(
            0xD1342543DE82EF95
        )
        return mixed(x)
