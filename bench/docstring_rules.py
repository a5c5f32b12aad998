"""Rules of a good first line that can be checked, as scorers: `docstring_rules:full_stop`, `:unrepeated`.

Outputs enter, 0 to 1 an example leaves. None of them reads the reference: what it is about is left to relevance.
"""

from __future__ import annotations

from collections.abc import Sequence

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.scorers.scoring import Scoring
from volant.scorers.texts import STOP_WORDS, words


class FullStop(Scoring):
    """1 where the output is one line that ends with its only full stop."""

    name = "full_stop"
    binary = True
    ladder = "code"
    note = "one line, one full stop, at the end"

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """1.0 or 0.0 an output."""
        said = [output.text.strip() for output in outputs]
        return [float(len(t) > 1 and t.endswith(".") and t.count(".") == 1 and "\n" not in t) for t in said]


class Unrepeated(Scoring):
    """Which share of the words that carry meaning is not a word said before; 0 where there is none."""

    name = "unrepeated"
    ladder = "code"
    note = "distinct words over words, without stop words"

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """0 to 1 an output."""
        found = [[w for w in words(output.text) if w not in STOP_WORDS] for output in outputs]
        return [len(set(own)) / len(own) if own else 0.0 for own in found]


def full_stop() -> FullStop:
    """Whether it is one sentence, closed."""
    return FullStop()


def unrepeated() -> Unrepeated:
    """Whether it says no word twice."""
    return Unrepeated()
