"""A smoke test over HTTP: one request a route, then the latency of some more. The server's own client.

What enters: the base URL of a server on this machine. What leaves: a receipt without times, so that the
same model gives the same receipt, and the latencies in milliseconds beside it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from volant.core.errors import RemoteError

ASKED: dict[str, Any] = {"temperature": 0, "seed": 0}
PLAIN_ROUTES = ("/healthz", "/readyz", "/v1/models", "/metrics", "/")


def body_for(kind: str, text: str, **rest: Any) -> dict[str, Any]:
    """A request body for a handler kind."""
    asked = {"messages": [{"role": "user", "content": text}]} if kind == "chat" else {"prompt": text}
    return {**asked, **ASKED, **rest}


def answer_of(kind: str, body: Mapping[str, Any]) -> str:
    """The text of an answer."""
    choice = body["choices"][0]
    return str(choice["message"]["content"] if kind == "chat" else choice["text"])


def receipt(url: str, routes: Mapping[str, str], *, text: str, max_tokens: int, digest: str) -> list[dict[str, Any]]:
    """Ask every route once; what came back, without times.

    Args:
        routes: path to handler kind.
        text: the message or prompt.
        digest: of the model that has to answer.

    Raises:
        RemoteError: a route did not answer as it should.
    """
    found: list[dict[str, Any]] = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for path in PLAIN_ROUTES:
            found.append({"route": path, "status": _checked(client.get(path), path).status_code})
        for path, kind in routes.items():
            answer = _checked(client.post(path, json=body_for(kind, text, max_tokens=max_tokens)), path)
            if answer.headers.get("x-volant-model") != digest:
                raise RemoteError("another model answered", where=path, fix="Run the step again.")
            body = answer.json()
            said = hashlib.sha256(answer_of(kind, body).encode()).hexdigest()
            finish = body["choices"][0]["finish_reason"]
            found.append({"route": path, "status": 200, "finish": finish, "answer_sha256": said, **body["usage"]})
    return found


def latencies(url: str, path: str, kind: str, texts: Sequence[str], *, requests: int, max_tokens: int) -> list[float]:
    """Milliseconds of `requests` requests, one after the other, whole answers; the texts come round again."""
    times: list[float] = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for at in range(requests):
            asked = body_for(kind, texts[at % len(texts)], max_tokens=max_tokens)
            began = time.perf_counter()
            _checked(client.post(path, json=asked), path)
            times.append((time.perf_counter() - began) * 1e3)
    return times


def _checked(answer: httpx.Response, path: str) -> httpx.Response:
    if answer.status_code != 200:
        what = f"the server answered {answer.status_code} to a smoke test"
        raise RemoteError(what, where=path, fix="See its log; run `volant serve` to try it by hand.")
    return answer
