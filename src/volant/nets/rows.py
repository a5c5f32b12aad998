"""Rows of a fixed number of tokens from a transformer, all at once.

What enters: a causal language model, prompts, and which ids may stand at each position. What leaves: whole rows,
each of which is allowed at every position, so that a codec can always read them. The softmax is taken over the
allowed ids alone and the rest of the vocabulary is never computed; rows go through the network together, with a
key-value cache. Each row's draws come from its own seed.

Shape legend: B rows, L positions, A allowed ids, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from volant.core.errors import DataError
from volant.nets.draws import F64, U64, uniforms

_TOGETHER = 1024  # rows in one pass; bounds the memory of the cache


def rows_within(
    net: Any,
    prompts: Sequence[Sequence[int]],
    ranges: Sequence[tuple[int, int]],
    *,
    seeds_B: U64,
    temperature: float = 1.0,
) -> list[list[int]]:
    """Rows of `len(ranges)` ids that start with their prompts.

    Args:
        net: a causal language model of transformers, or one with adapters on it.
        prompts: the first ids of each row, of any lengths; may be empty where the first position has one allowed
            id, or the network a `bos_token_id`.
        ranges: allowed ids [low, high) at each position; where there is only one, nothing is drawn.
        seeds_B: one a row; what a row becomes depends on nothing else.
        temperature: 0 takes the likeliest id.

    Raises:
        DataError: a prompt is longer than a row or holds an id that its position does not allow, or there is
            nothing to start from.
    """
    given_BL = _given(net, prompts, ranges)
    draws_BL = uniforms(seeds_B, len(ranges))
    found: list[list[int]] = []
    for start in range(0, len(prompts), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        found += _together(net, given_BL[part], ranges, draws_BL[part], temperature)
    return found


def _given(net: Any, prompts: Sequence[Sequence[int]], ranges: Sequence[tuple[int, int]]) -> torch.Tensor:
    """What is known of each row [B, L], -1 elsewhere."""
    given = torch.full((len(prompts), len(ranges)), -1, dtype=torch.int64)
    for position, (low, high) in enumerate(ranges):
        if high - low == 1:
            given[:, position] = low
    for row, prompt in enumerate(prompts):
        if len(prompt) > len(ranges):
            what = f"a prompt of {len(prompt)} ids does not fit a row of {len(ranges)}."
            raise DataError(what, where="prompts", fix="Give the first ids of a row.")
        for position, (id, (low, high)) in enumerate(zip(prompt, ranges, strict=False)):
            if not low <= id < high:
                what = f"id {id} may not stand at position {position}; it takes {low} to {high - 1}."
                raise DataError(what, where="prompts", fix="Encode the condition with the model's own codec.")
            given[row, position] = id
    if bool((given[:, 0] < 0).any()) and _start(net) is None:
        what = "there is nothing to start a row from: no prompt, and no id that begins every row."
        raise DataError(what, where="prompts", fix="Give a prompt, or build the network with `eos`.")
    return given


def _start(net: Any) -> int | None:
    start = net.config.bos_token_id
    return None if start is None else int(start)


def _together(
    net: Any, given_BL: torch.Tensor, ranges: Sequence[tuple[int, int]], draws_BL: F64, heat: float
) -> list[list[int]]:
    """One pass over the positions, for all rows."""
    device = next(net.parameters()).device
    row_BL, cache = given_BL.clone(), None
    before: list[torch.Tensor] = []
    if bool((row_BL[:, 0] < 0).any()):
        before = [torch.full((len(row_BL),), _start(net) or 0, dtype=torch.int64)]
    for position, (low, high) in enumerate(ranges):
        if bool((row_BL[:, position] < 0).any()):
            feed_BF = torch.stack(before, dim=1).to(device)
            logits_BA, cache = _next(net, feed_BF, cache, low, high)
            before = []
            chosen_B = low + _chosen(logits_BA, draws_BL[:, position], heat)
            row_BL[:, position] = torch.where(row_BL[:, position] < 0, chosen_B, row_BL[:, position])
        before.append(row_BL[:, position])
    return [[int(i) for i in row] for row in row_BL.tolist()]


def _next(net: Any, feed_BF: torch.Tensor, cache: Any, low: int, high: int) -> tuple[torch.Tensor, Any]:
    """(logits of the allowed next ids [B, A], the cache)."""
    plain = getattr(net, "get_base_model", lambda: net)()
    head = plain.get_output_embeddings()
    if type(head) is not torch.nn.Linear or not hasattr(plain, "model"):  # a head with adapters, or another shape
        reply = net(input_ids=feed_BF, past_key_values=cache, use_cache=True)
        return reply.logits[:, -1, low:high], reply.past_key_values
    reply = plain.model(input_ids=feed_BF, past_key_values=cache, use_cache=True)
    hidden_BD = reply.last_hidden_state[:, -1]
    bias = None if head.bias is None else head.bias[low:high]
    return torch.nn.functional.linear(hidden_BD, head.weight[low:high], bias), reply.past_key_values


def _chosen(logits_BA: torch.Tensor, draws_B: F64, heat: float) -> torch.Tensor:
    """The place in the range that each row's number falls on: the inverse of the cumulative distribution."""
    logits = logits_BA.double().cpu()
    if not heat:
        return logits.argmax(-1)
    total_BA = (logits / heat).softmax(-1).cumsum(-1)
    found = torch.searchsorted(total_BA, torch.from_numpy(np.ascontiguousarray(draws_B))[:, None], right=True)
    return found.squeeze(-1).clamp(max=logits.size(-1) - 1)
