"""Short examples several in one row, each as if it were alone.

What enters: what `Padded` takes. What leaves: batches of as many examples a step, in fewer rows: an example sees none
but itself, its positions begin at 0, and its first id is predicted from nothing. The summed loss of a step is that of
the same examples in rows of their own; what is saved is padding. Examples of a step are drawn without regard to their
lengths, where `Padded` has to put like ones together.

Shape legend: B rows, L length in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from volant.core.spaces import Encoded
from volant.nets.batches import Batch, Padded


class Together(Padded):
    """Examples packed whole, a step of them in as few rows as the longest one's length allows."""

    def collate(self, examples: Sequence[Encoded]) -> Batch:
        """Examples as rows that hold one or more of them."""
        width = -(-max(len(e.ids) for e in examples) // 32) * 32
        rows = fitted([len(e.ids) for e in examples], width)
        if len(rows) == len(examples):
            return super().collate(examples)
        ids_BL = torch.full((len(rows), width), self._pad, dtype=torch.int64)
        mask_BL, real_BL = torch.zeros(2, len(rows), width, dtype=torch.bool)
        document_BL = torch.full((len(rows), width), -1, dtype=torch.int32)
        place_BL = torch.zeros(len(rows), width, dtype=torch.int64)
        for row, chosen in enumerate(rows):
            start = 0
            for index in chosen:
                ids, mask = examples[index].ids, examples[index].mask
                span = slice(start, start + len(ids))
                ids_BL[row, span] = torch.tensor(ids)
                mask_BL[row, span] = torch.tensor([False, *mask[1:]])
                real_BL[row, span] = True
                document_BL[row, span] = index
                place_BL[row, span] = torch.arange(len(ids))
                start = span.stop
        return Batch(ids_BL, mask_BL, None if bool(real_BL.all()) else real_BL, document_BL, place_BL)

    def _epoch(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._examples))
        return [[int(i) for i in order[s : s + self.rows]] for s in range(0, len(order), self.rows)]


def fitted(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which examples share a row of `width`: the longest first, each into the fullest row that has room."""
    rows: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fits = [r for r, left in enumerate(room) if left >= lengths[index]]
        if fits:
            row = min(fits, key=lambda r: (room[r], r))
            rows[row].append(index)
            room[row] -= lengths[index]
        else:
            rows.append([index])
            room.append(width - lengths[index])
    return rows
