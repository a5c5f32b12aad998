"""Learn from answers that were called good or bad one by one: Kahneman-Tversky optimisation (KTO).

Enters: a Model of text and a Dataset whose answers carry a label `rating` (above 0 is good), or preference pairs, whose
two sides then count as one good and one bad answer. Leaves: a Model of the same kind, reported as `dpo`'s.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.stages.align import from_pairs


def kto(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    reward: Model | None = None,
    beta: Annotated[float, Field(gt=0, le=10)] = 0.1,
    epochs: Annotated[float, Field(gt=0, le=100)] = 2.0,
    rows: Annotated[int, Field(ge=2, le=1024)] = 16,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    patience: Annotated[int, Field(ge=0)] = 0,
    bound: Annotated[float, Field(gt=0)] = 10.0,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 64,
) -> Model:
    """Align a model with thumbs up and down by KTO: nobody has to compare two answers to one prompt.

    Args:
        run: seed, threads, checkpoints, where to write.
        model: the model to align; as it is now, it is the reference.
        data: answers with a label `rating` (above 0 is good, else bad): `collect.files` makes it of a `label` true or
            false beside prompt and completion, or reads it (`fields: {labels.rating: ...}`), `rated: true` of
            `improve.harvest` takes it from use. Or pairs, as `align.dpo` takes them. Those of the validation split are
            held out. Fine-tuning and reports leave bad answers out.
        judge: a model that the task metric asks, where it needs one.
        reward: a model from `align.reward`; train pairs in which it prefers the rejected answer are left out.
        beta: how dearly distance from the reference is paid; higher stays closer and learns less.
        epochs: passes over the train answers; the weights that do best on held-out ones are kept.
        rows: answers in one step; the distance from the reference is estimated from them, so few are noisy.
        lr: AdamW's highest rate; 0 takes what suits the model's width (1e-6 at 2048).
        patience: stop after this many of the four looks at what is held out without a gain; 0 never does.
        bound: the farthest from the reference on held-out answers, in nats an answer on average; weights beyond it
            are pulled back towards the reference.
        limit: how many validation samples measure the task metric and the length.

    Raises:
        DataError: there is no answer to learn from, or a rating is no number.
        SettingError: the model was converted, or makes no text.
    """
    from volant.nets import pair_losses

    return from_pairs.learnt(
        run, model, data, "kto", pair_losses.KtoLoss(beta=beta), {"beta": beta},
        judge=judge, reward=reward, single=True, epochs=epochs, rows=rows, lr=lr, patience=patience, at_2048=1e-6,
        bound=bound, limit=limit,
    )  # fmt: skip
