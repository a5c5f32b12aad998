"""Files that are whole after a crash, and a full disk said in words.

Enters: paths and the work that writes them. Leaves: bytes that are on the disk before anything names
them, or a `MachineError` that says what was needed. Everything that must survive a kill goes through here.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from volant.core.errors import MachineError


def sync_file(path: Path) -> None:
    """Push a file's or a directory's bytes to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Push every file of a directory, then every directory from the innermost outwards."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync_file(Path(place) / name)
        sync_file(Path(place))


def tree_bytes(folder: Path) -> int:
    """The sizes of all files below a directory, added up; 0 where it does not exist."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0


def is_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a full disk or quota, whichever library said it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        text = str(seen)
        if "No space left on device" in text or "database or disk is full" in text:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def full_error(folder: Path, doing: str, needed: int = 0) -> MachineError:
    """The error for a full disk: what was being done, how much it needed, how much there is."""
    try:
        free = f"{shutil.disk_usage(folder).free:,} bytes are free"
    except OSError:
        free = "the free space is not known"
    need = f" needs {needed:,} bytes," if needed else ":"
    return MachineError(
        f"the disk is full: {doing}{need} {free}.",
        where=str(folder),
        fix="Free some (`volant gc` says how much it can) and run again; nothing that was finished is lost.",
    )


@contextmanager
def room(folder: Path, doing: str, needed: int = 0) -> Iterator[None]:
    """Turn a full disk inside the block into a `MachineError`; every other error passes.

    Args:
        folder: where the block writes.
        doing: what it does, in words (`sealing 3f2a…`), for the message.
        needed: bytes that it has to write; 0 where nobody knows.

    Raises:
        MachineError: the disk or the quota is full.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MachineError) or not is_full(error):
            raise
        raise full_error(folder, doing, needed) from error
