"""The modality table: rows of mixed columns, with kinds, missing values, a key and constraints.

Everything that stages need to know of tables, by name, behind the protocol of `core.protocols.Modality`.
The work is in the files beside this one: `table_files` and `table_rows` (reading), `table_kinds` (cells),
`table_constraints` and `table_rules` (what rows have to keep), `table_columns`, `table_codec` and `table_tokens`
(numbers and ids), `table_likeness`, `table_delivery` and `table_card` (handing out), `table_route` (serving).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import DataError
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal, Route
from volant.core.sample import Sample, Source
from volant.modalities import (
    table_card,
    table_codec,
    table_delivered,
    table_delivery,
    table_likeness,
    table_route,
    table_rows,
)
from volant.modalities.table_decoding import MixedCodec
from volant.modalities.table_kinds import EXACT, MOST_CELL, iso_date, value_of
from volant.modalities.table_rules import Known, Rule, bind
from volant.modalities.table_source import MOST_COLUMNS
from volant.modalities.table_tokens import TokensCodec


class Table:
    """Rows of a table, behind the protocol of a modality."""

    name = "table"
    version = 1
    media_type = "text/csv"
    shapes: tuple[str, ...] = ("row",)

    def load(self, file: OutsideFile, source: Source, **options: Any) -> Iterator[Sample | Refusal]:
        """Rows of one CSV, TSV, Parquet, JSON or JSON lines file; see `table_rows.Declared` for the options.

        Raises:
            SettingError: an option is unknown, or names a column that is not there.
            DataError: a column has no value at all, or a constraint cannot be read.
        """
        yield from table_rows.load(file, source, table_rows.declared_from(options))

    def check_reading(self, options: Mapping[str, Any]) -> None:
        """Refuse options of `load` that mean nothing, before a file is read.

        Raises:
            SettingError: there is no such option, or none of that value.
        """
        table_rows.declared_from(options)

    def check(self, sample: Sample) -> list[str]:
        """What is wrong with a row, in words: its values, its declared kinds and constraints."""
        if sample.shape != "row":
            return [f"its shape {sample.shape!r} is not one of a table's: row"]
        try:
            row = table_rows.row_of(sample)
        except DataError as error:
            return [error.what]
        problems = _problems(row)
        about = sample.attrs.get("table", {})
        types: Mapping[str, str] = about.get("types", {})
        for name, kind in types.items():
            try:
                value_of(row.get(name), kind, whole_ids=False)
            except ValueError as reason:
                problems.append(f"its {name} {reason}")
        return problems or _broken(row, types, about.get("constraints", []))

    def fingerprint(self, sample: Sample) -> Sequence[int]:
        """128 numbers: equal ones / 128 is the share of columns that two rows have in common."""
        return table_likeness.fingerprint(table_rows.row_of(sample))

    def spaces(self) -> tuple[str, ...]:
        """A row is one float a column, or a fixed number of tokens."""
        return ("mixed", "tokens")

    def codec(self, samples: Iterable[Sample], **options: Any) -> MixedCodec | TokensCodec:
        """Fit a codec (`space`, `types`, `constraints`, `max_categories`, `bins`, `fine`)."""
        return table_codec.fit_codec(samples, **options)

    def open_codec(self, folder: Path) -> MixedCodec | TokensCodec:
        """The codec in a model directory, whichever of both it is."""
        return table_codec.open_codec(folder)

    def features(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Hashed columns and values as float32 [n, 256]; needs no fit. Declared ids are left out."""
        return table_likeness.features([_without_ids(sample) for sample in samples])

    def parts(self, samples: Sequence[Sample]) -> Mapping[str, Sequence[float | str]]:
        """The columns that are not ids: floats (days for dates; NaN is missing), or texts ("" is missing)."""
        return table_delivered.parts(samples)

    def preview(self, samples: Sequence[Sample]) -> str:
        """A few rows with a histogram above each column, as an HTML fragment."""
        return table_card.preview(samples)

    def forms(self) -> Mapping[str, str]:
        """Tables that programs open, and a card for people."""
        return {"csv": ".csv", "parquet": ".parquet", "json": ".json", "jsonl": ".jsonl", "card": ".html"}

    def deliver(self, samples: Sequence[Sample], form: str) -> bytes:
        """Rows as `csv`, `parquet`, `json` or `jsonl`, readable by `load` again; `card` is the quality card."""
        return table_delivery.deliver(samples, form)

    def baselines(self) -> Mapping[str, tuple[str, dict[str, Any]]]:
        """A sequential tree sampler, and columns drawn each for itself."""
        return {"cart": ("tree", {"leaf": 20}), "marginals": ("tree", {"independent": True})}

    def scorers(self) -> Sequence[str]:
        """Fidelity first, then use, privacy and rules."""
        return (
            "marginals", "pair_correlations", "tstr", "c2st", "row_coverage", "closest_share", "membership",
            "violations",
        )  # fmt: skip

    def gates(self) -> Sequence[str]:
        """Fidelity, diversity and memorisation on one set of rows."""
        return ("c2st", "row_coverage", "closest_share")

    def api(self) -> Mapping[str, str | Route]:
        """Rows on request."""
        return {table_route.PATH: table_route.ROUTE}


def _without_ids(sample: Sample) -> dict[str, Any]:
    types = sample.attrs.get("table", {}).get("types", {})
    return {name: value for name, value in table_rows.row_of(sample).items() if types.get(name) != "id"}


def _problems(row: Mapping[str, Any]) -> list[str]:
    if len(row) > MOST_COLUMNS:
        return [f"it has {len(row):,} columns; a table may have {MOST_COLUMNS:,}"]
    if all(value is None for value in row.values()):
        return ["it has no value in any column"]
    found = []
    for name, value in row.items():
        if not name.strip() or not name.isprintable():
            found.append(f"a column is named {name[:40]!r}")
        if isinstance(value, str):
            if len(value) > MOST_CELL or "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
                found.append(f"its {name} holds a NUL, half a surrogate pair, or more than {MOST_CELL:,} characters")
        elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) < math.inf):
            found.append(f"its {name} is {value}; a number has to be finite")
        elif isinstance(value, int) and abs(value) > EXACT:
            found.append(f"its {name} is {value}, beyond the whole numbers that are kept exactly")
        elif not isinstance(value, int | float | None):
            found.append(f"its {name} is no plain value")
    return found


def _broken(row: Mapping[str, Any], types: Mapping[str, str], constraints: Sequence[str]) -> list[str]:
    """The declared constraints that a row breaks; what it lacks a column for cannot be told."""
    found = []
    kinds = tuple((name, types.get(name) or _kind(value)) for name, value in row.items())
    for text in constraints:
        rule = _bound(text, kinds)
        if rule is not None and rule.broken(row):
            found.append(f"it breaks {rule.said(row)}")
    return found


@lru_cache(maxsize=1024)
def _bound(text: str, kinds: tuple[tuple[str, str], ...]) -> Rule | None:
    """None where it cannot be told: a missing value does not say its kind. Codecs know the kinds, and are strict."""
    try:
        return bind(text, {name: Known(kind) for name, kind in kinds})
    except DataError:
        return None


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "date" if iso_date(value) == value else "categorical"
    return "numeric"


modality = Table()
