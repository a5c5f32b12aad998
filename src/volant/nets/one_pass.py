"""Families that make an example of noise in one pass of a network: what VAEs and GANs do alike.

What enters: a grid of an image, or the columns of a table, with noise. What leaves: a whole image or row, files, and
the network's ONNX form. A network has `space`, `size`, `draw(draws, condition_BC, temperature)`, for rows a `layout`,
and for images `painted(noise_BZ, condition_BC)`; the families differ in how it is built and trained.

Shape legend: B rows, C condition ids, Z noise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from volant.core.errors import ArtifactError, SettingError, did_you_mean
from volant.core.spaces import Example, Grid, Mixed, Space, space_from, space_json
from volant.nets import columns
from volant.nets.condition import asked
from volant.nets.draws import Draws
from volant.nets.exported import Answer, Part
from volant.nets.painted import Painted, Painting


class OnePass:
    """See the module.

    Attributes:
        needs_examples: types of spaces whose `build` takes the training examples.
    """

    name: str
    accepts = ("grid", "mixed")
    controls = {"temperature": (0.0, 2.0)}
    needs_examples = ("mixed",)

    def made(self, space: Any, size: dict[str, Any], layout: columns.Layout | None) -> Any:
        """A network of that size, from torch's own generator; rows have a layout."""
        raise NotImplementedError

    def layout(self, space: Space, examples: Sequence[Example] | None, *, ranges: int = 1) -> columns.Layout | None:
        """How the columns of rows look; None for images.

        Raises:
            ArtifactError: the space is none of the two.
            SettingError: rows come without examples.
        """
        if not isinstance(space, Grid | Mixed):
            what = f"a {self.name.upper()} takes images or rows, not {space.type}"
            raise ArtifactError(what, fix="Choose another family.")
        if isinstance(space, Grid):
            return None
        if not examples:
            what = "a network for rows cannot be built without data: only they say what its columns look like"
            raise SettingError(what, where="examples", fix="Give `build` the training examples.")
        return columns.fit(space, columns.matrix_of(examples), ranges=ranges)

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
            temperature: scale of the noise; of a VAE's rows, of each column's choice. Below 1 examples are more
                alike, 0 takes the likeliest.
            **controls: none more.
        """
        for name in controls:
            what = f"there is no control {name!r}."
            raise SettingError(what, where="controls", fix=did_you_mean(name, self.controls))
        was = net.training
        net.eval()
        condition_BC = asked(prompts, net.space.conditions if isinstance(net.space, Grid) else 0)
        drawn = net.draw(Draws(len(prompts), seed=seed, seeds=seeds), condition_BC, float(temperature))
        net.train(was)
        return drawn

    def logp(self, net: Any, batch: Any) -> None:
        """It has none: such networks tell a bound at best."""

    def export(self) -> tuple[str, ...]:
        """The formats that `compress` can turn it into; images only."""
        return ("onnx",)

    def onnx_part(self, net: Any) -> Part:
        """What another runtime runs: noise and conditions to images; see `nets/exported.py`.

        Raises:
            SettingError: it makes rows, whose values are drawn column by column outside of the network.
        """
        if not hasattr(net, "painted"):
            what = f"a {self.name.upper()} of rows cannot be turned into ONNX."
            raise SettingError(what, fix="Serve it as it is, or make it smaller with `compress.quantise`.")
        length = max(1, net.space.condition_length)
        inputs = {"noise": torch.zeros(2, net.noise_width)}
        if net.space.conditions:
            inputs["condition"] = torch.zeros(2, length, dtype=torch.int64)
        facts = {"space": space_json(net.space), "length": length, "width": net.noise_width}
        return Part(Painting(net), inputs, facts)

    def from_onnx(self, answer: Answer, facts: dict[str, Any]) -> Painted:
        """What `sample` takes in the network's place; `answer` runs the file."""
        space = space_from(facts["space"])
        assert isinstance(space, Grid)
        return Painted(space, answer, width=int(facts["width"]), length=int(facts["length"]))

    def save(self, net: Any, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`: the whole state, so that training can go on; rows' layout."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(plain(net.state_dict()), folder / "model.safetensors")
        self.describe(net, folder / "config.json")
        if hasattr(net, "layout"):
            net.layout.save(folder)

    def load(self, folder: Path) -> Any:
        """Read them back; files that are there but damaged raise what safetensors raises.

        Raises:
            ArtifactError: there is no such model.
        """
        space, size = self.described(folder / "config.json")
        net = self.made(space, size, columns.open_layout(folder) if isinstance(space, Mixed) else None)
        net.load_state_dict(load_file(folder / "model.safetensors"))
        return net.eval()

    def describe(self, net: Any, file: Path) -> None:
        """Write the network's space and size."""
        body = {"family": self.name, "space": space_json(net.space), "size": net.size}
        file.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")

    def described(self, file: Path) -> tuple[Space, dict[str, Any]]:
        """What `describe` wrote.

        Raises:
            ArtifactError: it is not there or damaged.
        """
        try:
            body = json.loads(file.read_text(encoding="utf-8"))
            return space_from(body["space"]), dict(body["size"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"there is no {self.name.upper()}: {error}"
            raise ArtifactError(what, where=str(file.parent), fix="Run `volant verify`.") from error


def plain(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors as safetensors takes them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
