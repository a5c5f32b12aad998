"""Compressed files and archives, opened so that they unpack neither into too much nor out of their place.

In goes an entry; out come the entries in it. Nothing is ever written to disk under a name from inside: members are
streams. What is counted while it is read: bytes of a compressed file against its packed size, members, bytes of
all. Links, devices and names that leave the archive are refused one by one; an archive in an archive is not
opened. Of a tar in WebDataset's form, files of one key (`0001.json`, `0001.txt`) are one record.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from volant.core.outside import storable
from volant.core.protocols import Refusal
from volant.modalities.text_entry import MAX_LINE, Entry, Found, Record, whole
from volant.modalities.zip_archive import BROKEN, FREE, MAX_MEMBERS, MAX_RATIO, Archive, BadFile, first_line

MAX_UNPACKED = 64 << 30  # of one archive; its members are streamed, so that this bounds time, not memory
COMPRESSED = (".gz", ".bz2", ".zst")
ARCHIVES = (".zip", ".tar", ".tgz")
_KEYED = ("json", "txt", "text", "cls")
_HEADER = 1 << 20
_BROKEN = (tarfile.TarError, *BROKEN)


def unpacked(entry: Entry) -> Entry:
    """A compressed file as the entry that it holds.

    Reading it raises `BadFile` where it is damaged, cut off, or a bomb.

    Raises:
        BadFile: it is compressed twice.
    """
    if entry.bytes < 0:
        raise BadFile("is compressed twice; unpack it once")
    named = entry.name[: -len(entry.suffix)] + (".tar" if entry.suffix == ".tgz" else "")

    def opened() -> BinaryIO:
        stream = entry.opened()
        try:
            packed = _decompressed(stream, entry.suffix)
        except _BROKEN as error:
            stream.close()
            raise BadFile(f"is no {entry.suffix} file that can be read: {first_line(error)}") from error
        most = min(MAX_UNPACKED, max(FREE, MAX_RATIO * entry.bytes))
        return io.BufferedReader(_Bounded(packed, most, entry.bytes, stream), 1 << 16)

    return replace(entry, under=named, opened=opened, bytes=-1, path=None)


def members(entry: Entry) -> Iterator[Entry | Found]:
    """The files of an archive, in its order, and why some are not read. Each is read before the next is asked for.

    Raises:
        BadFile: it is damaged, cut off, locked, or a bomb.
    """
    if entry.inside:
        yield Refusal(entry.name, "is an archive in an archive, which is not opened; unpack it")
    elif entry.suffix == ".zip":
        yield from _zip_members(entry)
    else:
        yield from _by_key(entry.name, tar_members(unpacked(entry) if entry.suffix == ".tgz" else entry))


def _decompressed(stream: BinaryIO, suffix: str) -> BinaryIO:
    if suffix in (".gz", ".tgz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    if suffix == ".bz2":
        return cast(BinaryIO, bz2.BZ2File(stream))
    import pyarrow as pa

    return cast(BinaryIO, pa.CompressedInputStream(stream, "zstd"))


class _Bounded(io.RawIOBase):
    """A stream that stops where it gave more than it may, and says of damage what it is."""

    def __init__(self, stream: BinaryIO, most: int, packed: int, under: BinaryIO | None = None) -> None:
        self._stream, self._most, self._packed, self._under, self._given = stream, most, packed, under, 0
        # One piece at a time, so that what stands before the damage is not lost with it.
        self._read = getattr(stream, "read1", stream.read)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._read(len(buffer))
        except BadFile:
            raise
        except _BROKEN as error:
            raise BadFile(f"is damaged or cut off after {self._given:,} bytes: {first_line(error)}") from error
        self._given += len(piece)
        if self._given > self._most:
            raise BadFile(f"unpacks from {self._packed:,} into more than {self._most:,} bytes, as a bomb does")
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        if self._under is not None:
            self._under.close()
        super().close()


def _zip_members(entry: Entry) -> Iterator[Entry | Found]:
    source = entry.path or io.BytesIO(whole(entry))
    with Archive(source, most=MAX_UNPACKED) as archive:
        for name, info in archive.members.items():
            place = f"{entry.name}/{name[:200]}"
            problem = "is a link, which is not followed" if stat.S_ISLNK(info.external_attr >> 16) else _leaves(name)
            if problem:
                yield Refusal(place, problem)
                continue
            year, month, day = info.date_time[:3]
            date = f"{year:04}-{month:02}-{day:02}" if (year, month, day) > (1980, 1, 1) else ""

            def opened(name: str = name, size: int = info.file_size) -> BinaryIO:
                try:
                    return io.BufferedReader(_Bounded(archive.opened(name), size, size))
                except _BROKEN as error:
                    raise BadFile(f"is damaged: {first_line(error)}") from error

            yield Entry(place, opened, info.file_size, collected_at=date, inside=True)


class _Member(tarfile.TarInfo):
    """A member whose long name or extended header is read only where it is of sensible size."""

    def _proc_gnulong(self, archive: Any) -> Any:
        self._check()
        return super()._proc_gnulong(archive)  # type: ignore[misc]

    def _proc_pax(self, archive: Any) -> Any:
        self._check()
        return super()._proc_pax(archive)  # type: ignore[misc]

    def _check(self) -> None:
        if self.size > _HEADER:  # `tarfile` reads headers whole
            raise BadFile(f"holds a header of {self.size:,} bytes; at most {_HEADER:,} are read")


def tar_members(entry: Entry) -> Iterator[Entry | Refusal]:
    """The plain files of a tar, in its order, each to be read before the next is asked for.

    Raises:
        BadFile: it is damaged, cut off, or holds too many files.
    """
    count = 0
    try:
        with entry.opened() as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                count += 1
                if count > MAX_MEMBERS:
                    raise BadFile(f"holds more than {MAX_MEMBERS:,} files")
                if not member.isdir():
                    yield _tar_member(archive, member, entry.name)
            while stream.read(1 << 20):  # what follows the last member shows whether the file is whole
                pass
    except BadFile:
        raise
    except _BROKEN as error:
        raise BadFile(f"is damaged or cut off after {count:,} members: {first_line(error)}") from error


def _tar_member(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Entry | Refusal:
    place = f"{name}/{storable(member.name[:200])}"
    if member.issym() or member.islnk():
        return Refusal(place, "is a link, which is not followed")
    if not member.isreg() or member.issparse():
        return Refusal(place, "is a device or another special file")
    if problem := _leaves(member.name):
        return Refusal(place, problem)
    stream = archive.extractfile(member)
    assert stream is not None
    date = datetime.fromtimestamp(member.mtime, UTC).date().isoformat() if 0 < member.mtime < 1 << 33 else ""
    body = io.BufferedReader(_Bounded(cast(BinaryIO, stream), member.size, member.size))
    return Entry(place, lambda: body, member.size, collected_at=date, inside=True)


def _leaves(name: str) -> str:
    if not name:
        return "has no name"
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or (path.parts and path.parts[0].endswith(":")):
        return "names a place outside of the archive"
    return ""


def _by_key(archive: str, entries: Iterator[Entry | Refusal]) -> Iterator[Entry | Found]:
    """The entries, with neighbours of one key made one record where one of them is JSON."""
    key = ""
    held: list[tuple[str, Entry]] = []
    for entry in entries:
        mine, kind = ("", "") if isinstance(entry, Refusal) else _key(entry.name)
        if held and mine != key:  # a member of the key that is no text (a picture) may stand among them
            yield from _joined(archive, key, held)
            held = []
        if isinstance(entry, Refusal) or not kind or not 0 <= entry.bytes <= MAX_LINE:
            yield entry
            continue
        key = mine
        raw = whole(entry, MAX_LINE)
        held.append((kind, replace(entry, opened=lambda raw=raw: io.BytesIO(raw))))  # type: ignore[misc]
    if held:
        yield from _joined(archive, key, held)


def _key(name: str) -> tuple[str, str]:
    """The key that WebDataset groups by (all before the first dot of the name), and the kind where it is text."""
    folder, _, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return f"{folder}/{stem}", kind.lower() if kind.lower() in _KEYED else ""


def _joined(archive: str, key: str, held: list[tuple[str, Entry]]) -> Iterator[Entry | Found]:
    kinds = [kind for kind, _ in held]
    if "json" not in kinds or len(set(kinds)) < 2:
        for kind, entry in held:
            yield entry if kind != "cls" else Refusal(entry.name, "names a class without a text")
        return
    fields: dict[str, Any] = {}
    try:
        for kind, entry in held:
            text = whole(entry).decode()
            if kind == "json":
                told = json.loads(text)
                fields = {**(told if isinstance(told, dict) else {"json": told}), **fields}
            else:
                fields["cls" if kind == "cls" else "text"] = text.strip() if kind == "cls" else text
    except (ValueError, RecursionError) as error:
        yield Refusal(key, f"not UTF-8 or not JSON: {first_line(error)}")
        return
    yield Record(key, fields, collected_at=held[0][1].collected_at)
