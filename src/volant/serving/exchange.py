"""One request on its way, whatever it asks for: who may ask, its job in the queue, what is counted and kept.

What enters: a checked body and the HTTP request. What leaves: the job's chunks, refusals with their proper
status, and one entry in the ledger, however it ends. A client that leaves cancels its job and frees the slot.
`routes` makes text of the chunks, `content` anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request as HttpRequest

from volant.core.protocols import Chunk
from volant.serving.engine import DeadlinePassed, Job, QueueFull
from volant.serving.metering import CONSENTS, Entry
from volant.serving.service import Service
from volant.serving.shapes import ApiError

log = logging.getLogger("volant.serving")

CONSENT_HEADER = "x-volant-consent"
MODEL_HEADER = "x-volant-model"

T = TypeVar("T")


def consent_of(request: HttpRequest) -> str:
    """The consent that the request's header states.

    Raises:
        ApiError: it is none that is known.
    """
    consent = request.headers.get(CONSENT_HEADER, "").strip().lower()
    if consent not in CONSENTS:
        raise ApiError(400, "The consent is `training` or `none`.", code="unknown_consent", param=CONSENT_HEADER)
    return consent


def client_of(request: HttpRequest, user: str | None = None) -> str:
    """Who asks: the key's name; for this machine's own requests also the `user` that they name."""
    client: str = request.scope["state"]["client"]
    return f"{client}:{user}" if client == "local" and user else client


def check_model(service: Service, asked: str) -> None:
    """Hold the name that a body asks for against what is served.

    Raises:
        ApiError: 404, another model.
    """
    if asked not in ("", service.name, service.served.digest):
        what = f"The model {asked[:64]!r} does not exist here; {service.name!r} does."
        raise ApiError(404, what, code="model_not_found", param="model")


@dataclass(kw_only=True)
class Exchange:
    """One request on its way: its job, what came of it, and when. Kinds of content say how chunks become answers."""

    service: Service
    body: Any
    job: Job
    path: str
    client: str
    consent: str
    began: float = field(default_factory=time.perf_counter)
    created: int = field(default_factory=lambda: int(time.time()))
    first: float | None = None
    noted: bool = False

    def take(self, index: int, chunk: Chunk) -> None:
        """Gather a chunk of the generation with that index."""
        raise NotImplementedError

    def payloads(self, answered: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Request and response as the ledger may keep them under the request's consent; no response where none was."""
        raise NotImplementedError

    @property
    def usage(self) -> dict[str, int]:
        """Counts so far."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """The model that answers."""
        return (self.job.served or self.service.served).digest

    @property
    def headers(self) -> dict[str, str]:
        """Which request and which model, for feedback and for an operator."""
        return {"x-request-id": self.job.id, MODEL_HEADER: self.digest, "cache-control": "no-store"}

    def queue(self) -> None:
        """Hand the job to the engine's queue.

        Raises:
            ApiError: the queue is full, or the server is about to stop.
        """
        try:
            self.service.submit(self.job)
        except QueueFull as full:
            what = "Too many requests wait; come again later."
            raise ApiError(429, what, code="queue_full", retry_after=full.retry_after) from None
        self.service.in_flight += 1

    async def chunks(self) -> AsyncIterator[tuple[int, Chunk]]:
        """The job's chunks, gathered on the way.

        Raises:
            ApiError: the engine failed or refused, or time was over.
        """
        try:
            async for index, chunk in self.job.chunks():
                if self.first is None:
                    self.first = time.perf_counter() - self.began
                self.take(index, chunk)
                if chunk.finish == "error" and chunk.refused:
                    raise ApiError(400, chunk.error[:1_000], code="refused")
                if chunk.finish == "error":
                    raise ApiError(500, "The model could not answer this request.", code="engine")
                if chunk.finish == "cancelled":
                    raise ApiError(503, "The request was cancelled.", code="cancelled", retry_after=2)
                yield index, chunk
        except DeadlinePassed:
            raise ApiError(504, "The request took too long.", code="deadline") from None

    async def until(self, work: Coroutine[Any, Any, T], request: HttpRequest) -> T:
        """What the work gives; a client that leaves meanwhile, or a failure, cancels the job and is noted.

        Raises:
            ApiError: as the work raises it, or 499 for a client that left.
        """
        leaving, head = asyncio.create_task(_left(request)), asyncio.create_task(work)
        try:
            await asyncio.wait({head, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not head.done():
                raise ApiError(499, "The client left.", code="disconnected")
            return head.result()
        except BaseException as error:
            head.cancel()
            self.service.batcher.cancel(self.job)
            refusal = _refusal(error, self.path)
            refusal.counted = True
            self.note(refusal.status, refusal.code)
            if isinstance(error, Exception):
                raise refusal from None
            raise
        finally:
            leaving.cancel()

    def note(self, status: int, cause: str = "") -> None:
        """Count the request and hand it to the ledger; once."""
        if self.noted:
            return
        self.noted = True
        self.service.in_flight -= 1
        seconds, counts = time.perf_counter() - self.began, self.usage
        meter, served = self.service.meter, self.job.served or self.service.served
        first_ms = None if self.first is None else self.first * 1e3
        prompt, completion = counts["prompt_tokens"], counts["completion_tokens"]
        meter.request(self.path, status, seconds=seconds, first=self.first, prompt=prompt, completion=completion)
        if cause:
            meter.error(cause)
        row = {
            "model": served.digest, "consent": self.consent, "status": status, "error": cause,
            "milliseconds": seconds * 1e3, "first_token_ms": first_ms, "prompt_tokens": prompt,
            "completion_tokens": completion, "retain_days": self.service.retain_days,
            "prompt_digest": served.prompt_digest,
        }  # fmt: skip
        request, response = self.payloads(not cause)
        self.service.ledger.add(Entry(self.job.id, self.service.workload, self.client, request, response, row))


def _refusal(error: BaseException, path: str) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Exception):
        log.error("unexpected error on %s", path, exc_info=error)
        return ApiError(500, "Something went wrong on the server.", code="internal")
    return ApiError(500, "Cancelled.", code="cancelled")


async def _left(request: HttpRequest) -> None:
    """Return when the client closes the connection."""
    with contextlib.suppress(RuntimeError):
        while (await request.receive())["type"] != "http.disconnect":
            pass
