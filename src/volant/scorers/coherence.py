"""Coherence: is the output about the prompt, and do its sentences belong together? In [0, 1].

One sentence: its similarity to the prompt. Several: the mean of that and of the similarity of
neighbouring sentences. Surface similarity of hashed words and runs of characters, so a good answer in
quite other words scores low; read it beside the references' own figure, never alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.scorers.measure import prompt_of
from volant.scorers.scoring import Scoring
from volant.scorers.texts import sentences, similarity


class Coherence(Scoring):
    """See the module."""

    name = "coherence"
    ladder = "fidelity"
    of_references = True
    note = "wording shared with the prompt and between neighbouring sentences"

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """One value an output."""
        return [_coherence(prompt_of(r), o.text) for o, r in zip(outputs, references, strict=True)]


def _coherence(prompt: str, text: str) -> float:
    parts = sentences(text)
    topical = similarity(prompt, text)
    if len(parts) < 2:
        return topical
    between = [similarity(a, b) for a, b in pairwise(parts)]
    return (topical + sum(between) / len(between)) / 2


def coherence() -> Coherence:
    """The scorer; it has no settings."""
    return Coherence()
