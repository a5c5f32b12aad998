"""The official `openai` client against a real server on a loopback port; disconnects, overload, the drain."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from fake_session import EchoSession

from volant.serving.limits import Limits
from volant.serving.run import bind, listen, running


@pytest.fixture
def echo(serving: Any) -> Iterator[tuple[Any, str]]:
    service = serving(EchoSession(token_seconds=0.002))
    with running(service) as url:
        yield service, url


def openai_at(url: str, **settings: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, **settings)


def test_the_official_client_lists_models_chats_and_completes(echo: Any) -> None:
    service, url = echo
    with openai_at(url) as client:
        assert [m.id for m in client.models.list()] == ["champion"]
        assert client.models.retrieve("champion").owned_by == "volant"
        turn: Any = [{"role": "user", "content": "good morning"}]
        chat = client.chat.completions.create(model="champion", messages=turn, max_tokens=10, seed=1, user="ann")
        assert chat.choices[0].message.content == "echo says good morning"
        assert chat.usage and chat.usage.completion_tokens == 4
        assert (chat.model_extra or {})["x-volant-model"] == service.served.digest
        done = client.completions.create(model="champion", prompt=["one", "two"])
        assert [c.text for c in done.choices] == ["echo says one", "echo says two"]
        raw = client.chat.completions.with_raw_response.create(model="champion", messages=turn)
        assert raw.headers["x-volant-model"] == service.served.digest


def test_the_official_client_streams(echo: Any) -> None:
    _, url = echo
    with openai_at(url) as client:
        turn: Any = [{"role": "user", "content": "a b c"}]
        options: Any = {"include_usage": True}
        stream = client.chat.completions.create(model="champion", messages=turn, stream=True, stream_options=options)
        pieces = list(stream)
        text = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
        assert text == "echo says a b c" and pieces[-1].usage and pieces[-1].usage.total_tokens == 8
        assert len(pieces) > 5  # one piece a token, not one for all
        stream = client.completions.create(model="champion", prompt="x y", stream=True)
        assert "".join(p.choices[0].text for p in stream) == "echo says x y"


def test_the_official_client_raises_its_own_errors(echo: Any) -> None:
    _, url = echo
    turn: Any = [{"role": "user", "content": "x"}]
    with openai_at(url) as client:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.chat.completions.create(model="gpt-9", messages=turn)
        with pytest.raises(openai.BadRequestError, match="n is at most 4") as refused:
            client.chat.completions.create(model="champion", messages=turn, n=9)
        assert refused.value.param == "n" and refused.value.code == "too_large"
        with pytest.raises(openai.InternalServerError, match="could not answer"):
            client.chat.completions.create(model="champion", messages=[{"role": "user", "content": "EXPLODE"}])


def test_feedback_over_http_reaches_the_records(echo: Any, records: Any) -> None:
    _, url = echo
    with openai_at(url) as client:
        chat = client.chat.completions.create(model="champion", messages=[{"role": "user", "content": "x"}])
    answer = httpx.post(f"{url}/v1/feedback", json={"request_id": chat.id, "correction": "y", "consent": "training"})
    assert answer.status_code == 200 and records.marks[0]["correction"] == "y"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(serving: Any, records: Any, stream: bool) -> None:
    session = EchoSession(token_seconds=0.01, words=0)
    service = serving(session, limits=Limits(max_tokens=4000, deadline_seconds=30))
    asked = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4000, "stream": stream}
    body = json.dumps(asked).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    head = "\r\n".join([*lines, f"content-length: {len(body)}", "", ""])
    with running(service) as url:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as connection:
            connection.sendall(head.encode() + body)
            if stream:
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
            until(lambda: session.tokens_made > 5)
        until(lambda: service.batcher.running == 0, seconds=3)
        made = session.tokens_made
        time.sleep(0.05)
        assert session.tokens_made == made < 1000
        until(lambda: service.in_flight == 0)
        service.ledger.flush()
        assert records.rows[0]["error"] == "disconnected" and records.rows[0]["status"] == 499
        assert service.meter.snapshot()["errors"] == {"disconnected": 1}


def test_overload_is_answered_at_once_and_all_accepted_requests_are_served(serving: Any) -> None:
    session = EchoSession(token_seconds=0.01)
    service = serving(session, limits=Limits(queue=8, batch=4))
    with running(service) as url, httpx.Client(limits=httpx.Limits(max_connections=60)) as client:

        def ask(i: int) -> tuple[int, float, str]:
            began = time.monotonic()
            answer = client.post(
                f"{url}/v1/chat/completions", json={"messages": [{"role": "user", "content": f"n{i}"}]}, timeout=20
            )
            return answer.status_code, time.monotonic() - began, answer.headers.get("retry-after", "")

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(ask, range(50)))
    codes = [code for code, _, _ in answers]
    assert set(codes) == {200, 429} and codes.count(200) >= 8
    assert all(after for code, _, after in answers if code == 429)
    assert service.meter.snapshot()["requests"] == codes.count(200)


def test_a_drain_finishes_streams_and_refuses_new_work_while_it_lasts(serving: Any) -> None:
    session = EchoSession(token_seconds=0.02, words=0)
    service = serving(session, limits=Limits(max_tokens=100, drain_seconds=10))
    listener, stop, up = bind("127.0.0.1", 0), threading.Event(), threading.Event()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=lambda: listen(service, listener, stop=stop, ready=lambda host, port: up.set()))
    thread.start()
    assert up.wait(10)
    asked = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 40}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json={**asked, "stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        stop.set()
        until(lambda: service.draining)
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert httpx.post(f"{url}/v1/chat/completions", json=asked).status_code == 503
        rest = list(lines)
    assert rest[-2] == "data: [DONE]" and '"finish_reason":"length"' in rest[-4]
    thread.join(10)
    assert not thread.is_alive() and session.closed


def test_forty_requests_while_the_model_is_swapped_eight_times(serving: Any, model_at: Any) -> None:
    """Every request is answered whole, by the model that its header names; no closed session is used."""

    class Moving:
        name, at = "champion", 0

        def now(self) -> str:
            return f"m{self.at}"

        def load(self, digest: str) -> Any:
            return models[int(digest[1:])], None

    models, source = [model_at(f"m{i}") for i in range(9)], Moving()
    sessions: dict[str, EchoSession] = {}

    def open_session(model: Any, prompt: Any) -> EchoSession:
        sessions[model.digest] = EchoSession(model.path.name, token_seconds=0.002)
        return sessions[model.digest]

    service = serving(source=source, open=open_session)
    names = {model.digest: model.path.name for model in models}
    with running(service) as url, httpx.Client() as client:

        def ask(i: int) -> tuple[int, str, str]:
            asked = {"messages": [{"role": "user", "content": f"n{i}"}]}
            answer = client.post(f"{url}/v1/chat/completions", json=asked, timeout=20)
            return (
                answer.status_code,
                answer.headers["x-volant-model"],
                answer.json()["choices"][0]["message"]["content"],
            )

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(ask, i) for i in range(40)]
            for at in (1, 2, 3, 4, 5, 6, 7, 2):  # the last one is a rollback
                source.at = at
                assert client.post(f"{url}/reload", timeout=20).json()["current"] is True
            answers = [f.result() for f in futures]
    assert {code for code, _, _ in answers} == {200}
    assert all(text == f"{names[digest]} says n{i}" for i, (_, digest, text) in enumerate(answers))
    assert len({digest for _, digest, _ in answers}) > 2
    assert service.served.digest == models[2].digest
    assert all(session.closed for session in sessions.values())


def until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)


def test_a_client_that_trickles_its_head_is_cut_off_and_others_are_served(echo: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("volant.serving.connection.HEAD_SECONDS", 0.3)
    _, url = echo
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1]))) as slow:
        slow.settimeout(5)
        began = time.monotonic()
        for _ in range(10):
            try:
                slow.sendall(b"G")
            except OSError:
                break
            assert httpx.get(f"{url}/healthz").status_code == 200
            time.sleep(0.05)
        with contextlib.suppress(ConnectionError):
            assert slow.recv(10) == b""
        assert 0.2 < time.monotonic() - began < 3
    with httpx.Client(base_url=url) as client:  # a connection that is kept alive is not cut between requests
        for _ in range(3):
            assert client.get("/healthz").status_code == 200
            time.sleep(0.2)
