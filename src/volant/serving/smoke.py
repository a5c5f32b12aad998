"""A smoke test over HTTP: one request a route, then the latency of some more. The server's own client.

What enters: the base URL of a server on this machine. What leaves: a receipt without times, so that the
same model gives the same receipt, and the latencies in milliseconds beside it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from volant.core.errors import RemoteError
from volant.core.protocols import Route
from volant.serving.content import example_body

ASKED: dict[str, Any] = {"temperature": 0, "seed": 0}
PLAIN_ROUTES = ("/healthz", "/readyz", "/v1/models", "/metrics", "/")


def body_for(kind: str | Route, text: str, **rest: Any) -> dict[str, Any]:
    """A request body for a handler kind; for a `Route` its example, asking for the text where there is one.

    Args:
        kind: `chat`, `completion`, or a route for content.
        text: the message or prompt; for content the condition, empty for the example's own.
        rest: further fields of a body for text.
    """
    if isinstance(kind, Route):
        return example_body(kind, text)
    asked = {"messages": [{"role": "user", "content": text}]} if kind == "chat" else {"prompt": text}
    return {**asked, **ASKED, **rest}


def answer_of(kind: str | Route, body: Mapping[str, Any]) -> str:
    """The text of an answer; for content the whole of it as JSON, without when it was made."""
    if isinstance(kind, Route):
        return json.dumps({name: value for name, value in body.items() if name != "created"}, sort_keys=True)
    choice = body["choices"][0]
    return str(choice["message"]["content"] if kind == "chat" else choice["text"])


def receipt(
    url: str, routes: Mapping[str, str | Route], *, text: str, max_tokens: int, digest: str
) -> list[dict[str, Any]]:
    """Ask every route once; what came back, without times.

    Args:
        routes: path to handler kind, or to a `Route`, which is asked for its example.
        text: the message or prompt of text routes.
        digest: of the model that has to answer.

    Raises:
        RemoteError: a route did not answer as it should.
    """
    found: list[dict[str, Any]] = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for path in PLAIN_ROUTES:
            found.append({"route": path, "status": _checked(client.get(path), path).status_code})
        for path, kind in routes.items():
            asked = body_for(kind, "" if isinstance(kind, Route) else text, max_tokens=max_tokens)
            answer = _checked(client.post(path, json=asked), path)
            if answer.headers.get("x-volant-model") != digest:
                raise RemoteError("another model answered", where=path, fix="Run the step again.")
            body = answer.json()
            said = hashlib.sha256(answer_of(kind, body).encode()).hexdigest()
            told = {} if isinstance(kind, Route) else {"finish": body["choices"][0]["finish_reason"], **body["usage"]}
            found.append({"route": path, "status": 200, "answer_sha256": said, **told})
    return found


def latencies(
    url: str, path: str, kind: str | Route, texts: Sequence[str], *, requests: int, max_tokens: int
) -> list[float]:
    """Milliseconds of `requests` requests, one after the other, whole answers; the texts come round again.

    For content no text is the example's own. A text that the model refuses is not asked for again, and the time of
    a refusal counts for nothing.
    """
    times: list[float] = []
    waiting = list(texts) or [""]
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        while len(times) < requests:
            text = waiting.pop(0) if waiting else ""
            asked = body_for(kind, text, max_tokens=max_tokens)
            began = time.perf_counter()
            answer = client.post(path, json=asked)
            took = (time.perf_counter() - began) * 1e3
            if text and answer.status_code == 400 and answer.json()["error"]["code"] == "refused":
                continue
            _checked(answer, path)
            times.append(took)
            waiting.append(text)
    return times


def _checked(answer: httpx.Response, path: str) -> httpx.Response:
    if answer.status_code != 200:
        what = f"the server answered {answer.status_code} to a smoke test"
        raise RemoteError(what, where=path, fix="See its log; run `volant serve` to try it by hand.")
    return answer
