"""Answers that a policy draws while it learns, as token ids, and how likely it holds them.

What enters: a causal language model and prompts as ids. What leaves: for each prompt a group of sampled answers in one
padded batch, whose every token came from a generator that depends on the seed, the step, the prompt and the place in
its group alone, so that a run that is resumed draws the same ones.

Shape legend: R answers (prompts x group), L length in tokens, N sampled places, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from volant.nets.answers import answer_logits
from volant.nets.transformer import packs


@dataclass(frozen=True)
class Rollout:
    """Prompts with their sampled answers.

    Attributes:
        ids: int64 [R, L], padded on the right.
        real: bool [R, L]; False on padding.
        answers: bool [R, L]; True on what was sampled, the end marker included.
    """

    ids: torch.Tensor
    real: torch.Tensor
    answers: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """Sampled tokens of each answer [R]."""
        return self.answers.sum(dim=1)


@torch.no_grad()
def roll(
    net: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    *,
    room: int,
    heat: float,
    stop: Sequence[int],
    pad: int,
    width: int = 0,
) -> Rollout:
    """Sample one answer a prompt, all of them together with a key-value cache.

    Args:
        net: a causal language model; its mode is put back.
        prompts: token ids, each at least one.
        seeds: one a prompt; same seed, same answer, whatever else is in the batch (up to rounding).
        room: most tokens of an answer.
        heat: temperature; 0 takes the likeliest.
        stop: ids that end an answer; the one that did is part of it.
        pad: id of the padding token.
        width: the length to pad to; 0 for the longest.
    """
    was, device = net.training, next(net.parameters()).device
    net.eval()
    longest = max(len(p) for p in prompts)
    once = list(dict.fromkeys(tuple(p) for p in prompts))  # a group shares its prompt, which is read once
    place_R = torch.tensor([once.index(tuple(p)) for p in prompts])
    ids_RL = torch.full((len(once), longest), pad, dtype=torch.int64)
    real_RL = torch.zeros(len(once), longest, dtype=torch.bool)
    for row, prompt in enumerate(once):
        ids_RL[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        real_RL[row, longest - len(prompt) :] = True
    generators = [torch.Generator().manual_seed(int(s) % 2**63) for s in seeds]
    ends = torch.tensor(sorted(stop))
    drawn: list[torch.Tensor] = []
    going_R = torch.ones(len(prompts), dtype=torch.bool)
    cache: Any = None
    feed_RL, seen_RL = ids_RL, real_RL
    for _ in range(room):
        places = (seen_RL.long().cumsum(1) - 1).clamp(min=0)[:, -feed_RL.size(1) :]
        reply = net(
            input_ids=feed_RL.to(device), attention_mask=seen_RL.long().to(device), position_ids=places.to(device),
            past_key_values=cache, use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        logits_RV = reply.logits[:, -1].float().cpu()
        if cache is None:
            logits_RV, seen_RL = logits_RV[place_R], seen_RL[place_R]
            reply.past_key_values.batch_select_indices(place_R.to(device))
        cache = reply.past_key_values
        # Of weights that are no numbers any id is as good: the loss of it is none either, which the guard sees.
        logits_RV = torch.where(logits_RV.logsumexp(1, keepdim=True).isfinite(), logits_RV, 0.0)
        if heat:
            chances_RV = (logits_RV / heat).softmax(-1)
            chosen_R = torch.stack(
                [torch.multinomial(c, 1, generator=g)[0] for c, g in zip(chances_RV, generators, strict=True)]
            )
        else:
            chosen_R = logits_RV.argmax(-1)
        chosen_R = torch.where(going_R, chosen_R, pad)
        drawn.append(torch.where(going_R, chosen_R, -1))
        going_R = going_R & ~torch.isin(chosen_R, ends)
        if not going_R.any():
            break
        feed_RL = chosen_R[:, None]
        seen_RL = torch.cat([seen_RL, torch.ones(len(prompts), 1, dtype=torch.bool)], dim=1)
    net.train(was)
    return _joined(prompts, torch.stack(drawn, dim=1), pad, width)


def _joined(prompts: Sequence[Sequence[int]], drawn_RL: torch.Tensor, pad: int, width: int) -> Rollout:
    """Prompts and answers in one batch padded on the right."""
    answers = [[int(i) for i in row if i >= 0] for row in drawn_RL]
    width = width or max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids_RL = torch.full((len(prompts), width), pad, dtype=torch.int64)
    real_RL, answer_RL = torch.zeros(2, len(prompts), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        whole = [*prompt, *answer][:width]
        ids_RL[row, : len(whole)] = torch.tensor(whole)
        real_RL[row, : len(whole)] = True
        answer_RL[row, len(prompt) : len(whole)] = True
    return Rollout(ids_RL, real_RL, answer_RL)


def token_logp(
    net: Any, rollout: Rollout, *, heat: float = 1.0, states_ND: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability in nats of each next id [R, L-1], and the entropy of the distribution that it came from.

    Both are 0 outside the answers: where the head is plain, only their places go through it.

    Args:
        net: a causal language model.
        rollout: on any device.
        heat: the temperature that the answers were drawn with.
        states_ND: what `answers.answer_states` makes of the answers, where it is at hand.
    """
    device = next(net.parameters()).device
    ids_RL, mask_RL = rollout.ids.to(device), rollout.answers[:, 1:].to(device)
    if states_ND is None or not packs(net):
        logits_NV = answer_logits(net, ids_RL, rollout.real.to(device), mask_RL)
    else:
        logits_NV = net.lm_head(states_ND)
    logits_NV = logits_NV.float() / (heat or 1.0)
    nothing_RL = logits_NV.new_zeros(mask_RL.shape)
    logp_N = -F.cross_entropy(logits_NV, ids_RL[:, 1:][mask_RL], reduction="none")
    with torch.no_grad():
        all_NV = logits_NV.log_softmax(-1)
        entropy_RL = nothing_RL.masked_scatter(mask_RL, -(all_NV.exp() * all_NV).sum(-1))
    return nothing_RL.masked_scatter(mask_RL, logp_N), entropy_RL
