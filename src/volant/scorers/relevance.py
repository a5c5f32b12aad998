"""Relevance: how much of the reference answer's wording the output has, in [0, 1].

The cosine of hashed words and of hashed runs of 3 to 5 characters, averaged. It needs no fit and no
model, so it is the same everywhere and can be pinned by its digest. It sees wording, not meaning: a
right answer in other words scores low. That is why gains are read as differences, never as a grade.
"""

from __future__ import annotations

from collections.abc import Sequence

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.scorers.measure import target_of
from volant.scorers.scoring import Scoring
from volant.scorers.texts import similarity


class Relevance(Scoring):
    """See the module."""

    name = "relevance"
    ladder = "fidelity"
    note = "wording shared with the reference answer"

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """Similarity of each output to its reference's answer."""
        return [similarity(o.text, target_of(r)) for o, r in zip(outputs, references, strict=True)]


def relevance() -> Relevance:
    """The scorer; it has no settings."""
    return Relevance()
