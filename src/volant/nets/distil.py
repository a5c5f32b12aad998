"""Few steps in place of many: a student learns where a teacher's trajectories go.

What enters: a family with `states`, a trained network of it, conditions. What leaves: the same network, trained to
reach in a few Euler steps the states that the teacher reaches in many, from the same noise and with the teacher's
guidance folded in. A step of the student spans several of the teacher's, so what it learns is the mean velocity
between two of the teacher's states. It is trained on the whole way at once, from its own states: each step then also
learns to mend what the steps before it left wrong, which training on the teacher's states alone does not teach.
Sources: progressive distillation (Salimans and Ho 2022), guidance distillation (Meng et al. 2023).

Shape legend: B rows, C condition ids, K states on a way; x is [B, channels, height, width].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from volant.core.errors import SettingError
from volant.core.run import Run
from volant.core.spaces import Example
from volant.nets.arrays import ArrayBatch, Arrays
from volant.nets.loop import Outcome, Recipe, train
from volant.nets.memory_content import check_memory

STEPS = 600  # of training, where nothing is said
_BATCH = 128
_FIRST_SEED = 2**41  # away from the seeds that people ask with


def check_family(family: Any, *, where: str = "") -> None:
    """Refuse a family that takes no steps to sample.

    Raises:
        SettingError: it has none; the fix says what else makes it small.
    """
    if not hasattr(family, "states"):
        what = f"a {family.name} draws without sampling steps, so there are none to save."
        raise SettingError(what, where=where, fix="Serve it as it is, or make it smaller with `compress.quantise`.")


def teacher_steps_for(steps: int, teacher_steps: int) -> int:
    """The teacher's steps, rounded up so that each of the student's spans a whole number of them."""
    return -(-max(steps, teacher_steps) // steps) * steps


def ways(
    run: Run,
    family: Any,
    teacher: Any,
    prompts: Sequence[Sequence[int]],
    *,
    steps: int,
    controls: Mapping[str, float],
) -> list[Example]:
    """The teacher's trajectories from seeded noise, one a prompt.

    Args:
        run: its seed makes the noise; hears Ctrl-C.
        family: of the teacher.
        teacher: a trained network; its averaged weights count.
        prompts: condition ids of each.
        steps: of the student; so many and one states are kept, equally far apart in sigma.
        controls: what the teacher draws with; its `steps` are a multiple of the student's.

    Returns:
        Examples with values float32 [K, channels, height, width], noise first.
    """
    every = int(controls["steps"]) // steps
    first = _FIRST_SEED + run.seed * 1_000_003
    found = []
    with run.progress("trajectories", len(prompts), "trajectories") as bar:
        for start in range(0, len(prompts), _BATCH):
            run.check_stop()
            some = prompts[start : start + _BATCH]
            seeds = [first + start + row for row in range(len(some))]
            kept = family.states(teacher, some, seeds=seeds, **controls)[::every]
            way_BK = torch.stack(kept, 1).float().cpu().numpy()
            found += [Example(values, tuple(ids)) for values, ids in zip(way_BK, some, strict=True)]
            bar.advance(len(some))
    return found


def way_loss(net: Any, batch: ArrayBatch) -> tuple[torch.Tensor, int]:
    """(sum over the examples of the mean squared distance from the teacher's states, examples).

    Distances are divided by the length of a step, which makes them errors of the mean velocity.
    """
    way, count = batch.values, batch.size
    steps = way.size(1) - 1
    x, tell = way[:, 0], net.current()
    total = torch.zeros((), device=way.device)
    for k in range(steps):
        sigma_B = torch.full((count,), 1 - k / steps, device=way.device)
        x = x - tell(x, sigma_B, batch.condition_BC).float() / steps
        total = total + ((x - way[:, k + 1]) * steps).square().flatten(1).mean(1).sum() / steps
    return total, count


def fit(
    run: Run,
    family: Any,
    student: Any,
    lessons: Sequence[Example],
    *,
    steps: int = 0,
    batch: int = 32,
    rate: float = 0.25,
) -> Outcome:
    """Train a student in place.

    Args:
        run: seed, device, scratch directory, bar.
        family: of the student.
        student: initialised from the teacher.
        lessons: from `ways`.
        steps: of training; 0 takes `STEPS`.
        batch: trajectories in a step.
        rate: factor on the family's learning rates.

    Raises:
        MachineError: there is too little memory for a step.
    """
    chosen = steps or STEPS
    fields = {**family.recipe(student.space, steps=chosen, batch=batch), "weight_decay": 0.0, "bf16": False}
    for name in ("lr", "muon_lr"):
        if name in fields:
            fields[name] *= rate
    recipe = Recipe(**{"checkpoint_every": max(20, min(500, chosen // 4)), **fields})
    batches = Arrays(lessons, rows=batch, seed=run.seed)
    check_memory(run, student, way_loss, batches.batch(0), recipe)
    return train(run, student, batches, recipe, loss=way_loss, name="distil", title="distilling")
