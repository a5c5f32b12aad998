"""Rows as sequences of ids, one or two a column, for networks that learn tokens.

A row has a fixed number of ids: the start (0), one for a categorical value, one or two for a number. Each
position has ids of its own, so that `ranges[i]`, the ids allowed at position i of the sequence (the start is
position 0), is all that a sampler needs.

A number with few different values has one id for each. Others are cut into quantile bins, each bin into finer
ones: the first id is the bin, the second the finer one. Values that fill a bin alone have it alone. A finer bin
comes back as a point between its smallest and largest value, told by a hash of the row's ids: the same ids are
always the same row. Missing is an id of the first position; the second is then the lowest.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import DataError
from volant.core.sample import Sample
from volant.core.spaces import Encoded, Space, Tokens
from volant.modalities.table_columns import Columns
from volant.modalities.table_decoding import TableCodec
from volant.modalities.table_rows import row_of

START = 0


@dataclass(frozen=True)
class Bins:
    """How one column is cut.

    Attributes:
        lows, highs: smallest and largest value of each finest bin, ascending.
        of: the first position's bin of each finest one; empty where all are first ones.
        count: bins of the first position, missing not counted.
        fine: ids of the second position; 0 for none.
        missing: whether the first position has an id for it, after the bins.
    """

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    of: tuple[int, ...]
    count: int
    fine: int
    missing: bool


class TokensCodec(TableCodec):
    """Rows as sequences of ids.

    Attributes:
        space: `Tokens`; its length is that of every row, the start counted.
        ranges: the ids [low, high) at each position of the sequence; that of the start is (0, 1).
        start: the id that every row begins with.
    """

    def __init__(self, columns: Columns, bins: Sequence[Bins]) -> None:
        super().__init__(columns)
        self._bins = tuple(bins)
        self.start = START
        ranges, at = [(START, START + 1)], START + 1
        for one in self._bins:
            for count in (one.count + one.missing, one.fine):
                if count:
                    ranges.append((at, at + count))
                    at += count
        self.ranges: tuple[tuple[int, int], ...] = tuple(ranges)
        self.space: Space = Tokens(at, len(ranges))
        firsts = {one: [bisect.bisect_left(one.of, first) for first in range(one.count)] for one in set(self._bins)}
        self._first = [firsts[one] for one in self._bins]

    def encode(self, sample: Sample) -> Encoded:
        """A row as ids, the start first; the loss counts all others."""
        values = self.columns.filled(self.columns.encoded([row_of(sample)]))[0].tolist()
        ids, place = [START], 1
        for value, one, first in zip(values, self._bins, self._first, strict=True):
            coarse, fine = one.count, 0
            if value == value:
                finest = min(bisect.bisect_left(one.highs, value), len(one.highs) - 1)
                coarse = one.of[finest] if one.of else finest
                fine = finest - first[coarse]
            ids.append(self.ranges[place][0] + coarse)
            place += 1
            if one.fine:
                ids.append(self.ranges[place][0] + fine)
                place += 1
        return Encoded(ids, [False] + [True] * (len(ids) - 1))

    def decode(self, values: Any, condition: str = "") -> Sample:
        """Ids as a row; the start may be left out.

        Raises:
            DataError: there are more or fewer than a row has, or one stands where it may not.
        """
        ids = [int(i) for i in values]
        ids = ids if ids[:1] == [START] else [START, *ids]
        if len(ids) != len(self.ranges) or not all(
            low <= i < high for i, (low, high) in zip(ids, self.ranges, strict=True)
        ):
            raise DataError(
                f"{len(ids)} ids are no row: it has {len(self.ranges)}, each from the range of its position.",
                fix="Draw with the codec's `ranges`.",
            )
        told = hashlib.blake2b(np.asarray(ids, np.int64).tobytes(), digest_size=8).digest()
        share_D = np.random.default_rng(int.from_bytes(told, "little")).random(len(self._bins)).tolist()
        found, place = [], 1
        for one, first, share in zip(self._bins, self._first, share_D, strict=True):
            coarse = ids[place] - self.ranges[place][0]
            fine = ids[place + 1] - self.ranges[place + 1][0] if one.fine else 0
            place += 2 if one.fine else 1
            if coarse == one.count:
                found.append(np.nan)
                continue
            # A bin with fewer finer ones than others: the last one stands for what it has not.
            last = (first[coarse + 1] if coarse + 1 < one.count else len(one.highs)) - 1
            finest = min(first[coarse] + fine, last) if one.of else coarse
            low, high = one.lows[finest], one.highs[finest]
            found.append(min(high, max(low, low * (1 - share) + high * share)))
        return self._sample(found, condition)

    def _body(self) -> dict[str, Any]:
        bins = [
            {**vars(one), "lows": list(one.lows), "highs": list(one.highs), "of": list(one.of)} for one in self._bins
        ]
        return {"space": "tokens", "bins": bins}


def cut(values_N: NDArray[np.float64], bins: int, fine: int, missing: bool) -> Bins:
    """A column's values as bins of about the same weight, each cut again."""
    unique, counts = np.unique(values_N, return_counts=True)
    if len(unique) <= bins:
        exact = tuple(unique.tolist())
        return Bins(exact, exact, (), len(exact), 0, missing)
    lows: list[float] = []
    highs: list[float] = []
    of: list[int] = []
    widest = 1
    coarse = _runs(counts, bins)
    for index, (start, stop) in enumerate(coarse):
        finer = _runs(counts[start:stop], fine)
        widest = max(widest, len(finer))
        for low, high in finer:
            lows.append(float(unique[start + low]))
            highs.append(float(unique[start + high - 1]))
            of.append(index)
    return Bins(tuple(lows), tuple(highs), tuple(of), len(coarse), widest if widest > 1 else 0, missing)


def _runs(counts: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """At most `most` runs of neighbours [start, stop) of about equal weight; a heavy one stands alone."""
    if len(counts) <= most:
        return [(i, i + 1) for i in range(len(counts))]
    found: list[tuple[int, int]] = []
    start, weight, left, total = 0, 0, most, int(counts.sum())
    for index, count in enumerate(counts.tolist()):
        share = total / left if left else total
        if left > 1 and weight and weight + count > share and count >= share and len(found) < most - 2:
            # Close what came before, so that the heavy value does not share its bin.
            found.append((start, index))
            start, total, left, weight = index, total - weight, left - 1, 0
            share = total / left
        weight += count
        if weight >= share and left > 1:
            found.append((start, index + 1))
            start, total, left, weight = index + 1, total - weight, left - 1, 0
    if start < len(counts):
        found.append((start, len(counts)))
    return found
