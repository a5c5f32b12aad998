"""Variational autoencoders: images (Kingma and Welling 2014) and rows of tables.

What enters: a grid or mixed space. What leaves: a network that encodes to a few latents and decodes from them.
`finish`, called after training, learns where the training data lie in the latents; before it latents are
drawn from the standard normal. With `latent_channels` the network is diffusers' `AutoencoderKL`, whose directory
opens with diffusers alone, and `encode_mean` and `decode` make it the space of another family (`nets/latent.py`).
Rows need `examples` at `build`: what their columns look like to a network only the data can say. What a GAN does
alike is in `one_pass.py`.

Shape legend: B rows, C condition ids (channels in BCHW), Z latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from volant.core.errors import ArtifactError
from volant.core.spaces import Example, Grid, Space
from volant.nets import columns
from volant.nets.arrays import ArrayBatch, Arrays
from volant.nets.diffusers_files import save_module
from volant.nets.one_pass import OnePass, plain
from volant.nets.repeatable import aside
from volant.nets.vae_grid import FlatVae, MapVae, small_autoencoder
from volant.nets.vae_rows import RowVae

_MAP = "vae.json"
_PIECE = 512  # rows that go through a network at once outside training


class Vae(OnePass):
    """The family of variational autoencoders."""

    name = "vae"
    version = 1
    default_steps = 1200
    default_batch = 64

    def build(
        self,
        space: Space,
        *,
        seed: int,
        z: int = 16,
        width: int = 0,
        beta: float | None = None,
        sigma: float = 0.2,
        latent_channels: int = 0,
        down: int = 0,
        dropout: float = 0.3,
        ranges: int = 32,
        examples: Sequence[Example] | None = None,
    ) -> Any:
        """A fresh network.

        Args:
            space: images or rows.
            seed: same seed, same weights.
            z: latents of an image or row.
            width: channels of the first convolution, or hidden units; 0 for 32 and 96 (16 with `latent_channels`).
            beta: weight of the divergence (0.7; 0.1 with `latent_channels`); lower lets latents say more: samples are
                sharper, and closer to the data.
            sigma: how far off a pixel may be, in the space's units of -1 to 1; smaller makes sharper images.
            latent_channels: above 0 for a map of latents with so many channels in place of `z`.
            down: how often an image's sides are halved; 0 for down to about 4.
            dropout: rows: share of hidden units left out in training; more where rows are few.
            ranges: rows: into how many ranges numbers are cut.
            examples: rows: the training data, to fit the columns on.
        """
        layout = self.layout(space, examples, ranges=ranges)
        beta = (0.1 if latent_channels else 0.7) if beta is None else beta
        size = {"z": z, "beta": beta, "sigma": sigma, "latent_channels": latent_channels, "down": down}
        size |= {"dropout": dropout, "width": width or (96 if layout else 16 if latent_channels else 32)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.made(space, size, layout)

    def loss(self, net: Any, batch: Any) -> torch.Tensor:
        """The mean loss in nats an example, always with the same noise and without dropout, to be compared."""
        was = net.training
        net.eval()
        with aside(batch.values.device.type):
            torch.manual_seed(0)
            total, count = self.step_loss(net, batch)
        net.train(was)
        return total / count

    def step_loss(self, net: Any, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
        """What the loop minimises, in nats: errors and `beta` times the divergence; noise is torch's own."""
        losses_B = self.surprise(net, batch)
        return (losses_B if batch.weights_B is None else losses_B * batch.weights_B).sum(), batch.size

    def surprise(self, net: Any, batch: ArrayBatch) -> torch.Tensor:
        """The bound on each example's negative log-likelihood, in nats [B]; noise is torch's own."""
        losses_B: torch.Tensor = net.losses(batch)
        return losses_B

    @torch.no_grad()
    def finish(self, net: Any, examples: Sequence[Example], *, seed: int) -> None:
        """After training: learn where the examples lie in the latents, and how large a map's latents are.

        Args:
            net: trained.
            examples: of the train split; at least one.
            seed: unused; what is estimated has a closed form.
        """
        net.eval()
        device = net.posterior.mean_KZ.device
        batches = Arrays(examples, rows=_PIECE, seed=seed).in_order()
        pairs = [net.encode(batch.to(device)) for batch in batches]
        mean_NZ, variance_NZ = torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
        if isinstance(net, MapVae):
            net.autoencoder.register_to_config(scaling_factor=1.0 / max(1e-3, float(mean_NZ.std())))
        net.posterior.fit(mean_NZ, variance_NZ, torch.cat([b.condition_BC for b in batches]))

    @torch.no_grad()
    def encode_mean(self, net: Any, values_BCHW: torch.Tensor) -> torch.Tensor:
        """Latents [B, c, h, w] of images in diffusers' scale (`scaling_factor`): about unit variance after `finish`.

        Raises:
            ArtifactError: the network has no map of latents.
        """
        mean, _ = _map(net).encoded(values_BCHW, torch.empty(len(values_BCHW), 0, dtype=torch.int64))
        latents: torch.Tensor = mean * net.autoencoder.config.scaling_factor
        return latents

    @torch.no_grad()
    def decode(self, net: Any, latents_BCHW: torch.Tensor) -> torch.Tensor:
        """Images [B, C, H, W] in [-1, 1] of latents in diffusers' scale; the way back from `encode_mean`."""
        latents = latents_BCHW / _map(net).autoencoder.config.scaling_factor
        values = _map(net).decoded(latents, torch.empty(len(latents), 0, dtype=torch.int64))
        return values.clamp(-1, 1)

    def recipe(self, space: Space, *, steps: int, batch: int) -> dict[str, Any]:
        """What suits it of a `Recipe`."""
        common = {"betas": (0.9, 0.95), "clip": 10.0, "bf16": False, "warmup": 20, "decay": steps // 2}
        if space.type == "mixed":  # it learns rows by heart when it is left to it
            looks = {"evaluate_every": max(1, steps // 15), "patience": 5}
            return {**common, **looks, "lr": 2e-3, "weight_decay": 0.2}
        return {**common, "lr": 2e-3, "weight_decay": 1e-3}

    def save(self, net: Any, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`; with a map of latents, diffusers' files and `vae.json`."""
        if not isinstance(net, MapVae):
            super().save(net, folder)
            return
        folder.mkdir(parents=True, exist_ok=True)
        save_module(net.autoencoder, folder)
        save_file(plain(net.posterior.state_dict()), folder / "posterior.safetensors")
        self.describe(net, folder / _MAP)

    def load(self, folder: Path) -> Any:
        """Read them back; files that are there but damaged raise what safetensors raises.

        Raises:
            ArtifactError: there is no such model.
        """
        if not (folder / _MAP).is_file():
            return super().load(folder)
        from diffusers import AutoencoderKL

        space, size = self.described(folder / _MAP)
        assert isinstance(space, Grid)
        opened: Any = AutoencoderKL.from_pretrained
        net = _map_of(space, size, opened(folder, use_safetensors=True, local_files_only=True))
        net.posterior.load_state_dict(load_file(folder / "posterior.safetensors"))
        return net.eval()

    def made(self, space: Any, size: dict[str, Any], layout: columns.Layout | None) -> Any:
        """A network of that size, from torch's own generator; rows have a layout."""
        net: Any
        if layout is not None:
            net = RowVae(layout, **{k: size[k] for k in ("z", "width", "beta", "dropout")})
            net.space = space
        elif size["latent_channels"]:
            inner = small_autoencoder(space, **{k: size[k] for k in ("latent_channels", "width", "down")})
            return _map_of(space, size, inner)
        else:
            net = FlatVae(space, **{k: size[k] for k in ("z", "width", "down", "beta", "sigma")})
        net.size = size
        return net


def _map_of(space: Grid, size: dict[str, Any], inner: Any) -> MapVae:
    net = MapVae(space, inner, beta=size["beta"], sigma=size["sigma"])
    net.size = size
    return net


def _map(net: Any) -> MapVae:
    if not isinstance(net, MapVae):
        raise ArtifactError("this VAE has no map of latents", fix="Train it with `latent_channels` above 0.")
    return net


family = Vae()
