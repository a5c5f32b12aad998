"""Learning from a reward: GRPO, RLOO and PPO for models that write text, in the one training loop.

What enters: a causal language model, prompts as ids, and a reward that takes answers as text. What leaves: the trained
weights, in place. The loop asks for the batch of a step and minimises a loss; here a batch names prompts only, and the
loss draws the answers itself, from seeds that follow from the step. So checkpoints, the guard, bit-exact resume and the
choice of the best weights (by the reward of held-out prompts) are those of every other training.

* GRPO (Shao et al. 2024, "DeepSeekMath", equation 3) and RLOO (Ahmadian et al. 2024, "Back to basics") draw a group of
  answers a prompt and compare each with the others of its group; one update a draw, so the ratio of new to old
  probability is 1 and nothing is clipped. The divergence from the reference is Schulman's k3, token by token.
* PPO (Schulman et al. 2017; for language Ouyang et al. 2022) learns a value of each token beside the policy, estimates
  advantages (GAE, Schulman et al. 2016), and takes several clipped updates on the same answers. Those answers are
  buffers of the network, so a checkpoint between two updates holds them. A reward counts in spreads from the mean of
  the answers to its prompt: prompts differ by more than answers do, and values are learnt too slowly to know it.

Shape legend: P prompts, G answers of a group, R = P x G, L length in tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from volant.core.errors import DataError
from volant.nets.answers import answer_states, last_place
from volant.nets.nearness import Start
from volant.nets.rollout import Rollout, roll, token_logp

Reward = Callable[[Sequence[int], Sequence[str]], list[float]]
"""(numbers of the prompts, one an answer; the answers) to one reward an answer, higher is better."""
Baseline = Literal["group", "rest"]


@dataclass(frozen=True)
class Asked:
    """A batch that names prompts; the answers are drawn when the loss is taken.

    Attributes:
        prompts: numbers of the prompts.
        step: of training; decides the draws.
        update: which update on the same answers this is (PPO).
        group: answers a prompt.
        room: tokens that a prompt and its answer take at most.
    """

    prompts: tuple[int, ...]
    step: int
    update: int = 0
    group: int = 1
    room: int = 1
    unit = "answers"

    @property
    def size(self) -> int:
        """Prompts."""
        return len(self.prompts)

    @property
    def width(self) -> int:
        """Tokens that one prompt stands for; what the loop bounds memory by."""
        return 1

    @property
    def counted(self) -> int:
        """Prompts: losses are means over them."""
        return len(self.prompts)

    @property
    def tokens(self) -> int:
        """Answers drawn."""
        return len(self.prompts) * self.group if self.update == 0 else 0

    def to(self, device: str) -> Asked:
        """The same; there is nothing on a device yet."""
        return self

    def rows(self, start: int, stop: int) -> Asked:
        """Some of the prompts."""
        whole = start == 0 and stop >= len(self.prompts)
        return self if whole else Asked(self.prompts[start:stop], self.step, self.update, self.group, self.room)


class Questions:
    """Prompts as batches; number `step` is a pure function of seed and step."""

    def __init__(self, count: int, *, rows: int, group: int, seed: int, updates: int = 1) -> None:
        if not count:
            raise DataError("there is no prompt to answer", fix="Add prompts with `condition` to the train split.")
        self._count, self._rows, self._group, self._seed = count, min(rows, count), group, seed
        self._updates = updates
        self.steps = -(-count // self._rows) * updates

    def batch(self, step: int) -> Asked:
        """The prompts of that step; the same ones for each update on their answers."""
        draw, update = divmod(step, self._updates)
        epoch, place = divmod(draw, -(-self._count // self._rows))
        order = list(range(self._count))
        random.Random(f"{self._seed} {epoch}").shuffle(order)
        chosen = order[place * self._rows : (place + 1) * self._rows]
        return Asked(tuple(chosen), draw, update, self._group)

    def held(self) -> list[Asked]:
        """All prompts once, one answer each, for looks; their step is none that training has."""
        every = range(self._count)
        return [Asked(tuple(every[s : s + 32]), -1 - s) for s in range(0, self._count, 32)]


@dataclass
class Drawing:
    """How answers are drawn and rewarded.

    Attributes:
        prompts, held: ids of the training and of the held-out prompts.
        reward, held_reward: what answers to them are worth.
        room: most tokens of an answer.
        heat: temperature of the draws.
        watch: hears the figures of each draw, and its step.
        far: how far a draw was from the start, in nats a token, at the step it was made for; the guard looks at it.
    """

    prompts: Sequence[Sequence[int]]
    held: Sequence[Sequence[int]]
    reward: Reward
    held_reward: Reward
    decode: Callable[[Sequence[int]], str]
    seed: int
    room: int
    heat: float
    stop: Sequence[int]
    pad: int
    watch: Callable[[dict[str, float], int], None]
    far: float | None = None

    def draw(self, net: Any, batch: Asked, *, width: int = 0) -> tuple[Rollout, torch.Tensor]:
        """Answers to the batch's prompts, and their rewards [R]."""
        numbers = [p for p in batch.prompts for _ in range(batch.group)]
        seeds = [
            random.Random(f"{self.seed} {batch.step} {p} {g}").getrandbits(62)
            for p in batch.prompts
            for g in range(batch.group)
        ]
        known, judge, heat = (
            (self.held, self.held_reward, 0.0) if batch.step < 0 else (self.prompts, self.reward, self.heat)
        )
        made = roll(
            net,
            [known[p] for p in numbers],
            seeds,
            room=self.room,
            heat=heat,
            stop=self.stop,
            pad=self.pad,
            width=width,
        )
        texts = [self.decode(ids[mask].tolist()) for ids, mask in zip(made.ids, made.answers, strict=True)]
        return made, torch.tensor(judge(numbers, texts), dtype=torch.float32)

    def minus_reward(self, net: Any, batch: Asked) -> tuple[torch.Tensor, int]:
        """What a look at held-out prompts minimises: the sum of the rewards, turned round."""
        _, rewards_R = self.draw(net, batch)
        return -rewards_R.sum(), batch.size

    def note(self, batch: Asked, rewards_R: torch.Tensor, made: Rollout, *, entropy: Any, divergence: Any) -> None:
        """Tell the figures of a draw.

        Args:
            batch: that it was drawn for.
            rewards_R: of its answers.
            made: the answers.
            entropy, divergence: nats, [R, L-1].
        """
        mask_RL = made.answers[:, 1:].to(entropy.device)
        count = mask_RL.sum().clamp(min=1)
        told = {
            "reward": float(rewards_R.mean()),
            "reward_spread": float(rewards_R.std()) if len(rewards_R) > 1 else 0.0,
            "flat_groups": flat(rewards_R, batch.group),
            "answer_tokens": float(made.lengths.float().mean()),
            "entropy": float((entropy * mask_RL).sum() / count),
            "kl": float((divergence * mask_RL).sum() / count),
        }
        self.far = told["kl"]
        self.watch(told, batch.step)


def flat(rewards_R: torch.Tensor, group: int) -> float:
    """The share of prompts whose answers all earn the same; 0 where each has but one."""
    if group < 2:
        return 0.0
    rewards_PG = rewards_R.view(-1, group)
    return float(((rewards_PG.amax(1) - rewards_PG.amin(1)) < 1e-6).float().mean())


def advantages(rewards_PG: torch.Tensor, baseline: Baseline) -> torch.Tensor:
    """How much better each answer is than its group.

    Args:
        rewards_PG: one a row of a group.
        baseline: `group` takes the group's mean and divides by its spread (GRPO), `rest` takes the mean of the
            other answers (RLOO), which leaves the gradient without bias.
    """
    if baseline == "rest":
        others_PG = (rewards_PG.sum(1, keepdim=True) - rewards_PG) / max(1, rewards_PG.size(1) - 1)
        return rewards_PG - others_PG
    return (rewards_PG - rewards_PG.mean(1, keepdim=True)) / (rewards_PG.std(1, keepdim=True) + 1e-4)


def group_loss(drawing: Drawing, start: Start, *, baseline: Baseline, beta: float) -> Callable[..., Any]:
    """The loss of GRPO (`group`) and RLOO (`rest`), with `beta` times the divergence from the start."""

    def loss(net: Any, batch: Asked) -> tuple[torch.Tensor, int]:
        if not net.training:
            return drawing.minus_reward(net, batch)
        made, rewards_R = drawing.draw(net, batch)
        better_R = advantages(rewards_R.reshape(-1, batch.group), baseline).reshape(-1)
        with start.standing(net):
            was_RL, _ = token_logp(net, made, heat=drawing.heat)
        logp_RL, entropy_RL = token_logp(net, made, heat=drawing.heat)
        mask_RL = made.answers[:, 1:].to(logp_RL.device)
        apart_RL = was_RL - logp_RL
        far_RL = apart_RL.exp() - apart_RL - 1  # k3: not negative, right on average
        # Divided by the room and not by the answer's own length, which would reward long wrong answers.
        gain_R = (logp_RL * mask_RL).sum(1) * better_R.to(logp_RL.device) / drawing.room
        cost_R = (far_RL * mask_RL).sum(1) / drawing.room
        drawing.note(batch, rewards_R, made, entropy=entropy_RL.detach(), divergence=far_RL.detach())
        return (beta * cost_R - gain_R).sum() / batch.group, batch.size

    loss.far = lambda: drawing.far  # type: ignore[attr-defined]
    return loss


class Critic(nn.Module):
    """A policy with a value for each token, and the answers that it is learning from.

    Args:
        policy: a causal language model.
        answers: how many are drawn at once.
        width: tokens of a prompt with its answer at most.
        pad: id of the padding token.
    """

    def __init__(self, policy: Any, *, answers: int, width: int, pad: int) -> None:
        super().__init__()
        self.policy = policy
        self.value = nn.Linear(policy.config.hidden_size, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        shape = (answers, width)
        self.register_buffer("ids", torch.full(shape, pad, dtype=torch.int64))
        self.register_buffer("spread", torch.zeros(2))
        for name in ("real", "answers"):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.bool))
        for name in ("old_logp", "better", "returns"):
            self.register_buffer(name, torch.zeros(answers, width - 1))

    def read(self, made: Rollout, heat: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probability, entropy and value before each next id [R, L-1], from one pass; 0 outside the answers.

        The policy's body takes no gradient from the values.
        """
        device = self.value.weight.device
        mask_RL = made.answers[:, 1:].to(device)
        states_ND = answer_states(self.policy, made.ids.to(device), made.real.to(device), mask_RL)
        logp_RL, entropy_RL = token_logp(self.policy, made, heat=heat, states_ND=states_ND)
        values_N = self.value(states_ND.detach().float())[:, 0]
        return logp_RL, entropy_RL, torch.zeros_like(logp_RL).masked_scatter(mask_RL, values_N)

    def worth(self, rewards_R: torch.Tensor, group: int) -> torch.Tensor:
        """Rewards [R] in spreads from the mean of their group: so `beta` means the same whatever a reward's scale.

        Args:
            rewards_R: those of a group side by side.
            group: answers a prompt; where it is 1 they are held against all of the draw.
        """
        rewards_PG = rewards_R.to(self.value.weight.device).reshape(-1, group if group > 1 else len(rewards_R))
        better_PG = rewards_PG - rewards_PG.mean(1, keepdim=True)
        better_PG[(rewards_PG == rewards_PG[:, :1]).all(1)] = 0.0  # what is left there is rounding
        spread = self.get_buffer("spread")  # sum of squares and their number, over all draws
        spread += torch.stack([better_PG.square().sum(), torch.tensor(float(len(rewards_R)), device=spread.device)])
        return (better_PG / (spread[0] / spread[1]).sqrt().clamp(min=1e-8)).reshape(-1)


def estimated(
    rewards_RL: torch.Tensor, values_RL: torch.Tensor, mask_RL: torch.Tensor, *, discount: float, smooth: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(advantages, returns), generalised advantage estimation (Schulman et al. 2016, equation 16).

    Args:
        rewards_RL: for each id; 0 where there is none.
        values_RL: before each id.
        mask_RL: bool; the ids of answers.
        discount: gamma.
        smooth: lambda; 1 has no bias, less has less variance.
    """
    better_RL = torch.zeros_like(rewards_RL)
    last_R = torch.zeros(rewards_RL.size(0), device=rewards_RL.device)
    after_R = torch.zeros_like(last_R)
    for place in range(rewards_RL.size(1) - 1, -1, -1):
        here_R = mask_RL[:, place]
        delta_R = rewards_RL[:, place] + discount * after_R - values_RL[:, place]
        last_R = torch.where(here_R, delta_R + discount * smooth * last_R, torch.zeros_like(last_R))
        after_R = torch.where(here_R, values_RL[:, place], torch.zeros_like(after_R))
        better_RL[:, place] = last_R
    return better_RL, better_RL + values_RL * mask_RL


def ppo_loss(drawing: Drawing, start: Start, *, beta: float, clip: float, smooth: float) -> Callable[..., Any]:
    """PPO's loss over a `Critic`: clipped gain, squared error of the values, the divergence paid token by token."""

    def drawn(net: Critic, batch: Asked) -> None:
        made, rewards_R = drawing.draw(net.policy, batch, width=net.get_buffer("ids").size(1))
        with torch.no_grad():
            logp_RL, entropy_RL, values_RL = net.read(made, drawing.heat)
            worth_R = net.worth(rewards_R, batch.group)
        with start.standing(net.policy):
            was_RL, _ = token_logp(net.policy, made, heat=drawing.heat)
        mask_RL = made.answers[:, 1:].to(logp_RL.device)
        paid_RL = -beta * (logp_RL - was_RL) * mask_RL
        paid_RL[torch.arange(len(worth_R)), last_place(mask_RL)] += worth_R
        better_RL, returns_RL = estimated(paid_RL, values_RL, mask_RL, discount=1.0, smooth=smooth)
        some = better_RL[mask_RL]
        better_RL = (better_RL - some.mean()) / (some.std(unbiased=False) + 1e-4) * mask_RL
        rows = made.ids.size(0)
        for name, value in (
            ("ids", made.ids), ("real", made.real), ("answers", made.answers), ("old_logp", logp_RL),
            ("better", better_RL), ("returns", returns_RL),
        ):  # fmt: skip
            kept = net.get_buffer(name)
            kept[:rows].copy_(value)
            if rows < len(kept):
                kept[rows:].zero_()
        drawing.note(batch, rewards_R, made, entropy=entropy_RL, divergence=logp_RL - was_RL)

    def loss(net: Critic, batch: Asked) -> tuple[torch.Tensor, int]:
        if not net.training:
            return drawing.minus_reward(net.policy, batch)
        drawing.far = None
        if batch.update == 0:
            drawn(net, batch)
        rows = batch.size * batch.group
        made = Rollout(*(net.get_buffer(n)[:rows].clone() for n in ("ids", "real", "answers")))
        mask_RL = made.answers[:, 1:]
        logp_RL, _, values_RL = net.read(made, drawing.heat)
        ratio_RL = ((logp_RL - net.get_buffer("old_logp")[:rows]) * mask_RL).exp()
        better_RL = net.get_buffer("better")[:rows]
        gain_RL = torch.minimum(ratio_RL * better_RL, ratio_RL.clamp(1 - clip, 1 + clip) * better_RL)
        off_RL = (values_RL - net.get_buffer("returns")[:rows]).square()
        count = mask_RL.sum().clamp(min=1)
        whole = ((0.5 * off_RL - gain_RL) * mask_RL).sum() / count
        return whole * batch.size, batch.size

    loss.far = lambda: drawing.far  # type: ignore[attr-defined]
    loss.far_patience = 1  # type: ignore[attr-defined]  # answers are drawn once in several updates
    return loss
