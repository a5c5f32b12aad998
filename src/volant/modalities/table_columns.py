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

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Sample
from volant.core.spaces import Mixed
from volant.modalities.table_column import Fitted, Matrix, fitted, fresh, reader, rounded, written
from volant.modalities.table_gathered import Gathered, declared_in, kind_of
from volant.modalities.table_kinds import check_kinds
from volant.modalities.table_rules import Known, Rule, bind

MAX_CATEGORIES = 200
FILE = "columns.json"
_CHUNK = 4096


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
        fitted(
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
            Fitted(**{n: tuple(v) if isinstance(v, list) else v for n, v in column.items() if n in known})  # type: ignore[arg-type]
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
        self._read = [(column.name, reader(column)) for column in self.learnt]

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
        """Rows as float64 [N, D]; NaN where a value is missing, or is a category that training
        had not (where rare ones share an index, it is one of them).

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
        found: list[list[Any]] = []
        for column in self.all:
            if column.empty:
                found.append([None] * count)
            elif column.kind == "id":
                found.append(fresh(column, first, count))
            else:
                found.append(written(column, values_ND[:, place].tolist(), values_ND))
                place += 1
        names = [column.name for column in self.all]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*found, strict=True)]
        self._solve(rows)
        return rows

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
                    row[rule.target] = round(value) if column.kind == "integer" else rounded(value, column.decimals)

    def save(self, folder: Path) -> None:
        """Write `columns.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        body = {
            "columns": [asdict(column) for column in self.all],
            "types": self.types, "key": self.key, "constraints": self.constraints,
        }  # fmt: skip
        text = json.dumps(body, ensure_ascii=False, indent=1, allow_nan=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")
