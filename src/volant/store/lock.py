"""One writer at a time, in turn: an advisory lock beside the database.

Enters: the lock's path. Leaves: a context in which this thread of this process is the only writer.
SQLite's own busy handler is unfair (measured: 171/160/6/0 transactions for four writers), and versions
before 3.51.3 can corrupt when writers and checkpoints meet. So every write and checkpoint comes here first.

Fairness: two flocks, a gate and the lock itself. Whoever waits for the lock holds the gate, so a process
that has just released the lock cannot slip back in before the one that waits. A killed process holds nothing.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from volant.store.disk import room


class _Handles:
    """The open files of one process, and the thread locks that stand before them."""

    def __init__(self, path: Path) -> None:
        with room(path.parent, "opening the records"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.gate = os.open(path.with_name(f"{path.name}-gate"), os.O_RDWR | os.O_CREAT, 0o644)
            self.main = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.threads, self.queue = threading.Lock(), threading.Lock()  # main and gate once more, for threads

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # bound early: `os` may be gone at exit
        for name in ("gate", "main"):  # a full disk may have kept one from being opened
            if name in self.__dict__:
                close(self.__dict__[name])


class AdvisoryLock:
    """An exclusive lock between threads and processes of one machine; not reentrant.

    Args:
        path: the lock file; made when first taken, never removed (removing it would split the lock).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # By process: after a fork the child's copies of the parent's handles would share the parent's lock.
        self._of_process: dict[int, _Handles] = {}

    def __enter__(self) -> AdvisoryLock:
        handles = self._handles()
        with handles.queue:
            handles.threads.acquire()
        try:
            fcntl.flock(handles.gate, fcntl.LOCK_EX)
            try:
                fcntl.flock(handles.main, fcntl.LOCK_EX)
            finally:
                fcntl.flock(handles.gate, fcntl.LOCK_UN)
        except BaseException:
            handles.threads.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def attempt(self) -> bool:
        """Take the lock if nobody has it; whoever gets True calls `release`."""
        handles = self._handles()
        if not handles.threads.acquire(blocking=False):
            return False
        try:
            fcntl.flock(handles.main, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handles.threads.release()
            return False
        return True

    def release(self) -> None:
        """Give the lock to the next one."""
        handles = self._of_process[os.getpid()]
        fcntl.flock(handles.main, fcntl.LOCK_UN)
        handles.threads.release()

    def _handles(self) -> _Handles:
        found = self._of_process.get(os.getpid())
        if found is None:
            found = self._of_process.setdefault(os.getpid(), _Handles(self.path))  # atomic: of two threads one wins
        return found
