"""Poisoned documents, archives and crawls of text, made here, for `check_modality(poisons=...)`.

Nothing enters; what leaves says of each file what it is, with the ending that it lies under. Each of them has to
be refused whole, in little memory: bombs, files that leave their archive, locked and broken ones.
"""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import zipfile
from functools import lru_cache

from volant.testing.poison import Poisons

_LINE = b'{"text": "a line that would be read, were it not for what it lies in"}\n'
_FLAT = 80_000_000


@lru_cache(maxsize=1)
def poisoned_texts() -> Poisons:
    """What has to be refused by everything that reads texts."""
    flat = gzip.compress(bytes(_FLAT), mtime=0)
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>A page that is cut off in its middle"
    return {
        "a zip bomb": (".zip", _zipped({"a.jsonl": bytes(_FLAT)})),
        "a zip that leaves its folder": (".zip", _zipped({"../../a.jsonl": _LINE, "/b.jsonl": _LINE})),
        "a zip with a link": (".zip", _zipped_link()),
        "an archive in an archive": (".zip", _zipped({"b.zip": _zipped({"a.jsonl": _LINE})})),
        "a zip cut off": (".zip", _zipped({"a.jsonl": _LINE * 50})[:-40]),
        "a tar that leaves its folder": (".tar", _tarred("../a.jsonl", _LINE)),
        "a tar with a device": (".tar", _tarred("a.jsonl", kind=tarfile.CHRTYPE)),
        "a tar with a link": (".tar", _tarred("a.jsonl", kind=tarfile.SYMTYPE)),
        "a tar with a name of eight gigabytes": (".tar", _tarred("a", kind=tarfile.GNUTYPE_LONGNAME, size=1 << 33)),
        "a tar cut off": (".tar", _tarred("a.txt", _LINE * 50)[:1000]),
        "a compressed bomb": (".jsonl.gz", flat),
        "a bomb in a bomb": (".jsonl.gz.gz", gzip.compress(flat, mtime=0)),
        "a compressed file cut off": (".txt.bz2", bz2.compress(_LINE)[:-9]),
        "a compressed file that is none": (".jsonl.gz", _LINE),
        "a Word file with an outside entity": (
            ".docx",
            _word(b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hosts">]>'),
        ),
        "a Word file that is another archive": (".docx", _zipped({"a.txt": _LINE})),
        "a PDF that is none": (".pdf", b"%PDF-1.7\n" + _LINE),
        "a PDF cut off": (".pdf", b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"),
        "a crawl cut off": (".warc", _record(page)[:-20]),
        "a crawl whose record has no length": (".warc", b"WARC/1.0\r\nWARC-Type: response\r\n\r\n" + page),
        "a crawl whose header never ends": (".warc", b"WARC/1.0\r\n" + b"x" * 1_000_000),
        "a line of NUL bytes": (".csv", b"text\n" + bytes(4_000) + b"\n"),
    }


def _zipped(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _zipped_link() -> bytes:
    made, link = io.BytesIO(), zipfile.ZipInfo("a.txt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(link, "/etc/hosts")
    return made.getvalue()


def _tarred(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size or len(content), "/etc/hosts"
    padding = bytes(-len(content) % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
    return member.tobuf(tarfile.GNU_FORMAT) + content + padding


def _word(declared: bytes) -> bytes:
    import docx

    made = io.BytesIO()
    document = docx.Document()
    document.add_paragraph("A letter that would be read, were it not for what it declares.")
    document.save(made)
    with zipfile.ZipFile(made) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    body = parts["word/document.xml"]
    return _zipped(parts | {"word/document.xml": body.replace(b"<w:document", declared + b"<w:document", 1)})


def _record(page: bytes) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: {len(page)}\r\n"
    return f"{head}WARC-Target-URI: https://example.org/\r\n\r\n".encode() + page + b"\r\n\r\n"
