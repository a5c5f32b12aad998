"""What learning from pairs may aim at: DPO, SimPO, ORPO, KTO and the Bradley-Terry loss of a reward model.

Enters: a network and a batch of pairs. Leaves: the summed loss and how many it counts, as the training loop wants it.
Each is a few lines and stands beside its source. DPO and KTO measure against the reference that the batch carries;
SimPO and ORPO do without one.

Shape legend: P pairs, the left of the 2 is the chosen (or the rated) answer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from volant.nets.answers import answer_logp
from volant.nets.pieces import Loss
from volant.nets.preference import PairBatch, pair_logp, pair_rewards

_CENTRE = 0.01


def _lengths(batch: PairBatch) -> torch.Tensor:
    """Tokens of each answer [P, 2]."""
    return batch.flat().mask[:, 1:].sum(dim=1).reshape(-1, 2)


def dpo_loss(*, beta: float, anchor: float) -> Loss:
    """The loss of Rafailov et al. 2023, equation 7, plus `anchor` times the chosen answer's own loss per token."""

    def loss(net: Any, batch: PairBatch) -> tuple[torch.Tensor, int]:
        logp_P2 = pair_logp(net, batch)
        ahead_P2 = logp_P2 - batch.reference
        own_P = -logp_P2[:, 0] / _lengths(batch)[:, 0]
        return (-F.logsigmoid(beta * (ahead_P2[:, 0] - ahead_P2[:, 1])) + anchor * own_P).sum(), logp_P2.size(0)

    return loss


def simpo_loss(*, beta: float, margin: float) -> Loss:
    """The loss of Meng et al. 2024, equation 6: nats per token, with no reference, ahead by `margin`."""

    def loss(net: Any, batch: PairBatch) -> tuple[torch.Tensor, int]:
        each_P2 = pair_logp(net, batch) / _lengths(batch)
        return -F.logsigmoid(beta * (each_P2[:, 0] - each_P2[:, 1]) - margin).sum(), each_P2.size(0)

    return loss


def orpo_loss(*, weight: float) -> Loss:
    """The loss of Hong et al. 2024, equation 6: the chosen answer's own, plus `weight` times its odds' lead."""

    def loss(net: Any, batch: PairBatch) -> tuple[torch.Tensor, int]:
        # A token's mean probability of exactly 1 has no odds; the bound is what float32 can still tell from 1.
        each_P2 = (pair_logp(net, batch) / _lengths(batch)).clamp(max=-1e-6)
        odds_P2 = each_P2 - torch.log(-torch.expm1(each_P2))
        lead_P = -F.logsigmoid(odds_P2[:, 0] - odds_P2[:, 1])
        return (weight * lead_P - each_P2[:, 0]).sum(), each_P2.size(0)

    return loss


class KtoLoss:
    """The loss of Ethayarajh et al. 2024, equations 7 and 8, for answers that were rated one by one.

    The left of a row is the rated answer, the right an answer to another prompt: how far the policy is ahead on
    those, over the whole batch, estimates its distance from the reference (their z0), which a good answer has to beat
    and a bad one must not. `worth` is the weight of a good answer (lambda_D), or the negative one of a bad (-lambda_U).

    Args:
        beta: how dearly distance from the reference is paid.
    """

    def __init__(self, *, beta: float) -> None:
        self.beta = beta

    def of_whole(self, net: Any, batch: PairBatch) -> tuple[torch.Tensor, int]:
        """How far the policy is ahead of the reference on answers to other prompts, in nats."""
        ahead_P = answer_logp(net, batch.side(1)) - batch.reference[:, 1]
        return ahead_P.sum(), ahead_P.size(0)

    def __call__(self, net: Any, batch: PairBatch, ahead: float) -> tuple[torch.Tensor, int]:
        """The loss, given the mean of `of_whole`."""
        ahead_P = answer_logp(net, batch.side(0)) - batch.reference[:, 0]
        value_P = torch.sigmoid(self.beta * batch.worth.sign() * (ahead_P - max(0.0, ahead)))
        return (batch.worth.abs() * (1 - value_P)).sum(), ahead_P.size(0)


def bradley_terry_loss(net: Any, batch: PairBatch) -> tuple[torch.Tensor, int]:
    """-log sigmoid of the reward difference; a light pull keeps rewards near 0, which the difference leaves open."""
    rewards_P2 = pair_rewards(net, batch)
    losses_P = -F.logsigmoid(rewards_P2[:, 0] - rewards_P2[:, 1]) + _CENTRE * rewards_P2.sum(dim=1) ** 2
    return losses_P.sum(), rewards_P2.size(0)
