"""Memorisation: which outputs repeat 13 words or more of the training data word for word.

Outputs and the training samples enter (without them, the reference answers are taken for the training
data). 1.0 an output with such a span, else 0.0, so the score is a share; lower is better. Spans that
stand in the prompt do not count: quoting what one was given is not remembering. Two more figures come
along: the longest copied span in words, and the share of outputs (of five words or more) that are a
whole training answer. Short answers never reach 13 words; for them the last figure is the one to read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Direction, Score
from volant.scorers.measure import mean_score, prompt_of, target_of
from volant.scorers.scoring import Scoring
from volant.scorers.texts import words
from volant.store.mixing import mixed

SPAN_WORDS = 13  # GPT-3's bar for contamination, used the same way for copies
WHOLE_ANSWER_WORDS = 5
U64 = npt.NDArray[np.uint64]
_BASE = np.uint64(0x9E3779B97F4A7C15)


class Spans:
    """Training texts as one stream of word hashes; tells the longest span that a text shares with it."""

    def __init__(self, texts: Iterable[str]) -> None:
        numbers: dict[str, int] = {}
        stream: list[int] = []
        for text in texts:
            stream += [numbers.setdefault(w, len(numbers) + 2) for w in words(text)]
            stream.append(1)  # no span reaches over the end of a text
        self._numbers, self._stream = numbers, np.asarray(stream or [1], np.uint64)
        self._levels: dict[int, U64] = {}

    @cached_property
    def digest(self) -> str:
        """sha256 of the stream."""
        return hashlib.sha256(self._stream.tobytes() + "\n".join(self._numbers).encode()).hexdigest()

    def longest(self, texts: Sequence[str], *, excluding: Sequence[str] = ()) -> list[int]:
        """For each text, the words in its longest span that occurs in the stream.

        Args:
            texts: what to look for.
            excluding: one text for each; spans that occur in it do not count.
        """
        own = [self._numbered(words(t)) for t in texts]
        outside = [self._numbered(words(t)) for t in excluding] or [np.zeros(0, np.uint64)] * len(texts)
        longest = [0] * len(texts)
        alive, size = list(range(len(texts))), 0
        # If a span of n words occurs, so does one of n - 1: go up until nobody is left.
        while alive:
            size += 1
            level = self._level(size)
            alive = [i for i in alive if self._shares(own[i], outside[i], level, size)]
            for i in alive:
                longest[i] = size
        return longest

    @staticmethod
    def _shares(own: U64, outside: U64, level: U64, size: int) -> bool:
        hashes = np.setdiff1d(_windows(own, size), _windows(outside, size))
        at = np.searchsorted(level, hashes)
        return bool(len(level)) and bool((level[np.minimum(at, len(level) - 1)] == hashes).any())

    def _numbered(self, found: list[str]) -> U64:
        # Words that the stream has not get numbers that it has not, by hash, so that they match nowhere.
        far = 1 << 62
        numbers = [self._numbers.get(w) or far + int.from_bytes(w.encode()[:7], "big") for w in found]
        return np.asarray(numbers, np.uint64)

    def _level(self, size: int) -> U64:
        if size not in self._levels:
            self._levels[size] = np.unique(_windows(self._stream, size))
        return self._levels[size]


def _windows(stream: U64, size: int) -> U64:
    """A 64-bit hash of each run of `size` words (polynomial, wrapping)."""
    count = len(stream) - size + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    hashes = np.zeros(count, np.uint64)
    for offset in range(size):
        hashes = hashes * _BASE + mixed(stream[offset : offset + count])
    return hashes


class Memorisation(Scoring):
    """See the module."""

    name = "memorisation"
    direction: Direction = "lower"
    binary = True
    ladder = "memorisation"
    bar = "<= 0.05"  # the rate at which stock phrases repeat by themselves

    def __init__(self, training: Iterable[Sample] | None, span: int) -> None:
        self.span = span
        self.note = f"outputs with {span} words or more copied from the training data"
        samples = None if training is None else list(training)
        self._spans = None if samples is None else Spans(s.text for s in samples)
        self._answers = None if samples is None else {_key(target_of(s)) for s in samples if s.shape != "text"}

    @property
    def settings(self) -> dict[str, Any]:
        """The length of a span, and what was taken for the training data."""
        return {"span": self.span, "training": self._spans.digest if self._spans else "references"}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """1.0 for an output with a copied span, else 0.0."""
        return [float(n >= self.span) for n in self._longest(outputs, references)]

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The share, the longest span in words, and the share of whole training answers."""
        self.check(outputs, references)
        longest = self._longest(outputs, references)
        answers = self._answers if self._answers is not None else {_key(target_of(r)) for r in references}
        whole = [float(len(words(o.text)) >= WHOLE_ANSWER_WORDS and _key(o.text) in answers) for o in outputs]
        n = len(outputs)
        return [
            mean_score(
                self.name, [float(k >= self.span) for k in longest], direction="lower", binary=True, note=self.note
            ),
            Score.exact("longest_copied_span", max(longest), n=n, unit="words", direction="lower"),
            mean_score(
                "whole_answers_copied", whole, direction="lower", binary=True, note="outputs that are a training answer"
            ),
        ]

    def _longest(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[int]:
        spans = self._spans or Spans(target_of(r) for r in references)
        return spans.longest([o.text for o in outputs], excluding=[prompt_of(r) for r in references])


def _key(text: str) -> str:
    return " ".join(words(text))


def memorisation(*, training: Iterable[Sample] | None = None, span: int = SPAN_WORDS) -> Memorisation:
    """The scorer.

    Args:
        training: what the model was trained on; None takes the reference answers for it.
        span: from how many words on a copy counts.
    """
    return Memorisation(training, span)
