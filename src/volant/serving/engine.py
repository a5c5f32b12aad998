"""A bounded queue and one thread that runs waiting requests together on a session.

What enters: jobs from the event loop. What leaves: their chunks, handed back to that loop. A session
takes one `generate` at a time, so requests that arrive while it runs wait and form the next batch;
that batching is what makes eight clients cheaper than eight runs. A model is swapped between two
batches, by the same thread that runs them: no request ever sees half a swap, and none is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Literal

from volant.core import Model
from volant.core.errors import SettingError
from volant.core.protocols import Chunk, Request, Session

log = logging.getLogger("volant.serving")

# How long a batch waits for company when the last one had some, as a share of how long batches take, and
# its bounds in seconds. Clients that were answered together ask again within some milliseconds; running
# the first of them alone would leave the others waiting for a whole batch.
GATHER_SHARE, GATHER_LEAST, GATHER_MOST = 0.1, 0.004, 0.05


class QueueFull(Exception):
    """More requests wait than the queue holds; `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("queue full")
        self.retry_after = retry_after


class Closed(Exception):
    """The batcher ends and takes no more work."""


class DeadlinePassed(Exception):
    """The job was not finished in time and was cancelled."""


@dataclass(frozen=True)
class Served:
    """An opened model: what answers, and what to say about it."""

    model: Model
    digest: str
    session: Session
    engine: str = ""
    prompt_digest: str = ""


@dataclass
class Job:
    """One HTTP request: one or more generations (`n`, several prompts) that run in one batch.

    Attributes:
        deadline: on the monotonic clock, waiting included.
        served: the model that runs it; set before its first chunk.
        open: ids that the engine has and has not finished; an id that is not there is never cancelled,
            because an engine would keep it for ever.
    """

    id: str
    requests: list[Request]
    deadline: float
    served: Served | None = None
    cancelled: bool = False
    open: set[str] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _chunks: asyncio.Queue[Chunk] = field(default_factory=asyncio.Queue)

    def deliver(self, chunk: Chunk) -> None:
        """Hand a chunk to the event loop; from the batch thread."""
        try:
            self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)
        except RuntimeError:
            self.cancelled = True  # the loop has ended; nobody waits for the rest

    async def chunks(self) -> AsyncIterator[tuple[int, Chunk]]:
        """(index of the generation, chunk) until all of them have finished.

        Raises:
            DeadlinePassed: time is over; the caller cancels the job.
        """
        index = {request.id: i for i, request in enumerate(self.requests)}
        open_ids = set(index)
        while open_ids:
            try:
                async with asyncio.timeout(max(0.0, self.deadline - time.monotonic())):
                    chunk = await self._chunks.get()
            except TimeoutError:
                raise DeadlinePassed from None
            if chunk.finish:
                open_ids.discard(chunk.id)
            yield index[chunk.id], chunk


class Batcher:
    """Runs jobs in batches on the served model; `submit`, `cancel` and `swap` may come from any thread.

    Args:
        served: the model to begin with; the batcher closes its session in the end.
        queue: how many generations may wait; more are refused with `QueueFull`.
        batch: how many generations run together at most (a larger single job runs alone).
        on_closed: told the digest of each model whose session was closed.
    """

    def __init__(
        self, served: Served, *, queue: int = 64, batch: int = 8, on_closed: Callable[[str], None] | None = None
    ) -> None:
        self.served = served
        self._queue, self._batch = queue, batch
        self._on_closed = on_closed
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._next: tuple[Served, threading.Event] | None = None
        self._stopped = False
        self._company = 1
        self._batch_seconds = 0.1
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="volant-batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Generations that wait."""
        return sum(len(job.requests) for job in list(self._waiting))

    @property
    def running(self) -> int:
        """Generations in the running batch."""
        return sum(len(job.requests) for job in list(self._running))

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            QueueFull: it would wait behind too many.
            Closed: the batcher has ended.
        """
        with self._wake:
            if self._stopped:
                raise Closed
            waiting = self.waiting
            if waiting and waiting + len(job.requests) > self._queue:
                batches = math.ceil(waiting / self._batch) + 1
                raise QueueFull(max(1, min(60, math.ceil(batches * self._batch_seconds))))
            self._waiting.append(job)
            self._wake.notify()

    def cancel(self, job: Job) -> None:
        """Take a job out: at once while it waits, at the next token while it runs. Twice does no harm."""
        with self._wake:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
            self._cancel_running(job)

    def swap(self, served: Served) -> threading.Event:
        """Serve another model from the next batch on; the event is set once it does."""
        done = threading.Event()
        with self._wake:
            if self._stopped:
                raise Closed
            overtaken, self._next = self._next, (served, done)
            self._wake.notify()
        if overtaken:  # never ran: two swaps came between two batches
            overtaken[1].set()
            self._close(overtaken[0])
        return done

    def close(self, timeout: float = 30.0) -> None:
        """Cancel what is left, wait for the thread, and close the session."""
        with self._wake:
            self._stopped = True
            left = list(self._waiting)
            self._waiting.clear()
            for job in [*left, *self._running]:
                job.cancelled = True
                self._cancel_running(job)
            self._wake.notify()
        for job in left:
            _fail(job, {r.id for r in job.requests}, "cancelled", "the server stops")
        self._thread.join(timeout)

    def _loop(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopped or self._waiting or self._next)
                if self._stopped:
                    break
            self._take_over()
            batch = self._gather()
            if batch:
                started = time.monotonic()
                try:
                    self._run(batch)
                finally:
                    with self._wake:
                        self._running = []
                self._batch_seconds += 0.2 * (time.monotonic() - started - self._batch_seconds)
        if self._next:
            self._close(self._next[0])
            self._next[1].set()
        self._close(self.served)

    def _take_over(self) -> None:
        with self._wake:
            if self._next is None:
                return
            old, (self.served, done) = self.served, self._next
            self._next = None
        done.set()
        self._close(old)

    def _gather(self) -> list[Job]:
        """Take whole jobs, first come first served, up to the batch size; a job is never split over two models."""
        if self._company > 1:
            patience = min(GATHER_MOST, max(GATHER_LEAST, GATHER_SHARE * self._batch_seconds))
            with self._wake:
                self._wake.wait_for(lambda: self._stopped or self.waiting >= self._company, patience)
        with self._wake:
            taken: list[Job] = []
            size = 0
            while self._waiting and (not taken or size + len(self._waiting[0].requests) <= self._batch):
                job = self._waiting.popleft()
                job.served = self.served
                taken.append(job)
                size += len(job.requests)
            self._running = taken
            self._company = min(self._batch, size + self.waiting)
        return taken

    def _run(self, batch: list[Job]) -> None:
        owner = self._opened(batch)
        requests = [r for job in batch for r in job.requests if r.id in owner]
        silent = set(owner)
        failure, refused = "the engine ended without finishing the request", False
        if not requests:
            return
        try:
            for chunk in self.served.session.generate(requests):
                job = owner.get(chunk.id)
                if job is None or chunk.id not in job.open:
                    continue
                silent.discard(chunk.id)
                if chunk.finish:
                    with self._wake:  # a cancel comes wholly before this, while the engine still knows the id
                        job.open.discard(chunk.id)
                elif job.cancelled:  # came too early for the engine to know the id: say it again
                    with self._wake:
                        self._cancel_running(job)
                job.deliver(chunk)
        except Exception as error:  # the engine is other people's code: whatever it raises ends here
            if isinstance(error, SettingError) and len(batch) == 1:  # a control that the model lacks
                failure, refused = f"{error.what} {error.fix}".strip(), True
            else:
                log.exception("the engine failed on a batch of %d", len(requests))
                failure = f"{type(error).__name__}: {error}"
            if len(batch) > 1:  # one bad request must not take its neighbours with it
                for job in [job for job in batch if all(r.id in silent for r in job.requests)]:
                    self._run([job])
        for job in batch:
            with self._wake:
                left, job.open = job.open, set()
            _fail(job, left, "error", failure, refused)

    def _opened(self, batch: list[Job]) -> dict[str, Job]:
        """The jobs by request id, those left out that were cancelled before they began."""
        owner: dict[str, Job] = {}
        for job in batch:
            ids = {r.id for r in job.requests}
            with self._wake:
                cancelled = job.cancelled
                job.open = set() if cancelled else ids
            if cancelled:
                _fail(job, ids, "cancelled", "cancelled before it began")
            owner.update(dict.fromkeys(job.open, job))
        return owner

    def _cancel_running(self, job: Job) -> None:
        """Tell the engine to end what is open; the lock is held."""
        for id in sorted(job.open):
            try:
                assert job.served is not None
                job.served.session.cancel(id)
            except Exception:
                log.exception("cancel failed")

    def _close(self, served: Served) -> None:
        try:
            served.session.close()
        except Exception:
            log.exception("closing the session of %s failed", served.digest[:12])
        if self._on_closed:
            self._on_closed(served.digest)


def _fail(job: Job, ids: set[str], finish: Literal["cancelled", "error"], reason: str, refused: bool = False) -> None:
    for id in sorted(ids):
        job.deliver(Chunk(id=id, text="", finish=finish, error=reason, refused=refused))
