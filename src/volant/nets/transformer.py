"""Decoder-only transformers, in a shape that the ecosystem runs: Qwen3 of transformers.

What enters: a space of tokens and one dial, `depth`. What leaves: a `Qwen3ForCausalLM` (QK norm,
rotary positions, RMS norm, gated MLP, tied embeddings) whose directory opens with transformers
alone, and with every runtime that knows Qwen3. `load` opens any causal language model of
transformers, so that fine-tuning and engines treat a base from elsewhere the same.

Shape legend: B rows, L length in tokens, V vocabulary, D width, N counted targets.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from volant.core.errors import ArtifactError, SettingError
from volant.core.spaces import Space, Tokens
from volant.nets import qwen3
from volant.nets.batches import Batch, seen_by
from volant.nets.draws import seeds_of
from volant.nets.rows import rows_within

# Logits above this are made in pieces and made again in the backward pass, to bound memory.
_LOGITS_BYTES = 192 * 2**20
# Models whose logits are plainly head(last hidden state); others go through their own forward.
_PLAIN_HEADS = {"qwen3", "qwen2", "llama", "mistral"}
_ROW_LR, _ROW_MUON_LR = 0.006, 0.02
_HIDDEN = 0.1  # of a row's ids, on average, while it is learnt


@dataclass(frozen=True)
class Size:
    """What follows from `depth`.

    Attributes:
        width: of the residual stream; 32 a layer, in whole heads of 64. Wider costs more than it gives on a small
            budget (measured at 58 CPU seconds: 2.09 bits per byte at width 192 and 4096 entries, 1.93 at 128 and 2048).
        lr: AdamW's rate for embeddings and norms; falls with the square root of the width.
        muon_lr: Muon's rate for the matrices; the same at every size, which is its point.
        batch_tokens: tokens in one step.
    """

    depth: int
    width: int
    heads: int
    mlp: int
    lr: float
    muon_lr: float
    batch_tokens: int

    def parameters(self, vocab: int) -> int:
        """Weights of a network of this size with tied embeddings."""
        block = 4 * self.width**2 + 3 * self.width * self.mlp + 2 * self.width + 2 * (self.width // self.heads)
        return vocab * self.width + self.depth * block + self.width


def size_of(depth: int) -> Size:
    """The size that a depth gives."""
    heads = max(1, round(depth / 2))
    width = heads * 64
    mlp = 64 * math.ceil(width * 8 / 3 / 64)
    tokens = 2048 * max(1, round(depth / 4))
    return Size(depth, width, heads, mlp, 0.006 * (256 / width) ** 0.5, 0.02, tokens)


class Transformer:
    """The family of decoder-only transformers."""

    name = "transformer"
    version = 1
    accepts = ("tokens",)
    default_steps, default_batch = 240, 128  # for rows; texts are trained by the token, see `size_of`
    controls = {"max_tokens": (1, 32_768), "temperature": (0.0, 5.0)}

    def build(
        self,
        space: Space,
        *,
        seed: int,
        depth: int = 4,
        width: int = 0,
        heads: int = 0,
        mlp: int = 0,
        eos: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Any:
        """A fresh network.

        Args:
            space: tokens; its length is the context.
            seed: same seed, same weights.
            depth: layers; the one dial.
            width, heads, mlp: of the residual stream, of attention, and of the hidden layer between; 0 takes what
                follows from the depth. A width without heads gets heads of 32.
            eos: the id that ends a text, if there is one.
            dtype: of the weights.

        Raises:
            ArtifactError: another space.
            SettingError: a width that the heads do not divide into even parts.
        """
        from transformers import Qwen3Config, Qwen3ForCausalLM

        if not isinstance(space, Tokens):
            raise ArtifactError(f"a transformer takes tokens, not {space.type}", fix="Choose another family.")
        chosen = size_of(int(depth))
        heads = int(heads) or (max(1, width // 32) if width else chosen.heads)
        width, mlp = int(width) or chosen.width, int(mlp) or (64 * math.ceil(width * 8 / 3 / 64) or chosen.mlp)
        if width % (2 * heads):
            what = f"a width of {width} cannot be divided into {heads} heads of even size."
            raise SettingError(what, where="transformer", fix="Choose a multiple of twice the heads.")
        config = Qwen3Config(
            vocab_size=space.vocab,
            hidden_size=width,
            intermediate_size=mlp,
            num_hidden_layers=chosen.depth,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            head_dim=width // heads,
            max_position_embeddings=space.length,
            tie_word_embeddings=True,
            # No pad_token_id: where it is the end of text, transformers would never train that embedding.
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            bos_token_id=eos,
            eos_token_id=eos,
        )
        config._attn_implementation = "sdpa"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net: Any = Qwen3ForCausalLM(config)
            _initialise(net)
        return net.to(dtype)

    def recipe(self, space: Space, *, steps: int, batch: int) -> dict[str, Any]:
        """Fields of a `Recipe` that suit rows of tokens, which are few and soon known by heart.

        A rate that falls almost from the start. Measured on 5,000 rows of UCI Adult, one seed: a classifier tells made
        from real rows with an AUC of 0.59, against 0.68 where a steadier rate was stopped early; half the rate
        overfitted sooner (0.69).
        """
        return {
            "steps": steps,
            "lr": _ROW_LR,
            "muon_lr": _ROW_MUON_LR,
            "warmup": max(1, min(20, steps // 10)),
            "decay": max(1, round(0.9 * steps)),
            "evaluate_every": max(1, steps // 8),
            "patience": 3,
        }

    def loss(self, net: Any, batch: Any) -> torch.Tensor:
        """The mean cross-entropy in nats over the counted targets.

        Args:
            net: from `build` or `load`.
            batch: a `Batch`, or ids [B, L] as a tensor or lists, all counted.
        """
        total, count = token_loss(net, as_batch(batch))
        return total / max(1, count)

    def step_loss(self, net: Any, batch: Any) -> tuple[torch.Tensor, int]:
        """What the loop minimises on rows: `token_loss`, with some ids hidden while the network is in training.

        Rows are few, and their first columns soon give a row away. Of each row a share of the ids between none and
        twice `_HIDDEN` (drawn by torch's own generator) is replaced by its first id; what is to be predicted stays.
        After the word dropout of Bowman et al. 2016, "Generating sentences from a continuous space".
        """
        if not net.training:
            return token_loss(net, batch)
        chance_B1 = 2 * _HIDDEN * torch.rand(batch.size, 1)
        hidden_BL = (torch.rand(batch.ids.shape) < chance_B1).to(batch.ids.device)
        return token_loss(net, batch, seen_BL=torch.where(hidden_BL, batch.ids[:, :1], batch.ids))

    def logp(self, net: Any, batch: Any) -> torch.Tensor:
        """Log-probability in nats of each next token [B, L-1]."""
        whole = as_batch(batch)
        logits_BLV = net(input_ids=whole.ids, attention_mask=seen_by(whole)).logits[:, :-1].float()
        logp_BL: torch.Tensor = -F.cross_entropy(logits_BLV.transpose(1, 2), whole.ids[:, 1:], reduction="none")
        return logp_BL

    @torch.no_grad()
    def sample(self, net: Any, prompts: Sequence[Sequence[int]], *, seed: int, **controls: Any) -> list[list[int]]:
        """Continuations, one row at a time with a key-value cache; `engines.torch` is the fast way.

        Args:
            net: from `build` or `load`.
            prompts: token ids; each at least one, but with `ranges`.
            seed: same seed, same continuations.
            **controls: `max_tokens` (32), `temperature` (1.0; 0 is greedy), `stop_ids` (none). `seeds`, one a prompt,
                let each row depend on its own alone. `ranges`, allowed ids [low, high) at each position, ask for
                whole rows of that fixed length that start with their prompts: see `rows_within`.
        """
        steps, heat = int(controls.get("max_tokens", 32)), float(controls.get("temperature", 1.0))
        stop, own = set(controls.get("stop_ids", ())), controls.get("seeds")
        was = net.training
        net.eval()
        try:
            ranges = controls.get("ranges")
            if ranges is not None:
                return rows_within(net, prompts, ranges, seeds_B=seeds_of(seed, len(prompts), own), temperature=heat)
            starts = own if own is not None else [seed * 1_000_003 + row for row in range(len(prompts))]
            return [_continued(net, p, s, steps, heat, stop) for p, s in zip(prompts, starts, strict=True)]
        finally:
            net.train(was)

    def export(self) -> tuple[str, ...]:
        """The formats that `compress` can turn it into."""
        return ("ctranslate2",)

    def save(self, net: Any, folder: Path) -> None:
        """Write `config.json`, `generation_config.json` and `model.safetensors`; opens with transformers alone."""
        save_whole(net, folder)

    def load(self, folder: Path, *, dtype: Any = torch.float32) -> Any:
        """Any causal language model of transformers, from safetensors only, never with the repository's own code.

        Args:
            folder: with `config.json` and `*.safetensors`.
            dtype: of the weights in memory; float32 on a CPU, where it is exact and not slower.

        Raises:
            ArtifactError: files are missing or damaged, or the model would bring its own code.
        """
        check_files(folder)
        from safetensors import SafetensorError
        from transformers import AutoModelForCausalLM

        quiet()
        try:
            opened: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
            first = str(error).strip().split("\n")[0]
            raise ArtifactError(
                f"transformers cannot open the model: {first}", where=str(folder), fix="Run `volant verify`."
            ) from error
        net, found = opened
        # transformers fills what it does not find with random numbers and only warns.
        if found["missing_keys"]:
            what = f"the weights lack {len(found['missing_keys'])} tensors, {sorted(found['missing_keys'])[0]} for one"
            raise ArtifactError(what, where=str(folder), fix="Fetch or make the model again.")
        return net


def _continued(net: Any, prompt: Sequence[int], seed: int, steps: int, heat: float, stop: Container[int]) -> list[int]:
    """One prompt continued by up to `steps` ids."""
    random = torch.Generator().manual_seed(seed)
    cache, feed, out = None, torch.tensor([list(prompt)], device=net.device), list[int]()
    for _ in range(steps):
        reply = net(input_ids=feed, past_key_values=cache, use_cache=True)
        cache, logits_V = reply.past_key_values, reply.logits[0, -1].float().cpu()
        chances = (logits_V / heat).softmax(-1) if heat else None
        chosen = int(logits_V.argmax() if chances is None else torch.multinomial(chances, 1, generator=random))
        if chosen in stop:
            break
        out.append(chosen)
        feed = torch.tensor([[chosen]], device=net.device)
    return out


def token_loss(
    net: Any, batch: Batch, *, seen_BL: torch.Tensor | None = None, of_hidden: Callable[..., Any] | None = None
) -> tuple[torch.Tensor, int]:
    """(sum of the cross-entropies in nats, number of counted targets); what the training loop minimises.

    Only counted positions reach the output head, which is most of the cost with a large vocabulary.

    Args:
        net: a causal language model.
        batch: its ids are the targets.
        seen_BL: the ids that the network reads in place of the batch's own.
        of_hidden: gives the last hidden states of (net, batch, ids that are read) in place of the network's layers.
    """
    seen_BL = batch.ids if seen_BL is None else seen_BL
    counted_BL = batch.mask[:, 1:]
    count = int(counted_BL.sum())
    targets_N = batch.ids[:, 1:][counted_BL]
    plain = getattr(net, "get_base_model", lambda: net)()
    if getattr(plain.config, "model_type", "") not in _PLAIN_HEADS:
        logits_BLV = net(
            input_ids=seen_BL, attention_mask=seen_by(batch), position_ids=batch.place, use_cache=False
        ).logits
        return F.cross_entropy(logits_BLV[:, :-1][counted_BL].float(), targets_N, reduction="sum"), count
    hidden_BLD = (of_hidden or _hidden)(plain, batch, seen_BL)[:, :-1]
    hidden_ND = hidden_BLD.flatten(0, 1) if count == counted_BL.numel() else hidden_BLD[counted_BL]
    piece = max(64, _LOGITS_BYTES // (4 * plain.config.vocab_size))
    if hidden_ND.size(0) <= piece:
        return _head_loss(plain.lm_head, hidden_ND, targets_N), count
    total = hidden_ND.new_zeros((), dtype=torch.float32)
    for start in range(0, hidden_ND.size(0), piece):
        part, wanted = hidden_ND[start : start + piece], targets_N[start : start + piece]
        total = total + torch.utils.checkpoint.checkpoint(_head_loss, plain.lm_head, part, wanted, use_reentrant=False)
    return total, count


def _hidden(plain: Any, batch: Batch, seen_BL: torch.Tensor) -> Any:
    """The last hidden states: in training on a CPU in few passes over memory, where that is known to be the same."""
    trained = plain.training and torch.is_grad_enabled() and seen_BL.device.type == "cpu"
    divided = torch.distributed.is_available() and torch.distributed.is_initialized()
    if trained and not divided and qwen3.fits(plain):
        return qwen3.hidden(plain, batch, seen_BL, of_block=qwen3.quick)
    reply = plain.model(input_ids=seen_BL, attention_mask=seen_by(batch), position_ids=batch.place, use_cache=False)
    return reply.last_hidden_state


def _head_loss(head: Callable[[torch.Tensor], torch.Tensor], hidden_ND: torch.Tensor, wanted_N: torch.Tensor) -> Any:
    return F.cross_entropy(head(hidden_ND).float(), wanted_N, reduction="sum")


def as_batch(batch: Any) -> Batch:
    """A `Batch` as it is; a tensor or equally long lists of ids as one whose every id counts."""
    if isinstance(batch, Batch):
        return batch
    ids_BL = batch if isinstance(batch, torch.Tensor) else torch.tensor([list(row) for row in batch])
    return Batch(ids_BL.long(), torch.ones_like(ids_BL, dtype=torch.bool))


def packs(net: Any) -> bool:
    """Whether several examples may lie in one row: where it is known that masks and positions are heeded."""
    return getattr(getattr(net, "config", None), "model_type", "") in _PLAIN_HEADS


@torch.no_grad()
def _initialise(net: Any) -> None:
    """Matrices with variance 1/fan-in, outputs of every block zero, so that training starts from the embedding."""
    width = net.config.hidden_size
    for name, weight in net.named_parameters():
        if weight.ndim != 2:
            continue
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()
        elif "embed_tokens" in name:
            weight.normal_(0.0, width**-0.5)
        else:
            weight.normal_(0.0, weight.size(1) ** -0.5)


def check_files(folder: Path) -> None:
    """Refuse a model directory that lacks weights in safetensors or would bring its own code.

    Raises:
        ArtifactError: with what is missing or is no configuration, or which key of `config.json` names code.
    """
    config = folder / "config.json"
    try:
        body = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"no readable config.json: {error}", where=str(folder), fix="Name a transformers model directory."
        ) from error
    if not isinstance(body, dict):
        fix = "Put back the config.json that came with the model."
        raise ArtifactError("config.json holds no mapping of names to values.", where=str(folder), fix=fix)
    if "auto_map" in body:
        what = "config.json asks for code of its own (`auto_map`), which Volant never runs"
        raise ArtifactError(what, where=str(config), fix="Use a model of an architecture that transformers has.")
    if not list(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"))
        what = f"no weights in safetensors{f'; {pickled[0]} is a pickle, which can run code' if pickled else ''}"
        raise ArtifactError(what, where=str(folder), fix="Convert it where you trust it, then name the result.")


def save_whole(net: Any, folder: Path) -> None:
    """Write a network of transformers with its configuration, without the place that it came from."""
    folder.mkdir(parents=True, exist_ok=True)
    quiet()
    net.config.name_or_path = ""
    net.save_pretrained(folder, safe_serialization=True)
    _forget_places(folder / "config.json")


def quiet() -> None:
    """Keep transformers' bars for a single small file off the terminal; ours shows what takes long."""
    from transformers.utils import logging

    quiet: Any = logging
    quiet.disable_progress_bar()


def _forget_places(config: Path) -> None:
    """Take the name of the directory that a model was loaded from out of its configuration."""
    body = json.loads(config.read_text(encoding="utf-8"))
    if body.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")


family = Transformer()
