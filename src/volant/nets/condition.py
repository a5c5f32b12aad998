"""Conditions as vectors: what an image is asked to show, for a network.

Condition ids [B, C] enter (`NONE` where there are fewer), one vector a row leaves: the sum of the ids' embeddings
over the square root of how many there are, so that a class and a long caption come out alike in size; a learned vector
of its own where there is no condition.

Shape legend: B rows, C condition ids, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from volant.core.errors import DataError
from volant.nets.arrays import conditions


class Condition(nn.Module):
    """See the module.

    Args:
        known: how many condition ids there are; 0 for none.
        width: D.
    """

    def __init__(self, known: int, width: int) -> None:
        super().__init__()
        self.known = known
        self.table = nn.Embedding(known + 1, width)

    def forward(self, condition_BC: torch.Tensor) -> torch.Tensor:
        """Vectors [B, D]."""
        if not condition_BC.size(1):
            none: torch.Tensor = self.table.weight[self.known].expand(condition_BC.size(0), -1)
            return none
        there_BC = condition_BC >= 0
        embedded_BCD = self.table(condition_BC.where(there_BC, self.known)) * there_BC[..., None]
        count_B1 = there_BC.sum(1, keepdim=True)
        vector_BD: torch.Tensor = embedded_BCD.sum(1) / count_B1.clamp(min=1).sqrt()
        return torch.where(count_B1 > 0, vector_BD, self.table.weight[self.known])


def asked(prompts: Sequence[Sequence[int]], known: int) -> torch.Tensor:
    """Condition ids of a call of `sample` as int64 [B, C].

    Raises:
        DataError: an id is none that the network knows.
    """
    wrong = sorted({int(i) for prompt in prompts for i in prompt if not 0 <= int(i) < known})
    if wrong:
        what = f"the network knows {known} condition ids; {wrong[:3]} are none of them"
        raise DataError(what, fix="Ask for a condition that the model was trained with.")
    return conditions(prompts)
