"""A GAN for rows of a table: both players are plain, over dense vectors of symbols and scores.

What enters: rows as float32 [B, C] (NaN is missing), made dense by a `Layout`. The generator draws each column's symbol
by Gumbel noise and passes the gradient straight through (Jang and others 2017), so that the discriminator
sees rows of one kind; a score counts only where the symbol says that the value is no spike.

Shape legend: B rows, C columns, W dense width, Z noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from volant.core.spaces import Mixed
from volant.nets.adversary import Average, SpectralLinear, both_players, iterate
from volant.nets.arrays import ArrayBatch
from volant.nets.columns import Layout
from volant.nets.draws import Draws

_HEAT = 0.5  # of the softmax that gradients take


class _Discriminator(nn.Module):
    """Dense rows to scores [B]."""

    def __init__(self, inward: int, width: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            SpectralLinear(inward, width), nn.LeakyReLU(0.1), SpectralLinear(width, width), nn.LeakyReLU(0.1)
        )
        self.judge = SpectralLinear(width, 1)

    def forward(self, dense_BW: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        score_B: torch.Tensor = self.judge(self.look(dense_BW))[:, 0]
        return score_B


class RowGan(nn.Module):
    """Both players, and the average of the generator that rows come from.

    Args:
        space: the table.
        layout: how its columns look.
        z: numbers of noise a row.
        width: hidden units.
        average: share of the generator's average that a step keeps.
    """

    def __init__(self, space: Mixed, layout: Layout, *, z: int, width: int, average: float) -> None:
        super().__init__()
        self.space, self.layout, self.z = space, layout, z
        self.size: dict[str, Any] = {}
        self.generator = nn.Sequential(
            nn.Linear(z, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.SiLU(),
            nn.Linear(width, layout.width),
        )
        self.discriminator = _Discriminator(layout.width, width)
        self.average = Average(self.generator, average)

    def losses(self, batch: ArrayBatch) -> torch.Tensor:
        """The hinge losses of both players [B]."""
        rows_NC = batch.values.cpu().numpy().astype(np.float64)
        real_BW = torch.from_numpy(self.layout.encode(rows_NC)).to(batch.values.device)
        noise_BZ = torch.randn(batch.size, self.z, device=real_BW.device)
        made_BW = self._chosen(self.generator(noise_BZ), torch.rand_like(real_BW))
        return both_players(self.discriminator, real_BW, made_BW, batch.condition_BC, batch.weights_B)

    def after_step(self) -> None:
        """Follow the weights: the average, and the spectral norms."""
        self.average.update(self.generator)
        iterate(self.discriminator)

    def draw(self, draws: Draws, condition_BC: torch.Tensor, temperature: float) -> np.ndarray[Any, Any]:
        """Rows float64 [B, C]; `temperature` scales the noise."""
        device = self.average.steps.device
        told_BW = self.average.call(self.generator, draws.normal(self.z).to(device) * temperature)
        choice_BW = draws.uniform(self.layout.width).to(device)
        dense_BW = self._chosen(told_BW, choice_BW if temperature else torch.full_like(choice_BW, 0.5))
        return self.layout.decode(dense_BW.cpu().numpy())

    def _chosen(self, told_BW: torch.Tensor, choice_BW: torch.Tensor) -> torch.Tensor:
        """Dense rows of what the generator tells: one symbol a column, drawn by uniform noise, and the scores."""
        gumbel_BW = -(-(choice_BW.clamp(1e-6, 1 - 1e-6)).log()).log()
        parts = []
        for slot, (place, score) in zip(self.layout.slots, self.layout.places(), strict=True):
            soft = ((told_BW[:, place] + gumbel_BW[:, place]) / _HEAT).softmax(1)
            hard = F.one_hot(soft.argmax(1), slot.count).to(soft.dtype)
            parts.append(hard + soft - soft.detach())
            if score is not None:
                first = len(slot.symbols)
                inside = parts[-1][:, first : first + slot.ranges].sum(1, keepdim=True)
                parts.append(told_BW[:, score : score + 1] * inside)
        return torch.cat(parts, 1)
