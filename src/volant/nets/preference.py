"""Learning from pairs: a reward model, and the policies that `pair_losses` moves towards what was chosen.

Enters: a network and pairs of encoded answers to the same prompt, the chosen and the rejected one. Leaves: the
trained weights, in place, and how held-out pairs fare. The losses are a few lines each and run in our own loop
rather than in TRL's trainers, because those resume from pickles and reload the reference by path (decision 0002).
The reference's log-probabilities are taken once, before the first step, so no second network stays in memory.

Shape legend: P pairs, B = 2P answers (chosen, rejected, chosen ...), L length in tokens, N counted positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from volant.core.artifact import Model
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Codec
from volant.core.run import Run
from volant.core.sample import Sample
from volant.core.spaces import Encoded
from volant.nets.answers import answer_logp, answer_rewards
from volant.nets.batches import Batch, fit
from volant.nets.loop import Outcome, Recipe, train
from volant.nets.memory import check_training
from volant.nets.nearness import Check, Start
from volant.nets.opened import unconverted
from volant.nets.pieces import Loss, evaluate
from volant.nets.recipe import rows_at_once


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, each encoded with the prompt; the masks mark the answers."""

    chosen: Encoded
    rejected: Encoded


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """A batch as the loop wants it: one row a pair, chosen in the left half and rejected in the right.

    Attributes:
        ids: int64 [P, 2L].
        mask: bool [P, 2], True: the loop counts one target a row, that is pairs.
        real: bool [P, 2L]; False on padding.
        answers: bool [P, 2L]; True on the ids of the answers.
        reference: the reference's log-probabilities of both answers, float32 [P, 2].
        worth: float32 [P]; what the left answer weighs: more than 0 for a good one, less for a bad one. Only a loss
            over answers that were rated one by one asks for it.
    """

    answers: torch.Tensor
    reference: torch.Tensor
    worth: torch.Tensor

    def to(self, device: str) -> PairBatch:
        """The same batch on another device."""
        return self._each(lambda part: part.to(device))

    def rows(self, start: int, stop: int) -> PairBatch:
        """Some of the pairs; for gradient accumulation."""
        return self._each(lambda part: part[start:stop])

    def side(self, at: int) -> Batch:
        """The answers of one side [P, L]: 0 the left, 1 the right."""
        width = self.ids.size(1) // 2
        own = slice(at * width, (at + 1) * width)
        return Batch(self.ids[:, own], self.answers[:, own], None if self.real is None else self.real[:, own])

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PairBatch:
        return PairBatch(
            change(self.ids), change(self.mask), None if self.real is None else change(self.real),
            answers=change(self.answers), reference=change(self.reference), worth=change(self.worth),
        )  # fmt: skip

    def flat(self) -> Batch:
        """The answers as rows [2P, L], chosen and rejected in turn."""
        rows = 2 * self.ids.size(0)
        real = None if self.real is None else self.real.reshape(rows, -1)
        return Batch(self.ids.reshape(rows, -1), self.answers.reshape(rows, -1), real)


class Pairs:
    """Pairs as batches; number `step` is a pure function of the seed and the step, so there is no cursor to save.

    Attributes:
        rows: pairs in a step, as many as were asked for or there are.
    """

    def __init__(self, pairs: Sequence[Pair], *, rows: int, seed: int, pad: int, worth: Sequence[float] = ()) -> None:
        if not pairs:
            raise DataError("there is no pair to learn from", fix="Run `align.preferences` on a larger train split.")
        self._pairs, self.rows, self._seed, self._pad = list(pairs), min(rows, len(pairs)), seed, pad
        self.reference = torch.zeros(len(pairs), 2)
        self.worth = torch.tensor(worth) if worth else torch.ones(len(pairs))
        self.steps = -(-len(pairs) // self.rows)
        self._order: tuple[int, list[list[int]]] = (-1, [])

    def batch(self, step: int) -> PairBatch:
        """The pairs of that step."""
        epoch, place = divmod(step, self.steps)
        if self._order[0] != epoch:
            self._order = (epoch, self._epoch(epoch))
        return self.collate(self._order[1][place])

    @property
    def longest(self) -> int:
        """Ids of the longest answer with its prompt."""
        return max(len(e.ids) for p in self._pairs for e in (p.chosen, p.rejected))

    def _epoch(self, epoch: int) -> list[list[int]]:
        """All pairs in a random order, those of like length together, so that little is padded."""
        rng = np.random.default_rng([self._seed, epoch])
        order, chunk = [int(i) for i in rng.permutation(len(self._pairs))], 8 * self.rows
        batches: list[list[int]] = []
        for start in range(0, len(order), chunk):
            part = sorted(order[start : start + chunk], key=lambda i: len(self._pairs[i].chosen.ids))
            batches += [part[at : at + self.rows] for at in range(0, len(part), self.rows)]
        return [batches[int(i)] for i in rng.permutation(len(batches))]

    def in_order(self) -> list[PairBatch]:
        """All pairs once, in the order given."""
        every = range(len(self._pairs))
        return [self.collate(every[start : start + self.rows]) for start in range(0, len(every), self.rows)]

    def collate(self, chosen: Sequence[int]) -> PairBatch:
        """The pairs with these numbers as one right-padded batch."""
        rows = [e for i in chosen for e in (self._pairs[i].chosen, self._pairs[i].rejected)]
        width = max(len(e.ids) for e in rows)
        ids_BL = torch.full((len(rows), width), self._pad, dtype=torch.int64)
        answers_BL, real_BL = torch.zeros(2, len(rows), width, dtype=torch.bool)
        for row, example in enumerate(rows):
            n = len(example.ids)
            ids_BL[row, :n] = torch.tensor(example.ids)
            answers_BL[row, :n] = torch.tensor(example.mask)
            real_BL[row, :n] = True
        count = len(chosen)
        return PairBatch(
            ids_BL.reshape(count, -1), torch.ones(count, 2, dtype=torch.bool), real_BL.reshape(count, -1),
            answers=answers_BL.reshape(count, -1), reference=self.reference[list(chosen)],
            worth=self.worth[list(chosen)],
        )  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """How pairs fare under a network.

    Attributes:
        margins: per pair, how far the chosen answer is ahead: in reward, or for a policy in nats (without beta).
        shift: mean distance from the reference in nats an answer; 0 for a reward model.
        chosen_shift: by how many nats the chosen answers have become likelier, on average.
    """

    margins: list[float]
    shift: float = 0.0
    chosen_shift: float = 0.0


def check_trainable(model: Model) -> None:
    """Refuse a model whose weights are not torch's any more.

    Raises:
        SettingError: it was converted, is hosted, or judges instead of writing.
    """
    if model.about.engine != "torch":
        what = f"preference training takes a model that torch runs, not one for {model.about.engine!r}."
        raise SettingError(what, where="model", fix=unconverted(model))


def rate_for(net: Any, at_2048: float) -> float:
    """A learning rate for the network's width, given the one that suits a width of 2048: smaller ones take more."""
    return float(at_2048 * (2048 / int(net.config.hidden_size)) ** 1.5)


def encoded(codec: Codec, samples: Iterable[Sample]) -> list[tuple[Encoded, Encoded]]:
    """(chosen, rejected) of samples of shape `preference`; others are passed over."""
    return [
        (answer(codec, s), answer(codec, s.model_copy(update={"target": s.rejected})))
        for s in samples
        if s.shape == "preference" and s.target and s.rejected
    ]


def answer(codec: Codec, sample: Sample) -> Encoded:
    """A conversation whose mask marks its last answer alone: that is what was chosen, or rated, and no turn before."""
    found = codec.encode(sample)
    last = len(found.mask) - 1 - [*reversed(found.mask)].index(True) if any(found.mask) else -1
    first = last
    while first > 0 and found.mask[first - 1]:
        first -= 1
    return replace(found, mask=[first <= at <= last for at in range(len(found.mask))])


def fitted(pairs: Sequence[tuple[Encoded, Encoded]], length: int) -> list[Pair]:
    """Pairs cut to the context; one that has no two different answers left is left out."""
    cut = [Pair(fit(chosen, length), fit(rejected, length)) for chosen, rejected in pairs]
    return [p for p in cut if any(p.chosen.mask[1:]) and any(p.rejected.mask[1:]) and p.chosen.ids != p.rejected.ids]


def with_pairs(codec: Codec, samples: Iterable[Sample], length: int) -> list[tuple[Sample, Pair]]:
    """The samples whose two answers still differ within the context, each with its pair."""
    each = ((s, fitted(encoded(codec, [s]), length)) for s in samples)
    return [(s, found[0]) for s, found in each if found]


def rated(good: Sequence[Encoded], bad: Sequence[Encoded], length: int) -> tuple[list[Pair], list[float]]:
    """Answers that were rated one by one, as `pair_losses.kto_loss` wants them, and what each of them weighs.

    The right of each pair is the answer to another prompt under this one's, from which the distance to the reference
    is estimated. Both kinds weigh the same in all, so the rarer one weighs more (Ethayarajh et al. 2024, section 4.2).
    An answer that the context cuts away is left out.
    """
    sides = [[fit(e, length) for e in side] for side in (good, bad)]
    kept = [[e for e in side if any(e.mask[1:])] for side in sides]
    every = [(e, sign / (2 * len(side))) for side, sign in zip(kept, (1.0, -1.0), strict=True) for e in side]
    pairs, worth = [], []
    for at, (own, share) in enumerate(every):
        others = (every[(at + n) % len(every)][0] for n in range(1, len(every)))
        other = next((e for e in others if _parts(e)[0] != _parts(own)[0]), None)
        if other is not None:
            prompt, answer = _parts(own)[0], _parts(other)[1]
            mixed = Encoded([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))
            pairs.append(Pair(own, fit(mixed, length)))
            worth.append(share * len(every))
    return pairs, worth


def _parts(example: Encoded) -> tuple[list[int], list[int]]:
    """The ids before the first answer, and those from there on."""
    at = example.mask.index(True)
    return list(example.ids[:at]), list(example.ids[at:])


def pair_logp(net: Any, batch: PairBatch) -> torch.Tensor:
    """Log-probabilities of chosen and rejected answers [P, 2]."""
    return answer_logp(net, batch.flat()).reshape(-1, 2)


def pair_rewards(net: Any, batch: PairBatch) -> torch.Tensor:
    """Rewards of chosen and rejected answers [P, 2]; `net` is a sequence classifier with one label."""
    return answer_rewards(net, batch.flat()).reshape(-1, 2)


def prefer(
    run: Run, net: Any, pairs: Sequence[Pair], held: Sequence[Pair], *,
    loss: Loss, steps: int, rows: int, lr: float, bound: float, pad: int, name: str = "dpo", patience: int = 0,
    worth: Sequence[float] = (), held_worth: Sequence[float] = (), ranked: Sequence[Pair] | None = None,
    check: Check = lambda _: None,
) -> tuple[Outcome, Judged | None]:  # fmt: skip
    """Train `net` on pairs by a loss of `pair_losses`; its weights at the start are the reference.

    Args:
        run: seed, checkpoints, progress, Ctrl-C.
        net: a causal language model.
        pairs: to learn from.
        held: to judge by: the weights that do best on them are kept.
        loss: what is minimised.
        steps: optimiser steps.
        rows: pairs in one step.
        lr: AdamW's highest rate.
        bound: the largest mean distance from the reference in nats an answer, on held-out pairs (else on the
            training pairs). Weights beyond it are pulled back on the line to the reference until they are within.
        pad: id of the padding token.
        name: of the method, for the bar and the metrics.
        patience: looks without a gain after which it stops; 0 for never.
        worth: of each of `pairs`, where the loss asks for it (`PairBatch.worth`).
        held_worth: of each of `held`.
        ranked: held-out pairs of a chosen and a rejected answer, where `held` are something else (KTO).
        check: looks at the network as it would be kept.

    Returns:
        What the loop says, and how the held-out pairs fare after it (None where there are none).
    """
    data = Pairs(pairs, rows=rows, seed=run.seed, pad=pad, worth=worth)
    _check_memory(run, net, data, reference=True)
    start = Start(net)
    data.reference = _over(net, data)
    watched = Pairs(held, rows=rows, seed=0, pad=pad, worth=held_worth) if held else data
    if held:
        watched.reference = _over(net, watched)
    told = watched if ranked is None else Pairs(ranked, rows=rows, seed=0, pad=pad) if ranked else data
    if told is not watched:
        told.reference = _over(net, told)
    before = evaluate(net, watched.in_order(), loss=loss)
    outcome = _learn(run, net, data, watched if held else None, loss, recipe_of_pairs(steps, lr, patience), name)
    if outcome.validation is not None and outcome.validation >= before:
        run.say(f"what is held out did not gain (loss {before:.4f} to {outcome.validation:.4f}): the weights stay")
        start.pull(net, 0.0)
    judged = start.within(run, net, lambda: judge(net, told), bound, check)
    return outcome, judged if (held if ranked is None else ranked) else None


def reward(
    run: Run, net: Any, pairs: Sequence[Pair], held: Sequence[Pair], *,
    loss: Loss, steps: int, rows: int, lr: float, pad: int, patience: int = 0,
) -> tuple[Outcome, Judged | None]:  # fmt: skip
    """Train `net`, a sequence classifier with one label, to give the chosen answer the higher reward."""
    data = Pairs(pairs, rows=rows, seed=run.seed, pad=pad)
    _check_memory(run, net, data, reference=False)
    watched = Pairs(held, rows=rows, seed=0, pad=pad) if held else None
    outcome = _learn(run, net, data, watched, loss, recipe_of_pairs(steps, lr, patience), "reward")
    if watched is None:
        return outcome, None
    rewards_P2 = _over(net, watched, pair_rewards)
    return outcome, Judged((rewards_P2[:, 0] - rewards_P2[:, 1]).tolist())


def judge(net: Any, pairs: Pairs) -> Judged:
    """How a policy treats pairs, against the reference that they carry."""
    ahead_P2 = _over(net, pairs) - pairs.reference
    margins = (ahead_P2[:, 0] - ahead_P2[:, 1]).tolist()
    return Judged(margins, float(ahead_P2.abs().mean()), float(ahead_P2[:, 0].mean()))


def recipe_of_pairs(
    steps: int, lr: float, patience: int, *, betas: tuple[float, float] = (0.9, 0.95)
) -> Recipe:  # fmt: skip
    """How pairs are learnt from: in float32, for bfloat16 rounds away differences as large as those that are learnt."""
    return Recipe(
        steps, lr, betas=betas, warmup=max(1, steps // 10), decay=max(1, steps // 2),
        evaluate_every=max(1, steps // 4), patience=patience, checkpoint_every=max(5, min(200, steps // 10)),
        bf16=False,
    )  # fmt: skip


def _check_memory(run: Run, net: Any, data: Pairs, *, reference: bool) -> None:
    """The plan of memory, or that there is too little, before anything is computed."""
    row = data.longest
    piece = 2 * row * min(data.rows, rows_at_once(2 * row))
    fix = "Take fewer `rows`, a smaller model, or shorter prompts and answers."
    check_training(run, net, tokens=piece, counted=piece, row=row, fix=fix, reference=reference)


def _learn(
    run: Run, net: Any, data: Pairs, watched: Pairs | None, loss: Loss, recipe: Recipe, name: str
) -> Outcome:  # fmt: skip
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # policy and reference must differ by their weights only
    return train(
        run, net, data, recipe, validation=watched.in_order() if watched else (), loss=loss, name=name, title=name
    )


@torch.no_grad()
def _over(net: Any, pairs: Pairs, figure: Any = pair_logp) -> torch.Tensor:
    """`figure` of all pairs [P, 2], on the processor."""
    was = net.training
    net.eval()
    device = next(net.parameters()).device.type
    found = torch.cat([figure(net, batch.to(device)).cpu() for batch in pairs.in_order()])
    net.train(was)
    return found
