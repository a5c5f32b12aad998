"""The remote engine against a small OpenAI-like service on a free loopback port."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from volant.core.artifact import Model, ModelAbout
from volant.core.errors import ArtifactError, RemoteError
from volant.core.protocols import Chunk, Request
from volant.engines.remote import engine

KEY = "sk-test-do-not-log-4711"


_ODD = {"html": "<html>", "list": "[1]", "words": '{"choices": ["hello"]}', "number": '{"choices": 3}'}


class Service(ThreadingHTTPServer):
    """Echoes the last message word by word; `plan` holds what the next requests get instead."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.keys.append(self.headers.get("authorization"))
            act = self.server.plan.pop(0) if self.server.plan else "answer"
        if act.isdigit():
            told = json.dumps({"error": {"message": f"no, not with {KEY}"}}).encode()
            self.send_response(int(act))
            self.send_header("retry-after", "0")
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)
            return
        chat = self.path == "/v1/chat/completions"
        asked = body["messages"][-1]["content"] if chat else body["prompt"]
        words = asked.split(" ")[: body["max_tokens"]]
        self.send_response(200)
        if act == "whole":
            piece = {"message": {"role": "assistant", "content": asked}} if chat else {"text": asked}
            told = json.dumps({"choices": [piece | {"finish_reason": "stop"}]}, indent=1, ensure_ascii=False).encode()
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)
            return
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if act in _ODD:
            self.wfile.write(f"data: {_ODD[act]}\n\n".encode())
            return
        for number, word in enumerate(words):
            if act == "break" and number == 1:
                return
            if act == "hang" and number == 1:
                self.server.release.wait(5)
            piece = {"delta": {"content": word + " "}} if chat else {"text": word + " "}
            self._event({"choices": [piece | {"finish_reason": None}]})
        if act == "silent":
            return
        self._event(
            {"choices": [{"delta": {}, "finish_reason": "length" if len(words) == body["max_tokens"] else "stop"}]}
        )
        self._event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(words)}})
        self.wfile.write(b": a comment\n\ndata: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\r\n\r\n")
        self.wfile.flush()


@pytest.fixture
def service() -> Iterator[Service]:
    server = Service()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


def model_at(folder: Path, url: str, **extra: Any) -> Model:
    about = ModelAbout(
        family="remote", modality="text", engine="remote",
        extra={"url": url, "name": "far-away", "key_env": "VOLANT_TEST_KEY", **extra},
    )  # fmt: skip
    (folder / "volant.json").write_text(about.model_dump_json())
    return Model(folder)


def ask(text: str, id: str = "a", **settings: Any) -> Request:
    return Request(id=id, messages=({"role": "user", "content": text},), **settings)


def texts(chunks: list[Chunk]) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in chunks:
        found[chunk.id] = found.get(chunk.id, "") + chunk.text
    return found


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLANT_TEST_KEY", KEY)


def test_streams_many_requests_with_counts_and_key(service: Service, tmp_path: Path) -> None:
    session = engine.open(model_at(tmp_path, service.url))
    chunks = list(session.generate([ask(f"say {n}\u2028 twice", id=str(n)) for n in range(6)]))
    session.close()
    assert texts(chunks) == {str(n): f"say {n}\u2028 twice " for n in range(6)}
    last = [c for c in chunks if c.finish]
    assert len(last) == 6 and {(c.finish, c.prompt_tokens, c.completion_tokens) for c in last} == {("stop", 9, 3)}
    assert set(service.keys) == {f"Bearer {KEY}"} and service.bodies[0]["model"] == "far-away"


def test_plain_prompt_and_length(service: Service, tmp_path: Path) -> None:
    session = engine.open(model_at(tmp_path, service.url))
    chunks = list(session.generate([Request(id="p", prompt="one two three", max_tokens=2)]))
    session.close()
    assert texts(chunks) == {"p": "one two "} and chunks[-1].finish == "length"


def test_only_what_was_asked_for_is_sent(service: Service, tmp_path: Path) -> None:
    session = engine.open(model_at(tmp_path, service.url))
    schema = {"type": "object"}
    list(session.generate([ask("x")]))
    list(session.generate([ask("x", top_k=5, repetition_penalty=1.1, stop=("\n",), schema=schema, top_p=0.9)]))
    session.close()
    plain, full = service.bodies
    assert not {"top_k", "repetition_penalty", "stop", "response_format", "top_p"} & set(plain)
    assert full["top_k"] == 5 and full["stop"] == ["\n"] and full["response_format"]["json_schema"]["schema"] == schema


def test_a_busy_service_is_asked_again(service: Service, tmp_path: Path) -> None:
    service.plan = ["429", "503"]
    session = engine.open(model_at(tmp_path, service.url))
    assert texts(list(session.generate([ask("hello")]))) == {"a": "hello "}
    session.close()
    assert len(service.bodies) == 3


def test_retries_end_with_a_mend_and_without_the_key(service: Service, tmp_path: Path) -> None:
    service.plan = ["503"] * 9
    session = engine.open(model_at(tmp_path, service.url, retries=1))
    with pytest.raises(RemoteError) as caught:
        list(session.generate([ask("hello"), ask("more", id="b")]))
    session.close()
    assert "2 attempts" in str(caught.value) and "503" in str(caught.value) and caught.value.fix
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(("status", "mend"), [("401", "VOLANT_TEST_KEY"), ("404", "far-away"), ("400", "settings")])
def test_a_refusal_is_not_repeated(service: Service, tmp_path: Path, status: str, mend: str) -> None:
    service.plan = [status]
    session = engine.open(model_at(tmp_path, service.url))
    with pytest.raises(RemoteError) as caught:
        list(session.generate([ask("hello")]))
    session.close()
    assert len(service.bodies) == 1 and mend in str(caught.value) and KEY not in str(caught.value)


def test_text_handed_out_is_never_repeated(service: Service, tmp_path: Path) -> None:
    service.plan = ["break"]
    session = engine.open(model_at(tmp_path, service.url))
    chunks = list(session.generate([ask("one two three")]))
    session.close()
    assert texts(chunks) == {"a": "one "} and chunks[-1].finish == "error" and "broke off" in chunks[-1].error
    assert len(service.bodies) == 1


def test_an_answer_that_comes_whole_is_read_too(service: Service, tmp_path: Path) -> None:
    service.plan = ["whole"]
    session = engine.open(model_at(tmp_path, service.url))
    chunks = list(session.generate([ask("one two\nthree\u2028four")]))
    session.close()
    assert (
        texts(chunks) == {"a": "one two\nthree\u2028four"} and chunks[-1].finish == "stop" and len(service.bodies) == 1
    )


@pytest.mark.parametrize("odd", _ODD)
def test_other_answers_than_agreed(service: Service, tmp_path: Path, odd: str) -> None:
    service.plan = [odd]
    session = engine.open(model_at(tmp_path, service.url))
    with pytest.raises(RemoteError, match="JSON"):
        list(session.generate([ask("hello")]))
    session.close()


def test_a_silent_service_times_out(service: Service, tmp_path: Path) -> None:
    service.plan = ["hang"]
    session = engine.open(model_at(tmp_path, service.url, timeout_seconds=0.2, retries=0))
    chunks = list(session.generate([ask("one two")]))
    session.close()
    assert chunks[-1].finish == "error" and "0.2 s" in chunks[-1].error


def test_cancel_ends_one_request(service: Service, tmp_path: Path) -> None:
    service.plan = ["hang"]
    session = engine.open(model_at(tmp_path, service.url))
    stream = session.generate([ask("one two three four")])
    first = next(stream)
    session.cancel("a")
    service.release.set()
    rest = list(stream)
    session.close()
    assert first.text == "one " and rest[-1].finish == "cancelled"


def test_nobody_there(tmp_path: Path) -> None:
    probe = Service()
    url = probe.url
    probe.server_close()
    session = engine.open(model_at(tmp_path, url, retries=0))
    with pytest.raises(RemoteError, match="connection failed"):
        list(session.generate([ask("hello")]))
    session.close()


def test_a_missing_key_is_said_before_anything_is_sent(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOLANT_TEST_KEY")
    with pytest.raises(RemoteError, match="VOLANT_TEST_KEY is not set"):
        engine.open(model_at(tmp_path, service.url))
    assert not service.bodies


@pytest.mark.parametrize("url", ["ftp://x/v1", "https://user:secret@host/v1", "https://host/v1?key=abc", "nowhere"])
def test_addresses_that_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        engine.open(model_at(tmp_path, url))
    assert "secret" not in str(caught.value)


def test_logprobs_are_not_told(service: Service, tmp_path: Path) -> None:
    session = engine.open(model_at(tmp_path, service.url))
    with pytest.raises(NotImplementedError):
        session.logprobs([(ask("x"), "y")])
    session.close()
