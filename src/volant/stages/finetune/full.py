"""Fine-tune every weight of a model.

What enters: a Model and a Dataset of prompts with answers. What leaves: a Model of the same shape
and size. Needs about five times the weights' memory; where that is too much, `lora` does it with less.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.core.method import by_team


@by_team
def full(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    retain: Dataset | None = None,
    epochs: Annotated[float, Field(gt=0, le=1000)] = 1.0,
    steps: Annotated[int, Field(ge=0)] = 0,
    batch: Annotated[int, Field(ge=1, le=4096)] = 16,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    context: Annotated[int, Field(ge=0)] = 0,
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0,
    patience: Annotated[int, Field(ge=0)] = 2,
    replay: Annotated[float, Field(ge=0, lt=1)] | None = None,
    pack: bool = False,
) -> Model:
    """Fine-tune all weights of `model` on the answers, images or rows in `data`.

    Args:
        judge: a model that the task metric asks, where it needs one.
        retain: what the base should go on knowing, such as the texts of its pre-training: their validation split
            says how much is forgotten; without it 32 texts that the base writes itself do. For text.
        epochs: passes over the training samples; time grows with it, and beyond a few a small set is learnt by heart.
        steps: training steps; not 0, it is the budget in place of `epochs`.
        batch: examples in one step; more are smoother, slower, and need more memory.
        lr: learning rate; 0 takes what suits the model's width (2e-5 at a width of 2048). Too high forgets the base.
        context: longest example in tokens, 16 or more; 0 takes the model's, 1024 at most. Of longer ones the prompt
            loses its middle, and where that is not enough the answers their end.
        weight_decay: pull of the weights towards zero in each step, as a fraction of the rate.
        patience: stop after this many of five looks at the validation loss without an improvement; 0 never does.
        replay: share of the training examples that the model draws itself of what it knows, so that it does not
            forget; for images and tables only. Nothing takes half where the data brings a new class, else none.
        pack: put several short examples into one row, each seeing itself alone: the same loss with less padding. Worth
            it where lengths differ much, in the first place on an accelerator. For text.
    """
    from volant.nets.opened import draws
    from volant.nets.transformer import family
    from volant.stages.finetune import adapting, tuning

    if draws(model):
        adapting.refuse(run, "text", retain=retain, context=context, weight_decay=weight_decay, pack=pack)
        if run.rank:
            return Model(run.out)
        run = replace(run, processes=1, threads=run.threads * run.processes)  # one does all: such networks are small
        return _content(run, model, data, judge, replay, epochs, steps, batch, lr, patience)
    adapting.refuse(run, "images or tables", replay=replay)
    net, codec = tuning.opened(run, model)
    rate = lr or tuning.default_lr(net, 2e-5)
    budget = tuning.Budget(epochs, steps, batch, rate, context, patience, weight_decay, pack)
    task = tuning.prepare(run, net, codec, data, budget, retain)
    outcome = tuning.tune(task, net)
    if run.rank:
        return Model(run.out)
    net = net.float().cpu()
    family.save(net, run.out)
    return tuning.finish(task, net, model, data, outcome, {"tuned": "full"}, judge)


def _content(
    run: Run, model: Model, data: Dataset, judge: Model | None, replay: float | None, epochs: float, steps: int,
    batch: int, lr: float, patience: int,
) -> Model:  # fmt: skip
    """The same for a model that draws whole samples."""
    from volant.nets import content
    from volant.stages.finetune import adapting

    task = adapting.begun(run, model, data, replay)
    spent = adapting.budget(task, epochs=epochs, steps=steps, batch=batch, lr=lr, patience=patience)
    outcome = content.fit(
        run,
        task.opened.family,
        task.opened.net,
        task.opened.codec,
        task.examples,
        task.held_out,
        spent,
        title="fine-tuning",
        start_counts=True,
    )
    return adapting.finish(task, data, judge, outcome, {"tuned": "full"})
