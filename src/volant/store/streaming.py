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
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from volant.core.artifact import Dataset
from volant.core.errors import ArtifactError
from volant.core.sample import Sample, Split
from volant.store.dataset import from_table, rows
from volant.store.order import Numbers, Order, sub_seed

GROUPS = 8
_Group = tuple[Path, int, int]


class Stream:
    """A split in a random order, pass after pass.

    Args:
        data: a sealed dataset, or a view of one.
        split: which split.
        seed: another one gives another order.

    Raises:
        DataError: the split is empty, absent or sealed.
    """

    def __init__(self, data: Dataset, split: Split = "train", *, seed: int = 0) -> None:
        rows(data, split)  # refuses a split that may not be read
        self.seed = seed
        self._files = sorted((data.path / "data").glob(f"{split}-*.parquet"))
        self._known: tuple[int, list[list[_Group]], list[int]] | None = None
        self._held: tuple[tuple[int, int], pa.Table, Numbers] | None = None

    @cached_property
    def _groups(self) -> list[_Group]:
        """File, number and rows of each row group."""
        found = []
        for file in self._files:
            with pq.ParquetFile(file) as shard:
                counts = [shard.metadata.row_group(n).num_rows for n in range(shard.num_row_groups)]
            found += [(file, number, count) for number, count in enumerate(counts)]
        return found

    @cached_property
    def size(self) -> int:
        """Samples in one pass."""
        return sum(count for _, _, count in self._groups)

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

    def _pass(self, number: int) -> tuple[list[list[_Group]], list[int]]:
        """The windows of a pass, and at which place of it each one ends."""
        if self._known is None or self._known[0] != number:
            order = Order(len(self._groups), sub_seed(self.seed, number)).at(np.arange(len(self._groups)))
            groups = [self._groups[i] for i in order.tolist()]
            windows = [groups[i : i + GROUPS] for i in range(0, len(groups), GROUPS)]
            self._known = (number, windows, list(accumulate(sum(count for _, _, count in w) for w in windows)))
        return self._known[1:]

    def _window(self, number: int, which: int, groups: list[_Group]) -> tuple[pa.Table, Numbers]:
        """The rows of a window, and the order in which they come."""
        if self._held is None or self._held[0] != (number, which):
            try:
                table = pa.concat_tables([_group(file, n) for file, n, _ in groups])
            except (pa.ArrowException, OSError) as error:
                first = str(error).split("\n", maxsplit=1)[0]
                what = f"a shard cannot be read: {first}"
                raise ArtifactError(what, where=str(groups[0][0]), fix="Run `volant verify`.") from error
            order = Order(table.num_rows, sub_seed(self.seed, number, which + 1))
            self._held = ((number, which), table, order.at(np.arange(table.num_rows)))
        return self._held[1:]


def _group(file: Path, number: int) -> pa.Table:
    with pq.ParquetFile(file) as shard:
        return shard.read_row_group(number, use_threads=False)
