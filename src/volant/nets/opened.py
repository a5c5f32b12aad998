"""A model that draws whole samples, opened: its family, its network and its codec, to draw or to be trained on.

What enters: a Model. What leaves: an `Opened`, which also writes what training made of it. Every stage and engine that
takes such a model opens it here, so that damage, 8-bit weights and converted models are met in the same way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from volant.core.artifact import Model
from volant.core.errors import ArtifactError, MachineError, SettingError, VolantError
from volant.core.protocols import Modality
from volant.core.run import Run
from volant.core.spaces import space_json
from volant.modalities import open_modality
from volant.nets import open_family
from volant.nets.int8 import restored
from volant.nets.latent import has_latents, open_latent

ENGINES = ("sampler", "onnx")  # of models that draw whole samples


@dataclass
class Opened:
    """A model that draws whole samples, opened to draw or to be trained on.

    Attributes:
        was_small: its weights were in 8 bits; the network has them as floats again.
    """

    model: Model
    family: Any
    net: Any
    codec: Any
    was_small: bool = False

    @property
    def controls(self) -> dict[str, Any]:
        """What the model is asked with where a request states nothing."""
        return dict(self.model.about.extra.get("controls", {}))

    def save(self, run: Run, *, parameters: int | None = None, **extra: Any) -> None:
        """Write the network, trained on, its codec and `volant.json` into `run.out`.

        Args:
            run: whose `out` is written to.
            parameters: of the network; None where they stayed as many.
            extra: what `volant.json` says more than it did.
        """
        about, net = self.model.about, self.net
        self.net = net = net.cpu() if hasattr(net, "cpu") else net
        self.family.save(net, run.out)
        self.codec.save(run.out)
        known = {n: v for n, v in about.extra.items() if n != "quantisation"}  # it is float32 now
        told = about.model_copy(
            update={
                "space": space_json(self.codec.space), "extra": {**known, **extra, "base": self.model.digest[:16]},
                "parameters": about.parameters if parameters is None else parameters,
            }
        )  # fmt: skip
        body = json.dumps(told.model_dump(mode="json"), indent=2, sort_keys=True)
        (run.out / "volant.json").write_text(body + "\n", encoding="utf-8")


def draws(model: Model) -> bool:
    """Whether the model draws whole samples (pictures, rows), and is no writer of text."""
    return model.about.engine in ENGINES


def opened(model: Model, *, device: str = "cpu") -> Opened:
    """Open a model with its own family and codec; weights in 8 bits become floats.

    Raises:
        ArtifactError: it is damaged, or of a family without `sample`.
        MachineError: the device is not there.
    """
    about = model.about
    with restored(model.path) as folder:  # the model's own, unless its weights are in 8 bits
        try:
            family: Any = open_family(about.family)
            net = family.load(folder)
        except VolantError:
            raise
        except Exception as error:  # whatever a library raises on damaged files
            first = str(error).strip().split("\n")[0]
            what = f"the model cannot be opened: {first}"
            raise ArtifactError(what, where=str(model.path), fix="Run `volant verify`.") from error
        codec = open_codec(open_modality(about.modality), folder)
        was_small = folder != model.path
    if isinstance(net, torch.nn.Module):
        try:
            net = net.to(device)
        except (RuntimeError, AssertionError) as error:
            what = f"cannot use device {device!r}: {error}"
            raise MachineError(what, where=str(model.path), fix="Set `device: cpu`.") from error
    return Opened(model, family, net, codec, was_small)


def to_train(run: Run, model: Model) -> Opened:
    """Open a model to train it further, on the run's device.

    Raises:
        SettingError: it does not draw whole samples, or was converted for another runtime.
        ArtifactError: it is damaged.
    """
    check_drawing(run, model)
    found = opened(model, device=run.device)
    if found.was_small:
        run.say("the weights were in 8 bits: they are trained, and written, as float32; quantise the result again")
    return found


def check_drawing(run: Run, model: Model) -> None:
    """Refuse a model that does not draw whole samples with torch.

    Raises:
        SettingError: it writes text, or was converted for another runtime.
    """
    engine = model.about.engine
    if engine == "torch":
        what = "the model writes text; this takes one that draws pictures or rows."
        raise SettingError(what, where=run.step, fix="`volant methods` names the methods for text.")
    if engine != "sampler":
        what = f"this takes a model that draws whole samples with torch, not one for {engine!r}."
        raise SettingError(what, where=run.step, fix=unconverted(model))


def unconverted(model: Model) -> str:
    """How to mend that a model was converted: where the one before it is.

    The card of a sealed model knows what made it, and of which digest.
    """
    card = model.card
    before = card.parents.get("model", []) if card else []
    if not (card and before):
        return "Name the step that made the model before it was converted."
    return f"Name the step that made {before[0][:12]}, of which `{card.method}` made this one."


def open_codec(modality: Modality, folder: Path) -> Any:
    """The codec that travels with a model, around its autoencoder where the model learnt latents."""
    codec = modality.open_codec(folder)
    return open_latent(codec, folder) if has_latents(folder) else codec
