"""The n-gram baseline: proper probabilities, better than chance, seeded, and fast enough."""

import math

import numpy as np
import pytest

from volant.core.errors import DataError
from volant.core.protocols import Request
from volant.core.sample import Sample, Source
from volant.nets.ngram import fit

SOURCE = Source(uri="test:ngram", licence="CC0-1.0")


def text(content: str, i: int = 0) -> Sample:
    return Sample(id=f"t{i}", shape="text", source=SOURCE, content=content)


def pair(prompt: str, answer: str) -> Sample:
    return Sample(id=prompt, shape="completion", source=SOURCE, condition=prompt, target=answer)


CORPUS = [text("the cat sat on the mat. the dog sat on the log.", 0), text("a bird in the hand", 1), text("größer", 2)]


@pytest.mark.parametrize("order", [1, 2, 5, 8])
@pytest.mark.parametrize("opening", ["", "the ", "the cat sat on the ", "zzzzqqqq", "grö"])
def test_probabilities_sum_to_one_in_every_context(order: int, opening: str) -> None:
    model = fit(CORPUS, order=order)
    recent = int.from_bytes((b"\0" * 8 + opening.encode())[-(order - 1) :], "big") if order > 1 else 0
    p = model._next(recent)
    assert p.sum() == pytest.approx(1, abs=1e-9) and (p > 0).all()


@pytest.mark.parametrize("order", [1, 3, 6])
def test_scoring_and_sampling_agree(order: int) -> None:
    model = fit(CORPUS, order=order)
    opening, continuation = "the cat ", "sat on"
    scored = model.logprobs([(Request(prompt=opening), continuation)])[0]
    data = (b"\0" * (order - 1)) + opening.encode()
    for byte, logp in zip(continuation.encode(), scored, strict=True):
        recent = int.from_bytes(data[-(order - 1) :], "big") if order > 1 else 0
        assert math.log(model._next(recent)[byte]) == pytest.approx(logp)
        data += bytes([byte])


def test_seen_text_is_likelier_than_unseen() -> None:
    model = fit(CORPUS, order=5)
    seen, unseen = (
        sum(x) for x in model.logprobs([(Request(prompt="the "), "cat sat"), (Request(prompt="the "), "qzx jkw")])
    )
    assert seen > unseen + 5
    assert model.logprobs([(Request(prompt="x"), "")]) == [[]]


def test_it_answers_a_known_prompt_and_stops() -> None:
    model = fit([pair("def add", "Add two numbers."), pair("def close", "Close the file.")], order=8)
    ask = Request(id="1", messages=({"role": "user", "content": "def close"},))
    chunk = next(model.generate([ask]))
    assert (chunk.text, chunk.finish, chunk.id) == ("Close the file.", "stop", "1")


def test_sampling_is_seeded_and_bounded() -> None:
    model = fit(CORPUS, order=3)

    def once(seed: int, **controls: float) -> str:
        ask = Request(prompt="the ", temperature=1.0, seed=seed, max_tokens=10, **controls)  # type: ignore[arg-type]
        return next(model.generate([ask])).text

    assert once(1) == once(1)
    assert len({once(seed) for seed in range(6)}) > 1
    assert len({once(seed, top_k=1) for seed in range(4)}) == 1
    assert next(model.generate([Request(prompt="the ", max_tokens=3, stop=("t",))])).text.count("t") == 0


def test_a_cancelled_request_ends() -> None:
    model = fit(CORPUS, order=3)
    model.cancel("7")
    assert next(model.generate([Request(id="7", prompt="the ")])).finish == "cancelled"


def test_no_text_and_a_wrong_order_are_errors() -> None:
    for samples, order in (([], 5), ([text("")], 5), (CORPUS, 9), (CORPUS, 0)):
        with pytest.raises(DataError):
            fit(samples, order=order)


def test_two_megabytes_are_fitted() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(map(chr, rng.integers(97, 123, rng.integers(2, 9)))) for _ in range(3000)]
    samples = [text(" ".join(rng.choice(words, 330)), i) for i in range(1000)]
    assert sum(len(s.content or "") for s in samples) > 1_900_000
    model = fit(samples)
    held = " ".join(rng.choice(words, 100))
    bits = -sum(model.logprobs([(Request(prompt=""), held)])[0]) / math.log(2) / len(held)
    assert bits < 4.7  # the entropy of the letters alone
