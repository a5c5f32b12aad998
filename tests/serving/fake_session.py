"""An engine's session for tests: says its own name and the prompt back, word by word, with delays."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

from volant.core.protocols import Chunk, Request


class EchoSession:
    def __init__(self, name: str = "echo", *, token_seconds: float = 0.0, words: int = 4) -> None:
        self.name, self.token_seconds, self.words = name, token_seconds, words
        self.batches: list[list[Request]] = []
        self.cancelled: set[str] = set()
        self.closed = False
        self.inside = threading.Lock()
        self.tokens_made = 0
        self.fail_on = "EXPLODE"

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        assert not self.closed, "a closed session was used"
        assert self.inside.acquire(blocking=False), "generate was called from two threads"
        try:
            self.batches.append(list(requests))
            texts = {r.id: r.prompt if r.prompt is not None else r.messages[-1]["content"] for r in requests}
            if any(self.fail_on in t for t in texts.values()):
                raise RuntimeError("secret detail at /somewhere/inside")
            words = {id: f"{self.name} says {t}".split(" ") + ["and"] * 5000 for id, t in texts.items()}
            alive = {r.id: r for r in requests}
            at = 0
            while alive:
                time.sleep(self.token_seconds)
                for id, r in list(alive.items()):
                    n = min(r.max_tokens, len(f"{self.name} says {texts[id]}".split(" ")) if self.words else 10**6)
                    if id in self.cancelled:
                        yield Chunk(id=id, text="", finish="cancelled", completion_tokens=at)
                        del alive[id]
                    elif at == n:
                        yield Chunk(id, "", "length" if n == r.max_tokens else "stop", len(texts[id].split()), at)
                        del alive[id]
                    else:
                        self.tokens_made += 1
                        yield Chunk(id=id, text=(" " if at else "") + words[id][at])
                at += 1
        finally:
            self.inside.release()

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        raise NotImplementedError

    def cancel(self, id: str) -> None:
        self.cancelled.add(id)

    def close(self) -> None:
        self.closed = True
