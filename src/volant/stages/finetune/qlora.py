"""Fine-tune adapters while the base is held in 4 bits (QLoRA).

What enters: a Model and a Dataset of prompts with answers. What leaves: as `lora`'s, with the adapters merged into the
numbers that the bits stand for, since those are what they were trained on. Embedding and head are held in 8 bits. A
quarter or less of the memory for the weights; on a processor slower than `lora`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.core.errors import SettingError


def qlora(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    retain: Dataset | None = None,
    rank: Annotated[int, Field(ge=0, le=1024)] = 0,
    alpha: Annotated[float, Field(ge=0)] = 0.0,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    targets: Annotated[str, Field(min_length=1)] = "all-linear",
    epochs: Annotated[float, Field(gt=0, le=1000)] = 1.0,
    steps: Annotated[int, Field(ge=0)] = 0,
    batch: Annotated[int, Field(ge=1, le=4096)] = 16,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    context: Annotated[int, Field(ge=0)] = 0,
    patience: Annotated[int, Field(ge=0)] = 2,
    pack: bool = False,
) -> Model:
    """Fine-tune `model` on the answers in `data` with low-rank adapters over 4-bit weights (8 bits for its embedding).

    Args:
        judge: a model that the task metric asks, where it needs one.
        retain: what the base should go on knowing, such as the texts of its pre-training: their validation split
            says how much is forgotten; without it 32 texts that the base writes itself do. For text.
        rank: columns of the adapter matrices; more can learn more, and take more memory and data. 0 takes 12.
        alpha: strength of the adapter, as `alpha / rank`; 0 takes twice the rank.
        dropout: share of the adapter's inputs that is left out in training; helps where there is little data.
        targets: `all-linear` for every matrix of the blocks, or their names with commas (`q_proj,v_proj`).
        epochs: passes over the training samples; time grows with it.
        steps: training steps; not 0, it is the budget in place of `epochs`.
        batch: examples in one step; more are smoother, slower, and need more memory.
        lr: how far a number of the second matrix moves in a step, by Muon; 0 takes what suits the model's width (1e-4
            at a width of 2048, more for narrower ones).
        context: longest example in tokens, 16 or more; 0 takes the model's, 1024 at most. Of longer ones the prompt
            loses its middle, and where that is not enough the answers their end.
        patience: stop after this many of five looks at the validation loss without an improvement; 0 never does.
        pack: put several short examples into one row, each seeing itself alone: the same loss with less padding. Worth
            it where lengths differ much, in the first place on an accelerator.

    Raises:
        MissingPackage: bitsandbytes is not installed (`pip install 'volant[qlora]'`).
        SettingError: the model makes no text.
    """
    from volant.nets.opened import draws
    from volant.stages.finetune import adapters, tuning

    if draws(model):
        what = "4-bit weights are for transformers of text."
        raise SettingError(what, where=run.step, fix="Use `finetune.lora`.")
    named = targets if targets == "all-linear" else [t.strip() for t in targets.split(",")]
    config = adapters.config_of("lora", rank, alpha, dropout, named)
    spent = tuning.Budget(epochs, steps, batch, lr, context, patience, pack=pack)
    told = {"tuned": "qlora", "rank": config.r}
    return adapters.learnt(run, model, data, config, spent, told, retain=retain, judge=judge, four_bits=True)
