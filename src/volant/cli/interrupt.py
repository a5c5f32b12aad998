"""Ctrl-C: the first one asks for a checkpoint, the second one aborts at once.

Enters: the run's stop event. Leaves: the event set, or KeyboardInterrupt. SIGTERM counts as Ctrl-C,
so that a container that is stopped keeps its work too.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NOTE = b"\nStopping after a checkpoint. Ctrl-C again aborts at once.\n"


@contextmanager
def stops(event: threading.Event) -> Iterator[None]:
    """While the block runs, Ctrl-C sets `event`; a second one raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return

    def asked(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        os.write(2, _NOTE)  # not print: a signal may come in the middle of a buffered write

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
