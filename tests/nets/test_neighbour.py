"""The nearest-neighbour baseline: the answer of the most similar prompt."""

import json

import pytest

from volant.core.errors import DataError
from volant.core.protocols import Request
from volant.core.sample import Sample, Source
from volant.nets.neighbour import fit

SOURCE = Source(uri="test:neighbour", licence="CC0-1.0")


def pair(prompt: str, answer: str) -> Sample:
    return Sample(id=prompt, shape="completion", source=SOURCE, condition=prompt, target=answer)


PAIRS = [
    pair("def read_file(path): return open(path).read()", "Read a file."),
    pair("def add(a, b): return a + b", "Add two numbers."),
    pair("def close_socket(s): s.close()", "Close the socket."),
]


def ask(prompt: str, **settings: object) -> Request:
    return Request(id="1", messages=({"role": "user", "content": prompt},), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [("def read_text_file(name): ...", "Read a file."), ("def add_all(a, b, c): return a + b + c", "Add two numbers.")],
)
def test_the_nearest_prompt_answers(prompt: str, answer: str) -> None:
    chunk = next(fit(PAIRS).generate([ask(prompt)]))
    assert (chunk.text, chunk.finish, chunk.id) == (answer, "stop", "1")


def test_a_training_prompt_finds_itself() -> None:
    found = fit(PAIRS).nearest([p.condition or "" for p in PAIRS])
    assert [at for at, _ in found] == [0, 1, 2] and all(s == pytest.approx(2, abs=1e-6) or s <= 2 for _, s in found)


def test_limits_and_stops_are_kept() -> None:
    model = fit(PAIRS)
    chunk = next(model.generate([ask("def close_socket(s): s.close()", max_tokens=2)]))
    assert (chunk.text, chunk.finish) == ("Close the", "length")
    assert next(model.generate([ask("def close_socket(s): s.close()", stop=(" the",))])).text == "Close"


def test_messages_and_plain_text_serve_too() -> None:
    turns = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "Hello."}]
    chat = Sample(id="c", shape="messages", source=SOURCE, content=json.dumps(turns))
    assert next(fit([chat]).generate([ask("hello")])).text == "Hello."
    long = Sample(id="t", shape="text", source=SOURCE, content="alpha beta " * 60 + "gamma delta " * 60)
    assert "gamma" in next(fit([long]).generate([Request(prompt="alpha beta alpha")])).text


def test_without_answers_or_probabilities_it_says_so() -> None:
    with pytest.raises(DataError):
        fit([])
    with pytest.raises(NotImplementedError):
        fit(PAIRS).logprobs([(ask("x"), "y")])
