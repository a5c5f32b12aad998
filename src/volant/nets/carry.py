"""Noise carried to content along a told velocity, step by step.

What enters: something that tells velocities (a network, or a file that a runtime runs), noise, and conditions. What
leaves: the states on the way, from the noise at sigma 1 to the content at sigma 0, in Euler or Heun steps of equal
length. `flow` samples with it, `distil` learns from the states, and `engines/onnx.py` has `Told` in a network's place.

Shape legend: B rows, C condition ids; x is [B, channels, height, width].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import nn

from volant.core.spaces import Grid
from volant.nets.arrays import NONE

Tell: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(x, sigma_B, condition_BC) to the velocity, of x's shape."""


def states(
    tell: Tell, x: torch.Tensor, condition_BC: torch.Tensor, *, guidance: float, steps: int, order: int
) -> Iterator[torch.Tensor]:
    """The noise itself, then the state after each of the steps; the last one is content.

    Args:
        tell: the velocity.
        x: noise.
        condition_BC: ids; `NONE` for none.
        guidance: see `Flow.sample`.
        steps: of equal length in sigma.
        order: 1 for Euler's method, 2 for Heun's.
    """
    none_BC = torch.full_like(condition_BC, NONE)
    asked = bool((condition_BC != NONE).any())

    def velocity(x: torch.Tensor, sigma: float) -> torch.Tensor:
        sigma_B = torch.full((x.size(0),), sigma, device=x.device)
        if not asked or guidance == 1:
            return tell(x, sigma_B, condition_BC)
        without = tell(x, sigma_B, none_BC)
        return without if guidance == 0 else without + guidance * (tell(x, sigma_B, condition_BC) - without)

    yield x
    for step in range(steps, 0, -1):
        sigma, after = step / steps, (step - 1) / steps
        first = velocity(x, sigma)
        reached = x + (after - sigma) * first
        if order == 2 and after > 0:
            reached = x + (after - sigma) * (first + velocity(reached, after)) / 2
        x = reached
        yield x


class Told(nn.Module):
    """Stands where a network of velocities is sampled from, and asks something else for the velocity.

    Args:
        space: of the grids.
        tell: answers; on the CPU.
    """

    device = torch.device("cpu")

    def __init__(self, space: Grid, tell: Tell) -> None:
        super().__init__()
        self.space, self._tell = space, tell

    def current(self) -> Any:
        """What tells the velocity."""
        return self._tell


class Lone(nn.Module):
    """A network of velocities in evaluation mode that also takes no condition at all; what is exported of it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, sigma_B: torch.Tensor, condition_BC: torch.Tensor | None = None) -> torch.Tensor:
        """The velocity, of x's shape."""
        if condition_BC is None:
            condition_BC = torch.empty(x.size(0), 0, dtype=torch.int64)
        velocity: torch.Tensor = self.net(x, sigma_B, condition_BC)
        return velocity
