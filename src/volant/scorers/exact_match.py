"""Exact match: 1 where the output equals the reference answer, else 0.

Case, punctuation, articles and runs of spaces do not count, as in SQuAD.
"""

from __future__ import annotations

from collections.abc import Sequence

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.scorers.measure import target_of
from volant.scorers.scoring import Scoring
from volant.scorers.tokens import answer_words


class ExactMatch(Scoring):
    """See the module."""

    name = "exact_match"
    binary = True
    ladder = "fidelity"
    note = "case, punctuation and articles aside"
    leans_on = ("volant.scorers.texts", "volant.scorers.tokens")

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """1.0 or 0.0 an output."""
        pairs = zip(outputs, references, strict=True)
        return [float(answer_words(o.text) == answer_words(target_of(r))) for o, r in pairs]


def exact_match() -> ExactMatch:
    """The scorer; it has no settings."""
    return ExactMatch()
