"""Pipelines of diffusers as they are: Stable Diffusion and its like, denoisers of pixels, transformers of classes.

What enters: a directory that `DiffusionPipeline.from_pretrained` opens. What leaves: a network whose `core` is the
pipeline's denoiser, the only part that is trained, and pictures that the pipeline itself draws. Text encoders and
the autoencoder stay as they came. A pipeline is taken by `pretrain.base`, and never built here.

Shape legend: B rows, C condition ids; pictures are [B, channels, height, width] in [-1, 1].
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.spaces import Space
from volant.nets import denoising, pipeline_files
from volant.nets.arrays import NONE, ArrayBatch

DROP = 0.1  # share of the captions that training leaves out
_PIXELS = 1 << 20  # in one call of a pipeline
_NOT_TAKEN = (
    "image",
    "mask_image",
    "control_image",
    "video",
    "num_frames",
    "audio_length_in_s",
    "prior_guidance_scale",
)
_GIVEN = ("prompt", "class_labels")


class Piped(nn.Module):
    """A pipeline as a network.

    Args:
        pipe: of diffusers; its parts are this network's.
        index: its `model_index.json`, which is written again as it is.

    Raises:
        ArtifactError: it makes no pictures of nothing but words or a class.
    """

    def __init__(self, pipe: Any, index: dict[str, Any]) -> None:
        super().__init__()
        self.pipe, self.index = pipe, index
        self.call = inspect.signature(type(pipe).__call__).parameters
        _check_call(pipe, self.call)
        name = next((n for n in ("unet", "transformer") if isinstance(getattr(pipe, n, None), nn.Module)), "")
        if not name:
            raise ArtifactError(f"a {type(pipe).__name__} has no denoiser.", fix="Use a pipeline of one denoiser.")
        self.core: Any = getattr(pipe, name)
        parts = {n: m for n, m in pipe.components.items() if isinstance(m, nn.Module) and n != name}
        self.frozen = nn.ModuleDict(parts).requires_grad_(False)
        self.float()  # weights may be stored in half the bits; what is trained is not
        self.train(False)

    def train(self, mode: bool = True) -> Piped:
        """Set the denoiser to training; the other parts never are."""
        super().train(mode)
        self.frozen.eval()
        return self

    @property
    def told(self) -> Literal["none", "class", "words"]:
        """How the pipeline is told what to draw."""
        return "words" if "prompt" in self.call else "class" if self.classes else "none"

    @property
    def classes(self) -> int:
        """How many classes it knows; 0 where it is told none."""
        config = self.core.config
        known = config.get("num_embeds_ada_norm") or config.get("num_class_embeds") or 0
        return int(known) if "class_labels" in self.call else 0

    @property
    def has_none(self) -> bool:
        """Whether the number after the last class stands for none of them."""
        return self.core.config.get("num_embeds_ada_norm") is not None

    def names(self) -> list[str]:
        """The classes' names in the order of their ids; numbers where the pipeline has no names."""
        given = self.index.get("id2label") or {}
        return [str(given.get(str(i), i)) for i in range(self.classes)]

    def words(self, ids: Sequence[int]) -> str:
        """Ids of the pipeline's tokenizer as text."""
        return str(self.pipe.tokenizer.decode([int(i) for i in ids if i >= 0], skip_special_tokens=True))

    def standard(self, name: str) -> Any:
        """The pipeline's own value of an argument; None where it has no such."""
        return self.call[name].default if name in self.call else None


class Pipeline:
    """The family of pipelines."""

    name = "pipeline"
    version = 1
    accepts = ("grid",)
    controls = {"guidance": (0.0, 100.0), "steps": (1.0, 1000.0)}
    default_steps, default_batch = 500, 4

    def build(self, space: Space, *, seed: int) -> Any:
        """Never: a pipeline is taken as it is.

        Raises:
            ArtifactError: always.
        """
        fix = "Take one with `pretrain.base`, or train another family (`family: flow`)."
        raise ArtifactError("a pipeline cannot be built from nothing.", fix=fix)

    def recipe(self, space: Space, *, steps: int, batch: int) -> dict[str, Any]:
        """Fields of a `Recipe` that suit a denoiser; tuning takes a quarter of the rate, which is 1e-4."""
        return {
            "steps": steps, "lr": 4e-4, "betas": (0.9, 0.99), "warmup": max(1, min(100, steps // 10)),
            "decay": max(1, steps // 4), "weight_decay": 0.01,
        }  # fmt: skip

    def step_loss(self, net: Piped, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
        """(sum over the examples of the mean squared error of the prediction, examples).

        Noise, times and which captions are left out come from torch's own generator of the CPU.
        """
        each_B, _ = self._errors(net, batch)
        if batch.weights_B is not None:
            each_B = each_B * batch.weights_B
        return each_B.sum(), batch.size

    def surprise(self, net: Piped, batch: ArrayBatch) -> torch.Tensor:
        """Squared errors of each example's prediction, summed over its latents, at one time [B]; as `Flow.surprise`."""
        each_B, values = self._errors(net, batch)
        return each_B * values

    def _errors(self, net: Piped, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
        """(mean squared error of each example's prediction [B], numbers in each)."""
        clean = denoising.latents(net.pipe.components.get("vae"), batch.values)
        x, time_B, target = denoising.noised(net.pipe.scheduler, clean)
        height, width = batch.values.shape[-2:]
        words, classes_B = _conditions(net, batch.condition_BC, x.device)
        more = denoising.told(net.pipe, net.core, words, classes_B, (height, width))
        name = "timestep" if "timestep" in inspect.signature(net.core.forward).parameters else "timesteps"
        predicted = net.core(x, **{name: time_B}, **more, return_dict=False)[0].float()
        # Some tell the variance beside it, which is left as it was.
        return (predicted[:, : target.size(1)] - target).square().flatten(1).mean(1), target[0].numel()

    def loss(self, net: Piped, batch: ArrayBatch) -> torch.Tensor:
        """The mean loss of a batch, with the same noise at each call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            total, count = self.step_loss(net, batch)
        return total / count

    @torch.no_grad()
    def sample(
        self,
        net: Piped,
        prompts: Sequence[Sequence[int]],
        *,
        seed: int,
        seeds: Sequence[int] | None = None,
        guidance: float | None = None,
        steps: float | None = None,
    ) -> npt.NDArray[np.float32]:
        """Pictures, float32 [n, channels, height, width] in [-1, 1], drawn by the pipeline itself.

        Args:
            net: from `load`.
            prompts: condition ids of each; empty for none.
            seed: of all draws, unless `seeds` gives each example its own.
            seeds: one a prompt.
            guidance: how hard the condition is followed; above 1 each step costs twice. None takes the pipeline's own.
            steps: of the scheduler. None takes the pipeline's own.

        Raises:
            SettingError: there are more steps than the scheduler knows.
        """
        own = list(seeds) if seeds is not None else [seed * 1_000_003 + row for row in range(len(prompts))]
        taken = _taken(net, guidance, steps)
        was = net.training
        net.eval()
        try:
            parts: list[npt.NDArray[np.float32]] = []
            while len(own) > sum(map(len, parts)):
                start = sum(map(len, parts))
                # The first picture tells how large they are, and so how many go into one call.
                rows = max(1, min(64, _PIXELS // (parts[0].shape[-1] * parts[0].shape[-2]))) if parts else 1
                rows = 1 if _forgets_seeds(net) else rows
                parts.append(_drawn(net, prompts[start : start + rows], own[start : start + rows], taken))
        finally:
            net.train(was)
        return np.concatenate(parts) if parts else np.zeros((0, 3, 1, 1), np.float32)

    def logp(self, net: Piped, batch: Any) -> None:
        """It has none."""

    def export(self) -> tuple[str, ...]:
        """The formats that `compress` can turn it into: none."""
        return ()

    def save(self, net: Piped, folder: Path) -> None:
        """Write the pipeline, which opens with `DiffusionPipeline.from_pretrained` alone."""
        folder.mkdir(parents=True, exist_ok=True)
        net.pipe.save_pretrained(folder, safe_serialization=True)
        text = json.dumps(net.index, indent=2, sort_keys=True) + "\n"
        (folder / pipeline_files.INDEX).write_text(text, encoding="utf-8")
        pipeline_files.forget_places(folder)

    def load(self, folder: Path) -> Piped:
        """Open a pipeline: safetensors only, classes of diffusers and transformers only, nothing from the network.

        Raises:
            ArtifactError: files are missing, damaged or of a kind that is not opened.
        """
        import diffusers
        from transformers.utils import logging

        index = pipeline_files.read_index(folder / pipeline_files.INDEX)
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        pipeline_files.chosen(index, names)
        pipeline_files.check_configs(folder, index)
        quiet: Any = logging
        quiet.disable_progress_bar()  # theirs are for single files; ours show what takes long
        diffusers.utils.logging.disable_progress_bar()
        try:
            pipe: Any = diffusers.DiffusionPipeline.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
            )
        except Exception as error:  # whatever the classes of the parts raise on a damaged file
            first = str(error).strip().split("\n")[0]
            fix = "Run `volant verify`, or fetch the pipeline again."
            raise ArtifactError(f"the pipeline cannot be opened: {first}", where=str(folder), fix=fix) from error
        pipe.set_progress_bar_config(disable=True)
        return Piped(pipe, index)


def tokenizer_json(net: Piped) -> tuple[str, int]:
    """The pipeline's first tokenizer as JSON of `tokenizers`, and how many ids a caption has at most.

    Raises:
        ArtifactError: it is of a kind that has no such form.
    """
    tokenizer = getattr(net.pipe, "tokenizer", None)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if tokenizer is None or backend is None:
        fix = "Use a pipeline with a `tokenizer` that transformers opens as a fast one."
        raise ArtifactError(f"its tokenizer {type(tokenizer).__name__} cannot be read.", fix=fix)
    plain = copy.deepcopy(backend)
    plain.no_padding()
    plain.no_truncation()
    most = min(int(tokenizer.model_max_length), 512) - int(tokenizer.num_special_tokens_to_add())
    return str(plain.to_str()), most


def _check_call(pipe: Any, call: Any) -> None:
    asked = [n for n, p in call.items() if p.default is inspect.Parameter.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    missing = [n for n in asked if n not in ("self", *_GIVEN)]
    odd = [*missing, *(n for n in _NOT_TAKEN if n in call)]
    if odd or "generator" not in call:
        what = f"a {type(pipe).__name__} does not make pictures of words or a class alone"
        said = f" (it is told {odd[0]!r})" if odd else ""
        raise ArtifactError(f"{what}{said}.", fix="Use a pipeline that does: Stable Diffusion, DDPM, DiT ...")


def _conditions(net: Piped, condition_BC: torch.Tensor, device: Any) -> tuple[list[str], torch.Tensor]:
    """Captions and classes of a batch, some left out in training; no class is the number after the last."""
    size = condition_BC.size(0)
    if net.told == "words":
        drop = torch.rand(size) < (DROP if net.training else 0.0)
        rows = condition_BC.tolist()
        return ["" if gone else net.words(ids) for ids, gone in zip(rows, drop.tolist(), strict=True)], torch.empty(0)
    # A transformer's embedding of classes leaves some out by itself in training.
    none_B = torch.full((size,), net.classes, dtype=torch.int64)
    first_B = condition_BC[:, 0].cpu() if condition_BC.size(1) else torch.full_like(none_B, NONE)
    if net.told == "class" and not net.has_none and bool((first_B < 0).any()):
        raise DataError("this pipeline learns classes, and a picture has none.", fix="Give each picture its class.")
    return [""] * size, torch.where(first_B >= 0, first_B, none_B).to(device)


def _taken(net: Piped, guidance: float | None, steps: float | None) -> dict[str, Any]:
    """The pipeline's arguments for the controls that were set."""
    taken: dict[str, Any] = {}
    if guidance is not None and "guidance_scale" in net.call:
        taken["guidance_scale"] = float(guidance)
    if steps is not None and "num_inference_steps" in net.call:
        most = int(net.pipe.scheduler.config.get("num_train_timesteps", 1000))
        if steps > most:
            what = f"{steps:g} steps are more than the {most} that the scheduler knows."
            raise SettingError(what, where="steps", fix=f"Take {most} at most.")
        taken["num_inference_steps"] = int(steps)
    return taken


def _forgets_seeds(net: Piped) -> bool:
    """Whether the scheduler draws noise that the pipeline does not give the examples' generators for."""
    stochastic = ("DDPM", "Ancestral", "SDE", "LCM", "TCD", "ConsistencyModel", "EDMEuler")
    kind = f"{type(net.pipe.scheduler).__name__} {net.pipe.scheduler.config.get('algorithm_type', '')}".replace(
        "sde", "SDE"
    )
    return "class_labels" in net.call and any(name in kind for name in stochastic)


def _drawn(
    net: Piped, prompts: Sequence[Sequence[int]], seeds: Sequence[int], taken: dict[str, Any]
) -> npt.NDArray[np.float32]:
    """One call of the pipeline."""
    given: dict[str, Any] = {"generator": [torch.Generator().manual_seed(int(s) % 2**63) for s in seeds]}
    if net.told == "words":
        given["prompt"] = [net.words(ids) for ids in prompts]
    elif net.told == "class":
        none = [net.classes if net.has_none else int(seed) % net.classes for seed in seeds]
        given["class_labels"] = [int(ids[0]) if len(ids) else other for ids, other in zip(prompts, none, strict=True)]
    if "batch_size" in net.call:
        given["batch_size"] = len(prompts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seeds[0]) % 2**63)  # for schedulers that are given no generator
        images = net.pipe(**given, **taken, output_type="np").images
    values = np.asarray(images, np.float32)
    if values.ndim == 3:
        values = values[..., None]
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) * np.float32(2) - np.float32(1)


family = Pipeline()
