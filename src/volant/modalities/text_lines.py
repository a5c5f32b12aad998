"""Records that stand one after another: JSON lines, JSON lists, CSV, TSV, Parquet.

In goes one entry; out come records or refusals, in order, read as a stream: a bad line costs one line. Lines of
over `MAX_LINE` bytes are passed over without being held in memory. Only a JSON list is read whole.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO, cast

from volant.core.protocols import Refusal
from volant.modalities import text_entry
from volant.modalities.text_entry import BOMS, Entry, Found, Record, decoded, rest_of, text_of, whole
from volant.modalities.zip_archive import BadFile, first_line

_AS_UTF8 = "Save it as UTF-8, which is read line by line"


def jsonl(entry: Entry, encoding: str) -> Iterator[Found]:
    """One JSON object a line."""
    with entry.opened() as opened:
        stream, encoding = _narrow(entry, opened, encoding)
        for number, line in lines(stream):
            place = f"{entry.name}:{number}"
            if line is None:
                yield Refusal(place, _too_long())
                continue
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode(encoding or "utf-8"))
            except UnicodeDecodeError as error:
                yield Refusal(place, f"not {error.encoding} at byte {error.start}; save the file as UTF-8")
            except LookupError:
                yield Refusal(place, f"there is no encoding {encoding!r}")
            except (ValueError, RecursionError) as error:
                yield Refusal(place, f"not JSON: {str(error) or 'nested too deeply'}")
            else:
                yield Record(place, value) if isinstance(value, dict) else Refusal(place, "is no JSON object")


def lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is too long, which is passed over in pieces."""
    most = text_entry.MAX_LINE
    number = 0
    while line := stream.readline(most + 1):
        number += 1
        if len(line) <= most:
            yield number, line
            continue
        while not line.endswith(b"\n") and (line := stream.readline(1 << 20)):
            pass
        yield number, None


def json_list(entry: Entry, encoding: str) -> Iterator[Found]:
    """A JSON list of objects, or one object."""
    try:
        value = json.loads(text_of(entry, encoding))
    except BadFile:
        raise
    except (ValueError, RecursionError) as error:
        yield Refusal(entry.name, f"not JSON: {str(error) or 'nested too deeply'}")
        return
    for number, row in enumerate(value if isinstance(value, list) else [value]):
        place = f"{entry.name}[{number}]"
        yield Record(place, row) if isinstance(row, dict) else Refusal(place, "is no JSON object")


def table(entry: Entry, encoding: str) -> Iterator[Found]:
    """CSV or TSV with a header; a cell may hold line breaks where it is quoted."""
    previous = csv.field_size_limit(text_entry.MAX_LINE)  # a setting of the whole process: put back afterwards
    try:
        with entry.opened() as stream:
            fed = _TableLines(stream, entry, encoding)
            rows = csv.reader(fed, delimiter="\t" if entry.suffix == ".tsv" else ",", strict=True)
            header: list[str] | None = None
            while True:
                before = fed.fed
                try:
                    row = next(rows)
                except StopIteration:
                    yield from fed.told()
                    return
                except csv.Error as error:
                    yield from fed.told()
                    yield Refusal(f"{entry.name}:{fed.number}", f"not CSV: {error}")
                    continue
                torn = fed.torn(before)
                yield from fed.told()
                if header is None:
                    header = row
                    if twice := [name for name, count in Counter(header).items() if count > 1]:
                        raise BadFile(f"has two columns of one name: {twice[0]!r}")
                elif torn:
                    yield Refusal(f"{entry.name}:{fed.number}", "a line of this record was refused")
                elif row:
                    yield _row(f"{entry.name}:{fed.number}", header, row)
    finally:
        csv.field_size_limit(previous)


def _row(place: str, header: list[str], row: list[str]) -> Found:
    if len(row) != len(header):
        return Refusal(place, f"has {len(row)} cells where the header has {len(header)}")
    return Record(place, dict(zip(header, row, strict=True)))


class _TableLines:
    """The lines of a table as text; what cannot be one is refused, and told of between the rows.

    Attributes:
        fed: how many lines were handed on.
        number: of the line that was read last.
    """

    def __init__(self, stream: BinaryIO, entry: Entry, encoding: str) -> None:
        self.entry, self.encoding = entry, encoding
        self.fed = self.number = 0
        self._pending: list[tuple[int, Refusal]] = []
        narrow, self.encoding = _narrow(entry, stream, encoding)
        self._lines = lines(narrow)

    def __iter__(self) -> _TableLines:
        return self

    def __next__(self) -> str:
        for number, line in self._lines:
            self.number = number
            problem = _too_long() if line is None else "holds a NUL byte" if b"\0" in line else ""
            if line is not None and not problem:
                try:
                    text = line.decode(self.encoding or "utf-8")
                except UnicodeDecodeError as error:
                    wrong = f"not {error.encoding} (byte 0x{line[error.start]:02x})"
                    problem = f"{wrong}; save it as UTF-8 or set `encoding`"
                except LookupError as error:
                    raise BadFile(f"there is no encoding {self.encoding!r}") from error
                else:
                    self.fed += 1
                    return text
            self._pending.append((self.fed, Refusal(f"{self.entry.name}:{self.number}", problem)))
        raise StopIteration

    def told(self) -> list[Refusal]:
        """The refusals since the last call."""
        pending, self._pending = self._pending, []
        return [refusal for _, refusal in pending]

    def torn(self, before: int) -> bool:
        """Whether a line was refused between the first and the last line of the row that began at `before`."""
        return any(before < at < self.fed for at, _ in self._pending)


def _narrow(entry: Entry, stream: BinaryIO, encoding: str) -> tuple[BinaryIO, str]:
    """The stream without a byte-order mark, and its encoding: one in which a line ends with one byte.

    Raises:
        BadFile: it is not in its encoding, or too large to be read whole, which other encodings ask for.
    """
    head = stream.read(4)
    wide = next((name for bom, name in BOMS[1:] if head.startswith(bom)), "")
    if wide or "16" in encoding or "32" in encoding:  # its line ends are no single bytes: read it whole
        return io.BytesIO(decoded(rest_of(entry, stream, head, fix=_AS_UTF8), encoding).encode()), ""
    return cast(BinaryIO, _Joined(head.removeprefix(codecs.BOM_UTF8), stream)), encoding


class _Joined(io.RawIOBase):
    """A few bytes that were looked at, and the stream that they came from."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readline(self, size: int | None = -1, /) -> bytes:
        if not self._head:
            return self._stream.readline(size if size is not None else -1)
        head, self._head = self._head, b""
        at = head.find(b"\n") + 1
        if at:
            self._head = head[at:]
            return head[:at]
        return head + self._stream.readline(-1 if size is None or size < 0 else max(size - len(head), 0))


def parquet(entry: Entry, encoding: str) -> Iterator[Found]:
    """The rows of a Parquet file, a thousand at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(entry.path if entry.path else io.BytesIO(whole(entry))) as opened:
            for batch in opened.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield Record(f"{entry.name}[{number}]", row)
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Refusal(f"{entry.name}[{number}]", f"not readable as Parquet: {first_line(error)}")


def _too_long() -> str:
    return f"the line has more than {text_entry.MAX_LINE:,} bytes"
