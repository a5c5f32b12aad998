"""Rows handed out: CSV, Parquet and JSON that pandas and `load` read, with the types kept.

In go samples; out come bytes. The rows hold data only: that a machine made them stands in the Parquet file's
metadata and in the card (`table_card`), not in a column. Parquet has real types (int64, float64, date32,
timestamps, strings). CSV has none to give: whole numbers without a point, floats with one, ISO dates, nothing
where a value is missing; the card states the call that gives pandas the types back.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.sample import Sample
from volant.modalities.table_card import card
from volant.modalities.table_delivered import Delivered, csv_of, origins, table_of
from volant.modalities.table_files import METADATA
from volant.modalities.table_gathered import Gathered
from volant.modalities.table_kinds import text_of

SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "json": ".json", "jsonl": ".jsonl", "card": ".md"}


def deliver(samples: Sequence[Sample], form: str) -> bytes:
    """Samples in one of the forms of `SUFFIXES`.

    Raises:
        SettingError: an unknown form.
        DataError: a column holds both numbers and texts, which Parquet cannot.
    """
    if form not in SUFFIXES:
        raise SettingError(f"rows are not delivered as {form!r}.", where="form", fix=did_you_mean(form, SUFFIXES))
    if form == "jsonl":
        return "".join(f"{sample.content}\n" for sample in samples).encode("utf-8", "replace")
    table = table_of(samples)
    if form == "json":
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in table.rows)
        return f"[\n{lines}\n]\n".encode("utf-8", "replace")
    if form == "csv":
        return csv_of(table.rows, list(table.kinds)).encode("utf-8", "replace")
    if form == "parquet":
        return _parquet(table, samples)
    return card(table, samples).encode("utf-8", "replace")


def _parquet(table: Delivered, samples: Sequence[Sample]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays, fields = [], []
    for name, kind in table.kinds.items():
        values = [row[name] for row in table.rows]
        try:
            arrays.append(_array(values, kind, table.columns[name]))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(
                f"column {name!r} is {kind} and holds other values: {str(error).splitlines()[0]}",
                fix="Declare its kind in `types`, or deliver JSON.",
            ) from error
        fields.append(pa.field(name, arrays[-1].type))
    about = {**origins(samples), "types": table.kinds}
    schema = pa.schema(fields, metadata={METADATA: json.dumps(about, ensure_ascii=False, sort_keys=True).encode()})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink)
    return sink.getvalue()


def _array(values: Sequence[Any], kind: str, column: Gathered) -> Any:
    import pyarrow as pa

    if kind == "integer" or (kind == "id" and column.only_numbers and column.whole):
        return pa.array(values, pa.int64())
    if kind == "numeric":
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kind == "date":
        if any(value is not None and "T" in value for value in values):
            moments = [None if value is None else datetime.fromisoformat(value) for value in values]
            return pa.array(moments, pa.timestamp("ms"))
        return pa.array([None if value is None else date.fromisoformat(value) for value in values], pa.date32())
    return pa.array([None if value is None else text_of(value) for value in values], pa.string())
