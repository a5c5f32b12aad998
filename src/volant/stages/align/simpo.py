"""Move a model towards what is preferred without a reference: simple preference optimisation (SimPO).

Enters: a Model of text and a Dataset of preference pairs. Leaves: a Model of the same kind, reported as `dpo`'s.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.stages.align import from_pairs


def simpo(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    reward: Model | None = None,
    beta: Annotated[float, Field(gt=0, le=20)] = 2.0,
    margin: Annotated[float, Field(ge=0, le=20)] = 1.0,
    epochs: Annotated[float, Field(gt=0, le=100)] = 2.0,
    rows: Annotated[int, Field(ge=1, le=1024)] = 8,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    patience: Annotated[int, Field(ge=0)] = 0,
    bound: Annotated[float, Field(gt=0)] = 30.0,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 64,
) -> Model:
    """Align a model with preference pairs by SimPO: nats per token count, so length alone wins nothing.

    Args:
        run: seed, threads, checkpoints, where to write.
        model: the model to align; the loss asks for no reference, the bound measures from where it started.
        data: pairs from `align.preferences`, or records of `prompt`, `chosen` and `rejected` that `collect.files`
            reads; those of the validation split are held out.
        judge: a model that the task metric asks, where it needs one.
        reward: a model from `align.reward`; train pairs in which it prefers the rejected answer are left out.
        beta: how steep the loss is in nats per token; higher cares more about pairs that are nearly right.
        margin: how far the chosen answer has to be ahead, times `beta`, before the loss levels off.
        epochs: passes over the train pairs; the weights that do best on held-out pairs are kept.
        rows: pairs in one step.
        lr: AdamW's highest rate; 0 takes what suits the model's width (1e-6 at 2048).
        patience: stop after this many of the four looks at what is held out without a gain; 0 never does.
        bound: the farthest from the start on held-out answers, in nats an answer on average; weights beyond it
            are pulled back. Wider than `dpo`'s: nothing in the loss holds the model where it was.
        limit: how many validation samples measure the task metric and the length.

    Raises:
        DataError: there is no pair to learn from.
        SettingError: the model was converted, or makes no text.
    """
    from volant.nets import pair_losses

    return from_pairs.learnt(
        run, model, data, "simpo", pair_losses.simpo_loss(beta=beta, margin=margin), {"beta": beta, "margin": margin},
        judge=judge, reward=reward, epochs=epochs, rows=rows, lr=lr, patience=patience, at_2048=1e-6,
        bound=bound, limit=limit,
    )  # fmt: skip
