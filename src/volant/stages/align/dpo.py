"""Move a model towards what is preferred, straight from pairs: direct preference optimisation (DPO).

Enters: a Model, a Dataset of preference pairs and, if there is one, a reward model that weeds out doubtful pairs.
Leaves: a Model of the same kind. Reported: held-out pair accuracy, how far the model moved (nats an answer, with
a bound), whether answers grew longer (the usual way to cheat), and the task metric before and after. Pictures and rows
go the same way with another stand-in for their likelihood: `content_pairs.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.core.errors import SettingError
from volant.stages.align import content_pairs, from_pairs


def dpo(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    reward: Model | None = None,
    beta: Annotated[float, Field(gt=0, le=10)] = 0.1,
    epochs: Annotated[float, Field(gt=0, le=100)] = 2.0,
    rows: Annotated[int, Field(ge=1, le=1024)] = 8,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    anchor: Annotated[float, Field(ge=0, le=10)] = 0.1,
    patience: Annotated[int, Field(ge=0)] = 0,
    bound: Annotated[float, Field(gt=0)] = 10.0,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 64,
) -> Model:
    """Align a model with preference pairs by DPO.

    Args:
        run: seed, threads, checkpoints, where to write.
        model: the model to align; as it is now, it is the reference.
        data: pairs from `align.preferences`, or records of `prompt`, `chosen` and `rejected` that `collect.files`
            reads; those of the validation split are held out.
        judge: a model that the task metric asks, where it needs one.
        reward: a model from `align.reward`; train pairs in which it prefers the rejected answer are left out.
        beta: how dearly distance from the reference is paid; higher stays closer and learns less.
        epochs: passes over the train pairs; the weights that do best on held-out pairs are kept.
        rows: pairs in one step.
        lr: AdamW's highest rate; 0 takes what suits the model's width (1e-6 at 2048), or a fiftieth of what the
            family of pictures or rows trains with. Too high makes answers shorter and worse.
        anchor: weight of the chosen answers' own likelihood, which DPO alone lets fall; 0 is plain DPO.
        patience: stop after this many of the four looks at what is held out without a gain; 0 never does.
        bound: the farthest from the reference on held-out answers, in nats an answer on average; weights beyond it
            are pulled back towards the reference.
        limit: how many validation samples measure the task metric and the length; for text.

    Raises:
        DataError: there is no pair to learn from.
        SettingError: the model was converted, or its family cannot tell how likely an example is.
    """
    from volant.nets import pair_losses
    from volant.nets.opened import draws

    if draws(model):
        if reward is not None:
            what = "a reward model reads text and cannot weed out pairs of pictures or rows."
            raise SettingError(what, where=run.step, fix="Raise `margin` of `align.preferences` instead.")
        return content_pairs.aligned(
            run, model, data, judge, beta=beta, epochs=epochs, rows=rows, lr=lr, patience=patience, anchor=anchor,
            bound=bound,
        )  # fmt: skip
    return from_pairs.learnt(
        run, model, data, "dpo", pair_losses.dpo_loss(beta=beta, anchor=anchor), {"beta": beta, "anchor": anchor},
        judge=judge, reward=reward, epochs=epochs, rows=rows, lr=lr, patience=patience, at_2048=1e-6,
        bound=bound, limit=limit,
    )  # fmt: skip
