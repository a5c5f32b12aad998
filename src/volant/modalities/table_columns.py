"""The columns of a table as fitted on its training rows: rows as a matrix of float64 and back.

In go samples of shape `row`; out comes `Columns`: which columns there are, of which kind, in which range,
with which values. It travels with the model as `columns.json`.

* `numeric`, `integer`: as they are. `date`: days since 1970. `categorical`: an index by falling frequency; NaN is
  missing. Ids are not learnt: they stay out of the matrix and are numbered anew.
* A categorical column keeps its `max_categories` most frequent values; the rest share one index, which comes back
  as one of them, in proportion to their counts, told by a hash of the row. Above `MOST_CATEGORIES` values it is
  refused: such a column names things and is an `id`, or wants to be grouped first.
* Going back, numbers are held to the observed range and to the decimals of the data. A column that a declared
  equation determines (`a + b == total`) is reckoned from the others.

Legend: N rows, D learnt columns.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import ArtifactError, DataError
from volant.core.protocols import Column, Mixed
from volant.core.sample import Sample
from volant.modalities.table_columns_fit import Gathered, declared_in, kind_of
from volant.modalities.table_kinds import check_kinds, text_of
from volant.modalities.table_rules import Known, Rule, bind, days_of

Matrix = NDArray[np.float64]
MAX_CATEGORIES = 200
MOST_CATEGORIES = 10_000
FILE = "columns.json"
_CHUNK = 4096


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


def fit_columns(
    samples: Iterable[Sample],
    types: Mapping[str, str] | None = None,
    *,
    constraints: Sequence[str] = (),
    max_categories: int = MAX_CATEGORIES,
) -> Columns:
    """Find the columns of training rows.

    Args:
        samples: of shape `row`; what they declare in `attrs["table"]` holds.
        types: column to kind, before what the samples declare.
        constraints: beside those that the samples declare.
        max_categories: values of a categorical column that are learnt one by one.

    Raises:
        DataError: there is no row, a column has no value or too many, or nothing can be learnt.
        SettingError: a declared column or kind is not there.
    """
    gathered: dict[str, Gathered] = {}
    declared: dict[str, Any] = {}
    count = 0
    for sample in samples:
        if about := sample.attrs.get("table"):
            declared_in(about, declared)
        for name, value in json.loads(sample.content or "{}").items():
            if name not in gathered:
                gathered[name] = Gathered(name)
            gathered[name].add(value)
        count += 1
    if not count:
        raise DataError("there is no row to learn from.", fix="Check that the train split holds rows.")
    given = {**declared.get("types", {}), **(types or {})}
    given = check_kinds(
        {name: kind for name, kind in given.items() if name in gathered or name in (types or {})}, gathered
    )
    key = [name for name in declared.get("key", []) if name in gathered]
    rules = list(dict.fromkeys([*declared.get("constraints", []), *constraints]))
    single = {key[0]} if len(key) == 1 else set()
    found = tuple(
        _fitted(
            column,
            given.get(name) or ("id" if name in single else kind_of(column)),
            count,
            name in given,
            max_categories,
        )
        for name, column in gathered.items()
    )
    if not any(column.learnt for column in found):
        raise DataError("all columns are ids or empty; there is nothing to learn.", fix="Declare other `types`.")
    return Columns(found, types=given, key=key, constraints=rules)


def open_columns(folder: Path) -> Columns:
    """The columns that travel with a model.

    Raises:
        ArtifactError: `columns.json` is missing or damaged.
    """
    file = folder / FILE
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        known = {f.name for f in fields(Fitted)}
        found = tuple(
            Fitted(**{n: tuple(v) if isinstance(v, list) else v for n, v in column.items() if n in known})
            for column in body["columns"]
        )
        return Columns(found, types=body["types"], key=body["key"], constraints=body["constraints"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"the table's columns cannot be read: {error}", where=str(file), fix="Run `volant verify`."
        ) from error


class Columns:
    """Fitted columns.

    Attributes:
        all: every column in its order in a row.
        learnt: those in the matrix.
        names: of the learnt ones.
        space: what families see.
    """

    def __init__(
        self, found: Sequence[Fitted], *, types: Mapping[str, str], key: Sequence[str], constraints: Sequence[str]
    ) -> None:
        self.all = tuple(found)
        self.learnt = tuple(column for column in self.all if column.learnt)
        self.names = tuple(column.name for column in self.learnt)
        self.space = Mixed({column.name: column.column for column in self.learnt})
        self.types, self.key, self.constraints = dict(types), list(key), list(constraints)
        self.rules: tuple[Rule, ...] = tuple(bind(text, self.known) for text in self.constraints)
        self._low = np.array([column.low for column in self.learnt])
        self._high = np.array([column.high for column in self.learnt])
        self._fill = np.array([column.fill for column in self.learnt])
        self._whole = np.array(
            [c.kind in ("integer", "categorical") or (c.kind == "date" and not c.timed) for c in self.learnt]
        )
        self._read = [(column.name, _reader(column)) for column in self.learnt]

    @cached_property
    def known(self) -> dict[str, Known]:
        """What conditions may name."""
        return {
            c.name: Known(c.kind, frozenset(c.categories + c.tail) if c.kind == "categorical" and not c.empty else None)
            for c in self.all
        }

    @property
    def declared(self) -> dict[str, Any]:
        """What `attrs["table"]` of a row says; empty where nothing is declared."""
        parts = {"types": self.types, "key": self.key, "constraints": self.constraints}
        return {name: value for name, value in parts.items() if value}

    def matrix(self, samples: Iterable[Sample]) -> Matrix:
        """Rows as float64 [N, D]; NaN where a value is missing, or is a category that training had not.

        Raises:
            DataError: a value is of another kind than its column.
        """
        iterator, parts = iter(samples), []
        while chunk := [sample.content or "{}" for sample in islice(iterator, _CHUNK)]:
            parts.append(self.encoded(json.loads(f"[{','.join(chunk)}]")))
        return np.concatenate(parts) if parts else np.zeros((0, len(self.learnt)))

    def encoded(self, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        """Rows as dicts as float64 [N, D], as `matrix` does."""
        found = np.empty((len(rows), len(self.learnt)))
        for index, (name, read) in enumerate(self._read):
            found[:, index] = [read(row.get(name)) for row in rows]
        return found

    def filled(self, matrix_ND: Matrix) -> Matrix:
        """The same with no NaN in columns in which training rows never lacked a value."""
        never = np.array([not column.missing for column in self.learnt])
        return np.where(np.isnan(matrix_ND) & never, self._fill, matrix_ND)

    def rows(self, matrix_ND: Matrix, *, first: int = 0) -> list[dict[str, Any]]:
        """A matrix [N, D] as rows, ids numbered from `first` on.

        Numbers are brought into the observed range, whole ones rounded; NaN is None.
        """
        values_ND = np.clip(np.asarray(matrix_ND, np.float64), self._low, self._high)
        values_ND = np.where(self._whole, np.rint(values_ND), values_ND)
        count, place = len(values_ND), 0
        written: list[list[Any]] = []
        for column in self.all:
            if column.empty:
                written.append([None] * count)
            elif column.kind == "id":
                written.append(_fresh(column, first, count))
            else:
                written.append(_written(column, values_ND[:, place].tolist(), values_ND))
                place += 1
        names = [column.name for column in self.all]
        found = [dict(zip(names, row, strict=True)) for row in zip(*written, strict=True)]
        self._solve(found)
        return found

    def _solve(self, rows: list[dict[str, Any]]) -> None:
        """Reckon what a declared equation determines."""
        by_name = {column.name: column for column in self.all}
        for rule in self.rules:
            if rule.value is None or by_name[rule.target].empty:
                continue
            column = by_name[rule.target]
            for row in rows:
                value = rule.value(row) if row[rule.target] is not None else None
                if value is not None:
                    row[rule.target] = round(value) if column.kind == "integer" else _rounded(value, column.decimals)

    def save(self, folder: Path) -> None:
        """Write `columns.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        body = {
            "columns": [asdict(column) for column in self.all],
            "types": self.types, "key": self.key, "constraints": self.constraints,
        }  # fmt: skip
        text = json.dumps(body, ensure_ascii=False, indent=1, allow_nan=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")


# --- one column --------------------------------------------------------------------------------


def _fitted(column: Gathered, kind: str, count: int, declared: bool, max_categories: int) -> Fitted:
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
    for decimals in range(7):
        # A decimal number is the nearest double of its text, so a right guess differs by rounding error only.
        if (np.abs(np.round(values, decimals) - values) <= 1e-12 * np.maximum(1.0, np.abs(values))).all():
            return decimals
    return -1


def _rounded(value: float, decimals: int) -> float:
    return value if decimals < 0 else round(value, decimals)


def _reader(column: Fitted) -> Any:
    """The function from a row's value to its float."""
    nan = math.nan
    if column.kind == "categorical":
        codes: dict[Any, float] = {text: float(index) for index, text in enumerate(column.categories)}
        codes.update({text: float(len(column.categories)) for text in column.tail})
        codes[None] = nan

        def code(value: Any) -> float:
            # True is 1 and 1.0 is 1 as a key, so only texts are looked up as they are.
            known = value if value is None or type(value) is str else text_of(value)
            return codes.get(known, nan)

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


def _written(column: Fitted, values: list[float], matrix_ND: Matrix) -> list[Any]:
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


def _fresh(column: Fitted, first: int, count: int) -> list[Any]:
    if not column.prefix:
        return list(range(column.start + first, column.start + first + count))
    return [f"{column.prefix}{number:06d}" for number in range(first + 1, first + count + 1)]
