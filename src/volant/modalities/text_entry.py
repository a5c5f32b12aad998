"""What every reader of text takes and gives: an entry in, records and refusals out.

An entry is a file wherever it lies: on disk, unpacked from a compressed file, inside an archive. A reader opens
it once and reads it as a stream, so that what is large is never held whole. Files are read as bytes and decoded
strictly: a wrong encoding is a stated refusal, never silently mangled text.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from volant.core.protocols import Refusal
from volant.modalities.zip_archive import BadFile

MAX_LINE = 32_000_000
MAX_DOCUMENT = 256_000_000
BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


class Record(NamedTuple):
    """One record of a file.

    Attributes:
        place: where it stands, for messages (`data.jsonl:12`).
        fields: what it says, by name.
        document: whether it is a text written as a whole, which may be cut into pieces; its place is its group.
        uri: its own address, where it has one (a page of a crawl).
        collected_at: the ISO date that the file itself states; empty where it states none.
        licence: SPDX name of the terms that the record itself states; empty where it states none.
    """

    place: str
    fields: dict[str, Any]
    document: bool = False
    uri: str = ""
    collected_at: str = ""
    licence: str = ""


Found: TypeAlias = Record | Refusal


class NotText(BadFile):
    """Bytes that are not in their encoding; `line` says from where on."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.line = line


@dataclass(frozen=True)
class Entry:
    """A file to be read once.

    Attributes:
        name: its path, with that of its archive before it (`shard.tar/a/b.txt`).
        opened: gives its bytes as a stream; called once.
        bytes: its size; -1 where only reading tells (a compressed file).
        path: where it lies on disk; None inside an archive.
        collected_at: the ISO date that the archive states for it.
        inside: whether it lies in an archive.
        under: its name without the endings of what it was unpacked from.
    """

    name: str
    opened: Callable[[], BinaryIO]
    bytes: int = -1
    path: Path | None = None
    collected_at: str = ""
    inside: bool = False
    under: str = ""

    @property
    def suffix(self) -> str:
        """The ending of its name in lower case; of a compressed file the ending before that."""
        return PurePosixPath(self.under or self.name).suffix.lower()


def whole(entry: Entry, most: int = MAX_DOCUMENT) -> bytes:
    """All bytes of an entry.

    Raises:
        BadFile: it has more than `most`.
    """
    with entry.opened() as stream:
        return rest_of(entry, stream, most=most)


def rest_of(
    entry: Entry, stream: BinaryIO, head: bytes = b"", *, most: int = MAX_DOCUMENT, fix: str = "Use JSONL"
) -> bytes:
    """All bytes of an entry that was opened, of which `head` was read.

    Raises:
        BadFile: it has more than `most`.
    """
    raw = head + stream.read(most + 1 - len(head)) if entry.bytes <= most else b""
    if entry.bytes > most or len(raw) > most:
        size = f"{entry.bytes:,}" if entry.bytes >= 0 else f"over {most:,}"
        raise BadFile(f"has {size} bytes; one document may have {most:,}. {fix}")
    return raw


def text_of(entry: Entry, encoding: str = "", most: int = MAX_DOCUMENT) -> str:
    """An entry as text.

    Raises:
        BadFile: it is too large, or not in its encoding; the message names line and byte.
    """
    return decoded(whole(entry, most), encoding)


def decoded(raw: bytes, encoding: str = "") -> str:
    """Bytes as text: by their byte-order mark, else by `encoding`, else as UTF-8; line ends become LF.

    Raises:
        NotText: they are not in that encoding.
        BadFile: there is none of that name.
    """
    for bom, name in BOMS:
        if raw.startswith(bom):
            raw, encoding = raw[len(bom) :], encoding or name
    try:
        text = raw.decode(encoding or "utf-8")
        if not encoding and 3 * text.count("\0") > len(text):
            raise NotText("holds many NUL bytes, as UTF-16 does; save it as UTF-8 or set `encoding`", 1)
        return text.replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        reason = f"not {error.encoding} (byte 0x{raw[error.start]:02x}); save it as UTF-8 or set `encoding`"
        raise NotText(reason, line) from error
    except LookupError as error:
        raise BadFile(f"there is no encoding {encoding!r}") from error
