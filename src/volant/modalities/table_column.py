"""One column of a table: what fitting finds of it, its values as floats, and floats as its values.

In goes what was gathered of a column; out comes `Fitted`, and with it the functions between a row's values and
float64: numbers as they are, dates as days since 1970, categories as an index by falling frequency.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import DataError
from volant.core.spaces import Column
from volant.modalities.table_gathered import Gathered
from volant.modalities.table_kinds import text_of
from volant.modalities.table_rules import days_of

Matrix = NDArray[np.float64]
MOST_CATEGORIES = 10_000


@dataclass(frozen=True)
class Fitted:
    """One column.

    Attributes:
        low, high: smallest and largest encoded value.
        missing: whether training rows lack it.
        fill: what stands in where the network knows no missing value: the median, or the most frequent value.
        categories: the values that have an index of their own, most frequent first.
        tail: the rarer ones, which share the index after them, with their counts.
        decimals: of numbers, at most; -1 where they have more than six.
        timed: whether dates have a time of day.
        start, prefix: of fresh ids: ints from `start` on, or texts `prefix` + number.
        empty: a declared column without any value; it stays empty and is not learnt.
    """

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    missing: bool = False
    fill: float = 0.0
    categories: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    tail_counts: tuple[int, ...] = ()
    decimals: int = -1
    timed: bool = False
    start: int = 1
    prefix: str = ""
    empty: bool = False

    @property
    def learnt(self) -> bool:
        """Whether it is in the matrix."""
        return self.kind != "id" and not self.empty

    @property
    def column(self) -> Column:
        """As the space has it."""
        kind = cast(Any, self.kind)
        count = len(self.categories) + bool(self.tail)
        return Column(kind, count if self.kind == "categorical" else 0, self.low, self.high, self.missing)


def fitted(column: Gathered, kind: str, count: int, declared: bool, max_categories: int) -> Fitted:
    """A column as fitted.

    Args:
        column: what was gathered.
        kind: declared or found.
        count: rows.
        declared: whether the kind is declared; only then a column may be empty.
        max_categories: values that get an index of their own.

    Raises:
        DataError: it has no value, too many, or values of another kind.
    """
    missing = column.count < count
    if not column.count:
        if not declared:
            raise DataError(
                f"column {column.name!r} has no value in any of {count:,} rows.",
                fix=f"Remove it, or declare its kind to keep it empty: types: {{{column.name}: categorical}}.",
            )
        return Fitted(column.name, kind, missing=True, empty=True)
    if kind == "id":
        start, prefix = column.fresh()
        return Fitted(column.name, kind, missing=missing, start=start, prefix=prefix)
    if kind == "categorical":
        return _fitted_texts(column, missing, max_categories)
    values = column.days() if kind == "date" else column.values()
    if kind == "integer" and (values != np.rint(values)).any():
        raise DataError(f"column {column.name!r} is declared integer and holds fractions.", fix="Declare it numeric.")
    fill = float(np.sort(values)[len(values) // 2])
    low, high = float(values.min()), float(values.max())
    timed = kind == "date" and bool((values != np.floor(values)).any())
    decimals = _decimals(values) if kind == "numeric" else -1
    return Fitted(column.name, kind, low, high, missing, fill, decimals=decimals, timed=timed)


def _fitted_texts(column: Gathered, missing: bool, most: int) -> Fitted:
    counts = column.texts()
    if len(counts) > MOST_CATEGORIES:
        raise DataError(
            f"column {column.name!r} has {len(counts):,} different values; a categorical column may have "
            f"{MOST_CATEGORIES:,}.",
            fix=f"Declare it an id, which is not learnt (types: {{{column.name}: id}}), or group its values first.",
        )
    ordered = sorted(counts, key=lambda text: (-counts[text], text))
    # A tail of one is that value itself.
    most = most if len(ordered) > most + 1 else len(ordered)
    tail = tuple(ordered[most:])
    return Fitted(
        column.name, "categorical", 0.0, float(most if tail else most - 1), missing,
        categories=tuple(ordered[:most]), tail=tail, tail_counts=tuple(counts[text] for text in tail),
    )  # fmt: skip


def _decimals(values: Matrix) -> int:
    with np.errstate(all="ignore"):  # huge numbers overflow on the way and then differ, as they should
        for decimals in range(7):
            # A decimal number is the double nearest to it, and so is what rounding gives: equal, not just close.
            if (np.round(values, decimals) == values).all():
                return decimals
    return -1


def rounded(value: float, decimals: int) -> float:
    """A number with at most so many decimals; -1 leaves it."""
    return value if decimals < 0 else round(value, decimals)


def reader(column: Fitted) -> Any:
    """The function from a row's value to its float."""
    nan = math.nan
    if column.kind == "categorical":
        codes: dict[Any, float] = {text: float(index) for index, text in enumerate(column.categories)}
        codes.update({text: float(len(column.categories)) for text in column.tail})
        codes[None] = nan
        unseen = float(len(column.categories)) if column.tail else nan

        def code(value: Any) -> float:
            # True is 1 and 1.0 is 1 as a key, so only texts are looked up as they are.
            known = value if value is None or type(value) is str else text_of(value)
            return codes.get(known, unseen)

        return code
    if column.kind == "date":

        def days(value: Any) -> float:
            found = nan if value is None else days_of(value) if isinstance(value, str) else None
            return found if found is not None else _wrong(column, value)

        return days

    def number(value: Any) -> float:
        kind = type(value)
        if kind is float or kind is int:
            return value  # type: ignore[no-any-return]
        return nan if value is None else _wrong(column, value)

    return number


def _wrong(column: Fitted, value: Any) -> float:
    raise DataError(
        f"column {column.name!r} is {column.kind} and holds {str(value)[:40]!r}.",
        fix="Give all files of a table the same kinds: declare them in `types`.",
    )


def written(column: Fitted, values: list[float], matrix_ND: Matrix) -> list[Any]:
    """Encoded values as those of a row; `value != value` is NaN."""
    if column.kind == "integer":
        return [None if v != v else int(v) for v in values]
    if column.kind == "date":
        return [None if v != v else _iso(v, column.timed) for v in values]
    if column.kind == "numeric":
        decimals = column.decimals
        return [None if v != v else v if decimals < 0 else round(v, decimals) for v in values]
    known: tuple[str | None, ...] = (*column.categories, None)
    found: list[Any] = [None if v != v else known[int(v)] for v in values]
    if column.tail:
        edges = np.cumsum(column.tail_counts)
        for row in (row for row, v in enumerate(values) if v == len(column.categories)):
            told = hashlib.blake2b(matrix_ND[row].tobytes() + column.name.encode("utf-8", "replace"), digest_size=8)
            share = int.from_bytes(told.digest(), "little") / 2**64
            found[row] = column.tail[int(np.searchsorted(edges, share * edges[-1], side="right"))]
    return found


def _iso(days: float, timed: bool) -> str:
    if not timed:
        return str(np.datetime64(int(days), "D"))
    return str(np.datetime64(round(days * 86_400), "s"))


def fresh(column: Fitted, first: int, count: int) -> list[Any]:
    """So many ids that no training row has, the first of them number `first` (from 0)."""
    if not column.prefix:
        return list(range(column.start + first, column.start + first + count))
    return [f"{column.prefix}{number:06d}" for number in range(first + 1, first + count + 1)]
