"""Texts of a few records out of several datasets, as sets of shingles: what decides whether two are alike.

In go datasets and the ids of the records that are compared; out come the sets of those that are asked for. A column of
ids is read, and of the texts only the row groups that hold one, kept or dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from volant.core import Dataset, Run


class Texts:
    """The texts of numbered records.

    Args:
        datasets: where they lie, one after another.
        ids: of all records.
        begin: the number of the first record of each dataset, and how many there are, int [datasets + 1].

    Attributes:
        read: how many texts were read, of all datasets but the last.
    """

    def __init__(self, run: Run, datasets: Sequence[Dataset], ids: Sequence[str], begin: Any) -> None:
        self.run, self.datasets, self.ids, self.begin = run, datasets, ids, begin
        self.read = 0

    def shingles(self, wanted: Any) -> Any:
        """The shingle sets of the records of these rising numbers."""
        import numpy as np

        from volant.modalities.shingle_sets import Sets

        found = Sets(file=self.run.work / "shingles")
        order: list[int] = []
        for number, data in enumerate(self.datasets):
            low, high = np.searchsorted(wanted, self.begin[number : number + 2])
            places = {self.ids[int(wanted[at])]: at for at in range(low, high)}
            for at, one in _sets(self.run, data, places):
                order.append(at)
                found.extend([one])
            if number + 1 < len(self.datasets):
                self.read += len(places)
        assert len(order) == len(wanted), "a sketch whose record is gone"
        found.reorder(np.argsort(np.array(order, np.int64)))
        return found


def _sets(run: Run, data: Dataset, places: dict[str, int]) -> Iterator[tuple[int, Any]]:
    """The place of each record and its shingles, in the order in which they lie."""
    from volant.modalities.shingle_sets import shingle_sets
    from volant.modalities.text_arrays import COLUMNS, text_array
    from volant.modalities.text_features import likeness
    from volant.store.record_index import shards
    from volant.store.shards import parts_of

    open_ones = dict(places)
    for part in parts_of(shards(data.path)):
        if not open_ones:
            return
        run.check_stop()
        here = {id: at for at, id in enumerate(part.read(["id"])["id"].to_pylist()) if id in open_ones}
        if not here:
            continue
        texts = text_array(part.read(COLUMNS).take(list(here.values())))
        for id, one in zip(here, shingle_sets(likeness(texts).words), strict=True):
            yield open_ones.pop(id), one
