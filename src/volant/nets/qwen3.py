"""The hidden states of a Qwen3 network, computed in the form that torch's inductor makes the fewest passes of.

What enters: a network of transformers and a batch. What leaves: what the network's own layers give, to rounding. A
block is a plain function of its weights: all blocks share one compilation, with fewer guards to check than a module of
transformers has. Rotary positions are a flip of halves in place of slices that are joined. Short rows are attended to
in two halves, of which the first does not look at the second, by products of whole batches: about two thirds of what
the fused kernel takes for 128 positions, which computes the products that the mask then hides.

Shape legend: B rows, L length in tokens, D width, H heads, E width of a head, R width of half a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from volant.nets import passes
from volant.nets.batches import Batch, seen_by

_SHORT = 256  # positions, beyond which the fused kernel is as fast and keeps no scores
_BLOCKS = 2
Block: TypeAlias = Callable[..., torch.Tensor]
"""`block` as it is or compiled, or `quick`."""


def fits(net: Any) -> bool:
    """Whether `hidden` computes what this network does."""
    config: Any = getattr(net, "config", None)
    return (
        getattr(config, "model_type", "") == "qwen3"
        and hasattr(getattr(net, "model", None), "layers")  # else an adapter is around it
        and all(type(own) is nn.Linear for own in net.model.layers.modules() if hasattr(own, "in_features"))
        and config.num_key_value_heads == config.num_attention_heads
        and config.hidden_act == "silu"
        and not config.attention_bias
        and not config.attention_dropout
        and (config.rope_parameters or {}).get("rope_type") == "default"
        and set(config.layer_types) == {"full_attention"}
    )


def hidden(net: Any, batch: Batch, seen_BL: torch.Tensor, *, of_block: Block) -> Any:
    """The last hidden states [B, L, D].

    Args:
        net: one that `fits`.
        batch: its rows.
        seen_BL: the ids that are read.
        of_block: `block`, compiled or not, or `quick`.
    """
    model, eps = net.model, net.config.rms_norm_eps
    x_BLD = model.embed_tokens(seen_BL)
    turns = _turns(model.rotary_emb.inv_freq, batch, seen_BL)
    # Compiled, short rows are attended to by products, which need a mask.
    bias = None if of_block is quick and seen_by(batch) is None else _bias(batch, x_BLD)

    def of(layer: Any, x_BLD: torch.Tensor) -> Any:
        return of_block(x_BLD, *turns, bias, *_weights(layer), eps)

    for layer in model.layers:
        if net.is_activation_checkpointing:
            x_BLD = checkpoint(partial(of, layer), x_BLD, use_reentrant=False)
        else:
            x_BLD = of(layer, x_BLD)
    return passes.norm(x_BLD, model.norm.weight, eps) if of_block is quick else model.norm(x_BLD)


def _block(
    x_BLD: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, bias: torch.Tensor | None,
    before_D: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, query_E: torch.Tensor,
    key_E: torch.Tensor, out: torch.Tensor, between_D: torch.Tensor, gate: torch.Tensor, up: torch.Tensor,
    down: torch.Tensor, eps: float, norm: Callable[..., torch.Tensor], turned: Callable[..., torch.Tensor],
) -> torch.Tensor:  # fmt: skip
    """One layer: attention and a gated layer, each behind a norm.

    Args:
        x_BLD: the residual stream.
        cos, sin: of the positions, from `_turns`.
        bias: added to the scores, from `_bias`.
        before_D to down: the layer's weights, from `_weights`.
        eps: of the norms.
        norm, turned: how norms and rotary positions are computed.
    """
    rows, length, _ = x_BLD.shape
    size = (rows, length, -1, query_E.size(0))
    y_BLD = norm(x_BLD, before_D, eps)
    q_BLHE = turned(norm(F.linear(y_BLD, query).view(size), query_E, eps), cos, sin)
    k_BLHE = turned(norm(F.linear(y_BLD, key).view(size), key_E, eps), cos, sin)
    v_BLHE = F.linear(y_BLD, value).view(size)
    if bias is None or length > _SHORT:
        read_BLHE = _attended_long(q_BLHE, k_BLHE, v_BLHE, bias)
    else:
        read_BLHE = _attended_short(q_BLHE, k_BLHE, v_BLHE, bias)
    x_BLD = x_BLD + F.linear(read_BLHE.reshape(rows, length, -1), out)
    y_BLD = norm(x_BLD, between_D, eps)
    return x_BLD + F.linear(F.silu(F.linear(y_BLD, gate)) * F.linear(y_BLD, up), down)


def block(*given: Any) -> torch.Tensor:
    """A layer as the compiler takes it; arguments as `_block`'s, up to `eps`."""
    whole: tuple[Any, ...] = (*given, _norm, _turned)
    return _block(*whole)


def quick(*given: Any) -> torch.Tensor:
    """A layer as it is fastest uncompiled."""
    whole: tuple[Any, ...] = (*given, passes.norm, passes.turned)
    return _block(*whole)


def _weights(layer: Any) -> list[torch.Tensor]:
    attention, gated = layer.self_attn, layer.mlp
    return [
        layer.input_layernorm.weight, attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight,
        attention.q_norm.weight, attention.k_norm.weight, attention.o_proj.weight,
        layer.post_attention_layernorm.weight, gated.gate_proj.weight, gated.up_proj.weight, gated.down_proj.weight,
    ]  # fmt: skip


def _turns(speed_R: torch.Tensor, batch: Batch, seen_BL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines [., L, 1, 1, R] and signed sines [., L, 1, 2, R] of the positions of each row, or of all rows."""
    place = torch.arange(seen_BL.size(1), device=seen_BL.device)[None] if batch.place is None else batch.place
    angle = (place[..., None].float() * speed_R)[:, :, None]
    return angle.cos()[:, :, :, None], torch.stack([-angle.sin(), angle.sin()], dim=3)


def _norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """RMS norm over the last dimension, in float32 as transformers does."""
    whole = x.float()
    return weight * (whole * torch.rsqrt(whole.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def _turned(x_BLHE: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    halves = x_BLHE.view(*x_BLHE.shape[:-1], 2, -1)
    return (halves * cos + halves.flip(3) * sin).view(x_BLHE.shape).to(x_BLHE.dtype)


def _bias(batch: Batch, x_BLD: torch.Tensor) -> torch.Tensor | None:
    """Minus infinity where a position must not look [B, 1, L, L]; None for long rows of one document each."""
    rows, length, _ = x_BLD.shape
    seen = seen_by(batch)
    if seen is None and length > _SHORT:
        return None
    if seen is None or seen.ndim == 2:
        causal_LL = torch.ones(length, length, dtype=torch.bool, device=x_BLD.device).tril()
        seen = causal_LL[None, None] if seen is None else causal_LL & seen[:, None, None].bool()
    hidden = torch.zeros(seen.shape, dtype=x_BLD.dtype, device=x_BLD.device).masked_fill_(~seen, float("-inf"))
    return hidden.expand(rows, 1, length, length).contiguous()


def _attended_long(
    q_BLHE: torch.Tensor, k_BLHE: torch.Tensor, v_BLHE: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    q_BHLE, k_BHLE, v_BHLE = (t.transpose(1, 2) for t in (q_BLHE, k_BLHE, v_BLHE))
    read_BHLE = F.scaled_dot_product_attention(q_BHLE, k_BHLE, v_BHLE, attn_mask=bias, is_causal=bias is None)
    return read_BHLE.transpose(1, 2)


def _attended_short(
    q_BLHE: torch.Tensor, k_BLHE: torch.Tensor, v_BLHE: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    rows, length, heads, width = q_BLHE.shape
    q, k, v = (t.transpose(1, 2).reshape(-1, length, width) for t in (q_BLHE * width**-0.5, k_BLHE, v_BLHE))
    read, each = [], -(-length // _BLOCKS)
    for start in range(0, length, each):
        stop = min(length, start + each)
        scores = torch.bmm(q[:, start:stop], k[:, :stop].mT).view(rows, heads, stop - start, stop)
        share = (scores + bias[:, :, start:stop, :stop]).softmax(-1).to(v.dtype)
        read.append(torch.bmm(share.view(-1, stop - start, stop), v[:, :stop]))
    return torch.cat(read, 1).view(rows, heads, length, width).transpose(1, 2)
