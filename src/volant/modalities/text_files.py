"""Text files of every usual kind, read record by record so that one bad line costs one line.

In goes one file of a snapshot; out come `Record`s or Refusals, in order. The readers are in the files beside this
one: `text_lines` (jsonl, json, csv, tsv, parquet), `text_documents` (txt, md, html, pdf, docx), `text_web` (warc);
each may be compressed (gz, bz2, zst) and lie in an archive (zip, tar), which `text_archives` opens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

from volant.core.errors import did_you_mean
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.modalities import text_documents, text_lines, text_web
from volant.modalities.text_archives import ARCHIVES, COMPRESSED, members, unpacked
from volant.modalities.text_entry import Entry, Found, NotText
from volant.modalities.zip_archive import BROKEN, BadFile, first_line

_READERS: dict[str, Callable[[Entry, str], Iterator[Found]]] = {
    ".txt": text_documents.document, ".md": text_documents.document, ".markdown": text_documents.document,
    ".html": text_documents.page, ".htm": text_documents.page, ".xhtml": text_documents.page,
    ".pdf": text_documents.pdf, ".docx": text_documents.docx, ".warc": text_web.warc, ".wet": text_web.warc,
    ".jsonl": text_lines.jsonl, ".ndjson": text_lines.jsonl, ".json": text_lines.json_list,
    ".csv": text_lines.table, ".tsv": text_lines.table, ".parquet": text_lines.parquet,
}  # fmt: skip
_BINARY = (".pdf", ".docx", ".warc", ".wet", ".parquet")
FORMATS = (*_READERS, *COMPRESSED, *ARCHIVES)


def records(file: OutsideFile, *, encoding: str = "", plain: bool = False, whole: bool = False) -> Iterator[Found]:
    """Every record of a file with its place (`data.jsonl:12`), or why it could not be read.

    Args:
        file: of a snapshot.
        encoding: of text; empty means UTF-8, or what the file says of itself.
        plain: files of unknown endings are read as plain text (sources of programs).
        whole: every file of text is one document, a web page or a table as well.
    """
    entry = Entry(file.name, lambda: cast(BinaryIO, file.path.open("rb")), file.bytes, path=file.path)
    if not plain and not _known(entry):
        suffix = entry.suffix
        known = did_you_mean(suffix, FORMATS)
        yield Refusal(file.name, f"no reader for {suffix or 'a name without an ending'}. {known}")
        return
    if file.bytes == 0:
        yield Refusal(file.name, "the file is empty")
        return
    silent = True
    for found in _read(entry, encoding, plain, whole):
        silent = False
        yield found
    if silent:
        yield Refusal(file.name, "the file holds no record")


def _known(entry: Entry) -> bool:
    return entry.suffix in FORMATS


def _read(entry: Entry, encoding: str, plain: bool, whole: bool) -> Iterator[Found]:
    try:
        if entry.suffix in COMPRESSED:
            yield from _read(unpacked(entry), encoding, plain, whole)
        elif entry.suffix in ARCHIVES:
            yield from _archive(entry, encoding, plain, whole)
        elif entry.suffix in _READERS or plain:
            as_document = whole and entry.suffix not in _BINARY
            read = text_documents.document if as_document else _READERS.get(entry.suffix, text_documents.document)
            yield from read(entry, encoding)
        else:
            known = did_you_mean(entry.suffix, _READERS)
            yield Refusal(entry.name, f"holds no kind that is read: {entry.suffix or 'no ending'}. {known}")
    except NotText as reason:
        yield Refusal(f"{entry.name}:{reason.line}", str(reason))
    except BadFile as reason:
        yield Refusal(entry.name, str(reason))


def _archive(entry: Entry, encoding: str, plain: bool, whole: bool) -> Iterator[Found]:
    passed: Counter[str] = Counter()
    try:
        for member in members(entry):
            if not isinstance(member, Entry):
                yield member
            elif member.bytes == 0:
                passed["empty"] += 1
            elif plain or _known(member):
                yield from _read(member, encoding, plain, whole)
            else:
                passed[member.suffix[:12] or "no ending"] += 1
    except BadFile as reason:
        yield Refusal(entry.name, str(reason))
    except BROKEN as error:
        yield Refusal(entry.name, f"is damaged: {first_line(error)}")
    if passed:
        told = ", ".join(f"{count:,} {kind}" for kind, count in passed.most_common(6))
        yield Refusal(entry.name, f"files in it that are not read: {told}")
