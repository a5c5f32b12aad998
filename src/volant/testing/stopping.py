"""Interrupts a method on purpose: Ctrl-C at a chosen moment, and SIGKILL at random ones.

A call enters; what the store shows after each interruption is checked, and the digest of the finished
artifact leaves. Kills hit children of a fork server, which loads the libraries once and computes
nothing, so that a child starts in milliseconds and inherits no half-held lock.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from volant.core.artifact import Artifact
from volant.core.run import Bar, Silent
from volant.testing.expecting import expect, same

STEP = "contract"
_PATIENCE_SECONDS = 600.0
_GONE_SECONDS = 20.0
_PRELOADED = ("torch", "transformers", "pyarrow", "datasets", "ctranslate2", "sklearn", "fastapi")


@dataclass
class StopsAt(Silent):
    """A watcher that counts what a method tells, and asks it to stop at one of these moments.

    Attributes:
        at: the moment, counted from 1; 0 never stops.
        seen: how many there were.
    """

    at: int = 0
    seen: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def metric(self, step: str, name: str, value: float, at: int) -> None:
        """A moment to stop."""
        self._moment()

    def say(self, step: str, text: str) -> None:
        """A moment to stop."""
        super().say(step, text)
        self._moment()

    def bar(self, step: str, title: str, total: float, unit: str) -> Bar:
        """A bar each of whose moves is a moment to stop."""
        return _Bar(self)

    def _moment(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            self.stop.set()


@dataclass
class _Bar:
    watcher: StopsAt

    def advance(self, n: float = 1, **fields: float | str) -> None:
        """Tell the watcher."""
        self.watcher._moment()


def whole(root: Path, after: str) -> None:
    """Every artifact that the project's store shows is complete and hashes to its digest."""
    from volant.store.blobs import Store

    store = Store(root / ".volant")
    for digest in store.digests():
        problems = store.verify(digest)
        expect(not problems, f"after {after}, the artifact {digest[:12]} is visible and broken: {problems}")


def digest_after_kills(
    function: Callable[..., Artifact],
    world: Callable[[str], tuple[Path, dict[str, Any]]],
    *,
    kills: int,
    seed: int,
) -> str:
    """Kill the call `kills` times at random moments, then let it finish; its digest.

    Args:
        function: the method; importable, because children import it by name.
        world: name to the root of a fresh project and the call's arguments.
        kills: how many times.
        seed: of the method, and of the moments.
    """
    children = get_context("forkserver")
    children.set_forkserver_preload([__name__, function.__module__, *(m for m in _PRELOADED if m in sys.modules)])
    root, given = world("undisturbed")
    first = _Child(children, root, function, given, seed)
    start = time.monotonic()  # when the call starts, not when its process does
    undisturbed = first.result()
    seconds = time.monotonic() - start
    root, given = world("killed")
    rng = random.Random(seed)
    for number in range(1, kills + 1):
        child = _Child(children, root, function, given, seed)
        finished = child.killed_after(rng.uniform(0, seconds))
        whole(root, f"kill number {number}")
        if finished:
            same(finished, undisturbed, "a run that outlived its kill made another artifact")
            root, given = world(f"killed-{number}")
    found = _Child(children, root, function, given, seed).result()
    same(found, undisturbed, f"after {kills} kills the next run made another artifact than the undisturbed run")
    whole(root, "the last run")
    return found


class _Child:
    """One process that makes the call."""

    def __init__(self, children: Any, root: Path, function: Any, given: dict[str, Any], seed: int) -> None:
        self.pipe, theirs = children.Pipe(duplex=False)
        self.process = children.Process(target=_work, args=(theirs, root, function, given, seed))
        try:
            self.process.start()
        except (AttributeError, TypeError) as error:
            raise AssertionError(f"a child process cannot import the method: {error}") from error
        theirs.close()
        expect(
            self._told() == "started", "the child process did not start (a script needs `if __name__ == '__main__'`)"
        )

    def result(self) -> str:
        """Wait for the digest."""
        told = self._told()
        self.process.join()
        expect(not told.startswith("failed"), f"the call {told}")
        return told

    def killed_after(self, seconds: float) -> str:
        """Kill it after so many seconds; the digest where it had finished before."""
        import psutil

        self.process.join(seconds)
        try:
            started = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:  # it ended before the kill
            started = []
        self.process.kill()
        self.process.join()
        _, left = psutil.wait_procs(started, timeout=_GONE_SECONDS)
        for one in left:
            one.kill()
        expect(not left, f"a killed run leaves processes behind: {[one.pid for one in left]}")
        try:
            told = str(self.pipe.recv()) if self.pipe.poll() else ""
        except EOFError:
            told = ""
        expect(not told.startswith("failed"), f"the call {told}")
        return told

    def _told(self) -> str:
        try:
            return str(self.pipe.recv()) if self.pipe.poll(_PATIENCE_SECONDS) else "failed: no answer in time"
        except EOFError:
            return "failed: its process died"


def _work(pipe: Connection, root: Path, function: Any, given: dict[str, Any], seed: int) -> None:
    """What a child does."""
    from volant.core.method import method_of
    from volant.project import Project

    project = Project(root, device="cpu", threads=1)
    pipe.send("started")
    try:
        done = project.call(STEP, method_of(function), given, seed=seed)
        pipe.send(done.artifact.digest)
    except Exception as error:
        pipe.send(f"failed: {type(error).__name__}: {error}")
