"""The part of a network that makes images of noise, for another runtime, and what stands in the network's place.

What enters: noise and conditions. What leaves: images in [-1, 1].

Shape legend: B rows, C condition ids, Z latents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from volant.core.spaces import Grid
from volant.nets.draws import Draws
from volant.nets.exported import Answer, condition_input


class Painting(nn.Module):
    """Noise to images, as `draw` of a VAE or a GAN does it."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, noise_BZ: torch.Tensor, condition_BC: torch.Tensor | None = None) -> torch.Tensor:
        """Images [B, channels, height, width]."""
        if condition_BC is None:
            condition_BC = torch.empty(noise_BZ.size(0), 0, dtype=torch.int64)
        values: torch.Tensor = self.net.painted(noise_BZ, condition_BC)
        return values


class Painted(nn.Module):
    """Stands where a network is sampled from.

    Args:
        space: of the images.
        answer: inputs by name to images.
        width: Z.
        length: how many condition ids the file takes.
    """

    def __init__(self, space: Grid, answer: Answer, *, width: int, length: int) -> None:
        super().__init__()
        self.space, self._answer, self._width, self._length = space, answer, width, length

    def draw(self, draws: Draws, condition_BC: torch.Tensor, temperature: float) -> Any:
        """Images float32 [B, channels, height, width] in [-1, 1]."""
        inputs = {"noise": draws.normal(self._width) * temperature}
        if self.space.conditions:
            inputs["condition"] = condition_input(condition_BC, self._length)
        return self._answer(inputs).numpy()
