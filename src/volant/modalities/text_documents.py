"""Documents: plain text and Markdown, web pages, PDF, DOCX. One record a file.

In goes one entry; out comes its text with the date that it states. The libraries that read PDF and DOCX get bytes
of bounded size only; what they cannot read is refused with what they said. Nothing in a file is followed:
no link, no external entity, no macro, no attachment.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from volant.core.protocols import Refusal
from volant.modalities.html_text import MAX_PAGE, page_record
from volant.modalities.text_entry import Entry, Found, Record, text_of, whole
from volant.modalities.zip_archive import Archive, BadFile, first_line

MAX_BOOK = 128_000_000  # bytes of a PDF or DOCX file
_PAGES = 20_000
_DRAWN = 8_000_000  # bytes of one PDF page's drawing orders; text alone has some ten thousand
_XML = 48_000_000
_UNPACKED = 512 << 20


def document(entry: Entry, encoding: str) -> Iterator[Found]:
    """A text file."""
    yield Record(entry.name, {"text": text_of(entry, encoding)}, document=True, collected_at=entry.collected_at)


def page(entry: Entry, encoding: str) -> Iterator[Found]:
    """The main text of an HTML file."""
    yield page_record(whole(entry, MAX_PAGE), entry.name, encoding=encoding, collected_at=entry.collected_at)


def pdf(entry: Entry, encoding: str) -> Iterator[Found]:
    """The text of a PDF file, its pages parted by blank lines; pages that cannot be read are refused one by one."""
    from pypdf import PdfReader

    raw = whole(entry, MAX_BOOK)
    with _quiet("pypdf"):
        try:
            reader = PdfReader(io.BytesIO(raw))
            if reader.is_encrypted:
                raise BadFile("is locked; save it without a password")
            pages = len(reader.pages)
            told: Any = reader.metadata or {}
            date = _pdf_date(str(told.get("/ModDate") or told.get("/CreationDate") or ""))
            title = str(told.get("/Title") or "")
        except BadFile:
            raise
        except Exception as error:  # pypdf raises nearly anything for a broken file
            raise BadFile(f"is no PDF that can be read: {first_line(error)}") from error
        if pages > _PAGES:
            raise BadFile(f"has {pages:,} pages; at most {_PAGES:,} are read")
        texts: list[str] = []
        for number in range(pages):
            try:
                texts.append(_page_text(reader.pages[number]))
            except Exception as error:
                yield Refusal(f"{entry.name}[page {number + 1}]", f"cannot be read: {first_line(error)}")
    text = "\n\n".join(text for text in texts if text)
    if not text:
        yield Refusal(entry.name, "shows no text (a scan?); recognise its letters first")
        return
    yield Record(
        entry.name, {"text": text, "title": title}, document=True, collected_at=date or entry.collected_at
    )  # fmt: skip


def _page_text(page: Any) -> str:
    contents = page.get_contents()
    if contents is not None and len(contents.get_data()) > _DRAWN:
        raise BadFile(f"its drawing orders have over {_DRAWN:,} bytes")
    # A lone surrogate comes of a broken font table; NUL of a missing one.
    text = str(page.extract_text()).replace("\0", "").encode("utf-8", "replace").decode()
    return re.sub(r"[ \t]+\n", "\n", text).strip()


def _pdf_date(stated: str) -> str:
    match = re.match(r"D:(\d{4})(\d\d)(\d\d)", stated)
    return f"{match[1]}-{match[2]}-{match[3]}" if match else ""


def docx(entry: Entry, encoding: str) -> Iterator[Found]:
    """The text of a Word file: paragraphs, and tables row by row, in reading order."""
    import docx as word

    raw = whole(entry, MAX_BOOK)
    with Archive(io.BytesIO(raw), most=_UNPACKED) as archive:
        if "word/document.xml" not in archive.members:
            raise BadFile("is no Word file: it holds no word/document.xml")
        for name in archive.members:
            xml = archive.read(name, _XML) if name.endswith((".xml", ".rels")) else b""
            if b"<!DOCTYPE" in xml.replace(b"\0", b""):  # also where it is written in UTF-16
                raise BadFile(f"declares entities in {name[:100]}, as an attack does")
        dated = "docProps/core.xml" in archive.members  # without it, python-docx invents one of today
    try:
        opened = word.Document(io.BytesIO(raw))
        parts = [_block(block) for block in opened.iter_inner_content()]
        told = opened.core_properties if dated else None
        at = (told.modified or told.created) if told else None
        title = told.title if told else ""
    except Exception as error:  # lxml's and python-docx's errors have no common kind
        raise BadFile(f"is no Word file that can be read: {first_line(error)}") from error
    text = "\n\n".join(part for part in parts if part)
    if not text:
        yield Refusal(entry.name, "shows no text")
        return
    date = at.date().isoformat() if at else entry.collected_at
    yield Record(entry.name, {"text": text, "title": title}, document=True, collected_at=date)


def _block(block: Any) -> str:
    if hasattr(block, "rows"):
        rows = []
        for row in block.rows:
            cells = [" ".join(cell.text.split()) for cell in row.cells]
            kept = [cell for at, cell in enumerate(cells) if at == 0 or cell != cells[at - 1]]  # merged cells repeat
            rows.append(" | ".join(kept))
        return "\n".join(rows)
    return str(block.text).strip()


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """The library's log is not the user's: what matters becomes a refusal."""
    logger = logging.getLogger(name)  # its modules log by names below this one, and take their level from it
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
