"""VAEs for images: one latent vector for the whole image, or a small map of latents.

`FlatVae` is ours: convolutions, `z` latents, conditions told to both halves; it makes images by itself. `MapVae` is
diffusers' `AutoencoderKL` in small: latents keep the image's places, so that a flow can be learnt over them.
Both take values in [-1, 1] and count in nats an example: squared errors over 2 `sigma`^2, and `beta` times the
divergence from the standard normal (Higgins and others 2017).

Shape legend: B rows, C condition ids (and, in BCHW, channels), H, W sides, Z latents.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from volant.core.errors import SettingError
from volant.core.spaces import Grid
from volant.nets.arrays import ArrayBatch
from volant.nets.condition import Condition
from volant.nets.draws import Draws
from volant.nets.posterior import Posterior

_SMALLEST = 4  # the side to which `down: 0` halves


def halvings(dims: tuple[int, ...], down: int) -> int:
    """How often both sides are halved: `down`, or for 0 as long as they are even and above the smallest.

    Raises:
        SettingError: the grid has not two sides, or they cannot be halved so often.
    """
    if len(dims) != 2:
        raise SettingError(f"the grid has {len(dims)} sides", where="space", fix="A VAE takes images: two sides.")
    if not down:
        while all(side % 2 ** (down + 1) == 0 and side >> down > _SMALLEST for side in dims):
            down += 1
    if any(side % 2**down for side in dims):
        what = f"{dims[0]} x {dims[1]} pixels cannot be halved {down} times"
        raise SettingError(
            what, where="down", fix="Choose a smaller `down`, or a `side` that is a multiple of 2**down."
        )
    return down


class _Vae(nn.Module):
    """What both have in common."""

    posterior: Posterior

    def __init__(self, space: Grid, *, beta: float, sigma: float) -> None:
        super().__init__()
        self.space, self.beta, self.sigma = space, beta, sigma
        self.size: dict[str, Any] = {}

    def losses(self, batch: ArrayBatch) -> torch.Tensor:
        """What each image costs in nats [B]."""
        mean, spread = self.encoded(batch.values, batch.condition_BC)
        latents = mean + torch.randn_like(mean) * (spread / 2).exp()
        off = (self.decoded(latents, batch.condition_BC).float() - batch.values).flatten(1)
        apart_B = 0.5 * (mean.square() + spread.exp() - spread - 1).flatten(1).sum(1)
        return off.square().sum(1) / (2 * self.sigma**2) + self.beta * apart_B

    def encode(self, batch: ArrayBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and variances of the latents [B, Z]."""
        mean, spread = self.encoded(batch.values, batch.condition_BC)
        return mean.flatten(1), spread.exp().flatten(1)

    def encoded(self, values_BCHW: torch.Tensor, condition_BC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and log-variances of the latents."""
        raise NotImplementedError

    def decoded(self, latents: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """Values [B, C, H, W], not cut to [-1, 1]."""
        raise NotImplementedError

    @property
    def noise_width(self) -> int:
        """Z."""
        return self.posterior.mean_KZ.size(1)

    def painted(self, noise_BZ: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] in [-1, 1] of standard normal noise."""
        return self.decoded(self.posterior(noise_BZ, condition_BC), condition_BC).clamp(-1, 1)

    def draw(self, draws: Draws, condition_BC: torch.Tensor, temperature: float) -> Any:
        """Images float32 [B, C, H, W] in [-1, 1]; `temperature` scales the latents' noise."""
        device = self.posterior.mean_KZ.device
        noise_BZ = draws.normal(self.noise_width).to(device) * temperature
        return self.painted(noise_BZ, condition_BC.to(device)).float().cpu().numpy()


class FlatVae(_Vae):
    """One latent vector an image.

    Args:
        space: images.
        z: latents.
        width: channels of the first convolution; the others have twice as many.
        down: how often the sides are halved.
        beta, sigma: see the module.
    """

    def __init__(self, space: Grid, *, z: int, width: int, down: int, beta: float, sigma: float) -> None:
        super().__init__(space, beta=beta, sigma=sigma)
        down = halvings(space.dims, down)
        self.small = (2 * width, space.dims[0] >> down, space.dims[1] >> down)
        flat, hidden = self.small[0] * self.small[1] * self.small[2], 8 * width
        downs: list[nn.Module] = []
        ups: list[nn.Module] = []
        for i in range(down):
            downs += [nn.Conv2d(width if i == 0 else 2 * width, 2 * width, 4, 2, 1), nn.SiLU()]
            ups += [nn.ConvTranspose2d(2 * width, width if i == down - 1 else 2 * width, 4, 2, 1), nn.SiLU()]
        outer = width if down else 2 * width
        self.seen, self.told = Condition(space.conditions, width), Condition(space.conditions, width)
        self.look = nn.Sequential(
            nn.Conv2d(space.channels, outer, 3, padding=1),
            nn.SiLU(),
            *downs,
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.inward = nn.Sequential(nn.Linear(flat + width, hidden), nn.SiLU(), nn.Linear(hidden, 2 * z))
        self.outward = nn.Sequential(nn.Linear(z + width, hidden), nn.SiLU(), nn.Linear(hidden, flat), nn.SiLU())
        self.paint = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.SiLU(),
            *ups,
            nn.Conv2d(outer, space.channels, 3, padding=1),
        )
        self.posterior = Posterior(z, space.conditions if space.condition_length == 1 else 0)

    def encoded(self, values_BCHW: torch.Tensor, condition_BC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and log-variances [B, Z]."""
        seen = torch.cat([self.look(values_BCHW), self.seen(condition_BC)], 1)
        mean_BZ, spread_BZ = self.inward(seen).float().chunk(2, 1)
        return mean_BZ, spread_BZ.clamp(-12, 6)

    def decoded(self, latents: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """Values [B, C, H, W]."""
        told = self.outward(torch.cat([latents, self.told(condition_BC)], 1))
        values: torch.Tensor = self.paint(told.view(-1, *self.small))
        return values


class MapVae(_Vae):
    """Latents [channels, h, w], in an `AutoencoderKL` of diffusers; it is not told conditions, only `draw` is.

    Args:
        space: images.
        autoencoder: an `AutoencoderKL`.
        beta, sigma: see the module.
    """

    def __init__(self, space: Grid, autoencoder: Any, *, beta: float, sigma: float) -> None:
        super().__init__(space, beta=beta, sigma=sigma)
        self.autoencoder = autoencoder
        config = autoencoder.config
        down = len(config.block_out_channels) - 1
        self.small = (config.latent_channels, *(side >> down for side in space.dims))
        latents = self.small[0] * self.small[1] * self.small[2]
        self.posterior = Posterior(latents, space.conditions if space.condition_length == 1 else 0)

    def encoded(self, values_BCHW: torch.Tensor, condition_BC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and log-variances [B, c, h, w], not scaled."""
        found = self.autoencoder.encode(values_BCHW).latent_dist
        return found.mean.float(), found.logvar.float().clamp(-12, 6)

    def decoded(self, latents: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """Values [B, C, H, W] of latents of any shape with as many numbers."""
        values: torch.Tensor = self.autoencoder.decode(latents.reshape(-1, *self.small)).sample
        return values


def small_autoencoder(space: Grid, *, latent_channels: int, width: int, down: int) -> Any:
    """An `AutoencoderKL` without weights of anyone's: one layer a block, no attention.

    Args:
        space: images.
        latent_channels: of the latents.
        width: channels at full size, a multiple of 8 for the group norms; twice as many below.
        down: how often the sides are halved.
    """
    from diffusers import AutoencoderKL

    if width % 8:
        raise SettingError(f"{width} channels do not part into groups", where="width", fix="Take a multiple of 8.")
    down = halvings(space.dims, down)
    made: Any = AutoencoderKL
    return made(
        in_channels=space.channels,
        out_channels=space.channels,
        down_block_types=("DownEncoderBlock2D",) * (down + 1),
        up_block_types=("UpDecoderBlock2D",) * (down + 1),
        block_out_channels=(width, *([2 * width] * down)),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=max(space.dims),
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
    )
