"""Zip files from anywhere, opened so that they cannot unpack into more than they may.

In goes a file; out come the names in it and bounded streams. Sizes are read in the archive's directory
before anything is unpacked; nothing is ever written to disk under a name from inside.
"""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, cast

MAX_UNPACKED = 4 << 30
FREE = 64_000_000
MAX_RATIO = 200
MAX_MEMBERS = 1_000_000
BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, RuntimeError, ValueError, KeyError,
    IndexError, NotImplementedError, OverflowError,
)  # fmt: skip
"""What reading a damaged archive raises."""


class BadFile(ValueError):
    """Why a file, or something in it, is not read; becomes a Refusal."""


class Archive:
    """An open zip file; use as a context manager.

    Args:
        file: the file, or its bytes as a stream that can seek.
        most: bytes that all members may have together.

    Raises:
        BadFile: it is no zip file, is locked, or unpacks into too much.
    """

    def __init__(self, file: Path | BinaryIO, *, most: int = MAX_UNPACKED) -> None:
        packed = file.stat().st_size if isinstance(file, Path) else file.seek(0, 2)
        try:
            self._zip = zipfile.ZipFile(file)
        except BROKEN as error:
            raise BadFile(f"is no zip file that can be read: {first_line(error)}") from error
        try:
            files = [info for info in self._zip.infolist() if not info.filename.endswith("/")]
            self.members = {info.filename: info for info in files}
            self._check(packed, most)
            if len(self.members) < len(files):
                raise BadFile("holds two files of one name, of which only one could be read")
        except BadFile:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str, most: int) -> bytes:
        """One member whole.

        Raises:
            BadFile: it has more than `most` bytes, or is damaged.
        """
        size = self.members[name].file_size
        if size > most:
            raise BadFile(f"unpacks into {size:,} bytes; at most {most:,} are read")
        with self.stream(name) as stream:
            return stream.read(size + 1)

    def opened(self, name: str) -> BinaryIO:
        """One member as a stream that the caller closes; damage shows as one of `BROKEN`."""
        return cast(BinaryIO, self._zip.open(self.members[name]))

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """One member as a stream.

        Raises:
            BadFile: it is damaged; also while it is read.
        """
        try:
            with self._zip.open(self.members[name]) as stream:
                yield stream
        except BadFile:
            raise
        except BROKEN as error:
            raise BadFile(f"is damaged: {first_line(error)}") from error

    def _check(self, packed: int, most: int) -> None:
        if len(self.members) > MAX_MEMBERS:
            raise BadFile(f"holds {len(self.members):,} files; at most {MAX_MEMBERS:,} are read")
        unpacked = sum(info.file_size for info in self.members.values())
        if unpacked > most:
            raise BadFile(f"unpacks into {unpacked:,} bytes; at most {most:,} are read")
        if unpacked > max(FREE, MAX_RATIO * packed):
            raise BadFile(f"unpacks from {packed:,} into {unpacked:,} bytes, as a zip bomb does")
        for info in self.members.values():
            if info.flag_bits & 1:
                raise BadFile(f"is locked with a password ({info.filename[:100]!r})")
            # The other methods' decoders unpack as much at once as they like.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadFile(f"uses the compression method {info.compress_type}; deflate and none are read")


def first_line(error: Exception) -> str:
    """What an error of a library says, on one line."""
    return str(error).strip().split("\n")[0] or type(error).__name__
