"""Samples as one table: rows with all columns, the kind of each, and what is declared and known of their origin.

What delivery, the card, the preview and drift tests stand on. In go samples; out come plain values.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from volant.core.sample import Sample
from volant.modalities.source_type import SOURCE_TYPE
from volant.modalities.table_gathered import Gathered, declared_in, kind_of
from volant.modalities.table_kinds import text_of
from volant.modalities.table_rows import row_of
from volant.modalities.table_rules import days_of


@dataclass(frozen=True)
class Delivered:
    """Samples as a table.

    Attributes:
        rows: each with all columns, None where a value is missing.
        kinds: by column, in order; declared ones, else what the values show.
        declared: what the samples declare (`types`, `key`, `constraints`).
        columns: what was seen of each.
    """

    rows: list[dict[str, Any]]
    kinds: dict[str, str]
    declared: dict[str, Any]
    columns: dict[str, Gathered]


def table_of(samples: Sequence[Sample]) -> Delivered:
    """Samples as a table, columns in the order in which they come up."""
    declared: dict[str, Any] = {}
    columns: dict[str, Gathered] = {}
    found = []
    for sample in samples:
        if about := sample.attrs.get("table"):
            declared_in(about, declared)
        row = row_of(sample)
        for name, value in row.items():
            if name not in columns:
                columns[name] = Gathered(name)
            columns[name].add(value)
        found.append(row)
    types = declared.get("types", {})
    kinds = {name: types.get(name, kind_of(column)) for name, column in columns.items()}
    return Delivered([{name: row.get(name) for name in columns} for row in found], kinds, declared, columns)


def csv_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if (value := row.get(name)) is None else text_of(value) for name in columns])
    return text.getvalue()


def origins(samples: Sequence[Sample]) -> dict[str, Any]:
    """Who made the rows, on what terms: counts by origin, licences, models, and whether a machine did."""
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.source.origin] = counts.get(sample.source.origin, 0) + 1
    models = {sample.source.uri for sample in samples if sample.source.origin == "generated"}
    return {
        "ai_generated": "generated" in counts,
        "digital_source_type": SOURCE_TYPE if "generated" in counts else "",
        "origins": dict(sorted(counts.items())),
        "licences": sorted({sample.source.licence for sample in samples}),
        "models": sorted(models)[:20],
    }


def parts(samples: Sequence[Sample]) -> dict[str, list[float | str]]:
    """The columns as lists: floats (days for dates) with NaN, or texts with "", where a value is missing."""
    table = table_of(samples)
    found: dict[str, list[float | str]] = {}
    for name, kind in table.kinds.items():
        values = [row[name] for row in table.rows]
        if kind in ("numeric", "integer"):
            found[name] = [math.nan if not isinstance(v, int | float) else float(v) for v in values]
        elif kind == "date":
            found[name] = [math.nan if (days := days_of(str(v))) is None else days for v in values]
        elif kind == "categorical":
            found[name] = ["" if v is None else text_of(v) for v in values]
    return found
