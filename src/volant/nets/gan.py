"""Generative adversarial networks: images and rows of tables.

What enters: a grid or mixed space. What leaves: a generator, its running average and a discriminator. The loop's one
optimiser steps both players at once (see `adversary.both_players`), so that nothing in the loop knows of them.
The loss says who is winning, not how good the samples are: it neither has to fall nor chooses weights, and
`recipe` turns looks at it off. Rows need `examples` at `build`, as for `vae`; `one_pass.py` has what both do alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from volant.core.errors import SettingError
from volant.core.spaces import Example, Space
from volant.nets import columns
from volant.nets.arrays import ArrayBatch
from volant.nets.gan_grid import GridGan
from volant.nets.gan_rows import RowGan
from volant.nets.one_pass import OnePass
from volant.nets.repeatable import aside


class Gan(OnePass):
    """The family of generative adversarial networks."""

    name = "gan"
    version = 1
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
        layout = self.layout(space, examples)
        if width % 8:
            raise SettingError(f"{width} channels do not part into groups", where="width", fix="Take a multiple of 8.")
        size = {"z": z, "width": width or (256 if layout else 32), "down": down, "average": average}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.made(space, size, layout)

    def loss(self, net: Any, batch: Any) -> torch.Tensor:
        """The mean hinge loss of both players, always with the same noise."""
        with aside(batch.values.device.type):
            torch.manual_seed(0)
            total, count = self.step_loss(net, batch)
        return total / count

    def step_loss(self, net: Any, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
        """What the loop minimises: both players' losses, each with the other's weights held; noise is torch's own."""
        return net.losses(batch).sum(), batch.size

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

    def made(self, space: Any, size: dict[str, Any], layout: columns.Layout | None) -> Any:
        """A network of that size, from torch's own generator; rows have a layout."""
        if layout is not None:
            net: Any = RowGan(space, layout, **{k: size[k] for k in ("z", "width", "average")})
        else:
            net = GridGan(space, **size)
        net.size = size
        return net


family = Gan()
