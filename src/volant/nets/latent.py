"""A codec behind a trained autoencoder: a family then learns small grids of latents in place of pixels.

What enters: a modality's codec whose space is a grid, and a Model of an autoencoder that was trained on the same
space. What leaves: a `ContentCodec` whose space is the grid of latents, brought to unit variance, which is what noise
has. It travels with the model that learnt the latents: the inner codec's files, the autoencoder in `vae/`, and
`latent.json`.

Shape legend: N examples; values are [N, channels, height, width], latents [N, c, h, w].
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from volant.core.artifact import Model
from volant.core.errors import ArtifactError, DataError
from volant.core.protocols import ContentCodec
from volant.core.sample import Sample
from volant.core.spaces import Example, Grid
from volant.nets import open_family

VAE, _ABOUT, _INDEX = "vae", "latent.json", "model_index.json"
_BATCH = 256
_FITTED_ON = 4096  # samples that tell the latents' spread well enough


class Autoencoder(Protocol):
    """What `latent` needs of a family: both ways of a trained network, and its files."""

    name: str

    def encode_mean(self, net: Any, values: torch.Tensor) -> torch.Tensor:
        """The most likely latents [N, c, h, w] of values [N, channels, height, width]."""

    def decode(self, net: Any, latents: torch.Tensor) -> torch.Tensor:
        """The values of latents."""

    def save(self, net: Any, folder: Path) -> None:
        """Write weights and configuration."""

    def load(self, folder: Path) -> Any:
        """Read them back."""


class LatentCodec:
    """A codec whose examples are latents.

    Args:
        codec: of the content; its space is a grid.
        family: of the autoencoder.
        net: the autoencoder; only used, never trained, here.
        shape: [c, h, w] of the latents of one example.
        scale: what latents are multiplied with, so that their standard deviation is 1.
    """

    def __init__(
        self, codec: ContentCodec, family: Autoencoder, net: Any, *, shape: Sequence[int], scale: float
    ) -> None:
        inner = codec.space
        assert isinstance(inner, Grid)
        self.codec, self.scale = codec, scale
        self._family, self._net = family, net
        channels, *dims = shape
        self.space = Grid(channels, tuple(dims), inner.conditions, inner.condition_length)

    def __getattr__(self, name: str) -> Any:
        """What the inner codec has beside the protocol (`classes`)."""
        if name == "codec":
            raise AttributeError(name)
        return getattr(self.codec, name)

    def with_classes(self, names: Sequence[str]) -> LatentCodec:
        """The codec with further classes, over the same latents; see the inner codec.

        Raises:
            DataError: the inner codec has no room for them, or knows no classes.
        """
        inner: Any = self.codec
        shape = (self.space.channels, *self.space.dims)
        return LatentCodec(inner.with_classes(names), self._family, self._net, shape=shape, scale=self.scale)

    def encode(self, sample: Sample) -> Example:
        """A sample's latents, with its condition."""
        return self.encode_all([sample])[0]

    def encode_all(self, samples: Iterable[Sample]) -> list[Example]:
        """The same of many, in batches; a pass over a dataset wants this one."""
        inner = [_example(self.codec.encode(s)) for s in samples]
        values = [e.values for e in inner]
        latents = [
            z * np.float32(self.scale)
            for s in range(0, len(values), _BATCH)
            for z in _encoded(self._family, self._net, values[s : s + _BATCH])
        ]
        return [Example(z, e.condition) for z, e in zip(latents, inner, strict=True)]

    def decode(self, values: Any, condition: str = "") -> Sample:
        """Latents [c, h, w] as a sample.

        Raises:
            DataError: they are of another shape, or no finite numbers.
        """
        array = np.asarray(values, np.float32)
        if array.shape != (self.space.channels, *self.space.dims) or not np.isfinite(array).all():
            what = f"latents of shape {array.shape} cannot be decoded"
            raise DataError(what, fix=f"Give finite ones of shape {(self.space.channels, *self.space.dims)}.")
        latents = torch.from_numpy(array / np.float32(self.scale))[None]
        with torch.inference_mode():
            pixels = self._family.decode(self._net, latents)[0].float().cpu().numpy()
        return self.codec.decode(pixels, condition)

    def condition(self, text: str) -> tuple[int, ...]:
        """What is asked for in words, as ids; see the inner codec."""
        return self.codec.condition(text)

    def fits(self, sample: Sample, condition: str) -> bool:
        """Whether a decoded sample is what was asked for; see the inner codec."""
        return self.codec.fits(sample, condition)

    def save(self, folder: Path) -> None:
        """Write the inner codec, the autoencoder and the scale; call it after the family's `save`.

        A DiT with an autoencoder of diffusers becomes a pipeline that diffusers opens alone.
        """
        self.codec.save(folder)
        self._family.save(self._net, folder / VAE)
        space = [self.space.channels, *self.space.dims]
        _write(folder / _ABOUT, {"family": self._family.name, "scale": self.scale, "shape": space})
        _enter(folder, self.scale)


def latent_codec(codec: ContentCodec, model: Model, samples: Iterable[Sample]) -> LatentCodec:
    """A codec over the latents of `model`.

    Args:
        codec: of the content, fitted on the same samples.
        model: of a family that encodes grids (`vae`), trained on grids of the codec's shape.
        samples: of the train split; their latents tell the scale.

    Raises:
        ArtifactError: the model has no latents, or takes grids of another shape.
        DataError: there is no sample, or all have the same latents.
    """
    inner = codec.space
    if not isinstance(inner, Grid):
        raise ArtifactError(f"latents are of grids, not of {inner.type}", fix="Leave `latent` out.")
    family = _autoencoder(model.about.family, str(model.path))
    known = model.about.space
    if known and [known.get("channels"), *known.get("dims", [])] != [inner.channels, *inner.dims]:
        what = f"the autoencoder takes grids of {known.get('channels')} x {known.get('dims')}, the data give "
        raise ArtifactError(
            f"{what}{inner.channels} x {list(inner.dims)}", where=str(model.path), fix="Train it on the same data."
        )
    net = _still(family.load(model.path))
    values = [_example(codec.encode(s)).values for _, s in zip(range(_FITTED_ON), samples, strict=False)]
    if not values:
        raise DataError("there is no sample to tell the latents' scale from", fix="Add samples to the train split.")
    parts = [_encoded(family, net, values[s : s + _BATCH]) for s in range(0, len(values), _BATCH)]
    latents = np.concatenate(parts)
    spread = float(latents.std(dtype=np.float64))
    if not spread > 0:
        raise DataError("all samples have the same latents", where=str(model.path), fix="Train the autoencoder longer.")
    # As float32 and then as a short decimal: what is saved is what was used.
    return LatentCodec(codec, family, net, shape=latents.shape[1:], scale=round(1 / spread, 6))


def has_latents(folder: Path) -> bool:
    """Whether the model in this folder learnt latents."""
    return (folder / _ABOUT).is_file()


def open_latent(codec: ContentCodec, folder: Path) -> LatentCodec:
    """The codec that travels with a model that learnt latents.

    Args:
        codec: the content's, opened by the modality from the same folder.
        folder: of the model.

    Raises:
        ArtifactError: files are missing or damaged.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        name, scale, shape = str(about["family"]), float(about["scale"]), [int(n) for n in about["shape"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"no readable {_ABOUT}: {error}", where=str(folder), fix="Run `volant verify`.") from error
    family = _autoencoder(name, str(folder))
    return LatentCodec(codec, family, _still(family.load(folder / VAE)), shape=shape, scale=scale)


def _autoencoder(name: str, where: str) -> Autoencoder:
    family = open_family(name)
    if not (hasattr(family, "encode_mean") and hasattr(family, "decode")):
        raise ArtifactError(f"the family {name} has no latents", where=where, fix="Name a model of family vae.")
    found: Autoencoder = family
    return found


def _still(net: Any) -> Any:
    return net.eval() if isinstance(net, torch.nn.Module) else net


def _example(encoded: Any) -> Example:
    assert isinstance(encoded, Example)
    return encoded


def _encoded(family: Autoencoder, net: Any, values: Sequence[Any]) -> npt.NDArray[np.float32]:
    batch = torch.from_numpy(np.stack([np.asarray(v, np.float32) for v in values]))
    with torch.inference_mode():
        latents: npt.NDArray[np.float32] = family.encode_mean(net, batch).float().cpu().numpy()
    return latents


def _enter(folder: Path, scale: float) -> None:
    """Write the index of a `DiTPipeline`, where network and autoencoder are both diffusers' own."""
    network, config = folder / "transformer" / "config.json", folder / VAE / "config.json"
    if not (network.is_file() and config.is_file()):
        return
    vae = json.loads(config.read_text(encoding="utf-8"))
    if vae.get("_class_name") != "AutoencoderKL":
        return
    _write(config, {**vae, "scaling_factor": scale})
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    index = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": scheduler["_diffusers_version"],
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _write(folder / _INDEX, index)


def _write(file: Path, body: Any) -> None:
    file.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
