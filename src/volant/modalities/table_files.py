"""Tables in files: CSV, TSV, Parquet, JSON and JSON lines as a header and rows of cells.

In goes one file of a snapshot; out comes a `Table`, whose rows can be gone through as often as needed and are
never all in memory (JSON excepted, which is bounded). A cell is a text (CSV, see `table_csv`) or a typed value;
None is missing. A bad row becomes a Refusal and the rest goes on; what makes the whole file unreadable (wrong
encoding, no header, a name twice) is one `Unreadable` with the place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from volant.core.errors import did_you_mean
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.modalities import text_files
from volant.modalities.table_csv import open_csv
from volant.modalities.table_kinds import MISSING, MOST_CELL
from volant.modalities.table_source import MOST_COLUMNS, Found, Table, Unreadable, check_header

SUFFIXES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".ndjson")
METADATA = b"volant"


def open_table(
    file: OutsideFile,
    *,
    encoding: str = "",
    delimiter: str = "",
    columns: Sequence[str] = (),
    missing: Sequence[str] = MISSING,
) -> Table:
    """The table in a file.

    Args:
        file: of a snapshot.
        encoding: of CSV and JSON; empty means UTF-8, or what a byte-order mark says.
        delimiter: of CSV; empty finds it out.
        columns: names for a CSV file without a header, or in place of the one that it has.
        missing: texts that say that a value is missing.

    Raises:
        Unreadable: there is no table in it.
    """
    suffix = Path(file.name).suffix.lower()
    if suffix not in SUFFIXES:
        known = did_you_mean(suffix, SUFFIXES)
        raise Unreadable(file.name, f"no table is read from {suffix or 'a name without an ending'}. {known}")
    if file.bytes == 0:
        raise Unreadable(file.name, "the file is empty")
    if suffix == ".parquet":
        return _parquet(file)
    if suffix in (".csv", ".tsv"):
        return open_csv(file, encoding, delimiter or ("\t" if suffix == ".tsv" else ""), columns, frozenset(missing))
    return _json(file, encoding)


def _json(file: OutsideFile, encoding: str) -> Table:
    """JSON lines are read twice, so that columns which begin late are known from the start."""
    header: dict[str, None] = {}
    refusals: list[Refusal] = []
    for found in text_files.records(file, encoding=encoding):
        if isinstance(found, Refusal):
            refusals.append(found)
            del refusals[1:]
        elif not _bad_record(found[1]):
            header.update(dict.fromkeys(found[1]))
            if len(header) > MOST_COLUMNS:
                raise Unreadable(found[0], f"has more than {MOST_COLUMNS:,} columns")
    if not header:
        raise Unreadable(*((refusals[0].where, refusals[0].reason) if refusals else (file.name, "holds no row")))
    names = check_header(list(header), file.name)

    def rows() -> Iterator[Found]:
        for found in text_files.records(file, encoding=encoding):
            if isinstance(found, Refusal):
                yield found
                continue
            place, record = found[:2]
            problem = _bad_record(record)
            if problem:
                yield Refusal(place, problem)
                continue
            cells = [record.get(name) for name in names]
            yield place, [None if cell != cell else cell for cell in cells]  # NaN, which JSON should not hold

    return Table(names, rows, typed=True)


def _bad_record(record: dict[str, Any]) -> str:
    if not record:
        return "has no column"
    for name, value in record.items():
        if not isinstance(value, str | int | float | None):
            return f"{name} holds a list or an object; a cell holds one value"
        if isinstance(value, str) and len(value) > MOST_CELL:
            return f"{name} has {len(value):,} characters; a cell may have {MOST_CELL:,}"
    return ""


def _parquet(file: OutsideFile) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file.path) as opened:
            schema = opened.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Unreadable(file.name, f"not readable as Parquet: {str(error).splitlines()[0]}") from error
    header = check_header(schema.names, file.name)
    for column in schema:
        if not _is_plain(pa.types, column.type):
            raise Unreadable(file.name, f"{column.name} is of type {column.type}; a cell holds one plain value")

    def rows() -> Iterator[Found]:
        number = 0
        try:
            with pq.ParquetFile(file.path) as opened:
                for batch in opened.iter_batches(batch_size=4096):
                    for row in zip(*(_values(column) for column in batch.columns), strict=True):
                        yield f"{file.name}[{number}]", list(row)
                        number += 1
        except (pa.ArrowException, OSError, ValueError) as error:
            yield Refusal(f"{file.name}[{number}]", f"not readable as Parquet: {str(error).splitlines()[0]}")

    return Table(header, rows, typed=True, kinds=_declared(schema.metadata))


def _is_plain(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        return _is_plain(types, kind.value_type)
    tests = (
        types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null, types.is_string,
        types.is_large_string, types.is_string_view, types.is_date, types.is_timestamp,
    )  # fmt: skip
    return any(test(kind) for test in tests)


def _values(column: Any) -> list[Any]:
    """An Arrow column as Python values; NaN is missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type) or pa.types.is_float16(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    values = column.to_pylist()
    if pa.types.is_floating(column.type):
        return [None if value is not None and value != value else value for value in values]
    return list(values)


def _declared(metadata: dict[bytes, bytes] | None) -> dict[str, str]:
    """The kinds that `table_delivery` wrote into the file; nothing where it wrote none."""
    try:
        types = json.loads((metadata or {}).get(METADATA, b"{}")).get("types", {})
    except (ValueError, AttributeError, RecursionError):
        return {}
    return {str(k): str(v) for k, v in types.items()} if isinstance(types, dict) else {}
