"""Run a hosted model behind an OpenAI-compatible address: prompting, judging, synthesis.

Enters: a Model whose `volant.json` says engine `remote` and holds a `RemoteAddress` in `extra`. Leaves: chunks
of text, streamed (SSE). The key is read from the environment variable whose *name* is stored; the key itself is
in no file, message or log. A plain client over httpx rather than the vendor's package: four fields are needed,
and whatever opens a socket should be readable in one place. A request is repeated only while none of its text
has been handed out, so nothing is ever said twice.
"""

from __future__ import annotations

import json
import os
import queue
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from volant.core.artifact import Model
from volant.core.errors import ArtifactError, RemoteError, VolantError
from volant.core.protocols import Chunk, Request, Session

_RETRY = {408, 409, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT_SECONDS = 30.0
_LONGEST_LINE_CHARACTERS = 1_000_000


class RemoteAddress(BaseModel):
    """Where the model is and how to ask: `extra` of the Model's `volant.json`.

    Attributes:
        url: the address up to and with `/v1`; no user or password in it.
        name: the model's name at the service.
        key_env: name of the environment variable that holds the key; empty where none is needed.
        timeout_seconds: longest silence on the line before a request counts as failed.
        retries: how often a request is sent again after a busy or broken answer.
        concurrency: how many requests are in flight at once.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    url: str
    name: str
    key_env: str = ""
    timeout_seconds: float = Field(default=60.0, gt=0, le=3600)
    retries: int = Field(default=4, ge=0, le=20)
    concurrency: int = Field(default=4, ge=1, le=64)

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the address must start with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query:
            raise ValueError("the address holds a user, a password or a query; put the key into the environment")
        return url.rstrip("/")

    @property
    def loopback(self) -> bool:
        """Whether the service runs on this machine."""
        return urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")


class RemoteEngine:
    """Opens a Model of family `remote`."""

    name = "remote"
    version = 1
    tolerance = float("inf")

    def open(self, model: Model, *, threads: int = 1, device: str = "cpu") -> Session:
        """A session on the service; nothing is sent yet.

        Raises:
            ArtifactError: `volant.json` names no address.
            RemoteError: the environment variable with the key is not set.
        """
        try:
            address = RemoteAddress.model_validate(model.about.extra)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ArtifactError(
                f"volant.json names no usable address: {place}: {first['msg']}", where=str(model.path)
            ) from error
        return RemoteSession(address)


engine = RemoteEngine()


class RemoteSession:
    """One client with a few connections; requests of one call run side by side."""

    def __init__(self, address: RemoteAddress, *, transport: httpx.BaseTransport | None = None) -> None:
        self.address = address
        self._cancelled: set[str] = set()
        self._closing = threading.Event()
        # Proxy settings and .netrc of the environment must not capture what stays on this machine.
        self._client = httpx.Client(
            headers=_headers(address),
            timeout=httpx.Timeout(address.timeout_seconds, connect=min(10.0, address.timeout_seconds)),
            trust_env=not address.loopback,
            follow_redirects=False,
            transport=transport,
        )

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """Send all requests, a few at a time; chunks of all of them as they come.

        Raises:
            RemoteError: the key is refused, the model or address is unknown, or every retry failed.
        """
        if not requests:
            return
        events: queue.Queue[Chunk | VolantError | None] = queue.Queue()
        abandoned = threading.Event()
        # Shut down by hand: leaving a `with` would wait for every queued request after the first failure.
        pool = ThreadPoolExecutor(min(self.address.concurrency, len(requests)), "volant-remote")
        try:
            for request in requests:
                self._cancelled.discard(request.id)
                pool.submit(self._one, request, events, abandoned)
            left = len(requests)
            while left:
                event = events.get()
                if event is None:
                    left -= 1
                elif isinstance(event, VolantError):
                    raise event
                else:
                    yield event
        finally:
            abandoned.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """Not told by such services for a given continuation.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a remote service does not tell log-probabilities of a given text")

    def cancel(self, id: str) -> None:
        """End a request at its next line; its connection is closed then."""
        self._cancelled.add(id)

    def close(self) -> None:
        """Close the connections."""
        self._closing.set()
        self._client.close()

    def _one(
        self, request: Request, events: queue.Queue[Chunk | VolantError | None], abandoned: threading.Event
    ) -> None:
        try:
            for chunk in self._with_retries(request, abandoned):
                events.put(chunk)
            events.put(None)
        except VolantError as error:
            events.put(error)
        except Exception as error:  # a worker must never leave its reader waiting
            events.put(RemoteError(f"the client failed: {type(error).__name__}", where=self.address.url))

    def _with_retries(self, request: Request, abandoned: threading.Event) -> Iterator[Chunk]:
        dice = random.Random(f"{request.id}/{request.seed}")
        for attempt in range(self.address.retries + 1):
            begun = False
            try:
                for chunk in self._stream(request, abandoned):
                    begun = True
                    yield chunk
                return
            except _BusyError as busy:
                problem = busy.what
                wait = busy.wait if busy.wait is not None else 0.5 * 2.0**attempt * (0.75 + 0.5 * dice.random())
            if begun:
                yield Chunk(request.id, "", finish="error", error=problem)
                return
            last = attempt == self.address.retries
            if last or abandoned.wait(min(wait, _LONGEST_WAIT_SECONDS)) or self._closing.is_set():
                break
        raise RemoteError(
            f"the service did not answer in {self.address.retries + 1} attempts: {problem}",
            where=self.address.url,
            fix="Check the address, and that it runs there; where it is overloaded, lower `concurrency`.",
        )

    def _stream(self, request: Request, abandoned: threading.Event) -> Iterator[Chunk]:
        path, body = _payload(request, self.address.name)
        try:
            with self._client.stream("POST", f"{self.address.url}{path}", json=body) as response:
                if response.status_code != 200:
                    self._refuse(response)
                yield from self._chunks(request, response, abandoned)
        except httpx.TimeoutException as error:
            raise _BusyError(f"no answer for {self.address.timeout_seconds:g} s") from error
        except httpx.TransportError as error:
            raise _BusyError(f"the connection failed ({type(error).__name__})") from error

    def _chunks(self, request: Request, response: httpx.Response, abandoned: threading.Event) -> Iterator[Chunk]:
        finish, pieces = "", 0
        usage: dict[str, Any] = {}
        whole = response.headers.get("content-type", "").startswith("application/json")  # `stream` is not known there
        for line in [f"data: {response.read().decode('utf-8', 'replace')}"] if whole else _lines(response):
            if request.id in self._cancelled or abandoned.is_set():
                yield Chunk(request.id, "", finish="cancelled", completion_tokens=pieces)
                return
            if len(line) > _LONGEST_LINE_CHARACTERS:
                raise RemoteError("the service sent a line of over a million characters", where=self.address.url)
            if not line.startswith("data:"):
                continue
            data = line[5:].strip()
            if data == "[DONE]":
                break
            event = self._parsed(data)
            usage = event.get("usage") or usage
            for text, ended in self._said(event):
                finish = ended or finish
                if text:
                    pieces += 1
                    yield Chunk(request.id, text)
        if not finish:
            raise _BusyError("the answer broke off before its end")
        yield Chunk(
            request.id,
            "",
            finish="length" if finish == "length" else "stop",
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or pieces),
        )

    def _said(self, event: dict[str, Any]) -> list[tuple[str, str]]:
        """Text and reason for ending of each choice in an event, or in an answer that came whole."""
        try:
            said = []
            for choice in event.get("choices") or []:
                piece = choice.get("delta") or choice.get("message") or {}
                text = piece.get("content") or choice.get("text") or ""
                said.append((str(text), str(choice.get("finish_reason") or "")))
            return said
        except (AttributeError, TypeError) as error:
            what = "the service sent JSON of another shape than agreed"
            raise RemoteError(what, where=self.address.url, fix="Is it OpenAI-compatible?") from error

    def _parsed(self, data: str) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except ValueError as error:
            raise RemoteError(
                "the service sent something else than JSON", where=self.address.url, fix="Is it OpenAI-compatible?"
            ) from error
        if not isinstance(event, dict):
            raise RemoteError("the service sent JSON of another shape than agreed", where=self.address.url)
        if event.get("error"):
            raise _BusyError(self._told(json.dumps(event)))
        return event

    def _refuse(self, response: httpx.Response) -> None:
        """Turn an error status into what the caller can do about it."""
        status, told = response.status_code, self._told(response.read().decode("utf-8", "replace"))
        if status in _RETRY:
            raise _BusyError(f"status {status}{told}", _seconds(response.headers.get("retry-after", "")))
        key = f"the key in the environment variable {self.address.key_env}" if self.address.key_env else "a key"
        mend = {
            401: f"Set {key} to a valid one." if self.address.key_env else "Name the variable with the key (key_env).",
            403: f"Ask for access, or check {key}.",
            404: f"Check the address (it ends in /v1) and the model's name {self.address.name!r}.",
        }.get(status, "Check the model's name and the settings of the request.")
        raise RemoteError(f"the service refused with status {status}{told}.", where=self.address.url, fix=mend)

    def _told(self, body: str) -> str:
        """What the service said, short, on one line, and never with the key in it (some echo it)."""
        try:
            error = json.loads(body).get("error")
            text = str(error.get("message") if isinstance(error, dict) else error or "")
        except (ValueError, AttributeError):
            text = ""
        key = os.environ.get(self.address.key_env, "") if self.address.key_env else ""
        text = " ".join(text.replace(key, "***").split() if key else text.split())[:200]
        return f": {text}" if text else ""


class _BusyError(Exception):
    """Worth another attempt: busy, broken off, or silent. `wait` is what the service asked for, in seconds."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.what, self.wait = what, wait


def _seconds(text: str) -> float | None:
    try:
        return max(0.0, float(text))
    except ValueError:
        return None


def _headers(address: RemoteAddress) -> dict[str, str]:
    if not address.key_env:
        return {}
    key = os.environ.get(address.key_env, "").strip()
    if not key:
        raise RemoteError(
            f"the environment variable {address.key_env} is not set",
            where=address.url,
            fix=f"Set it to the service's key: export {address.key_env}=...",
        )
    if not key.isascii() or not key.isprintable():
        raise RemoteError(f"the key in {address.key_env} holds characters that no key has", where=address.url)
    return {"Authorization": f"Bearer {key}"}


def _lines(response: httpx.Response) -> Iterator[str]:
    """The lines of a stream, which a line feed ends and nothing else: U+2028 and its like may stand within JSON."""
    rest = ""
    for text in response.iter_text():
        *lines, rest = (rest + text).split("\n")
        yield from lines
        if len(rest) > _LONGEST_LINE_CHARACTERS:
            break
    yield rest


def _payload(request: Request, name: str) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {
        "model": name,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.top_p != 1.0:
        body["top_p"] = request.top_p
    # These two are no part of the original interface; strict services refuse them, so only when asked for.
    if request.top_k:
        body["top_k"] = request.top_k
    if request.repetition_penalty != 1.0:
        body["repetition_penalty"] = request.repetition_penalty
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(request.schema), "strict": True},
        }
    if request.prompt is not None:
        return "/completions", {**body, "prompt": request.prompt}
    return "/chat/completions", {**body, "messages": [dict(m) for m in request.messages]}
