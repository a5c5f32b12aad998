"""Token precision, recall and F1: the words that output and reference answer share, as SQuAD counts them.

Precision is the share of the output's words that the reference has, recall the share of the reference's
words that the output has, each word counted as often as it occurs. Order does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.scorers.measure import target_of
from volant.scorers.scoring import Scoring
from volant.scorers.texts import words

Kind = Literal["precision", "recall", "f1"]


def answer_words(text: str) -> list[str]:
    """The words of an answer, without articles."""
    return [w for w in words(text) if w not in ("a", "an", "the")]


class TokenOverlap(Scoring):
    """Precision, recall or F1 of the words."""

    ladder = "fidelity"

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.name = f"token_{kind}"
        self.note = f"{kind} of the words, articles aside"

    @property
    def settings(self) -> dict[str, Any]:
        """Which of the three."""
        return {"kind": self.kind}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """One value an output; two empty answers agree."""
        return [self._value(o.text, target_of(r)) for o, r in zip(outputs, references, strict=True)]

    def _value(self, output: str, target: str) -> float:
        found, wanted = Counter(answer_words(output)), Counter(answer_words(target))
        if not found or not wanted:
            return float(found == wanted)
        shared = (found & wanted).total()
        precision, recall = shared / found.total(), shared / wanted.total()
        if self.kind == "precision":
            return precision
        if self.kind == "recall":
            return recall
        return 2 * precision * recall / (precision + recall) if shared else 0.0


def token_precision() -> TokenOverlap:
    """Share of the output's words that the reference has."""
    return TokenOverlap("precision")


def token_recall() -> TokenOverlap:
    """Share of the reference's words that the output has."""
    return TokenOverlap("recall")


def token_f1() -> TokenOverlap:
    """Harmonic mean of both."""
    return TokenOverlap("f1")
