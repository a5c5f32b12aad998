"""Handler kinds that a modality's routes name: `chat` and `completion`.

One flow for both: check the body, queue a job, wait for the first chunk (so that a refusal still has its
proper status), then answer whole or as a stream. A client that leaves cancels its job and frees the slot.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from volant.core.protocols import Chunk
from volant.serving.engine import Job
from volant.serving.exchange import MODEL_HEADER, Exchange, check_model, client_of, consent_of
from volant.serving.limits import Asked, ChatBody, CompletionBody
from volant.serving.metering import kept
from volant.serving.service import Service
from volant.serving.shapes import DONE, ApiError, ChatShape, Choice, CompletionShape, Shape, event, usage


@dataclass(kw_only=True)
class Answer(Exchange):
    """A chat or completion on its way.

    Attributes:
        outcome: status and cause of a stream; until it has ended: the client left.
    """

    shape: Shape
    body: Asked
    choices: list[Choice] = field(default_factory=list)
    outcome: tuple[int, str] = (499, "disconnected")

    def __post_init__(self) -> None:
        self.choices = [Choice() for _ in self.job.requests]

    def take(self, index: int, chunk: Chunk) -> None:
        """Append the chunk's text to its choice."""
        self.choices[index].add(chunk)

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
    def usage(self) -> dict[str, int]:
        """Token counts so far."""
        return usage(self.choices, per_prompt=self.body.n or 1)

    def payloads(self, answered: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Body and answer, without their content where consent is `none`."""
        request = kept(self.body.model_dump(mode="json", exclude_unset=True), self.consent) or {}
        return request, kept(self.whole(), self.consent) if answered else None


def _begin(service: Service, shape: Shape, request: HttpRequest, body: Asked) -> Answer:
    """Check the request and queue its job.

    Raises:
        ApiError: it asks for what is not served, or the queue is full.
    """
    consent = consent_of(request)
    check_model(service, body.model)
    id = shape.prefix + secrets.token_hex(12)
    job = Job(id, body.requests(id, service.limits), deadline=time.monotonic() + service.limits.deadline_seconds)
    client, path = client_of(request, body.user), request.url.path
    answer = Answer(service=service, shape=shape, body=body, job=job, path=path, client=client, consent=consent)
    answer.queue()
    return answer


async def answer(service: Service, shape: Shape, request: HttpRequest, body: Asked) -> Response:
    """Serve one generation request, whole or streamed."""
    answer = _begin(service, shape, request, body)
    chunks = answer.chunks()
    first = await answer.until(_next(chunks) if body.stream else _drained(chunks), request)
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
