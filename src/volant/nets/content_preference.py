"""Direct preference optimisation of what is drawn whole: a network learns from pairs of pictures or rows.

What enters: a family that tells how surprised its network is by an example (`surprise`), a network, and pairs of
encoded examples with one condition. Leaves: the trained weights, in place, and how held-out pairs fare. The likelihood
of a picture is not known; how far off the network is at one level of noise stands for it, with the same noise for both
sides and for the reference (Diffusion-DPO: Wallace et al. 2023, equation 14; here with the velocity's error). A VAE's
bound does as well. The reference is the network's own start, whose weights are exchanged for a moment (`nearness.py`).

Shape legend: P pairs; sides are 0 chosen, 1 rejected; values are [P, 2, ...].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from volant.core.errors import SettingError
from volant.core.protocols import ContentCodec
from volant.core.run import Run
from volant.core.sample import Sample, pair_sides
from volant.core.spaces import Encoded, Example
from volant.nets import content
from volant.nets import state as states
from volant.nets.arrays import ArrayBatch, Arrays
from volant.nets.loop import Outcome, train
from volant.nets.memory_content import check_memory
from volant.nets.nearness import Start
from volant.nets.pieces import Loss, evaluate
from volant.nets.preference import Judged, recipe_of_pairs

LOOKED = 4  # draws of noise for each held-out pair at a look at the loss
JUDGED = 16  # and for the figures at the end
_AT_ONCE = 64  # pairs that are looked at together


def check_family(family: Any, *, where: str = "") -> None:
    """Refuse a family that cannot tell how likely an example is.

    Raises:
        SettingError: it has no `surprise`.
    """
    if not hasattr(family, "surprise"):
        what = f"a {family.name} does not tell how likely an example is, which pairs are learnt by."
        raise SettingError(what, where=where, fix="Use `align.reward_weighted`.")


def encoded(codec: ContentCodec, pairs: Sequence[Sample]) -> list[Example]:
    """Pairs as examples with values [2, ...].

    Raises:
        DataError: a pair holds no two pictures or rows, or what the codec does not know.
        SettingError: the codec makes tokens.
    """
    found: list[Any] = content.encoded(codec, [side for pair in pairs for side in pair_sides(pair)])
    if any(isinstance(one, Encoded) for one in found):
        raise SettingError("pairs of rows as tokens are not learnt from.", fix="Use `align.reward_weighted`.")
    return [
        Example(np.stack([np.asarray(chosen.values), np.asarray(rejected.values)]), chosen.condition)
        for chosen, rejected in zip(found[::2], found[1::2], strict=True)
    ]


def dpo_loss(family: Any, start: Start, *, beta: float, anchor: float) -> Loss:
    """-log sigmoid of `beta` times how far the chosen side is ahead, plus `anchor` times its own loss a value."""

    def loss(net: Any, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
        own_P2, ahead_P2 = _sides(family, net, start, batch)
        chosen_P = own_P2[:, 0] / batch.values[0, 0].numel()
        lost_P = -F.logsigmoid(beta * (ahead_P2[:, 0] - ahead_P2[:, 1])) + anchor * chosen_P
        return lost_P.sum(), batch.size

    return loss


def dpo(
    run: Run, family: Any, net: Any, pairs: Sequence[Example], held: Sequence[Example], *,
    steps: int, rows: int, lr: float, beta: float, anchor: float, bound: float, patience: int = 0,
) -> tuple[Outcome, Judged | None]:  # fmt: skip
    """Train `net` by DPO; its weights at the start are the reference. Arguments as `preference.dpo`'s.

    Returns:
        What the loop says, and how the held-out pairs fare after it (None where there are none).

    Raises:
        MachineError: there is too little memory for a step.
    """
    if hasattr(net, "settle"):
        net.settle()
    average, net.average = getattr(net, "average", 0.0), 0.0  # what is judged and kept are the weights themselves
    start = Start(net)
    data = Arrays(pairs, rows=rows, seed=run.seed)
    watched = Arrays(held or pairs, rows=_AT_ONCE, seed=0).in_order()
    looks = watched * LOOKED if held else []
    loss = dpo_loss(family, start, beta=beta, anchor=anchor)
    before = evaluate(net, looks or watched, loss=loss)
    recipe = recipe_of_pairs(steps, lr, patience, betas=(0.9, 0.99))
    check_memory(run, net, loss, data.batch(0), recipe, setting="rows")
    outcome = train(run, net, data, recipe, validation=looks, loss=loss, name="dpo", title="dpo")
    if outcome.validation is not None and outcome.validation >= before:
        run.say(f"held-out pairs did not gain (loss {before:.4f} to {outcome.validation:.4f}): the weights stay")
        start.pull(net, 0.0)
    judged = start.within(run, net, lambda: judge(family, net, start, watched), bound)
    net.average = average
    return outcome, judged if held else None


@torch.no_grad()
def judge(family: Any, net: Any, start: Start, batches: Sequence[ArrayBatch]) -> Judged:
    """How the pairs fare under a network against its start, in the mean over the same draws of noise at each call."""
    device = next(net.parameters()).device.type
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rounds = [
            torch.cat([_sides(family, net, start, batch.to(device))[1].cpu() for batch in batches])
            for _ in range(JUDGED)
        ]
    ahead_P2 = torch.stack(rounds).mean(0)
    margins = (ahead_P2[:, 0] - ahead_P2[:, 1]).tolist()
    return Judged(margins, float(ahead_P2.abs().mean()), float(ahead_P2[:, 0].mean()))


def _sides(family: Any, net: Any, start: Start, batch: ArrayBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """(the network's surprise at both sides, by how much less that is than the start's), [P, 2] each.

    All four are taken in evaluation mode and from one state of torch's generator, so that they differ by the weights
    and the example alone.
    """
    was, state = net.training, states.random_state(batch.values.device.type)
    net.eval()
    with start.standing(net):
        reference_P2 = _surprise(family, net, batch, state)
    own_P2 = _surprise(family, net, batch, state)
    net.train(was)
    return own_P2, reference_P2 - own_P2


def _surprise(family: Any, net: Any, batch: ArrayBatch, state: dict[str, torch.Tensor]) -> torch.Tensor:
    sides = []
    for side in range(2):
        states.set_random_state(state)
        sides.append(family.surprise(net, ArrayBatch(batch.values[:, side], batch.condition_BC)))
    return torch.stack(sides, 1).float()
