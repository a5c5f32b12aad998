"""Which records the labelling page offers next: the ways of `scorers/selection.py`, by the labels that there are.

Enters: the records that may be labelled, and again and again what has been said of them. Leaves: the ids of the next
ones. Features are computed once, when they are first needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from volant.core.sample import Sample
from volant.scorers.classifier import features_of
from volant.scorers.selection import ASIDE, OPEN, How, pick

AT_ONCE = 10
"""Records that are picked by the same labels: as many are judged before the next pick."""
POOL = 2000
"""Records that are picked among, unless more are asked for: features of more take longer than a person waits."""


class Picker:
    """Picks among records.

    Args:
        samples: that may be labelled.
        modality: gives their features.
        classes: what they may be.
        how, seed: see `pick`.
    """

    def __init__(
        self, samples: Sequence[Sample], modality: Any, *, classes: Sequence[str], how: How, seed: int = 0
    ) -> None:
        self._samples, self._modality, self._how, self._seed = samples, modality, how, seed
        self._classes = {value: number for number, value in enumerate(classes)}

    @cached_property
    def _features_ND(self) -> Any:
        return features_of(self._modality, self._samples)

    def next(self, known: Mapping[str, str], judged: Collection[str], count: int = AT_ONCE) -> list[str]:
        """The ids of the next records, the most useful first.

        Args:
            known: the class of a record, by id.
            judged: ids of all that somebody has said something of, undecided ones among them.
        """
        labels = np.full(len(self._samples), OPEN)
        for place, sample in enumerate(self._samples):
            value = known.get(sample.id)
            if value in self._classes:
                labels[place] = self._classes[value]
            elif sample.id in judged:
                labels[place] = ASIDE
        # Random order needs no features.
        seen = np.zeros((len(labels), 1)) if self._how == "random" else self._features_ND
        chosen = pick(seen, labels, len(self._classes), count, how=self._how, seed=self._seed)
        return [self._samples[place].id for place in chosen.tolist()]
