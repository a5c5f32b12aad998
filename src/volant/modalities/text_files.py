"""Text files of every usual kind, read record by record so that one bad line costs one line.

In goes one file of a snapshot; out come `(place, record)` pairs or Refusals, in order. Formats:
txt, md, html (one record a file), jsonl/ndjson, json (a list of records), csv, tsv, parquet.
Files are read as bytes and decoded strictly: a wrong encoding is a stated refusal, never
silently mangled text. Lines over `MAX_LINE` bytes are skipped without being held in memory.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from volant.core.errors import did_you_mean
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.modalities.html_text import main_text

MAX_LINE = 32_000_000
MAX_DOCUMENT = 256_000_000
Found = tuple[str, dict[str, Any]] | Refusal

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def records(file: OutsideFile, *, encoding: str = "") -> Iterator[Found]:
    """Every record of a file with its place (`data.jsonl:12`), or why it could not be read."""
    suffix = Path(file.name).suffix.lower()
    reader = _READERS.get(suffix)
    if reader is None:
        yield Refusal(
            file.name, f"no reader for {suffix or 'a name without an ending'}. {did_you_mean(suffix, _READERS)}"
        )
        return
    if file.bytes == 0:
        yield Refusal(file.name, "the file is empty")
        return
    silent = True
    for found in reader(file, encoding):
        silent = False
        yield found
    if silent:
        yield Refusal(file.name, "the file holds no record")


def _document(file: OutsideFile, encoding: str) -> Iterator[Found]:
    text = _decoded(file, encoding)
    yield text if isinstance(text, Refusal) else (file.name, {"text": text})


def _page(file: OutsideFile, encoding: str) -> Iterator[Found]:
    page = _decoded(file, encoding)
    if isinstance(page, Refusal):
        yield page
        return
    title, text = main_text(page)
    if not text:
        yield Refusal(file.name, "the page shows no text")
        return
    yield file.name, {"text": text, "title": title}


def _jsonl(file: OutsideFile, encoding: str) -> Iterator[Found]:
    with file.path.open("rb") as handle:
        for number, line in _lines(handle):
            place = f"{file.name}:{number}"
            if line is None:
                yield Refusal(place, f"the line has more than {MAX_LINE:,} bytes")
                continue
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
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
                yield (place, value) if isinstance(value, dict) else Refusal(place, "is no JSON object")


def _lines(handle: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is too long, which is passed over in pieces."""
    number = 0
    while line := handle.readline(MAX_LINE + 1):
        number += 1
        if len(line) <= MAX_LINE:
            yield number, line
            continue
        while not line.endswith(b"\n") and (line := handle.readline(MAX_LINE)):
            pass
        yield number, None


def _json(file: OutsideFile, encoding: str) -> Iterator[Found]:
    text = _decoded(file, encoding)
    if isinstance(text, Refusal):
        yield text
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield Refusal(file.name, f"not JSON: {str(error) or 'nested too deeply'}")
        return
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows):
        place = f"{file.name}[{number}]"
        yield (place, row) if isinstance(row, dict) else Refusal(place, "is no JSON object")


def _csv(file: OutsideFile, encoding: str) -> Iterator[Found]:
    text = _decoded(file, encoding)
    if isinstance(text, Refusal):
        yield text
        return
    if "\0" in text:
        yield Refusal(file.name, f"holds a NUL byte in line {text[: text.index(chr(0))].count(chr(10)) + 1}")
        return
    previous = csv.field_size_limit(MAX_LINE)  # a setting of the whole process: put back afterwards
    try:
        delimiter = "\t" if file.name.lower().endswith(".tsv") else ","
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = next(rows, [])
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Refusal(f"{file.name}:{rows.line_num}", f"not CSV: {error}")
                continue
            place = f"{file.name}:{rows.line_num}"
            if not row:
                continue
            if len(row) != len(header):
                yield Refusal(place, f"has {len(row)} cells where the header has {len(header)}")
                continue
            yield place, dict(zip(header, row, strict=True))
    finally:
        csv.field_size_limit(previous)


def _parquet(file: OutsideFile, encoding: str) -> Iterator[Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file.path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield f"{file.name}[{number}]", row
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        yield Refusal(f"{file.name}[{number}]", f"not readable as Parquet: {str(error).splitlines()[0]}")


def _decoded(file: OutsideFile, encoding: str) -> str | Refusal:
    if file.bytes > MAX_DOCUMENT:
        return Refusal(file.name, f"has {file.bytes:,} bytes; one document may have {MAX_DOCUMENT:,}. Use JSONL")
    raw = file.path.read_bytes()
    for bom, name in _BOMS:
        if raw.startswith(bom):
            raw, encoding = raw[len(bom) :], encoding or name
    try:
        return raw.decode(encoding or "utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        reason = f"not {error.encoding} (byte 0x{raw[error.start]:02x}); save it as UTF-8 or set `encoding`"
        return Refusal(f"{file.name}:{line}", reason)
    except LookupError:
        return Refusal(file.name, f"there is no encoding {encoding!r}")


_READERS = {
    ".txt": _document, ".md": _document, ".markdown": _document, ".html": _page, ".htm": _page,
    ".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet,
}  # fmt: skip
FORMATS = tuple(_READERS)
