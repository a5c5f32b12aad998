"""Masked transformers, which read in both directions and fill what is hidden: ModernBERT of transformers.

What enters: a space of tokens and the same dial, `depth`. What leaves: a `ModernBertForMaskedLM` whose directory
opens with transformers alone. It is for understanding (features, classifiers, judges) and for filling gaps; texts are
continued better by `transformer`. The id that hides is one more than the space has, so no text can hold it.

A row is trained with a share of hidden ids that is drawn anew, as for masked diffusion (Sahoo et al. 2024, "Simple and
effective masked diffusion language models"), and not always the 15 % of BERT (Devlin et al. 2019): then the same
network also fills long gaps, best guesses first (Chang et al. 2022, "MaskGIT").

Shape legend: B rows, L length in tokens, V vocabulary, N hidden positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from volant.core.errors import ArtifactError, SettingError
from volant.core.spaces import Space, Tokens
from volant.nets.batches import Batch, seen_by
from volant.nets.draws import seeds_of, uniforms
from volant.nets.transformer import as_batch, check_files, quiet, save_whole, size_of

SHARE = 0.3  # of a row's ids, on average, while it is learnt: twice BERT's, as ModernBERT has it
_TAILS = 0.1  # of the rows hide all behind a random place, so that it can continue a text as well
_PATTERNS = 8  # in which `loss` hides a batch


class Masked:
    """The family of masked transformers."""

    name = "masked"
    version = 1
    accepts = ("tokens",)
    encoder = True  # it understands rather than writes: `plan.survey` ranks it after those that write
    controls = {"max_tokens": (1, 4096), "temperature": (0.0, 5.0), "steps": (1, 4096)}

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
    ) -> Any:
        """A fresh network.

        Args:
            space: tokens; its length is the longest text. The network knows one id more, the hiding one.
            seed: same seed, same weights.
            depth: layers; the one dial.
            width, heads, mlp: as the transformer's; 0 takes what follows from the depth.
            eos: the id that ends a text, if there is one.

        Raises:
            ArtifactError: another space.
            SettingError: a width that the heads do not divide into even parts.
        """
        from transformers import ModernBertConfig, ModernBertForMaskedLM

        if not isinstance(space, Tokens):
            raise ArtifactError(f"a masked transformer takes tokens, not {space.type}", fix="Choose another family.")
        chosen = size_of(int(depth))
        heads = int(heads) or (max(1, width // 32) if width else chosen.heads)
        width = int(width) or chosen.width
        if width % (2 * heads):
            what = f"a width of {width} cannot be divided into {heads} heads of even size."
            raise SettingError(what, where="masked", fix="Choose a multiple of twice the heads.")
        rope = {"rope_type": "default", "rope_theta": 10000.0}
        config = ModernBertConfig(
            vocab_size=space.vocab + 1,
            hidden_size=width,
            intermediate_size=int(mlp) or 64 * math.ceil(width * 8 / 3 / 64),
            num_hidden_layers=chosen.depth,
            num_attention_heads=heads,
            max_position_embeddings=space.length,
            layer_types=["full_attention"] * chosen.depth,
            rope_parameters={"full_attention": rope, "sliding_attention": rope},
            # No pad_token_id: transformers would never train that row of the embedding.
            pad_token_id=None,
            bos_token_id=eos,
            eos_token_id=eos,
            cls_token_id=None,
            sep_token_id=None,
        )
        config._attn_implementation = "sdpa"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return ModernBertForMaskedLM(config)

    def loss(self, net: Any, batch: Any) -> torch.Tensor:
        """The mean cross-entropy in nats over ids hidden in fixed patterns: from few to twice `SHARE`, and a tail.

        Args:
            net: from `build` or `load`.
            batch: a `Batch`, or ids [B, L] as a tensor or lists.
        """
        whole = as_batch(batch)
        draw = torch.Generator().manual_seed(0)
        total, count = torch.zeros((), device=whole.ids.device), 0
        for pattern in range(_PATTERNS):
            chance_BL = torch.rand(whole.ids.shape, generator=draw)
            part, n = hidden_loss(net, whole, _at_least_one(whole, chance_BL, 2 * SHARE * (pattern + 1) / _PATTERNS))
            total, count = total + part, count + n
        tail_BL = _behind(whole, torch.full((whole.size, 1), whole.width // 3))
        part, n = hidden_loss(net, whole, _at_least_one(whole, (~tail_BL).float(), 0.5))
        total, count = total + part, count + n
        return total / max(1, count)

    def step_loss(self, net: Any, batch: Any) -> tuple[torch.Tensor, int]:
        """What the loop minimises: each row hides a share of its ids, drawn evenly from none to twice `SHARE`.

        One in ten hides all behind a random place instead.
        """
        share_B1 = 2 * SHARE * torch.rand(batch.size, 1)
        chance_BL = torch.rand(batch.ids.shape)
        cut_B1 = torch.where(
            torch.rand(batch.size, 1) < _TAILS, torch.randint(batch.width, (batch.size, 1)), batch.width
        )
        chance_BL = chance_BL.masked_fill(_behind(batch, cut_B1), 0.0)
        return hidden_loss(net, batch, _at_least_one(batch, chance_BL, share_B1))

    def logp(self, net: Any, batch: Any) -> None:
        """None: what it knows of an id depends on what else is hidden."""
        return

    @torch.no_grad()
    def sample(self, net: Any, prompts: Sequence[Sequence[int]], *, seed: int, **controls: Any) -> list[list[int]]:
        """Continuations: so many hidden ids behind each prompt, filled in a few passes, surest ones first.

        Args:
            net: from `build` or `load`.
            prompts: token ids.
            seed: same seed, same continuations.
            **controls: `max_tokens` (32), `temperature` (1.0; 0 is greedy), `steps` (passes; 0 takes one an id),
                `stop_ids` (none), `seeds`, one a prompt.
        """
        room, heat = int(controls.get("max_tokens", 32)), float(controls.get("temperature", 1.0))
        passes = min(room, int(controls.get("steps", 0)) or room)
        stop = set(controls.get("stop_ids", ()))
        seeds_B = seeds_of(seed, len(prompts), controls.get("seeds"))
        was = net.training
        net.eval()
        try:
            filled = [
                fill(net, [*prompt, *[mask_id(net)] * room], uniforms(seeds_B[row : row + 1], room)[0], passes, heat)
                for row, prompt in enumerate(prompts)
            ]
        finally:
            net.train(was)
        found = [ids[len(prompt) :] for prompt, ids in zip(prompts, filled, strict=True)]
        return [ids[: next((i for i, one in enumerate(ids) if one in stop), room)] for ids in found]

    def export(self) -> tuple[str, ...]:
        """The formats that `compress` can turn it into: none yet."""
        return ()

    def save(self, net: Any, folder: Path) -> None:
        """Write `config.json` and `model.safetensors`; opens with transformers alone."""
        save_whole(net, folder)

    def load(self, folder: Path) -> Any:
        """Any masked language model of transformers, from safetensors only, never with the repository's own code.

        Raises:
            ArtifactError: files are missing or damaged, or the model would bring its own code.
        """
        check_files(folder)
        from safetensors import SafetensorError
        from transformers import AutoModelForMaskedLM

        quiet()
        try:
            net: Any = AutoModelForMaskedLM.from_pretrained(
                folder, trust_remote_code=False, use_safetensors=True, local_files_only=True, attn_implementation="sdpa"
            )
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, SafetensorError) as error:
            first = str(error).strip().split("\n")[0]
            fix = "Run `volant verify`."
            raise ArtifactError(f"transformers cannot open the model: {first}", where=str(folder), fix=fix) from error
        return net


def mask_id(net: Any) -> int:
    """The id that hides another: the last one that the network knows."""
    return int(net.config.vocab_size) - 1


def hidden_loss(net: Any, batch: Batch, hidden_BL: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(sum of the cross-entropies in nats over the hidden ids, how many they are).

    Args:
        net: a masked language model.
        batch: its ids are the targets.
        hidden_BL: bool; which ids the network does not see.
    """
    hidden_BL = hidden_BL.to(batch.ids.device)
    seen_BL = batch.ids.masked_fill(hidden_BL, mask_id(net))
    state_BLD = net.model(input_ids=seen_BL, attention_mask=seen_by(batch, both_ways=True)).last_hidden_state
    # Only hidden positions reach the output head, which is most of the cost with a large vocabulary.
    logits_NV = net.decoder(net.head(state_BLD[hidden_BL]))
    return F.cross_entropy(logits_NV.float(), batch.ids[hidden_BL], reduction="sum"), int(hidden_BL.sum())


def fill(net: Any, ids: Sequence[int], random_N: Any, passes: int, heat: float) -> list[int]:
    """The ids with every hidden one filled in.

    Each pass fills an even share of what is left, the surest guesses first; what is filled stays.

    Args:
        net: a masked language model.
        ids: with `mask_id(net)` where something is hidden.
        random_N: a number in [0, 1) for each hidden place; decides its guess.
        passes: more are better and cost more.
        heat: temperature; 0 takes the likeliest.
    """
    row_L = torch.tensor(list(ids), device=net.device)
    places = torch.nonzero(row_L == mask_id(net)).flatten()
    random = dict(zip(places.tolist(), [float(x) for x in random_N], strict=False))
    for turn in range(passes):
        places = torch.nonzero(row_L == mask_id(net)).flatten()
        if not len(places):
            break
        logits_NV = net(input_ids=row_L[None]).logits[0, places].float()
        logits_NV[:, mask_id(net)] = -torch.inf
        chances_NV = (logits_NV / heat if heat else logits_NV).softmax(-1)
        drawn_N1 = torch.tensor([[random[int(p)]] for p in places], device=net.device, dtype=chances_NV.dtype)
        below_NV = chances_NV.cumsum(-1)
        guess_N = torch.searchsorted(below_NV, drawn_N1 * below_NV[:, -1:]).flatten() if heat else logits_NV.argmax(-1)
        guess_N = guess_N.clamp(max=mask_id(net) - 1)
        sure_N = chances_NV.gather(1, guess_N[:, None]).flatten()
        now = sure_N.argsort(descending=True, stable=True)[: -(-len(places) // (passes - turn))]
        row_L[places[now]] = guess_N[now]
    return [int(x) for x in row_L]


def _behind(batch: Batch, cut_B1: torch.Tensor) -> torch.Tensor:
    """Which places lie at or behind each row's cut, bool [B, L]."""
    return torch.arange(batch.width)[None] >= cut_B1


def _at_least_one(batch: Batch, chance_BL: torch.Tensor, share: Any) -> torch.Tensor:
    """Which ids of each row are hidden: those with a chance below the share, of those that the loss counts."""
    counts_BL = batch.mask.cpu() if batch.real is None else (batch.mask & batch.real).cpu()
    chance_BL = chance_BL.masked_fill(~counts_BL, 2.0)
    lowest_B1 = chance_BL.min(dim=1, keepdim=True).values
    hidden_BL: torch.Tensor = (chance_BL < share) | ((chance_BL == lowest_B1) & counts_BL)
    return hidden_BL


family = Masked()
