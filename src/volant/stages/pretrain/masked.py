"""Train a masked transformer and its tokenizer from scratch: one that reads in both directions.

What enters: Datasets with running text and, if there are any, prompts with answers. What leaves: a Model (ModernBERT
shape) that opens with `AutoModelForMaskedLM` and fills `<|mask|>`. It is a base for classifiers, judges and features;
for a model that writes, `transformer` is the one to take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample, Score
from volant.core.method import by_team
from volant.core.sample import spread
from volant.stages.pretrain._text import describe, gathered, looks_at, packed, recipe_of

_HIDDEN = 0.15  # of the validation ids, when it is measured: BERT's share, so that figures compare


@by_team
def masked(
    run: Run,
    data: Dataset,
    *more: Dataset,
    depth: Annotated[int, Field(ge=1, le=64)] = 4,
    tokens: Annotated[int, Field(ge=1)] = 900_000,
    vocab: Annotated[int, Field(ge=261, le=262_144)] = 2048,
    context: Annotated[int, Field(ge=16, le=8192)] = 256,
    batch_tokens: Annotated[int, Field(ge=0)] = 0,
    rate: Annotated[float, Field(gt=0, le=10)] = 1.0,
    task_share: Annotated[float, Field(ge=0, le=1)] = 0.3,
    looks: Annotated[int, Field(ge=1)] = 5,
    patience: Annotated[int, Field(ge=0)] = 3,
    checkpoint_tokens: Annotated[int, Field(ge=0)] = 100_000,
) -> Model:
    """Pre-train a masked (BERT-type) transformer from scratch, tokenizer included.

    Args:
        data: text, and prompts with answers; its validation split is for early stopping.
        more: further datasets, used like the first.
        depth: layers; width, heads, rates and batch follow from it. Twice the depth costs about eight times as much.
        tokens: how many to read, repeats counted; the budget. Only the hidden ones (30 % on average) teach something.
        vocab: entries of the tokenizer; more make texts shorter and the output layer larger.
        context: longest sequence in tokens; memory grows with it, and the model never reads further.
        batch_tokens: tokens in one step; 0 takes what suits the depth. Larger steps are smoother and fewer.
        rate: factor on the learning rates that follow from the depth; lower it where training diverges.
        task_share: share of the tokens that comes from prompts with answers, where both they and text are there.
        looks: how often the validation loss is measured over the whole training.
        patience: stop after this many looks without an improvement; 0 never stops early.
        checkpoint_tokens: tokens between checkpoints; less loses less work to a kill and writes more. 0 makes none.

    Returns:
        A Model of family `masked`; its card says how many hidden ids of the validation split it finds.
    """
    import torch

    from volant.modalities import open_modality
    from volant.nets.loop import train
    from volant.nets.masked import family
    from volant.nets.memory import check_training
    from volant.nets.transformer import size_of

    torch.set_num_threads(run.threads)
    texts, tasks, held_out = gathered(run, [data, *more])
    codec = open_modality(run.modality).codec([*texts, *tasks], vocab=vocab, length=context)
    size = size_of(depth)
    rows = max(1, (batch_tokens or size.batch_tokens) // context)
    batches, held = packed(
        run, codec, texts, tasks, tokens=tokens, context=context, rows=rows, share=task_share, both_ways=True
    )
    net = family.build(codec.space, seed=run.seed, depth=depth, eos=getattr(codec, "eos_id", None)).to(run.device)
    recipe = recipe_of(
        size, tokens=tokens, step_tokens=held * context, rate=rate, looks=looks, patience=patience,
        checkpoint_tokens=checkpoint_tokens,
    )  # fmt: skip
    piece = max(context, min(recipe.piece_tokens, held * context))
    fix = "Choose a smaller `depth`, `context` or `vocab`."
    check_training(run, net, tokens=piece, counted=piece, row=context, fix=fix)
    parameters = sum(p.numel() for p in net.parameters())
    run.say(f"{parameters:,} parameters, {recipe.steps} steps of {held * context} tokens")
    seen = looks_at(codec, held_out, context, rows)
    outcome = train(
        run, net, batches, recipe, validation=seen, loss=family.step_loss, title="pre-training"
    )  # fmt: skip
    if run.rank:
        return Model(run.out)
    family.save(net.float().cpu(), run.out)
    codec.with_mask().save(run.out)
    describe(run, codec, family=family.name, parameters=parameters, depth=depth, outcome=outcome)
    run.score(Score.exact("parameters", parameters, direction="lower"))
    run.score(Score.exact("training_tokens", outcome.tokens))
    _measure(run, net, codec, [*texts, *tasks], held_out, context)
    return Model(run.out)


def _measure(run: Run, net: Any, codec: Any, known: Sequence[Sample], held_out: Sequence[Sample], context: int) -> None:
    """The share of hidden validation ids that the network finds, beside the commonest id's share."""
    from collections import Counter

    import numpy as np
    import torch

    from volant.nets.masked import fill, mask_id
    from volant.scorers.measure import mean_score

    common = Counter(i for sample in known[:256] for i in codec.encode(sample).ids).most_common(1)[0][0]
    draw = np.random.default_rng(0)
    found: list[float] = []
    trivial: list[float] = []
    for sample in spread(held_out, 64):
        ids = np.array(codec.encode(sample).ids[:context])
        hidden = draw.random(len(ids)) < _HIDDEN
        if not hidden.any():
            continue
        seen = np.where(hidden, mask_id(net), ids).tolist()
        with torch.no_grad():
            guessed = np.array(fill(net, seen, [0.0] * int(hidden.sum()), passes=1, heat=0))
        found.append(float((guessed == ids)[hidden].mean()))
        trivial.append(float((ids == common)[hidden].mean()))
    if not found:
        run.say("what it finds was not measured: there is no validation split")
        return
    run.score(mean_score("masked_accuracy", found, note="validation"))
    run.score(mean_score("masked_accuracy", trivial, of="baseline:commonest", note="validation"))
