"""Directories for work in progress, and the sweeping of what dead processes left.

Enters: a name. Leaves: a fresh directory `tmp/<name>.<owner>.<random>`. Each process holds an flock on
`tmp/<owner>.owner` for as long as it lives (children that it forks hold it too), so whether an owner is
dead is asked of the kernel and not guessed from a process number that may have been given again.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
from pathlib import Path

from volant.store.disk import tree_bytes

_owners: dict[Path, tuple[str, int]] = {}
_guard = threading.Lock()


class Scratch:
    """The `tmp/` of a store.

    Args:
        root: the directory; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def fresh(self, name: str) -> Path:
        """An empty directory that this process owns."""
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:48] or "work"
        owner = self._owner()
        return Path(tempfile.mkdtemp(prefix=f"{plain}.{owner}.", dir=self.root))

    def sweep(self) -> int:
        """Remove the directories whose owner is dead; returns the bytes freed."""
        if not self.root.is_dir():
            return 0
        # Directories are listed first: an owner's file is always older than its directories.
        folders = [entry for entry in self.root.iterdir() if not entry.name.endswith(".owner")]
        alive, dead = set(), []
        for file in self.root.glob("*.owner"):
            handle = _take(file, block=False)
            if handle is None:
                alive.add(file.stem)
            else:
                dead.append((file, handle))
        freed = 0
        for folder in folders:
            parts = folder.name.split(".")
            if len(parts) < 2 or parts[-2] not in alive:
                freed += tree_bytes(folder)
                shutil.rmtree(folder, ignore_errors=True)
        for file, handle in dead:
            file.unlink(missing_ok=True)
            os.close(handle)
        return freed

    def _owner(self) -> str:
        root = self.root.absolute()
        with _guard:
            if root not in _owners or not (root / f"{_owners[root][0]}.owner").exists():
                root.mkdir(parents=True, exist_ok=True)
                handle = None
                while handle is None:  # a sweep may take the file between its making and its locking
                    token = secrets.token_hex(6)
                    handle = _take(root / f"{token}.owner", block=True)
                _owners[root] = token, handle
            return _owners[root][0]


def _take(file: Path, *, block: bool) -> int | None:
    """The lock on a file as an open handle; None when another holds it or the file went away meanwhile."""
    try:
        handle = os.open(file, os.O_RDWR | (os.O_CREAT if block else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if block else fcntl.LOCK_NB))
        if os.fstat(handle).st_ino == file.stat().st_ino:
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None
