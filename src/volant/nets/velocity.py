"""Networks that tell a velocity: UNet2D and DiT of diffusers, with conditions and a running average of the weights.

What enters: a noisy grid, how noisy it is (sigma, 1 is noise alone), and condition ids. What leaves: the direction
from content to noise, as FlowMatchEulerDiscreteScheduler takes it. `core` is diffusers' own module, so that what is
saved opens with diffusers alone.

Shape legend: B rows, C condition ids, D width of an embedding; x is [B, channels, height, width].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from volant.core.errors import SettingError
from volant.core.spaces import Grid
from volant.nets.arrays import NONE

TIMESTEPS = 1000  # sigma 1 as the network is told it; diffusers' schedulers count like this
KINDS = ("unet", "dit")
_FEW = 256  # pixels


class Velocity(nn.Module):
    """A network of diffusers with its conditions.

    Args:
        core: `UNet2DModel` or `DiTTransformer2DModel`.
        space: the grid that it was built for.
        average: how much of the running average a step keeps, at most; 0 for no average.

    The average starts as a sum of nothing and is divided by its mass, so a short training is no average of its
    random start. It counts in evaluation mode; in training mode the weights themselves do.
    """

    seen: torch.Tensor
    average_mass: torch.Tensor
    average_steps: torch.Tensor

    def __init__(self, core: Any, space: Grid, *, average: float = 0.0) -> None:
        from diffusers.models.attention_processor import AttnProcessor

        super().__init__()
        self.core, self.space, self.average = core, space, average
        self.words = nn.Embedding(space.conditions + 1, _width(core)) if by_words(space) else None
        for module in core.modules():
            # DiT drops classes by itself in training; here that is the family's business, once for all kinds.
            if type(module).__name__ == "LabelEmbedding":
                module.dropout_prob = 0.0
            # The fused kernel is slower than plain products where there are few tokens (measured: 7 % of a step).
            if math.prod(space.dims) <= _FEW and hasattr(module, "set_processor"):
                module.set_processor(AttnProcessor())
        self._averaged = [(n, f"average_of_{n.replace('.', '__')}") for n, _ in self.named_parameters()]
        for name, buffer in self._averaged if average else ():
            self.register_buffer(buffer, torch.zeros_like(self.get_parameter(name)))
        self.register_buffer("average_mass", torch.zeros(()))
        self.register_buffer("average_steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(space.conditions, dtype=torch.bool))

    @property
    def kind(self) -> str:
        """`unet` or `dit`."""
        return "dit" if type(self.core).__name__ == "DiTTransformer2DModel" else "unet"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def forward(self, x: torch.Tensor, sigma_B: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """The velocity of the weights themselves, of x's shape."""
        told = {} if not self._tells else {"class_labels": self._labels(condition_BC)}
        out: torch.Tensor = self.core(x, sigma_B * TIMESTEPS, **told).sample
        return out

    def current(self) -> Any:
        """What tells the velocity now, as a function: the weights in training mode, their average otherwise."""
        if self.training or not self._has_average:
            return self
        weights = self.averages()
        return lambda *inputs: functional_call(self, weights, inputs)

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the weights into the average; early ones are forgotten sooner."""
        if not self.average:
            return
        steps = int(self.average_steps)
        keep = min(self.average, (1 + steps) / (10 + steps))
        weights = [self.get_parameter(n).detach() for n, _ in self._averaged]
        torch._foreach_lerp_([self.get_buffer(b) for _, b in self._averaged], weights, 1 - keep)
        self.average_mass.mul_(keep).add_(1 - keep)
        self.average_steps.add_(1)

    def averages(self) -> dict[str, torch.Tensor]:
        """The averaged weights by name; the weights themselves where there is no average yet."""
        if not self._has_average:
            return {n: self.get_parameter(n).detach() for n, _ in self._averaged}
        return {n: self.get_buffer(b) / self.average_mass for n, b in self._averaged}

    @torch.no_grad()
    def settle(self) -> None:
        """Let the average become the weights and start a new one; for whatever goes on from a trained network."""
        for name, value in self.averages().items():
            self.get_parameter(name).copy_(value)
        for name, buffer in self.named_buffers():
            if name.startswith("average_"):
                buffer.zero_()

    def notice(self, condition_BC: torch.Tensor) -> None:
        """Remember which conditions were trained on."""
        if self.seen.numel():
            self.seen[condition_BC[condition_BC != NONE]] = True

    def tables(self) -> list[torch.Tensor]:
        """The embeddings that have a row for each condition and a last one for none."""
        if self.words is not None:
            return [self.words.weight]
        modules = [m for m in self.core.modules() if isinstance(m, nn.Embedding)]
        return [m.weight for m in modules if m.num_embeddings == max(1, self.space.conditions) + 1]

    @property
    def _has_average(self) -> bool:
        return bool(self.average) and float(self.average_mass) > 0

    @property
    def _tells(self) -> bool:
        return self.space.conditions > 0 or self.kind == "dit"

    def _labels(self, condition_BC: torch.Tensor) -> torch.Tensor:
        """What the network takes as its class: an id, or the mean of the words' embeddings [B, D]."""
        none = max(1, self.space.conditions) if self.kind == "dit" else self.space.conditions
        if self.words is None:
            if not condition_BC.size(1) or not self.space.conditions:
                return torch.full((condition_BC.size(0),), none, device=condition_BC.device)
            first_B = condition_BC[:, 0]
            return torch.where(first_B == NONE, none, first_B)
        # A condition without words is the row for none, which the first place then holds.
        if not condition_BC.size(1):
            condition_BC = condition_BC.new_full((condition_BC.size(0), 1), NONE)
        real_BC = condition_BC != NONE
        ids_BC = torch.where(real_BC, condition_BC, none)
        real_BC = torch.cat([real_BC[:, :1] | ~real_BC.any(1, keepdim=True), real_BC[:, 1:]], 1)
        embedded_BCD = self.words(ids_BC) * real_BC[..., None]
        mean_BD: torch.Tensor = embedded_BCD.sum(1) / real_BC.sum(1, keepdim=True)
        return mean_BD


def unet(space: Grid, *, width: int, depth: int) -> Any:
    """A `UNet2DModel`: a level for each time that the sides halve without getting below 4, three at most.

    Args:
        space: a grid of two dimensions.
        width: channels of the first level, a multiple of 8; the others have twice as many.
        depth: residual blocks a level on the way down; one more on the way up.
    """
    import diffusers

    network: Any = diffusers.UNet2DModel  # diffusers has no types
    if width < 8 or width % 8:
        raise SettingError(f"a width of {width} does not fit.", where="width", fix="Take a multiple of 8.")
    levels = 1 + next(
        n for n in range(3) if n == 2 or any(s % 2 ** (n + 1) or s < 4 * 2 ** (n + 1) for s in space.dims)
    )
    told: dict[str, Any] = {}
    if by_words(space):
        told = {"class_embed_type": "identity"}
    elif space.conditions:
        told = {"num_class_embeds": space.conditions + 1}
    return network(
        sample_size=space.dims[0] if space.dims[0] == space.dims[1] else space.dims,
        in_channels=space.channels,
        out_channels=space.channels,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        block_out_channels=(width, *(2 * width,) * (levels - 1)),
        layers_per_block=depth,
        norm_num_groups=8,
        attention_head_dim=min(32, width),
        resnet_time_scale_shift="scale_shift",
        **told,
    )


def dit(space: Grid, *, width: int, depth: int) -> Any:
    """A `DiTTransformer2DModel` with patches of 2x2, or 1x1 on odd sides.

    Args:
        space: a square grid whose conditions are classes.
        width: of the tokens, a multiple of 32.
        depth: layers.
    """
    import diffusers

    network: Any = diffusers.DiTTransformer2DModel
    if by_words(space):
        raise SettingError("a DiT takes classes, not captions.", where="kind", fix="Set `kind: unet`.")
    if space.dims[0] != space.dims[1]:
        raise SettingError("a DiT takes square grids.", where="kind", fix="Set `kind: unet`.")
    if width < 32 or width % 32:
        raise SettingError(f"a width of {width} does not fit.", where="width", fix="Take a multiple of 32.")
    return network(
        num_attention_heads=width // 32,
        attention_head_dim=32,
        in_channels=space.channels,
        out_channels=space.channels,
        num_layers=depth,
        sample_size=space.dims[0],
        patch_size=1 if space.dims[0] % 2 else 2,
        num_embeds_ada_norm=max(1, space.conditions),
    )


def by_words(space: Grid) -> bool:
    """Whether conditions are captions, whose words are embedded one by one."""
    return space.conditions > 0 and space.condition_length > 1


def noise(space: Grid, seeds: Sequence[int]) -> torch.Tensor:
    """Standard normal grids, each from its own seed alone."""
    shape = (space.channels, *space.dims)
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(s % 2**63)) for s in seeds]
    return torch.stack(drawn)


def stratified(count: int) -> torch.Tensor:
    """Uniform draws from [0, 1), one from each of `count` equal shares, from torch's own generator.

    A batch then holds all levels of noise in their right share, which calms the loss.
    """
    return (torch.randperm(count) + torch.rand(count)) / count


def _width(core: Any) -> int:
    """Of the vector that the UNet adds to its time embedding."""
    return int(core.config.time_embedding_dim or 4 * core.config.block_out_channels[0])
