"""Training any family on examples that a codec made: what `pretrain`, `finetune`, `align` and `compress` share.

What enters: a family, its network (or none yet), encoded examples, a budget. What leaves: the network,
trained by the loop or estimated at once. Knows no modality and no stage: a codec's examples and a
family's `step_loss` (or `estimate`) meet here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.protocols import ContentCodec, Modality
from volant.core.run import Run
from volant.core.sample import Sample
from volant.core.spaces import Encoded, Example
from volant.nets.arrays import Arrays
from volant.nets.batches import Batches, Padded, Step
from volant.nets.loop import Outcome, Recipe, train
from volant.nets.memory_content import check_memory

_SHORTCUTS = ("examples", "dtype", "eos")  # what a size setting may not name: it comes from the data or the codec


@dataclass(frozen=True)
class Budget:
    """How long, and how.

    Attributes:
        steps: of training; 0 takes the family's own.
        batch: examples in a step; 0 takes the family's own.
        rate: factor on the family's learning rates.
        patience: looks at the validation loss without improvement before it stops; 0 never stops early.
        looks: how often the validation loss is measured.
    """

    steps: int = 0
    batch: int = 0
    rate: float = 1.0
    patience: int = 0
    looks: int = 5


def space_for(family: Any, modality: Modality) -> str:
    """The space in which family and modality meet: the first of the family's that the modality offers.

    Raises:
        SettingError: there is none.
    """
    offered = modality.spaces()
    found = next((space for space in family.accepts if space in offered), "")
    if not found:
        what = f"a {family.name} learns {' or '.join(family.accepts)}, and {modality.name} is {' or '.join(offered)}."
        raise SettingError(what, where="family", fix="`volant methods` lists the families that fit.")
    return found


def check_size(family: Any, size: Mapping[str, Any]) -> None:
    """Check the names of size settings against the family's `build`.

    Raises:
        SettingError: an unknown one; the message names the nearest.
    """
    known = [
        name
        for name, parameter in inspect.signature(family.build).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in ("seed", *_SHORTCUTS)
    ]
    for name in size:
        if known and name not in known:
            raise SettingError(f"a {family.name} has no size {name!r}.", where="size", fix=did_you_mean(name, known))


def encoded(codec: ContentCodec, samples: Sequence[Sample]) -> list[Example | Encoded]:
    """Samples as the codec's examples, in their order."""
    together: Any = getattr(codec, "encode_all", None)
    return list(together(samples)) if together else [codec.encode(sample) for sample in samples]


def build(family: Any, codec: ContentCodec, examples: Sequence[Any], *, seed: int, size: Mapping[str, Any]) -> Any:
    """A fresh network for the codec's space; families that look at the data to be built get it."""
    given = dict(size)
    parameters = inspect.signature(family.build).parameters
    if "examples" in parameters:
        given["examples"] = examples
    return family.build(codec.space, seed=seed, **given)


def fit(
    run: Run,
    family: Any,
    net: Any,
    codec: ContentCodec,
    examples: Sequence[Any],
    held_out: Sequence[Any],
    budget: Budget,
    *,
    weights: Sequence[float] | None = None,
    title: str = "training",
    start_counts: bool = False,
) -> Outcome | None:
    """Train `net` in place by the loop, or estimate it at once; the outcome where there was a loop.

    Args:
        run: seed, device, scratch directory, bar.
        family: of the net.
        net: from `build` or `load`.
        codec: made the examples.
        examples, held_out: encoded; the second for looks at the loss, may be empty.
        budget: steps and rate.
        weights: one an example, for weighted training; None: all alike.
        title: of the bar.
        start_counts: the weights of the start are kept where no look is better; of a family whose losses choose none
            between the steps, they choose none here either.

    Raises:
        DataError: there is no example.
        MachineError: there is too little memory for a step.
    """
    if not examples:
        raise DataError("there is no example to train on.", where=run.step, fix="Add samples to the train split.")
    if hasattr(family, "estimate"):
        family.estimate(net, list(examples), seed=run.seed)
        return None
    rows = budget.batch or int(family.default_batch)
    steps = budget.steps or int(family.default_steps)
    fields = dict(family.recipe(codec.space, steps=steps, batch=rows))
    for name in ("lr", "muon_lr"):
        if name in fields:
            fields[name] *= budget.rate
    fields["start_counts"] = start_counts and bool(fields.get("evaluate_every", 1))
    patience = budget.patience or int(fields.pop("patience", 0))
    chosen = Recipe(
        **{
            "steps": steps,
            "evaluate_every": max(1, steps // budget.looks),
            "checkpoint_every": max(20, min(500, steps // 4)),
            **fields,
            "patience": patience,
        }
    )
    batches, looks = _batches(codec, examples, held_out, rows, run.seed, weights)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    run.say(f"{trained:,} weights are trained on {len(examples):,} examples, {steps} steps of {rows}")
    check_memory(run, net, family.step_loss, batches.batch(0), chosen)
    outcome = train(run, net, batches, chosen, validation=looks, loss=family.step_loss, title=title)
    if hasattr(family, "finish"):  # what a family learns of the examples when its weights are final
        family.finish(net, list(examples), seed=run.seed)
    return outcome


def _batches(
    codec: ContentCodec,
    examples: Sequence[Any],
    held_out: Sequence[Any],
    rows: int,
    seed: int,
    weights: Sequence[float] | None,
) -> tuple[Batches, list[Step]]:
    if isinstance(examples[0], Encoded):
        length = codec.space.length  # type: ignore[union-attr]
        pad = int(getattr(codec, "pad_id", 0))
        batches: Any = Padded(examples, length=length, rows=rows, seed=seed, pad=pad)
        looks: Any = Padded(held_out, length=length, rows=rows, seed=0, pad=pad).in_order() if held_out else []
        return batches, looks
    made = Arrays(examples, rows=rows, seed=seed, weights=weights)
    return made, list(Arrays(held_out, rows=rows, seed=0).in_order()) if held_out else []


def losses(family: Any, net: Any, codec: ContentCodec, examples: Sequence[Any], *, group: int = 8) -> list[float]:
    """The mean loss of each group of examples, with the same noise at each call; nothing for estimators.

    Groups, because a family's loss is that of a batch; paired tests then compare group with group.
    """
    from volant.nets.pieces import evaluate

    if not examples or not hasattr(family, "step_loss"):
        return []
    looks = _batches(codec, examples, examples, group, 0, None)[1]
    return [evaluate(net, [look], loss=family.step_loss) for look in looks]


def parameters(net: Any) -> int:
    """How many weights a network has; what an estimator says of itself, else 0."""
    if isinstance(net, torch.nn.Module):
        return sum(p.numel() for p in net.parameters())
    return int(getattr(net, "parameters", 0))
