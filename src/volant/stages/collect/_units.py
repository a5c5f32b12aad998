"""Which records belong together: those of a group, equal ones, and near duplicates. A split takes such a unit whole.

In goes a Dataset; out come its kept records by number, the unit of each, and what a split is decided by. Texts are
read twice and not held; 512 bytes a record lie on disk, its id, group and time in memory. Feedback is left out: it
only ever trains, and a correction resembles what it corrects.

Legend: N records, M pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from volant.core import Dataset, Run, Sample
from volant.core.sample import CONTENT_SHAPES
from volant.stages.collect._named import named

BATCH = 2000
EQUAL = 1.0


@dataclass
class Records:
    """Kept records in their order.

    Attributes:
        names: of each: its id and those of its parents.
        groups: what each is grouped by.
        times: when each came, as it says; empty where nobody asked.
        first_N: the first record of each one's unit.
        cluster_N: the first record of those that it is alike, whatever its group.
    """

    names: list[list[str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    times: list[str] = field(default_factory=list)
    first_N: Any = None
    cluster_N: Any = None

    @cached_property
    def units(self) -> dict[int, list[int]]:
        """The records of each unit, by its first one."""
        found: dict[int, list[int]] = {}
        for number, first in enumerate(self.first_N.tolist()):
            found.setdefault(first, []).append(number)
        return found

    @cached_property
    def clusters(self) -> dict[int, str]:
        """The smallest id of each cluster of two records or more, by its first one."""
        found: dict[int, list[str]] = {}
        for number, first in enumerate(self.cluster_N.tolist()):
            found.setdefault(first, []).append(self.names[number][0])
        return {first: min(ids) for first, ids in found.items() if len(ids) > 1}


def belongs(sample: Sample) -> bool:
    """Whether a record is dealt at all: feedback stays in train."""
    return sample.source.origin != "feedback"


def units_of(run: Run, data: Dataset, *, column: str, near: float | None, time: str) -> Records:
    """The records of a dataset and what belongs together.

    Args:
        column: the name of what groups them (see `_named.named`); a record without it is a group of its own.
        near: similarity from which two belong together; None takes what suits the modality.
        time: the name of what says when they came; empty: nothing.
    """
    import numpy as np

    from volant.modalities import open_modality
    from volant.modalities.linking import clusters

    modality = open_modality(run.modality)
    found, kinds, marks = Records(), [], _Marks(modality)
    for number, sample in enumerate(_read(run, data)):
        found.names.append([sample.id, *sample.parents])
        found.groups.append(named(sample, column, missing="") or sample.id)
        found.times.append(named(sample, time, missing="") if time else "")
        kinds.append(sample.shape if sample.shape in CONTENT_SHAPES else "text")
        marks.add(number, sample)
    count = len(kinds)
    alike = [_texts_alike(run, data, near, np.array([kind == "text" for kind in kinds], bool)), marks.alike(near)]
    pair_M2 = np.concatenate(alike)
    group_N = np.unique(found.groups, return_inverse=True)[1] if count else np.zeros(0, np.int64)
    order = np.argsort(group_N, kind="stable")
    same = group_N[order][1:] == group_N[order][:-1]
    grouped = np.stack([order[:-1][same], order[1:][same]], axis=1)
    found.cluster_N = clusters(pair_M2, count)
    found.first_N = clusters(np.concatenate([pair_M2, grouped]).astype(np.int64), count)
    return found


def _read(run: Run, data: Dataset) -> Iterator[Sample]:
    from volant.store.dataset import rows

    for number, sample in enumerate(rows(data)):
        if number % 1000 == 0:
            run.check_stop()
        if belongs(sample):
            yield sample


def _texts_alike(run: Run, data: Dataset, near: float | None, text_N: Any) -> Any:
    """Pairs [M, 2] of records whose texts are near duplicates."""
    import numpy as np

    from volant.modalities.duplicates import streamed_clusters
    from volant.modalities.minhash import NEAR

    if not text_N.any():
        return np.zeros((0, 2), np.int64)

    def batches() -> Iterator[list[str]]:
        batch: list[str] = []
        for sample in _read(run, data):
            if sample.shape not in CONTENT_SHAPES:
                batch.append(sample.text)
            if len(batch) == BATCH:
                yield batch
                batch = []
        yield batch

    found = streamed_clusters(batches, NEAR if near is None else near, work=run.work / "alike")
    return np.flatnonzero(text_N)[found.pair_M2]


class _Marks:
    """Fingerprints of pictures and rows, and which are alike.

    Rows are alike from 1 on where nothing else is asked: of ten columns nine are the same in rows of two people.
    """

    def __init__(self, modality: Any) -> None:
        self._modality = modality
        self._found: dict[str, tuple[list[int], list[Any]]] = {}

    def add(self, number: int, sample: Sample) -> None:
        """Take the fingerprint of a record that is no text."""
        import numpy as np

        if sample.shape in CONTENT_SHAPES:
            numbers, marks = self._found.setdefault(sample.shape, ([], []))
            numbers.append(number)
            marks.append(np.asarray(self._modality.fingerprint(sample)).astype(np.uint32))

    def alike(self, near: float | None) -> Any:
        """Pairs [M, 2] of records."""
        import numpy as np

        from volant.modalities.duplicates import near_clusters

        pairs = [np.zeros((0, 2), np.int64)]
        for shape, (numbers, marks) in self._found.items():
            usual = EQUAL if shape == "row" else float(getattr(self._modality, "near", EQUAL))
            found = near_clusters(np.stack(marks), usual if near is None else near)
            pairs.append(np.array(numbers, np.int64)[found.pair_M2])
        return np.concatenate(pairs)
