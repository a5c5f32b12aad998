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
from typing import IO

from volant.modalities.image_pixels import BadImage

MAX_UNPACKED = 4 << 30
_FREE = 64_000_000
_MAX_RATIO = 200
_MAX_MEMBERS = 1_000_000
BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, OSError, EOFError, RuntimeError, ValueError, KeyError,
    NotImplementedError, OverflowError,
)  # fmt: skip
"""What reading a damaged archive raises."""


class Archive:
    """An open zip file; use as a context manager.

    Args:
        path: the file.

    Raises:
        BadImage: it is no zip file, is locked, or unpacks into too much.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except BROKEN as error:
            raise BadImage(f"is no zip file that can be read: {_first(error)}") from error
        try:
            self.members = {info.filename: info for info in self._zip.infolist() if not info.is_dir()}
            self._check(path.stat().st_size)
        except BadImage:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str, most: int) -> bytes:
        """One member whole.

        Raises:
            BadImage: it has more than `most` bytes, or is damaged.
        """
        size = self.members[name].file_size
        if size > most:
            raise BadImage(f"unpacks into {size:,} bytes; at most {most:,} are read")
        with self.stream(name) as stream:
            return stream.read(size + 1)

    @contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """One member as a stream.

        Raises:
            BadImage: it is damaged; also while it is read.
        """
        try:
            with self._zip.open(self.members[name]) as stream:
                yield stream
        except BadImage:
            raise
        except BROKEN as error:
            raise BadImage(f"is damaged: {_first(error)}") from error

    def _check(self, packed: int) -> None:
        if len(self.members) > _MAX_MEMBERS:
            raise BadImage(f"holds {len(self.members):,} files; at most {_MAX_MEMBERS:,} are read")
        unpacked = sum(info.file_size for info in self.members.values())
        if unpacked > MAX_UNPACKED:
            raise BadImage(f"unpacks into {unpacked:,} bytes; at most {MAX_UNPACKED:,} are read")
        if unpacked > max(_FREE, _MAX_RATIO * packed):
            raise BadImage(f"unpacks from {packed:,} into {unpacked:,} bytes, as a zip bomb does")
        for info in self.members.values():
            if info.flag_bits & 1:
                raise BadImage(f"is locked with a password ({info.filename[:100]!r})")
            # The other methods' decoders unpack as much at once as they like.
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BadImage(f"uses the compression method {info.compress_type}; deflate and none are read")


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
