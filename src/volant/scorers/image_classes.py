"""Do the pictures show what was asked for? The judge's class against the class, or the words of a caption.

Outputs and references enter; the references' conditions are what was asked. `class_accuracy` is 1.0 where the
judge's class is the condition. `caption_accuracy` is the share of a caption's words that the judge confirms: a
word has the probability of all classes whose names hold it, and is confirmed from one half on. Words that no
class holds are not asked about. The judge errs too: read both beside its accuracy on real pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from volant.core.artifact import Model
from volant.core.errors import DataError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Score
from volant.scorers.images import samples_of
from volant.scorers.judging import Judged
from volant.scorers.measure import mean_score
from volant.scorers.texts import words

CONFIRMED = 0.5  # probability


class ClassAccuracy(Judged):
    """See the module."""

    name = "class_accuracy"
    ladder = "fidelity"
    binary = True
    said = "outputs that the judge takes for the class asked"

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """1.0 for an output of the class asked, else 0.0."""
        asked = [_key(r.condition) for r in references]
        known = {_key(name) for name in self.eyes.judge.classes}
        if not known & set(asked):
            raise DataError(
                f"no reference asks for a class of the judge ({_few(self.eyes.judge.classes)}).",
                where=self.name, fix="Score references whose conditions are classes, or use `caption_accuracy`.",
            )  # fmt: skip
        found = self.eyes.judge.classify(pictures)
        return [float(_key(one) == wanted) for one, wanted in zip(found, asked, strict=True)]


class CaptionAccuracy(Judged):
    """See the module."""

    name = "caption_accuracy"
    ladder = "fidelity"
    leans_on = (*Judged.leans_on, "volant.scorers.texts")
    said = "words of the caption that the judge confirms"

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """The share of confirmed words; 0.0 where the judge knows none of the caption's words."""
        return [value or 0.0 for value in self._shares(pictures, references)]

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The mean over captions with a word that the judge knows; the others are counted in the note."""
        self.check(outputs, references)
        shares = self._shares(samples_of(outputs, self.name), references)
        told = [share for share in shares if share is not None]
        silent = len(shares) - len(told)
        note = f"{self.note}; {silent} captions without a known word left out" if silent else self.note
        return [mean_score(self.name, told, note=note)]

    def _shares(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float | None]:
        classes = [set(words(name)) for name in self.eyes.judge.classes]
        known = set().union(*classes)
        asked = [sorted(set(words(r.condition or "")) & known) for r in references]
        if not any(asked):
            raise DataError(
                f"no caption has a word that the judge knows ({_few(sorted(known))}).",
                where=self.name, fix="Train the judge on samples whose classes use the captions' words.",
            )  # fmt: skip
        chance_NC = np.asarray(self.eyes.judge.probabilities(pictures), np.float64)
        holds = {word: np.array([word in one for one in classes]) for word in known}
        return [
            float(np.mean([chance_C[holds[word]].sum() >= CONFIRMED for word in own])) if own else None
            for chance_C, own in zip(chance_NC, asked, strict=True)
        ]


def _key(condition: Any) -> str:
    return str(condition if condition is not None else "").strip().lower()


def _few(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(str(name) for name in names[:most]) + (", ..." if len(names) > most else "")


def class_accuracy(*, judge: Model | None = None) -> ClassAccuracy:
    """The scorer; `judge` is a model of `pretrain.judge`."""
    return ClassAccuracy(judge)


def caption_accuracy(*, judge: Model | None = None) -> CaptionAccuracy:
    """The scorer; `judge` is a model of `pretrain.judge` whose classes are words."""
    return CaptionAccuracy(judge)
