"""How likely answers are, or what they earn, with each prompt read once however many answers it has.

What enters: a network, and answers with their prompts, a row each, padded on the right. What leaves: figures a row.
Between them rows with one prompt become one row: the prompt stands there once, and each answer behind it sees the
prompt and itself alone, at the places that it had. To a network that heeds masks and positions this is the same, at a
fraction of the work where prompts are longer than answers.

Shape legend: B rows, L their length, S rows with one prompt each, W their length, N counted places, D width,
V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from volant.nets.batches import Batch
from volant.nets.transformer import packs


@dataclass(frozen=True)
class Shared:
    """Rows that hold a prompt with several answers.

    Attributes:
        ids: int64 [S, W].
        sees: bool [S, 1, W, W]; which id (the third axis) sees which.
        place: int64 [S, W]; the position of each id before.
        row, column: int64 [B, L]; where each id went. Padding went to the end of its own row.
    """

    ids: torch.Tensor
    sees: torch.Tensor
    place: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor


def shared(ids_BL: torch.Tensor, real_BL: torch.Tensor, answers_BL: torch.Tensor) -> Shared | None:
    """The rows with each prompt once, or None where that saves nothing.

    Args:
        ids_BL: prompts with answers.
        real_BL: bool; False on padding.
        answers_BL: bool; the prompt ends before the first True.
    """
    device, width = ids_BL.device, ids_BL.size(1)
    every = [row[:n] for row, n in zip(ids_BL.tolist(), real_BL.sum(1).tolist(), strict=True)]
    starts = answers_BL.long().argmax(1).tolist()
    rows = _rows(every, starts, 2 * width)
    if len(rows) == len(every):
        return None
    wide = max(starts[row[0]] + sum(len(every[i]) - starts[i] for i in row) for row in rows)
    ids_SW = torch.zeros(len(rows), wide, dtype=torch.int64)
    place_SW, owner_SW = torch.zeros_like(ids_SW), torch.full_like(ids_SW, -2)  # of no row; the prompt is -1
    row_BL, column_BL = torch.zeros(2, len(every), width, dtype=torch.int64)
    for number, row in enumerate(rows):
        start = at = starts[row[0]]
        ids_SW[number, :start] = torch.tensor(every[row[0]][:start])
        place_SW[number, :start] = torch.arange(start)
        owner_SW[number, :start] = -1
        for i in row:
            answer = every[i][start:]
            span = slice(at, at + len(answer))
            ids_SW[number, span] = torch.tensor(answer)
            place_SW[number, span] = torch.arange(start, start + len(answer))
            owner_SW[number, span] = i
            row_BL[i] = number
            column_BL[i, :start] = torch.arange(start)
            column_BL[i, start:] = torch.arange(at, at + width - start).clamp(max=max(at, span.stop - 1))
            at = span.stop
    own_SWW = owner_SW[:, :, None] == owner_SW[:, None, :]
    sees_SWW = ((owner_SW == -1)[:, None, :] & (owner_SW != -2)[:, :, None] | own_SWW).tril()
    return Shared(*(t.to(device) for t in (ids_SW, sees_SWW[:, None], place_SW, row_BL, column_BL)))


def _rows(every: list[list[int]], starts: list[int], room: int) -> list[list[int]]:
    """Which rows are put together: those with one prompt, as many as have room, since ids see each other squared."""
    found: list[list[int]] = []
    open_rows: dict[tuple[int, ...], tuple[list[int], int]] = {}
    for i, (ids, start) in enumerate(zip(every, starts, strict=True)):
        prompt, more = tuple(ids[:start]), len(ids) - start
        row, wide = open_rows.get(prompt, ([], room))
        if not start or wide + more > room:
            row, wide = [], start
            found.append(row)
        row.append(i)
        open_rows[prompt] = (row, wide + more)
    return found


def answer_states(
    net: Any, ids_BL: torch.Tensor, real_BL: torch.Tensor | None, counted_BL: torch.Tensor
) -> torch.Tensor:
    """The hidden states that the counted next ids are predicted from [N, D], row by row.

    Args:
        net: a causal language model.
        real_BL: which ids are no padding; None where all are read.
        counted_BL: of the ids from the second on [B, L-1].
    """
    found: torch.Tensor
    if packs(net):
        found = _states(net.model, ids_BL, real_BL, F.pad(counted_BL, (1, 0)))[:, :-1][counted_BL]
    else:
        reply = net(input_ids=ids_BL, attention_mask=_attention(real_BL), output_hidden_states=True, use_cache=False)
        found = reply.hidden_states[-1][:, :-1][counted_BL]
    return found


def _states(body: Any, ids_BL: torch.Tensor, real_BL: torch.Tensor | None, answers_BL: torch.Tensor) -> torch.Tensor:
    """The last hidden states [B, L, D] of a body that heeds masks and positions; rows with one prompt read it once."""
    real = torch.ones_like(ids_BL, dtype=torch.bool) if real_BL is None else real_BL
    rows = shared(ids_BL, real, answers_BL)
    found: torch.Tensor
    if rows is None:
        found = body(input_ids=ids_BL, attention_mask=_attention(real_BL), use_cache=False).last_hidden_state
    else:
        reply = body(input_ids=rows.ids, attention_mask=rows.sees, position_ids=rows.place, use_cache=False)
        # Not by indexing: with several threads its gradient adds up what rows share in whatever order they come.
        found = F.embedding(rows.row * rows.ids.size(1) + rows.column, reply.last_hidden_state.flatten(0, 1))
    return found


def _attention(real_BL: torch.Tensor | None) -> torch.Tensor | None:
    """Which ids are read, as transformers takes it."""
    return None if real_BL is None else real_BL.long()


def answer_logits(
    net: Any, ids_BL: torch.Tensor, real_BL: torch.Tensor | None, counted_BL: torch.Tensor
) -> torch.Tensor:
    """The logits of the counted next ids [N, V], row by row; where the head is plain, only they go through it."""
    found: torch.Tensor
    if packs(net):
        found = net.lm_head(answer_states(net, ids_BL, real_BL, counted_BL))
    else:
        found = net(input_ids=ids_BL, attention_mask=_attention(real_BL), use_cache=False).logits[:, :-1][counted_BL]
    return found


def answer_logp(net: Any, batch: Batch) -> torch.Tensor:
    """The log-probability in nats of each row's answer [B]."""
    counted_BL = batch.mask[:, 1:]
    targets_N = batch.ids[:, 1:][counted_BL]
    logits_NV = answer_logits(net, batch.ids, batch.real, counted_BL)
    logp_N = -F.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    rows_N = torch.arange(batch.ids.size(0), device=logp_N.device).repeat_interleave(counted_BL.sum(dim=1))
    return logp_N.new_zeros(batch.ids.size(0)).index_add(0, rows_N, logp_N)


def last_place(mask_BL: torch.Tensor) -> torch.Tensor:
    """Where the last True of each row stands [B]; 0 where there is none."""
    return (mask_BL * torch.arange(mask_BL.size(1), device=mask_BL.device)).argmax(1)


def answer_rewards(net: Any, batch: Batch) -> torch.Tensor:
    """The reward of each row [B]: what the head makes of its last id that is no padding, as transformers takes it."""
    found: torch.Tensor
    if packs(net) and hasattr(net, "score"):
        last_B = last_place(batch.ids != net.config.pad_token_id)
        states_BLD = _states(net.model, batch.ids, batch.real, batch.mask)
        found = net.score(states_BLD[torch.arange(len(last_B), device=last_B.device), last_B])[:, 0].float()
    else:
        found = net(input_ids=batch.ids, attention_mask=_attention(batch.real), use_cache=False).logits[:, 0].float()
    return found
