"""Tiny pipelines of diffusers, built from configurations (Stable Diffusion 1 to 3, PixArt, DDPM, DiT)."""

from __future__ import annotations

import hashlib
import io
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from volant.core.outside import OutsideFile, Snapshot
from volant.core.run import Run
from volant.core.sample import Sample, Source, sample_id

SIDE = 16
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SOURCE = Source(uri="test:", licence="CC0-1.0")
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


def tokenizer() -> Any:
    """CLIP's kind of tokenizer: all bytes, and a few words that are joined of them."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("b", "l"), ("bl", "u"), ("blu", "e</w>")]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def text_encoder(vocab: int, width: int = 16, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, bos_token_id=vocab - 2, eos_token_id=vocab - 1, pad_token_id=vocab - 1,
        projection_dim=width,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def vae(**more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        **more,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), latent_channels=4, norm_num_groups=4, sample_size=SIDE,
    )  # fmt: skip


def unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    sizes = {
        "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "cross_attention_dim": 16,
        "attention_head_dim": 4, "norm_num_groups": 4, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }  # fmt: skip
    return UNet2DConditionModel(**{**sizes, **more})


def stable_diffusion(folder: Path, scheduler: str = "DDIMScheduler", **more: Any) -> Path:
    """Autoencoder, text encoder, tokenizer, UNet with cross-attention, scheduler."""
    import diffusers

    torch.manual_seed(0)
    words = tokenizer()
    shape: dict[str, Any] = {} if "Flow" in scheduler else {**BETAS, "steps_offset": 1}
    if scheduler == "DDIMScheduler":
        shape.update(clip_sample=False, set_alpha_to_one=False)
    diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=text_encoder(len(words)), tokenizer=words, unet=unet(),
        scheduler=getattr(diffusers, scheduler)(**{**shape, **more}), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def stable_diffusion_xl(folder: Path) -> Path:
    """Two text encoders, and a UNet that is told the pooled text and the size."""
    import diffusers

    torch.manual_seed(0)
    words = tokenizer()
    core = unet(
        cross_attention_dim=32, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16, use_linear_projection=True,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(**BETAS, clip_sample=False)
    diffusers.StableDiffusionXLPipeline(
        vae=vae(), text_encoder=text_encoder(len(words)), text_encoder_2=text_encoder(len(words), projection=True),
        tokenizer=words, tokenizer_2=tokenizer(), unet=core, scheduler=scheduler,
        add_watermarker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def t5(width: int) -> tuple[Any, Any]:
    """Text encoder and tokenizer of letters."""
    from transformers import T5Config, T5EncoderModel, T5TokenizerFast

    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    letters = T5TokenizerFast(
        vocab=[*marks, *((c, -3.0) for c in string.ascii_lowercase)], extra_ids=0, model_max_length=20
    )
    config = T5Config(vocab_size=64, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config), letters


def stable_diffusion_3(folder: Path) -> Path:
    """Three text encoders, a transformer over words and latents together, flow matching."""
    import diffusers

    torch.manual_seed(0)
    words, (encoder_3, words_3) = tokenizer(), t5(32)
    core = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32,
        pos_embed_max_size=8,
    )  # fmt: skip
    diffusers.StableDiffusion3Pipeline(
        transformer=core, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae(shift_factor=0.1),
        text_encoder=text_encoder(len(words), projection=True), tokenizer=words,
        text_encoder_2=text_encoder(len(words), projection=True), tokenizer_2=tokenizer(),
        text_encoder_3=encoder_3, tokenizer_3=words_3,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def pixart(folder: Path) -> Path:
    """A transformer that looks at the words of T5, and tells the variance beside the noise."""
    import diffusers

    torch.manual_seed(0)
    encoder, words = t5(16)
    core = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
        cross_attention_dim=16, caption_channels=16, sample_size=32, use_additional_conditions=False,
    )  # fmt: skip
    diffusers.PixArtAlphaPipeline(
        tokenizer=words, text_encoder=encoder, vae=vae(), transformer=core,
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def ddpm(folder: Path) -> Path:
    """A UNet over pixels, told nothing."""
    import diffusers

    torch.manual_seed(0)
    core = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet=core, scheduler=diffusers.DDPMScheduler()).save_pretrained(folder)
    return folder


def dit(folder: Path) -> Path:
    """A transformer of classes over latents that tells the variance beside the noise; three classes have names."""
    import diffusers

    torch.manual_seed(0)
    core = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000,
    )  # fmt: skip
    diffusers.DiTPipeline(transformer=core, vae=vae(), scheduler=diffusers.DDIMScheduler()).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"] = {"0": "tench, Tinca tinca", "1": "crane", "2": "crane"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def picture(colour: str, seed: int = 0, split: str = "train", side: int = SIDE) -> Sample:
    """A square of nearly one colour, with its caption."""
    noise = np.random.default_rng(seed).integers(-20, 20, (side, side, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)).save(file, "PNG")
    return Sample(
        id=sample_id(file.getvalue(), f"{split}{seed}"), shape="media", media=file.getvalue(),
        condition=f"a {colour} square", source=SOURCE, split=split,
        attrs={"width": side, "height": side, "channels": 3},
    )  # fmt: skip


def make_run(folder: Path, source: Path | None = None, **more: Any) -> Run:
    """A run of an image project, with the source's files as its snapshot."""
    (folder / "out").mkdir(parents=True)
    run = Run(step="base", out=folder / "out", work=folder / "work", threads=1, **{"modality": "image", **more})
    if source is not None:
        files = tuple(
            OutsideFile(
                p, p.relative_to(source).as_posix(), p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()
            )
            for p in sorted(source.rglob("*"))
            if p.is_file()
        )
        run.outside["source"] = Snapshot("hub", str(source), files, {"name": source.name, "local": True})
    return run
