"""The samples of a split in a random order that needs no state: the seed and the step give the sample.

Enters: a Dataset, a split and a seed. Leaves: `Stream.at(step)`, and samples from any step on. Whoever was killed at
step 70,000 goes on there; nothing was kept but that number. Nothing is shuffled in memory either: row groups come
in an order of their own (`store/order.py`), eight at a time are held, and within those eight the rows are dealt.
Where a split has no more than eight row groups (16,384 samples) that is a full shuffle.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate

import numpy as np
import pyarrow as pa

from volant.core.artifact import Dataset
from volant.core.sample import Sample, Split
from volant.store.dataset import from_table, parts
from volant.store.order import Numbers, Order, sub_seed
from volant.store.shards import Part

GROUPS = 8


class Stream:
    """A split in a random order, pass after pass.

    Args:
        data: a sealed dataset, or a view of one.
        split: which split.
        seed: another one gives another order.

    Raises:
        DataError: the split is empty, absent or sealed.
        ArtifactError: a shard is damaged.
    """

    def __init__(self, data: Dataset, split: Split = "train", *, seed: int = 0) -> None:
        self.seed = seed
        self._parts = parts(data, split)
        self._known: tuple[int, list[list[Part]], list[int]] | None = None
        self._held: tuple[tuple[int, int], pa.Table, Numbers] | None = None

    @cached_property
    def size(self) -> int:
        """Samples in one pass."""
        return sum(part.rows for part in self._parts)

    def at(self, step: int) -> Sample:
        """The sample of that step (from 0).

        Raises:
            ArtifactError: a shard is damaged.
        """
        number, place = divmod(step, self.size)
        windows, ends = self._pass(number)
        which = int(np.searchsorted(ends, place, side="right"))
        table, dealt = self._window(number, which, windows[which])
        row = int(dealt[place - (ends[which - 1] if which else 0)])
        return next(from_table(table.slice(row, 1)))

    def samples(self, start: int = 0) -> Iterator[Sample]:
        """Samples from a step on, without end."""
        while True:
            yield self.at(start)
            start += 1

    def _pass(self, number: int) -> tuple[list[list[Part]], list[int]]:
        """The windows of a pass, and at which place of it each one ends."""
        if self._known is None or self._known[0] != number:
            order = Order(len(self._parts), sub_seed(self.seed, number)).at(np.arange(len(self._parts)))
            dealt = [self._parts[i] for i in order.tolist()]
            windows = [dealt[i : i + GROUPS] for i in range(0, len(dealt), GROUPS)]
            self._known = (number, windows, list(accumulate(sum(part.rows for part in w) for w in windows)))
        return self._known[1:]

    def _window(self, number: int, which: int, window: list[Part]) -> tuple[pa.Table, Numbers]:
        """The rows of a window, and the order in which they come."""
        if self._held is None or self._held[0] != (number, which):
            table = pa.concat_tables([part.read() for part in window])
            order = Order(table.num_rows, sub_seed(self.seed, number, which + 1))
            self._held = ((number, which), table, order.at(np.arange(table.num_rows)))
        return self._held[1:]
