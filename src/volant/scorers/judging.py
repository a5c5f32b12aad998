"""What the scorers of pictures share: the judge network, and the checks before anything is measured.

A judge is a small classifier that `pretrain.judge` trains on the train split; what it sees in a picture (its
features) is where sets are compared. No figure means anything without it, so each says the judge's hash.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from volant.core.artifact import Model
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.scorers.images import digest_of, samples_of
from volant.scorers.scoring import Scoring

Floats = NDArray[np.float64]
_KEPT = 6  # sets of samples whose features are kept: outputs, references, training and a rival's


class Judge(Protocol):
    """What `volant.nets.conv.open_judge` opens.

    Attributes:
        classes: what it tells apart, in the order of `probabilities`.
        digest: sha256 of its files.
    """

    @property
    def classes(self) -> Sequence[str]:
        """See the class."""

    @property
    def digest(self) -> str:
        """See the class."""

    def features(self, samples: Sequence[Sample]) -> Any:
        """What it sees, float [n, d]."""

    def classify(self, samples: Sequence[Sample]) -> list[str]:
        """The most probable class of each sample."""

    def probabilities(self, samples: Sequence[Sample]) -> Any:
        """The probability of each class, float [n, classes]."""


class Seen:
    """A judge that is opened when it is first asked, and remembers the sets that it saw last."""

    def __init__(self, judge: Model | Judge) -> None:
        self._given = judge
        self._judge: Judge | None = None if isinstance(judge, Model) else judge
        self._kept: OrderedDict[str, Floats] = OrderedDict()
        self.digest = judge.digest

    @property
    def judge(self) -> Judge:
        """The judge, opened."""
        if self._judge is None:
            assert isinstance(self._given, Model)
            from volant.nets.conv import open_judge

            self._judge = open_judge(self._given)
        return self._judge

    def features(self, samples: Sequence[Sample]) -> Floats:
        """Its features, float64 [n, d]."""
        key = digest_of(samples)
        if key not in self._kept:
            self._kept[key] = np.asarray(self.judge.features(samples), np.float64)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]


# The last judge that was opened from a model: all scorers of a suite use the same one, and look once.
_LAST: list[Seen] = []


def seen(judge: Model | Judge | None) -> Seen | None:
    """The judge with its memory; scorers that are given the same model share it."""
    if judge is None:
        return None
    if not isinstance(judge, Model):
        return Seen(judge)
    if not _LAST or _LAST[0].digest != judge.digest:
        _LAST[:] = [Seen(judge)]
    return _LAST[0]


class Picturing(Scoring):
    """A scorer of pictures.

    Attributes:
        least: the smallest number of examples that gives a figure.
    """

    modality = "image"
    leans_on: tuple[str, ...] = ("volant.scorers.images", "volant.scorers.judging", "volant.scorers.jackknife")
    least: int = 1

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """One value an example, in the order given.

        Raises:
            DataError: too few examples, or one without a picture.
            SettingError: the scorer was not given what it needs (a judge, the training data).
        """
        self.check(outputs, references)
        return self.measured(samples_of(outputs, self.name), references)

    def measured(self, pictures: Sequence[Sample], references: Sequence[Sample]) -> list[float]:
        """One value an example, after the checks."""
        raise NotImplementedError

    def check(self, outputs: Sequence[Output], references: Sequence[Sample]) -> None:
        """Refuse too few examples, and outputs that do not belong to the references."""
        super().check(outputs, references)
        if len(outputs) < self.least:
            raise DataError(
                f"a figure of a set needs {self.least} examples or more (n={len(outputs)}).",
                where=self.name, fix="Score more examples together.",
            )  # fmt: skip


class Judged(Picturing):
    """A scorer of pictures that looks through a judge."""

    said: str = ""

    def __init__(self, judge: Model | Judge | None) -> None:
        self._seen = seen(judge)
        if self._seen is not None:
            self.note = f"{self.said}; judge {self._seen.digest[:12]}".removeprefix("; ")

    @property
    def settings(self) -> dict[str, Any]:
        """Who judges."""
        return {"judge": self._seen.digest if self._seen else ""}

    @property
    def eyes(self) -> Seen:
        """The judge.

        Raises:
            SettingError: none was given.
        """
        if self._seen is None:
            raise SettingError(
                f"scorer {self.name!r} needs a judge.",
                where="scorers", fix="Add a step `judge: {use: pretrain.judge, data: ...}` and name it as `judge`.",
            )  # fmt: skip
        return self._seen
