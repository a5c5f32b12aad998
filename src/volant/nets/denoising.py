"""What the denoiser of a diffusers pipeline is trained to tell, and what it has to be told.

What enters: a pipeline, clean latents, captions or classes. What leaves: noised latents with their time and the
target, by the scheduler's own kind of prediction; and the further arguments of the denoiser, which differ from class
to class. Sources: noise (Ho et al. 2020), velocity (Salimans and Ho 2022), flow matching with logit-normal times
(Esser et al. 2024).

Shape legend: B rows; x is [B, channels, height, width].
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from volant.core.errors import ArtifactError

KINDS = ("epsilon", "sample", "v_prediction")
TUNED = (
    "UNet2DModel", "UNet2DConditionModel", "DiTTransformer2DModel", "Transformer2DModel", "PixArtTransformer2DModel",
    "SD3Transformer2DModel",
)  # fmt: skip


def latents(vae: Any, values: torch.Tensor) -> torch.Tensor:
    """Pictures in [-1, 1] as what the denoiser works on, drawn from the autoencoder's posterior; itself without one."""
    if vae is None:
        return values
    with torch.no_grad():
        said = vae.encode(values)
    if hasattr(said, "latent_dist"):
        found = said.latent_dist.sample()
    else:
        found = said.latents if hasattr(said, "latents") else said.latent
    config = vae.config
    scale = float(config.get("scaling_factor") or 1.0)
    mean, spread = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and spread is not None:
        shape = (1, -1, 1, 1)
        moved: torch.Tensor = (found - found.new_tensor(mean).view(shape)) / found.new_tensor(spread).view(shape)
        return moved * scale
    result: torch.Tensor = (found - float(config.get("shift_factor") or 0.0)) * scale
    return result


def noised(scheduler: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(noised x, time [B], target), drawn with torch's own generator of the CPU.

    Times are stratified: one from each of B equal parts, which makes the loss of a batch steadier.

    Raises:
        ArtifactError: the scheduler predicts in a way that is not known here.
    """
    size, config = x.size(0), scheduler.config
    noise = torch.randn(x.shape).to(x)
    share_B = (torch.randperm(size) + torch.rand(size)) / size
    total = int(config.get("num_train_timesteps", 1000))
    if is_flow(scheduler):
        shift = float(config.get("shift") or config.get("flow_shift") or 1.0)
        sigma_B = torch.sigmoid(torch.special.ndtri(share_B.double().clamp(1e-6, 1 - 1e-6))).float()
        sigma_B = (shift * sigma_B / (1 + (shift - 1) * sigma_B)).to(x)
        return torch.lerp(x, noise, sigma_B[:, None, None, None]), sigma_B * total, noise - x
    kind = str(config.get("prediction_type", "epsilon"))
    kept = getattr(scheduler, "alphas_cumprod", None)
    if kept is None or kind not in KINDS:
        what = f"a {type(scheduler).__name__} that predicts {kind!r} cannot be trained with"
        fix = f"Use a pipeline whose scheduler predicts {', '.join(KINDS)}, or flow matching."
        raise ArtifactError(what, fix=fix)
    time_B = (share_B * total).long().clamp(max=total - 1)
    kept_B = kept.cpu()[time_B].to(x)[:, None, None, None]
    signal, spread = kept_B.sqrt(), (1 - kept_B).sqrt()
    target = {"epsilon": noise, "sample": x, "v_prediction": signal * noise - spread * x}[kind]
    return signal * x + spread * noise, time_B.to(x.device), target


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler goes along straight lines between content and noise."""
    flow = scheduler.config.get("prediction_type") == "flow_prediction"
    return flow or type(scheduler).__name__.startswith("FlowMatch")


def told(pipe: Any, core: Any, words: Sequence[str], classes_B: torch.Tensor, size: tuple[int, int]) -> dict[str, Any]:
    """The denoiser's further arguments.

    Args:
        pipe: gives its own way to encode captions.
        core: the denoiser.
        words: captions, one a row; empty for none.
        classes_B: class numbers; read by denoisers of classes only.
        size: height and width of the pictures in pixels.

    Raises:
        ArtifactError: the denoiser is of a class that cannot be trained here.
    """
    kind = type(core).__name__
    if kind == "UNet2DModel":
        return {"class_labels": classes_B} if core.class_embedding is not None else {}
    if kind == "DiTTransformer2DModel" or (kind == "Transformer2DModel" and "class_labels" in _call(pipe)):
        return {"class_labels": classes_B}
    if kind not in TUNED or not hasattr(pipe, "encode_prompt"):
        fix = f"Tune a pipeline whose denoiser is one of {', '.join(TUNED)}."
        raise ArtifactError(f"a {kind} of a {type(pipe).__name__} cannot be trained here.", fix=fix)
    encoded = _encoded(pipe, core, list(words))
    if kind == "PixArtTransformer2DModel":
        rows, (height, width) = len(words), size
        more: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
        if core.use_additional_conditions:
            more["resolution"] = torch.tensor([[height, width]] * rows, device=core.device)
            more["aspect_ratio"] = torch.tensor([[height / width]] * rows, device=core.device)
        mask_BL = encoded[1]
        return {"encoder_hidden_states": encoded[0], "encoder_attention_mask": mask_BL, "added_cond_kwargs": more}
    if kind == "SD3Transformer2DModel":
        return {"encoder_hidden_states": encoded[0], "pooled_projections": encoded[2]}
    added = core.config.get("addition_embed_type")
    if added is None:
        return {"encoder_hidden_states": encoded[0]}
    if added != "text_time":
        raise ArtifactError(f"a denoiser that is told {added!r} cannot be trained here.", fix="Use it as it is.")
    # Not cropped, and of the size that is asked for: what the pipeline itself says when it draws.
    ids_B6 = torch.tensor([[*size, 0, 0, *size]] * len(words), dtype=torch.float32, device=core.device)
    return {"encoder_hidden_states": encoded[0], "added_cond_kwargs": {"text_embeds": encoded[2], "time_ids": ids_B6}}


def _encoded(pipe: Any, core: Any, words: list[str]) -> Sequence[Any]:
    """What the pipeline's own `encode_prompt` returns for the captions alone."""
    given = {
        "prompt": words, "prompt_2": None, "prompt_3": None, "device": core.device, "num_images_per_prompt": 1,
        "do_classifier_free_guidance": False,
    }  # fmt: skip
    known = inspect.signature(pipe.encode_prompt).parameters
    with torch.no_grad():
        result: Sequence[Any] = pipe.encode_prompt(**{n: v for n, v in given.items() if n in known})
    return result


def _call(pipe: Any) -> Any:
    return inspect.signature(type(pipe).__call__).parameters
