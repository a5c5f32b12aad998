"""Putting instructions and examples before requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from volant.core.artifact import Prompt
from volant.core.errors import ArtifactError
from volant.core.protocols import Chunk, Request
from volant.engines.prompting import Example, PromptFile, apply, prompted

POOL = [
    Example(prompt="def add(a, b): return a + b", completion="Add two numbers."),
    Example(prompt="def read(path): return open(path).read()", completion="Read a file."),
    Example(prompt="class Queue: pass", completion="A queue."),
    Example(prompt="def subtract(a, b): return a - b", completion="Subtract two numbers."),
]


def saved(folder: Path, **fields: object) -> Prompt:
    PromptFile(examples=POOL, **fields).save(folder)  # type: ignore[arg-type]
    return Prompt(folder)


def ask(text: str, *before: dict[str, str]) -> Request:
    return Request(id="r", messages=(*before, {"role": "user", "content": text}))


def contents(request: Request, role: str) -> list[str]:
    return [m["content"] for m in request.messages if m["role"] == role]


def test_nearest_puts_the_most_similar_last(tmp_path: Path) -> None:
    asked = apply(saved(tmp_path, k=2), ask("def add3(a, b, c): return a + b + c"))
    assert contents(asked, "assistant") == ["Subtract two numbers.", "Add two numbers."]
    assert asked.messages[-1]["content"].startswith("def add3") and asked.id == "r"


def test_fixed_keeps_the_order(tmp_path: Path) -> None:
    asked = apply(saved(tmp_path, k=2, select="fixed"), ask("class Queue2: pass"))
    assert contents(asked, "assistant") == ["Add two numbers.", "Read a file."]


def test_system_texts_are_joined(tmp_path: Path) -> None:
    asked = apply(saved(tmp_path, system="Be short."), ask("x", {"role": "system", "content": "In French."}))
    assert [m["role"] for m in asked.messages] == ["system", "user"]
    assert contents(asked, "system") == ["Be short.\n\nIn French."]


def test_a_long_request_gets_fewer_examples(tmp_path: Path) -> None:
    prompt = saved(tmp_path, k=4, budget_characters=200)
    counts = [len(contents(apply(prompt, ask("x" * n)), "assistant")) for n in (1, 100, 170, 500)]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] == 0
    for n in (1, 100, 170):
        assert sum(len(m["content"]) for m in apply(prompt, ask("x" * n)).messages) <= 200


@pytest.mark.parametrize("request_", [Request(id="p", prompt="plain"), Request(id="e")])
def test_plain_prompts_are_left_alone(tmp_path: Path, request_: Request) -> None:
    assert apply(saved(tmp_path, k=2, system="s"), request_) is request_


def test_nothing_to_add_changes_nothing(tmp_path: Path) -> None:
    request = ask("x")
    assert apply(saved(tmp_path, k=0), request).messages == request.messages


def test_a_broken_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"prompt\.json"):
        apply(Prompt(tmp_path), ask("x"))
    (tmp_path / "prompt.json").write_text('{"k": -1}')
    with pytest.raises(ArtifactError, match="does not parse"):
        apply(Prompt(tmp_path), ask("x"))


def test_an_altered_file_is_read_again(tmp_path: Path) -> None:
    assert len(apply(saved(tmp_path, k=1), ask("x")).messages) == 3
    assert len(apply(saved(tmp_path, k=2, system="longer"), ask("x")).messages) == 6


class Told:
    """A session that keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.cancelled: list[str] = []
        self.closed = False

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        self.seen += requests
        yield from (Chunk(r.id, "ok", finish="stop") for r in requests)

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        self.seen += [request for request, _ in pairs]
        return [[-1.0] for _ in pairs]

    def cancel(self, id: str) -> None:
        self.cancelled.append(id)

    def close(self) -> None:
        self.closed = True


def test_the_wrapped_session(tmp_path: Path) -> None:
    told = Told()
    session = prompted(told, saved(tmp_path, k=1))
    assert [c.text for c in session.generate([ask("def add()")])] == ["ok"]
    assert session.logprobs([(ask("def add()"), "y")]) == [[-1.0]]
    session.cancel("r")
    session.close()
    assert [len(r.messages) for r in told.seen] == [3, 3] and told.cancelled == ["r"] and told.closed
