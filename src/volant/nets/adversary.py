"""Parts of generative adversarial networks: spectral norms, a running average, and a step of both players at once.

What enters: a generator, a discriminator that scores examples, real and made ones. What leaves: one loss whose
gradient moves both players: the discriminator by its hinge loss on made examples that are cut off from the generator,
the generator through a discriminator whose weights are cut off (Lim and Ye 2017; Miyato and others 2018).

Shape legend: B rows, U units out, I units in.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

_GAIN = 4.0  # of each map: with 1 an image of 64 pixels can hardly move a score, and the generator wins
_START = (
    0.25  # the size of the first weights: a held map turns by rate / size, so the discriminator learns 4 times as fast
)


class Spectral(nn.Module):
    """A map whose largest singular value is held at `_GAIN`, followed by one power iteration a step (`iterate`).

    The forward pass changes nothing, so that a loss can be looked at without moving the state.
    """

    u_U: torch.Tensor
    v_I: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        nn.init.orthogonal_(weight.flatten(1), gain=_START)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(len(weight)))
        self.register_buffer("u_U", F.normalize(torch.randn(len(weight)), dim=0))
        self.register_buffer("v_I", F.normalize(torch.randn(weight[0].numel()), dim=0))
        for _ in range(15):
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One power iteration."""
        flat = self.weight.flatten(1)
        self.v_I.copy_(F.normalize(flat.T @ self.u_U, dim=0))
        self.u_U.copy_(F.normalize(flat @ self.v_I, dim=0))

    @property
    def held(self) -> torch.Tensor:
        """The weight, scaled so that its largest singular value is `_GAIN`."""
        return self.weight * (_GAIN / (self.u_U @ self.weight.flatten(1) @ self.v_I))


class SpectralConv(Spectral):
    """A convolution."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(torch.empty(outward, inward, kernel, kernel))
        self._stride, self._padding = stride, padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map."""
        return F.conv2d(x, self.held, self.bias, self._stride, self._padding)


class SpectralLinear(Spectral):
    """A linear map."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__(torch.empty(outward, inward))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The map."""
        return F.linear(x, self.held, self.bias)


class Average(nn.Module):
    """A running average of a network's parameters, as buffers.

    Args:
        net: whose parameters; it is not kept.
        keep: share of the old average that a step keeps, once many steps are done.
    """

    steps: torch.Tensor

    def __init__(self, net: nn.Module, keep: float) -> None:
        super().__init__()
        self._keep = keep
        self._names = {name: name.replace(".", "-") for name, _ in net.named_parameters()}
        for name, parameter in net.named_parameters():
            self.register_buffer(self._names[name], parameter.detach().clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Move towards the parameters; the first steps move it fast."""
        self.steps += 1
        done = int(self.steps)
        share = 1 - min(self._keep, (1 + done) / (10 + done))
        for name, parameter in net.named_parameters():
            getattr(self, self._names[name]).lerp_(parameter, share)

    def call(self, net: nn.Module, *inputs: torch.Tensor) -> Any:
        """The network with the average in place of its parameters."""
        return functional_call(net, {name: getattr(self, kept) for name, kept in self._names.items()}, inputs)


@torch.no_grad()
def iterate(discriminator: nn.Module) -> None:
    """Follow the weights of all its held maps."""
    for module in discriminator.modules():
        if isinstance(module, Spectral):
            module.iterate()


def both_players(
    discriminator: nn.Module,
    real: torch.Tensor,
    made: torch.Tensor,
    condition: torch.Tensor,
    weights_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """The hinge losses of both players [B], summed.

    Args:
        discriminator: (examples, condition) to scores [B].
        real: examples.
        made: the generator's, of the same conditions.
        condition: of both.
        weights_B: of the real examples.
    """
    real_B, made_B = discriminator(torch.cat([real, made.detach()]), torch.cat([condition] * 2)).float().chunk(2)
    frozen = {name: p.detach() for name, p in discriminator.named_parameters()}
    fooled_B = functional_call(discriminator, frozen, (made, condition)).float()
    surprised_B = F.relu(1 - real_B)
    if weights_B is not None:
        surprised_B = surprised_B * weights_B
    both_B: torch.Tensor = surprised_B + F.relu(1 + made_B) - fooled_B
    return both_B
