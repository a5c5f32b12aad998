"""CSV files as tables: encoding checked, delimiter found, header told from data, lines and cells bounded.

In goes a file; out comes a `Table` whose cells are texts, None where one is missing. The delimiter is the one of
`,` `;` tab `|` that cuts most of the first lines into the same number of cells; the quote is `"`; blanks around
a cell are no part of it. The whole file is checked for its encoding before the first row comes.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.modalities.table_kinds import look
from volant.modalities.table_source import Found, Table, Unreadable, check_header

MOST_LINE = 4_000_000
SNIFFED_CHARS = 65_536
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def open_csv(
    file: OutsideFile, encoding: str, delimiter: str, columns: Sequence[str], missing: frozenset[str]
) -> Table:
    """The table in a CSV file; see `table_files.open_table` for the arguments.

    Raises:
        Unreadable: there is none in it.
    """
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
    """Lines of a text for `csv.reader`; one that is too long is passed over and raised as an error.

    Attributes:
        number: of the last line read; `csv.reader` does not count those that it never saw.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text, self.number = text, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(MOST_LINE + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MOST_LINE:
            while not line.endswith(("\n", "\r")) and (line := self._text.readline(MOST_LINE)):
                pass
            raise csv.Error(f"the line has more than {MOST_LINE:,} characters")
        return line


def _reader(text: io.TextIOWrapper, delimiter: str) -> tuple[Any, _Lines]:
    lines = _Lines(text)
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True), lines


def _first_rows(text: io.TextIOWrapper, delimiter: str, name: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    reader, lines = _reader(text, delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                found.append((f"{name}:{lines.number}", [cell.strip() for cell in row]))
            if len(found) == 2:
                break
    except csv.Error as error:
        if not found:
            raise Unreadable(f"{name}:{lines.number}", f"not CSV: {error}") from error
    if not found:
        raise Unreadable(name, "the file holds no row")
    return found


def _csv_rows(
    text: io.TextIOWrapper, delimiter: str, name: str, width: int, headed: bool, missing: frozenset[str]
) -> Iterator[Found]:
    reader, lines = _reader(text, delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Refusal(f"{name}:{lines.number}", f"not CSV: {error}")
            continue
        if not row or (len(row) == 1 and width > 1 and not row[0].strip()):
            continue
        if headed:
            headed = False
            continue
        place = f"{name}:{lines.number}"
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
