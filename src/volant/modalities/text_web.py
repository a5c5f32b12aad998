"""Crawls in WARC: the main text of the pages, with the address and the date of each.

In goes one entry (also gzip, by `text_archives`); out comes a record a page, and refusals. Kept are answers of
status 200 that are HTML or plain text, and the plain text of WET files (`conversion`); what else a crawl holds
(requests, images, other statuses) is counted in one line. The frame of the records is read here with bounds on
every length, because a hostile file may hold a header line of two gigabytes; the bounded record inside is read
by warcio, which knows HTTP.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr
from typing import Any, BinaryIO

from volant.core.protocols import Refusal
from volant.modalities.html_text import MAX_PAGE, page_record
from volant.modalities.text_entry import Entry, Found, Record, decoded
from volant.modalities.zip_archive import BadFile, first_line

_LINE = 1 << 16
_HEADER = 1 << 18
_KEPT = {"response", "resource", "conversion"}
_PAGES = ("text/html", "application/xhtml+xml")


def warc(entry: Entry, encoding: str) -> Iterator[Found]:
    """The pages of a crawl."""
    passed: Counter[str] = Counter()
    with entry.opened() as stream:
        for number, (head, body, problem) in enumerate(_frames(stream)):
            place = f"{entry.name}[{number}]"
            if problem:
                yield Refusal(place, problem)
                continue
            try:
                found = _page(head, body, place, encoding)
            except BadFile as reason:
                found = Refusal(place, str(reason))
            if isinstance(found, str):
                passed[found] += 1
            else:
                yield found
    if passed:
        told = ", ".join(f"{count:,} {what}" for what, count in passed.most_common(6))
        yield Refusal(entry.name, f"records that are no pages: {told}")


def _frames(stream: BinaryIO) -> Iterator[tuple[bytes, bytes, str]]:
    """Header, body and what is wrong, of each record; bodies that are not wanted are empty."""
    while True:
        line = stream.readline(_LINE)
        if not line:
            return
        if not line.strip():
            continue
        if not line.startswith(b"WARC/"):
            yield b"", b"", "no record begins here; the file is damaged"
            if not _next_record(stream):
                return
            continue
        head = line
        while (line := stream.readline(_LINE)).strip() and len(head) < _HEADER:
            head += line
        yield _body(stream, head)


def _next_record(stream: BinaryIO) -> bool:
    """Skip to where a record seems to end; false at the end of the file."""
    while line := stream.readline(_LINE):
        if line in (b"\r\n", b"\n"):
            return True
    return False


def _body(stream: BinaryIO, head: bytes) -> tuple[bytes, bytes, str]:
    stated = re.search(rb"^content-length:\s*(\d{1,15})\s*$", head, re.IGNORECASE | re.MULTILINE)
    if not stated or len(head) >= _HEADER:
        return head, b"", "its header states no length"
    length = int(stated[1])
    kind = re.search(rb"^warc-type:\s*(\w+)", head, re.IGNORECASE | re.MULTILINE)
    wanted = bool(kind) and kind is not None and kind[1].decode().lower() in _KEPT
    if wanted and length <= MAX_PAGE:
        body = stream.read(length)
        short = length - len(body)
    else:
        body, short = b"", length
        while short > 0 and (piece := stream.read(min(short, 1 << 20))):
            short -= len(piece)
    if short:
        return head, b"", f"is cut off: {short:,} of {length:,} bytes are missing"
    if wanted and length > MAX_PAGE:
        return head, b"", f"has {length:,} bytes; a page may have {MAX_PAGE:,}"
    return head, body, ""


def _page(head: bytes, body: bytes, place: str, encoding: str) -> Found | str:
    """The page of a record; what it is instead, in a word; or why it is refused."""
    from warcio.archiveiterator import ArchiveIterator

    try:
        with redirect_stderr(io.StringIO()):  # warcio writes warnings there
            record: Any = next(iter(ArchiveIterator(io.BytesIO(head + b"\r\n" + body + b"\r\n\r\n"))))
        if record.rec_type not in _KEPT:
            return str(record.rec_type)[:40]
        status = record.http_headers.get_statuscode() if record.http_headers else "200"
        stated = (record.http_headers or record.rec_headers).get_header("Content-Type") or ""
        kind, _, rest = stated.lower().partition(";")
        kind = kind.strip()
        if record.rec_headers.get_header("WARC-Truncated"):
            return Refusal(place, "the crawler cut it off")
        if status != "200":
            return f"status {status[:3]}"
        if kind not in (*_PAGES, "text/plain"):
            return kind[:60] or "of no stated type"
        content = record.content_stream().read(MAX_PAGE + 1)
    except Exception as error:  # warcio has no common kind of error
        return Refusal(place, f"cannot be read: {first_line(error)}")
    if len(content) > MAX_PAGE:
        return Refusal(place, f"unpacks into more than {MAX_PAGE:,} bytes")
    uri = str(record.rec_headers.get_header("WARC-Target-URI") or "").strip("<>")
    date = str(record.rec_headers.get_header("WARC-Date") or "")[:10]
    date = date if re.fullmatch(r"\d{4}-\d\d-\d\d", date) else ""
    named = re.search(r"charset\s*=\s*[\"']?([\w.:-]{2,40})", rest)
    encoding = encoding or (named[1] if named else "")
    if kind in _PAGES:
        return page_record(content, place, encoding=encoding, uri=uri, collected_at=date)
    return Record(place, {"text": decoded(content, encoding)}, document=True, uri=uri, collected_at=date)
