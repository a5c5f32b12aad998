"""Diversity: how far the outputs avoid repeating each other and themselves, in (0, 1].

Distinct-n: an n-gram of words that occurs k times over all outputs counts 1/k wherever it stands, and
an output's value is the mean over its n-grams. All different gives 1; the same output N times, 1/N. A
figure of the whole set: compare sets of equal size only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.scorers.scoring import Scoring
from volant.scorers.texts import words


class Diversity(Scoring):
    """See the module."""

    name = "diversity"
    ladder = "diversity"
    of_references = True

    def __init__(self, n: int) -> None:
        self.n = n
        self.note = f"distinct {n}-grams; depends on the number of outputs"

    @property
    def settings(self) -> dict[str, Any]:
        """The length of the n-grams."""
        return {"n": self.n}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """One value an output; empty ones repeat each other."""
        grams = [self._grams(o.text) for o in outputs]
        counts = Counter(g for own in grams for g in own)
        return [sum(1 / counts[g] for g in own) / len(own) for own in grams]

    def _grams(self, text: str) -> list[tuple[str, ...]]:
        found = words(text)
        if len(found) < self.n:
            return [tuple(found)]
        return [tuple(found[i : i + self.n]) for i in range(len(found) - self.n + 1)]


def diversity(*, n: int = 2) -> Diversity:
    """The scorer; `n` is the length of the n-grams in words."""
    return Diversity(n)
