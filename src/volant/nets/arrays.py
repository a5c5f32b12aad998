"""Images, rows and other arrays as batches, for families that learn grids and tables.

What enters: examples (values with a condition). What leaves: `ArrayBatch` number `step`, a pure function
of the seed and the step, so that a resumed run sees the same examples. Noise is not part of a batch: a
loss draws it from torch's own generator, whose state the checkpoints hold.

Shape legend: B rows, C condition ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from volant.core.errors import DataError
from volant.core.spaces import Example

NONE = -1  # fills a condition up to the longest; a row of nothing else has no condition


@dataclass(frozen=True)
class ArrayBatch:
    """Examples of one shape.

    Attributes:
        values: float32 [B, ...].
        condition_BC: int64; `NONE` where a condition has fewer ids. C is 0 where the space has none.
        weights_B: how much each example counts in the loss, mean 1; None: all alike.
    """

    values: torch.Tensor
    condition_BC: torch.Tensor
    weights_B: torch.Tensor | None = None
    unit = "examples"

    @property
    def size(self) -> int:
        """Rows."""
        return self.values.size(0)

    @property
    def width(self) -> int:
        """What a row counts in `Recipe.piece_tokens`."""
        return 1

    @property
    def counted(self) -> int:
        """What the summed loss is divided by."""
        return self.size

    @property
    def tokens(self) -> int:
        """Examples."""
        return self.size

    def to(self, device: str) -> ArrayBatch:
        """The same batch on another device."""
        weights = None if self.weights_B is None else self.weights_B.to(device)
        return ArrayBatch(self.values.to(device), self.condition_BC.to(device), weights)

    def rows(self, start: int, stop: int) -> ArrayBatch:
        """Some of the rows; for gradient accumulation."""
        weights = None if self.weights_B is None else self.weights_B[start:stop]
        return ArrayBatch(self.values[start:stop], self.condition_BC[start:stop], weights)


class Arrays:
    """Examples in batches, shuffled anew in each pass; the last batch of a pass is filled from the next one's start.

    Args:
        examples: at least one; all of one shape.
        rows: in a batch.
        seed: of the order.
        weights: one an example, any positive scale; None: all alike.
    """

    def __init__(
        self, examples: Sequence[Example], *, rows: int, seed: int, weights: Sequence[float] | None = None
    ) -> None:
        if not examples:
            raise DataError("there is no example to train on", fix="Add samples to the train split.")
        self.all = array_batch(examples, weights)
        self._rows, self._seed = min(rows, len(examples)), seed
        self.steps = -(-len(examples) // self._rows)
        self._order: tuple[int, torch.Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def batch(self, step: int) -> ArrayBatch:
        """The examples of that step."""
        epoch, place = divmod(step, self.steps)
        if self._order[0] != epoch:
            count = self.all.size
            order = np.random.default_rng([self._seed, epoch]).permutation(count)
            filled = np.concatenate([order, order[: self.steps * self._rows - count]])
            self._order = (epoch, torch.from_numpy(filled))
        chosen = self._order[1][place * self._rows : (place + 1) * self._rows]
        weights = None if self.all.weights_B is None else self.all.weights_B[chosen]
        return ArrayBatch(self.all.values[chosen], self.all.condition_BC[chosen], weights)

    def in_order(self) -> list[ArrayBatch]:
        """All examples once, in the order given; for validation."""
        return [self.all.rows(s, s + self._rows) for s in range(0, self.all.size, self._rows)]


def array_batch(examples: Sequence[Example], weights: Sequence[float] | None = None) -> ArrayBatch:
    """Examples as one batch.

    Raises:
        DataError: they differ in shape.
    """
    shapes = {np.shape(e.values) for e in examples}
    if len(shapes) > 1:
        raise DataError(f"the examples differ in shape: {sorted(shapes)[:3]}", fix="Let the codec bring them to one.")
    values = torch.from_numpy(np.stack([np.asarray(e.values) for e in examples]).astype(np.float32))
    weighted = None
    if weights is not None:
        weighted = torch.tensor(list(weights), dtype=torch.float32)
        weighted = weighted / weighted.mean()
    return ArrayBatch(values, conditions([e.condition for e in examples]), weighted)


def conditions(ids: Sequence[Sequence[int]]) -> torch.Tensor:
    """Conditions as int64 [B, C], filled with `NONE`."""
    longest = max((len(i) for i in ids), default=0)
    found = torch.full((len(ids), longest), NONE, dtype=torch.int64)
    for row, one in enumerate(ids):
        found[row, : len(one)] = torch.tensor(list(one), dtype=torch.int64)
    return found
