"""A conditional GAN for images: convolutions, hinge loss, spectral norms, a running average of the generator.

The generator's layers are set by noise and condition together (a scale and a shift for each channel after a group
norm, as in StyleGAN); there is no batch norm, so that an image depends on its own noise alone. The discriminator
takes the condition by projection (Miyato and Koyama 2018). Both real and made images are shifted by up to an eighth of
their side before they are judged (Zhao and others 2020), so that a few hundred images are not learnt by heart.

Shape legend: B rows, C condition ids (and, in BCHW, channels), H, W sides, D width of the style.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from volant.core.spaces import Grid
from volant.nets.adversary import Average, SpectralConv, SpectralLinear, both_players, iterate
from volant.nets.arrays import ArrayBatch
from volant.nets.condition import Condition
from volant.nets.draws import Draws
from volant.nets.vae_grid import halvings


class _Styled(nn.Module):
    """Group norm and convolution, set by the style."""

    def __init__(self, inward: int, outward: int, style: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, inward, affine=False)
        self.style = nn.Linear(style, 2 * inward)
        self.conv = nn.Conv2d(inward, outward, 3, padding=1)

    def forward(self, x_BCHW: torch.Tensor, style_BD: torch.Tensor) -> torch.Tensor:
        scale, shift = self.style(style_BD)[..., None, None].chunk(2, 1)
        made: torch.Tensor = self.conv(F.silu(self.norm(x_BCHW) * (1 + scale) + shift))
        return made


class Generator(nn.Module):
    """Noise [B, z] and condition to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, space: Grid, *, z: int, width: int, down: int) -> None:
        super().__init__()
        self.told = Condition(space.conditions, z)
        style = 4 * width
        self.small = (2 * width, space.dims[0] >> down, space.dims[1] >> down)
        self.style = nn.Sequential(nn.Linear(2 * z, style), nn.SiLU(), nn.Linear(style, style), nn.SiLU())
        self.start = nn.Linear(2 * z, self.small[0] * self.small[1] * self.small[2])
        self.first = _Styled(2 * width, 2 * width, style)
        ups = [2 * width] * down + [width] if down else [2 * width]  # sides that are not halved keep their channels
        self.blocks = nn.ModuleList([_Styled(a, b, style) for a, b in itertools.pairwise(ups)])
        self.last = _Styled(ups[-1], space.channels, style)

    def forward(self, noise_BZ: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """The images."""
        opening = torch.cat([noise_BZ, F.normalize(self.told(condition_BC), dim=1) * noise_BZ.size(1) ** 0.5], 1)
        style_BD = self.style(opening)
        x = self.first(self.start(opening).view(-1, *self.small), style_BD)
        for block in self.blocks:
            x = block(F.interpolate(x, scale_factor=2, mode="nearest"), style_BD)
        made: torch.Tensor = self.last(x, style_BD)
        return made.tanh()


class Discriminator(nn.Module):
    """Images and condition to scores [B]: real ones high."""

    def __init__(self, space: Grid, *, width: int, down: int) -> None:
        super().__init__()
        outer = [width, *[2 * width] * down]
        layers: list[nn.Module] = [SpectralConv(space.channels, width, 3, 1, 1), nn.LeakyReLU(0.1)]
        for a, b in itertools.pairwise(outer):
            layers += [SpectralConv(a, b, 4, 2, 1), nn.LeakyReLU(0.1)]
        layers += [SpectralConv(outer[-1], outer[-1], 3, 1, 1), nn.LeakyReLU(0.1), nn.Flatten()]
        flat = outer[-1] * (space.dims[0] >> down) * (space.dims[1] >> down)
        self.look = nn.Sequential(*layers, SpectralLinear(flat, 4 * width), nn.LeakyReLU(0.1))
        self.judge = SpectralLinear(4 * width, 1)
        self.told = Condition(space.conditions, 4 * width)
        nn.init.normal_(self.told.table.weight, std=(4 * width) ** -0.5)

    def forward(self, values_BCHW: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """The scores."""
        seen_BD = self.look(values_BCHW)
        score_B: torch.Tensor = self.judge(seen_BD)[:, 0] + (seen_BD * self.told(condition_BC)).sum(1)
        return score_B


class GridGan(nn.Module):
    """Both players, and the average of the generator that samples come from.

    Args:
        space: images.
        z: numbers of noise an image.
        width: channels at full size; twice as many below.
        down: how often the sides are halved; 0 for down to about 4.
        average: share of the generator's average that a step keeps.
    """

    def __init__(self, space: Grid, *, z: int, width: int, down: int, average: float) -> None:
        super().__init__()
        down = halvings(space.dims, down)
        self.space, self.z = space, z
        self.size: dict[str, Any] = {}
        self.generator = Generator(space, z=z, width=width, down=down)
        self.discriminator = Discriminator(space, width=width, down=down)
        self.average = Average(self.generator, average)

    def losses(self, batch: ArrayBatch) -> torch.Tensor:
        """The hinge losses of both players [B]."""
        noise_BZ = torch.randn(batch.size, self.z, device=batch.values.device)
        made = self.generator(noise_BZ, batch.condition_BC)
        real, made = shifted(batch.values), shifted(made)
        return both_players(self.discriminator, real, made, batch.condition_BC, batch.weights_B)

    def after_step(self) -> None:
        """Follow the weights: the average, and the spectral norms."""
        self.average.update(self.generator)
        iterate(self.discriminator)

    @property
    def noise_width(self) -> int:
        """Z."""
        return self.z

    def painted(self, noise_BZ: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] in [-1, 1], by the average of the generator."""
        made: torch.Tensor = self.average.call(self.generator, noise_BZ, condition_BC)
        return made

    def draw(self, draws: Draws, condition_BC: torch.Tensor, temperature: float) -> Any:
        """Images float32 [B, C, H, W]; `temperature` scales the noise."""
        device = self.average.steps.device
        noise_BZ = draws.normal(self.z).to(device) * temperature
        return self.painted(noise_BZ, condition_BC.to(device)).float().cpu().numpy()


def shifted(values_BCHW: torch.Tensor) -> torch.Tensor:
    """Each image moved by up to an eighth of its sides, by torch's own generator; what comes in is empty (-1)."""
    rows, _, high, wide = values_BCHW.shape
    y, x = max(1, high // 8), max(1, wide // 8)
    padded = F.pad(values_BCHW, (x, x, y, y), value=-1.0)
    device = values_BCHW.device
    down_B = torch.randint(0, 2 * y + 1, (rows,), device=device)
    right_B = torch.randint(0, 2 * x + 1, (rows,), device=device)
    at_BH = down_B[:, None] + torch.arange(high, device=device)
    at_BW = right_B[:, None] + torch.arange(wide, device=device)
    row_B = torch.arange(rows, device=device)
    return padded.permute(0, 2, 3, 1)[row_B[:, None, None], at_BH[:, :, None], at_BW[:, None]].permute(0, 3, 1, 2)
