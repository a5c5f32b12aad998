"""Tables in files: CSV, TSV, Parquet, JSON and JSON lines as a header and rows of cells.

In goes one file of a snapshot; out comes a `Table`, whose rows can be gone through as often as needed and are
never all in memory (JSON excepted, which is bounded). A cell is a text (CSV) or a typed value; None is
missing. A bad row becomes a Refusal and the rest goes on; what makes the whole file unreadable (wrong
encoding, no header, a name twice) is one `Unreadable` with the place.

CSV: the delimiter is the one of `,` `;` tab `|` that cuts most of the first lines into the same number of
cells; the quote is `"`; blanks around a cell are no part of it. Lines and cells are bounded.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volant.core.errors import did_you_mean
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.modalities import text_files
from volant.modalities.table_kinds import MISSING, MOST_CELL, look

MOST_COLUMNS = 2000
MOST_LINE = 4_000_000
SNIFFED_CHARS = 65_536
SUFFIXES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".ndjson")
METADATA = b"volant"
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
Found = tuple[str, list[Any]] | Refusal


class Unreadable(Exception):
    """The whole file cannot be used.

    Args:
        where: the file, with the line where there is one.
        reason: with what would mend it.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(where, reason)


@dataclass(frozen=True)
class Table:
    """A file as a table.

    Attributes:
        header: the columns' names, unique.
        rows: a fresh pass over the rows.
        typed: whether cells have types of their own.
        kinds: that the file itself declares (Parquet which Volant delivered).
    """

    header: tuple[str, ...]
    rows: Callable[[], Iterator[Found]]
    typed: bool
    kinds: dict[str, str] = field(default_factory=dict)


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
        return _csv(file, encoding, delimiter or ("\t" if suffix == ".tsv" else ""), columns, frozenset(missing))
    return _json(file, encoding)


def check_header(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Column names, each there once.

    Raises:
        Unreadable: one is empty or twice there, or there are too many.
    """
    if len(names) > MOST_COLUMNS:
        raise Unreadable(where, f"has {len(names):,} columns; a table may have {MOST_COLUMNS:,}")
    for number, name in enumerate(names, 1):
        if not name:
            raise Unreadable(where, f"column {number} has no name; name it, or give all names in `columns`")
        if len(name) > 200 or any(not c.isprintable() for c in name):
            raise Unreadable(where, f"column {number} has no name but {name[:40]!r}; give all names in `columns`")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise Unreadable(where, f"the header names {twice[0]!r} twice; rename one, or give all names in `columns`")
    return tuple(names)


# --- CSV ---------------------------------------------------------------------------------------


def _csv(file: OutsideFile, encoding: str, delimiter: str, columns: Sequence[str], missing: frozenset[str]) -> Table:
    encoding, skip = _checked_encoding(file, encoding)

    def opened() -> io.TextIOWrapper:
        handle = file.path.open("rb")
        handle.seek(skip)
        return io.TextIOWrapper(handle, encoding=encoding, errors="strict", newline="")

    if not delimiter:
        with opened() as text:
            delimiter = sniff(text.read(SNIFFED_CHARS))
    with opened() as text:
        first = _first_rows(text, delimiter, file.name)
    place, names = first[0]
    if not columns:
        guessed = next((cell for cell in names if look(cell) in ("integer", "numeric", "date")), None)
        if guessed is not None:
            raise Unreadable(place, f"the first line looks like data ({guessed!r}), not like names; give `columns`")
    elif len(columns) != len(names):
        raise Unreadable(place, f"has {len(names)} cells where `columns` names {len(columns)}")
    header = check_header(list(columns) or names, place)
    # With `columns` the first line is data, unless it plainly is a header.
    headed = not columns or _is_header(names, columns, first[1][1] if len(first) > 1 else [])

    def rows() -> Iterator[Found]:
        with opened() as text:
            yield from _csv_rows(text, delimiter, file.name, len(header), headed, missing)

    return Table(header, rows, typed=False)


def _is_header(names: Sequence[str], columns: Sequence[str], second: Sequence[str]) -> bool:
    plain = {"integer", "numeric", "date"}
    return list(names) == list(columns) or (
        not any(look(cell) in plain for cell in names) and any(look(cell) in plain for cell in second)
    )


class _Lines:
    """Lines of a text for `csv.reader`; one that is too long is passed over and raised as an error."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MOST_LINE + 1)
        if not line:
            raise StopIteration
        if len(line) > MOST_LINE:
            while not line.endswith(("\n", "\r")) and (line := self._text.readline(MOST_LINE)):
                pass
            raise csv.Error(f"the line has more than {MOST_LINE:,} characters")
        return line


def _reader(text: io.TextIOWrapper, delimiter: str) -> Any:
    return csv.reader(_Lines(text), delimiter=delimiter, skipinitialspace=True, strict=True)


def _first_rows(text: io.TextIOWrapper, delimiter: str, name: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    reader = _reader(text, delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                found.append((f"{name}:{reader.line_num}", [cell.strip() for cell in row]))
            if len(found) == 2:
                break
    except csv.Error as error:
        if not found:
            raise Unreadable(f"{name}:{reader.line_num}", f"not CSV: {error}") from error
    if not found:
        raise Unreadable(name, "the file holds no row")
    return found


def _csv_rows(
    text: io.TextIOWrapper, delimiter: str, name: str, width: int, headed: bool, missing: frozenset[str]
) -> Iterator[Found]:
    reader = _reader(text, delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Refusal(f"{name}:{reader.line_num}", f"not CSV: {error}")
            continue
        if not row or (len(row) == 1 and width > 1 and not row[0].strip()):
            continue
        if headed:
            headed = False
            continue
        place = f"{name}:{reader.line_num}"
        if len(row) != width:
            yield Refusal(place, f"has {len(row)} cells where the header has {width}")
            continue
        cells = [cell.strip() for cell in row]
        yield place, [None if cell in missing else cell for cell in cells]


def sniff(text: str) -> str:
    """The delimiter of a CSV file, from how it begins; a comma where nothing tells.

    A candidate counts by the share of lines that it cuts into as many cells as the first one (nine of ten
    at least), then by the number of cells.
    """
    best, rank = ",", (0.0, 0)
    for delimiter in ",;\t|":
        rows = []
        try:
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True):
                if row:
                    rows.append(len(row))
                if len(rows) == 100:
                    break
        except csv.Error:
            pass
        # The text ends somewhere in a line.
        rows = rows[:-1] if len(rows) > 2 and len(text) >= SNIFFED_CHARS else rows
        if not rows or rows[0] < 2:
            continue
        share = sum(count == rows[0] for count in rows) / len(rows)
        found = (share if share < 0.9 else 1.0, rows[0])
        if found > rank:
            best, rank = delimiter, found
    return best


def _checked_encoding(file: OutsideFile, encoding: str) -> tuple[str, int]:
    """The encoding that all of the file is in, and how many bytes its mark has."""
    line, skip = 1, 0
    with file.path.open("rb") as handle:
        head = handle.read(4)
        for bom, name in _BOMS:
            if head.startswith(bom):
                encoding, skip = encoding or name, len(bom)
                break
        encoding = encoding or "utf-8"
        try:
            decoder = codecs.getincrementaldecoder(encoding)()
        except LookupError as error:
            raise Unreadable(file.name, f"there is no encoding {encoding!r}; write utf-8 or latin-1") from error
        handle.seek(skip)
        while True:
            block = handle.read(1 << 20)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                what = f"not {error.encoding} (byte 0x{error.object[error.start]:02x})"
                raise Unreadable(f"{file.name}:{line}", f"{what}; save it as UTF-8 or set `encoding`") from error
            if "\0" in text:
                line += text[: text.index("\0")].count("\n")
                raise Unreadable(f"{file.name}:{line}", "holds a NUL character; it is no text")
            line += text.count("\n")
            if not block:
                return encoding, skip


# --- JSON and Parquet ----------------------------------------------------------------------------


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
            place, record = found
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
