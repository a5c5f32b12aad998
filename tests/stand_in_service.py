"""A stand-in for a hosted model: an OpenAI-like service on a loopback port that answers by a rule, and says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from volant.core.artifact import Model, ModelAbout

NAME = "a-stand-in-for-tests"
Reply = Callable[[list[dict[str, str]], int], str]


class StandIn(ThreadingHTTPServer):
    """Answers with `reply(messages, seed)`; after `dies_after` answers it refuses."""

    daemon_threads = True

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.bodies: list[dict[str, Any]] = []
        self.dies_after = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address, up to and with /v1."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        """One answer, as a stream."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            dead = self.server.dies_after and len(self.server.bodies) > self.server.dies_after
        if dead:
            self.send_response(401)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        words = self.server.reply(body["messages"], body["seed"]).split(" ")
        told = words[: body["max_tokens"]]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self._event({"choices": [{"delta": {"content": " ".join(told)}, "finish_reason": None}]})
        self._event({"choices": [{"delta": {}, "finish_reason": "length" if len(told) < len(words) else "stop"}]})
        asked = sum(len(turn["content"].split()) for turn in body["messages"])
        usage = {"prompt_tokens": asked, "completion_tokens": len(told)}
        self._event({"model": NAME, "choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.flush()


@contextmanager
def serving(reply: Reply) -> Iterator[StandIn]:
    """The service, running."""
    server = StandIn(reply)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hosted(folder: Path, url: str, **extra: Any) -> Model:
    """A Model as `pretrain.base` leaves it for such an address."""
    folder.mkdir(parents=True, exist_ok=True)
    about = ModelAbout(
        family="remote", modality="text", engine="remote", extra={"url": url, "name": NAME, "retries": 0, **extra}
    )
    (folder / "volant.json").write_text(about.model_dump_json())
    return Model(folder)
