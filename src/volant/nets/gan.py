"""Generative adversarial networks: images and rows of tables.

What enters: a grid or mixed space. What leaves: a generator, its running average and a discriminator. The loop's one
optimiser steps both players at once (see `adversary.both_players`), so that nothing in the loop knows of them.
The loss says who is winning, not how good the samples are: it neither has to fall nor chooses weights, and
`recipe` turns looks at it off. Rows need `examples` at `build`, as for `vae`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from volant.core.errors import ArtifactError, SettingError, did_you_mean
from volant.core.protocols import Example, Grid, Mixed, Space, space_from, space_json
from volant.nets import columns
from volant.nets.arrays import ArrayBatch
from volant.nets.condition import asked
from volant.nets.draws import Draws
from volant.nets.gan_grid import GridGan
from volant.nets.gan_rows import RowGan


class Gan:
    """The family of generative adversarial networks.

    Attributes:
        needs_examples: types of spaces whose `build` takes the training examples.
    """

    name = "gan"
    version = 1
    accepts = ("grid", "mixed")
    controls = {"temperature": (0.0, 2.0)}
    needs_examples = ("mixed",)
    default_steps = 2000
    default_batch = 64

    def build(
        self,
        space: Space,
        *,
        seed: int,
        z: int = 32,
        width: int = 0,
        down: int = 0,
        average: float = 0.999,
        examples: Sequence[Example] | None = None,
    ) -> Any:
        """A fresh network.

        Args:
            space: images or rows.
            seed: same seed, same weights.
            z: numbers of noise an example.
            width: channels at full size, a multiple of 8 (32), or hidden units (256); 0 for these.
            down: how often an image's sides are halved; 0 for down to about 4.
            average: share of the generator's average that a step keeps; nearer 1 is smoother and later.
            examples: rows: the training data, to fit the columns on.
        """
        if not isinstance(space, Grid | Mixed):
            raise ArtifactError(f"a GAN takes images or rows, not {space.type}", fix="Choose another family.")
        if width % 8:
            raise SettingError(f"{width} channels do not part into groups", where="width", fix="Take a multiple of 8.")
        layout = None
        if isinstance(space, Mixed):
            if not examples:
                what = "a network for rows cannot be built without data: only they say what its columns look like"
                raise SettingError(what, where="examples", fix="Give `build` the training examples.")
            layout = columns.fit(space, columns.matrix_of(examples))
        size = {"z": z, "width": width or (256 if layout else 32), "down": down, "average": average}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _made(space, size, layout)

    def loss(self, net: Any, batch: Any) -> torch.Tensor:
        """The mean hinge loss of both players, always with the same noise."""
        cuda = [torch.cuda.current_device()] if batch.values.is_cuda else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(0)
            total, count = self.step_loss(net, batch)
        return total / count

    def step_loss(self, net: Any, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
        """What the loop minimises: both players' losses, each with the other's weights held; noise is torch's own."""
        return net.losses(batch).sum(), batch.size

    @torch.no_grad()
    def sample(
        self,
        net: Any,
        prompts: Sequence[Sequence[int]],
        *,
        seed: int,
        seeds: Sequence[int] | None = None,
        temperature: float = 1.0,
        **controls: Any,
    ) -> Any:
        """One image float32 [n, C, H, W] in [-1, 1], or row float64 [n, columns], for each prompt.

        Args:
            net: from `build` or `load`.
            prompts: condition ids; empty for none.
            seed: of all draws.
            seeds: one a prompt; each example then depends on its own alone.
            temperature: scales the noise; below 1 examples are more alike.
            **controls: none more.
        """
        for name in controls:
            what = f"there is no control {name!r}."
            raise SettingError(what, where="controls", fix=did_you_mean(name, self.controls))
        condition_BC = asked(prompts, net.space.conditions if isinstance(net.space, Grid) else 0)
        return net.draw(Draws(len(prompts), seed=seed, seeds=seeds), condition_BC, float(temperature))

    def logp(self, net: Any, batch: Any) -> None:
        """It has none: a GAN tells no probabilities."""

    def recipe(self, space: Space, *, steps: int, batch: int) -> dict[str, Any]:
        """What suits it of a `Recipe`: no momentum, since the players chase each other; no looks at the loss."""
        return {
            "lr": 4e-4 if space.type == "grid" else 1e-3,
            "betas": (0.0, 0.99),
            "weight_decay": 0.0,
            "clip": 100.0,
            "warmup": 20,
            "decay": steps * 3 // 10,
            "evaluate_every": 0,
            "patience": 0,
            "bf16": False,
        }

    def export(self) -> tuple[str, ...]:
        """The formats that `compress` can turn it into."""
        return ()

    def save(self, net: Any, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`: both players and the average, so that training can go on."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}
        save_file(tensors, folder / "model.safetensors")
        body = {"family": self.name, "space": space_json(net.space), "size": net.size}
        (folder / "config.json").write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
        if isinstance(net, RowGan):
            net.layout.save(folder)

    def load(self, folder: Path) -> Any:
        """Read them back; files that are there but damaged raise what safetensors raises.

        Raises:
            ArtifactError: there is no such model.
        """
        try:
            body = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            space, size = space_from(body["space"]), body["size"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"there is no GAN: {error}", where=str(folder), fix="Run `volant verify`.") from error
        net = _made(space, size, columns.open_layout(folder) if isinstance(space, Mixed) else None)
        net.load_state_dict(load_file(folder / "model.safetensors"))
        return net.eval()


def _made(space: Any, size: dict[str, Any], layout: columns.Layout | None) -> Any:
    """A network of that size."""
    if layout is not None:
        net: Any = RowGan(space, layout, **{k: size[k] for k in ("z", "width", "average")})
    else:
        net = GridGan(space, **size)
    net.size = size
    return net


family = Gan()
