"""Writes requests into the records, behind the answers: the client never waits for a disk.

What enters: one `Entry` an answered request. What leaves: rows, with the OpenAI payload, in order.
Consent decides what is kept: `training` keeps the payload and allows training on it; nothing said keeps
it and does not allow that; `none` keeps figures only, no word of the request or the answer.
When the records lag so far that the buffer is full, entries are dropped and counted, never the answers.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

log = logging.getLogger("volant.serving")

CONSENTS = ("", "training", "none")
BUFFER = 10_000
CONTENT = ("messages", "prompt", "choices", "user", "metadata", "stop")


class RequestWriter(Protocol):
    """What is needed of `store.records.Records`."""

    def add_request(
        self, workload: str, client: str, request: dict[str, Any], response: dict[str, Any] | None, **row: Any
    ) -> str:
        """Keep one request."""


@dataclass
class Entry:
    """One request as it went, with figures in milliseconds and tokens."""

    id: str
    workload: str
    client: str
    request: dict[str, Any]
    response: dict[str, Any] | None
    row: dict[str, Any] = field(default_factory=dict)


def kept(payload: dict[str, Any] | None, consent: str) -> dict[str, Any] | None:
    """The payload as it may be kept: without its content where consent is `none`."""
    if consent != "none" or payload is None:
        return payload
    return {name: value for name, value in payload.items() if name not in CONTENT}


class Ledger:
    """A buffer and a thread that empties it into the records.

    Args:
        records: where to; None keeps nothing (a smoke test).
        lost: told how many entries could not be kept.
    """

    def __init__(self, records: RequestWriter | None, *, lost: Callable[[int], None]) -> None:
        self._records, self._lost = records, lost
        self._entries: queue.Queue[Entry | None] = queue.Queue(BUFFER)
        self._thread: threading.Thread | None = None
        if records is not None:
            self._thread = threading.Thread(target=self._write, name="volant-ledger", daemon=True)
            self._thread.start()

    def add(self, entry: Entry) -> None:
        """Hand over one request; returns at once."""
        if self._thread is None:
            return
        try:
            self._entries.put_nowait(entry)
        except queue.Full:
            self._lost(1)

    def flush(self) -> None:
        """Wait until all that was handed over is written; feedback to it can follow."""
        if self._thread is not None:
            self._entries.join()

    def close(self, timeout: float = 10.0) -> None:
        """Write what is left and end."""
        if self._thread is not None:
            self._entries.put(None)
            self._thread.join(timeout)

    def _write(self) -> None:
        assert self._records is not None
        while True:
            entry = self._entries.get()
            try:
                if entry is None:
                    return
                self._records.add_request(
                    entry.workload, entry.client, entry.request, entry.response, id=entry.id, **entry.row
                )
            except Exception:  # a full disk must not end the ledger: the next entry may fit
                log.exception("a request could not be recorded")
                self._lost(1)
            finally:
                self._entries.task_done()
