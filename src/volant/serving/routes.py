"""Handler kinds that a modality's routes name: `chat` and `completion`.

One flow for both: check the body, queue a job, wait for the first chunk (so that a refusal still has its
proper status), then answer whole or as a stream. A client that leaves cancels its job and frees the slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from volant.core.protocols import Chunk
from volant.serving.engine import DeadlinePassed, Job, QueueFull
from volant.serving.limits import Asked, ChatBody, CompletionBody
from volant.serving.metering import CONSENTS, Entry, kept
from volant.serving.service import Service
from volant.serving.shapes import DONE, ApiError, ChatShape, Choice, CompletionShape, Shape, event, usage

CONSENT_HEADER = "x-volant-consent"
MODEL_HEADER = "x-volant-model"
# Finish reasons that a client of OpenAI knows.
FINISHED = ("stop", "length")


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


@dataclass
class Answer:
    """One request on its way: its job, what came of it, and when.

    Attributes:
        outcome: status and cause of a stream; until it has ended: the client left.
    """

    service: Service
    shape: Shape
    body: Asked
    job: Job
    route: str
    client: str
    consent: str
    began: float = field(default_factory=time.perf_counter)
    created: int = field(default_factory=lambda: int(time.time()))
    choices: list[Choice] = field(default_factory=list)
    first: float | None = None
    noted: bool = False
    outcome: tuple[int, str] = (499, "disconnected")

    def __post_init__(self) -> None:
        self.choices = [Choice() for _ in self.job.requests]

    async def chunks(self) -> AsyncIterator[tuple[int, Chunk]]:
        """The job's chunks, gathered into `choices` on the way.

        Raises:
            ApiError: the engine failed, or time was over.
        """
        try:
            async for index, chunk in self.job.chunks():
                if self.first is None:
                    self.first = time.perf_counter() - self.began
                self.choices[index].add(chunk)
                if chunk.finish == "error":
                    raise ApiError(500, "The model could not answer this request.", code="engine")
                if chunk.finish == "cancelled":
                    raise ApiError(503, "The request was cancelled.", code="cancelled", retry_after=2)
                yield index, chunk
        except DeadlinePassed:
            raise ApiError(504, "The request took too long.", code="deadline") from None

    def envelope(self, kind: str, **rest: Any) -> dict[str, Any]:
        """What every object of an answer begins with."""
        digest = self.digest
        return {
            "id": self.job.id, "object": kind, "created": self.created, "model": self.service.name,
            "system_fingerprint": f"volant-{digest[:12]}", MODEL_HEADER: digest, **rest,
        }  # fmt: skip

    def whole(self) -> dict[str, Any]:
        """The answer in one piece."""
        choices = [self.shape.choice(i, c) for i, c in enumerate(self.choices)]
        return self.envelope(self.shape.whole, choices=choices, usage=self.usage)

    @property
    def digest(self) -> str:
        """The model that answers."""
        return (self.job.served or self.service.served).digest

    @property
    def usage(self) -> dict[str, int]:
        """Token counts so far."""
        return usage(self.choices, per_prompt=self.body.n or 1)

    @property
    def headers(self) -> dict[str, str]:
        """Which request and which model, for feedback and for an operator."""
        return {"x-request-id": self.job.id, MODEL_HEADER: self.digest, "cache-control": "no-store"}

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
        meter.request(self.route, status, seconds=seconds, first=self.first, prompt=prompt, completion=completion)
        if cause:
            meter.error(cause)
        row = {
            "model": served.digest, "consent": self.consent, "status": status, "error": cause,
            "milliseconds": seconds * 1e3, "first_token_ms": first_ms, "prompt_tokens": prompt,
            "completion_tokens": completion, "retain_days": self.service.retain_days,
            "prompt_digest": served.prompt_digest,
        }  # fmt: skip
        request = kept(self.body.model_dump(mode="json", exclude_unset=True), self.consent) or {}
        response = kept(self.whole(), self.consent) if not cause else None
        self.service.ledger.add(Entry(self.job.id, self.service.workload, self.client, request, response, row))


def _begin(service: Service, shape: Shape, request: HttpRequest, body: Asked) -> Answer:
    """Check the request and queue its job.

    Raises:
        ApiError: it asks for what is not served, or the queue is full.
    """
    consent = consent_of(request)
    if body.model not in ("", service.name, service.served.digest):
        what = f"The model {body.model[:64]!r} does not exist here; {service.name!r} does."
        raise ApiError(404, what, code="model_not_found", param="model")
    id = shape.prefix + secrets.token_hex(12)
    requests = body.requests(id, service.limits)
    job = Job(id, requests, deadline=time.monotonic() + service.limits.deadline_seconds)
    answer = Answer(service, shape, body, job, request.url.path, client_of(request, body.user), consent)
    try:
        service.submit(job)
    except QueueFull as full:
        what = "Too many requests wait; come again later."
        raise ApiError(429, what, code="queue_full", retry_after=full.retry_after) from None
    service.in_flight += 1
    return answer


async def answer(service: Service, shape: Shape, request: HttpRequest, body: Asked) -> Response:
    """Serve one generation request, whole or streamed."""
    answer = _begin(service, shape, request, body)
    chunks = answer.chunks()
    leaving = asyncio.create_task(_left(request))
    head = asyncio.create_task(_next(chunks) if body.stream else _drained(chunks))
    try:
        await asyncio.wait({head, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not head.done():
            raise ApiError(499, "The client left.", code="disconnected")
        first = head.result()
    except BaseException as error:
        head.cancel()
        service.batcher.cancel(answer.job)
        refusal = error if isinstance(error, ApiError) else ApiError(500, "Cancelled.", code="cancelled")
        refusal.counted = True
        answer.note(refusal.status, refusal.code)
        raise
    finally:
        leaving.cancel()
    if body.stream:
        return _Stream(answer, first, chunks)
    whole = answer.whole()
    answer.note(200)
    return JSONResponse(whole, headers=answer.headers)


class _Stream(StreamingResponse):
    """Server-sent events; however it ends, the job is over and the request counted."""

    def __init__(self, answer: Answer, first: tuple[int, Chunk], rest: AsyncIterator[tuple[int, Chunk]]) -> None:
        self._answer = answer
        super().__init__(_events(answer, first, rest), media_type="text/event-stream", headers=answer.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.service.batcher.cancel(self._answer.job)
            self._answer.note(*self._answer.outcome)


async def _events(
    answer: Answer, first: tuple[int, Chunk], rest: AsyncIterator[tuple[int, Chunk]]
) -> AsyncIterator[bytes]:
    """The stream: openings, pieces, usage where asked for, `[DONE]`; an error event where it fails half-way."""
    shape, options = answer.shape, answer.body.stream_options
    with_usage = options is not None and options.include_usage
    none = {"usage": None} if with_usage else {}
    try:
        for index in range(len(answer.choices)):
            for opening in shape.opening(index):
                yield event(answer.envelope(shape.piece, choices=[opening], **none))
        async for index, chunk in _chained(first, rest):
            if not chunk.text and not chunk.finish:
                continue
            part = shape.part(index, chunk.text, chunk.finish or None)
            yield event(answer.envelope(shape.piece, choices=[part], **none))
        if with_usage:
            yield event(answer.envelope(shape.piece, choices=[], usage=answer.usage))
        answer.outcome = (200, "")
        yield DONE
    except ApiError as error:
        answer.outcome = (error.status, error.code)
        yield event(error.body)


async def _chained(
    first: tuple[int, Chunk], rest: AsyncIterator[tuple[int, Chunk]]
) -> AsyncIterator[tuple[int, Chunk]]:
    yield first
    async for item in rest:
        yield item


async def _next(chunks: AsyncIterator[tuple[int, Chunk]]) -> tuple[int, Chunk]:
    return await anext(chunks)


async def _drained(chunks: AsyncIterator[tuple[int, Chunk]]) -> tuple[int, Chunk]:
    last = (0, Chunk(id="", text=""))
    async for item in chunks:
        last = item
    return last


async def _left(request: HttpRequest) -> None:
    """Return when the client closes the connection."""
    with contextlib.suppress(RuntimeError):
        while (await request.receive())["type"] != "http.disconnect":
            pass


Handler = Callable[..., Awaitable[Response]]


def chat(service: Service) -> Handler:
    """The handler of `{"/v1/chat/completions": "chat"}`."""

    async def chat_completions(request: HttpRequest, body: ChatBody) -> Response:
        """Answer a chat."""
        return await answer(service, ChatShape(), request, body)

    return chat_completions


def completion(service: Service) -> Handler:
    """The handler of `{"/v1/completions": "completion"}`."""

    async def completions(request: HttpRequest, body: CompletionBody) -> Response:
        """Continue a text."""
        return await answer(service, CompletionShape(), request, body)

    return completions


KINDS: dict[str, Callable[[Service], Handler]] = {"chat": chat, "completion": completion}
