"""Train a decoder-only transformer and its tokenizer from scratch.

What enters: Datasets with running text and, if there are any, prompts with answers. What leaves: a
Model (Qwen3 shape) with tokenizer and `volant.json`. Answers are mixed in with the chat template, so
that fine-tuning meets a format that the model has seen; they and the text are drawn in a fixed share,
since otherwise the larger of the two would drown the other within a small budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample, Score
from volant.core.method import by_team
from volant.core.protocols import Codec
from volant.core.sample import spread
from volant.stages.pretrain._text import TASKS, describe, gathered, looks_at, packed, recipe_of

if TYPE_CHECKING:
    from volant.nets.loop import Outcome


@by_team
def transformer(
    run: Run,
    data: Dataset,
    *more: Dataset,
    depth: Annotated[int, Field(ge=1, le=64)] = 4,
    tokens: Annotated[int, Field(ge=1)] = 900_000,
    vocab: Annotated[int, Field(ge=261, le=262_144)] = 2048,
    context: Annotated[int, Field(ge=16, le=32_768)] = 256,
    batch_tokens: Annotated[int, Field(ge=0)] = 0,
    rate: Annotated[float, Field(gt=0, le=10)] = 1.0,
    task_share: Annotated[float, Field(ge=0, le=1)] = 0.3,
    looks: Annotated[int, Field(ge=1)] = 5,
    patience: Annotated[int, Field(ge=0)] = 3,
    checkpoint_tokens: Annotated[int, Field(ge=0)] = 100_000,
) -> Model:
    """Pre-train a transformer from scratch, tokenizer included.

    Args:
        data: text, and prompts with answers; its validation split is for early stopping.
        more: further datasets, used like the first.
        depth: layers; width, heads, rates and batch follow from it. Twice the depth costs about eight times as much.
        tokens: how many to train on, repeats counted; the budget. Time grows with it, 900000 are about 90 seconds
            on two cores at depth 4.
        vocab: entries of the tokenizer; more make texts shorter and the output layer larger.
        context: longest sequence in tokens; memory grows with it, and the model never reads further back.
        batch_tokens: tokens in one step; 0 takes what suits the depth. Larger steps are smoother and fewer.
        rate: factor on the learning rates that follow from the depth; lower it where training diverges.
        task_share: share of the tokens that comes from prompts with answers, where both they and text are there.
        looks: how often the validation loss is measured over the whole training.
        patience: stop after this many looks without an improvement; 0 never stops early.
        checkpoint_tokens: tokens between checkpoints; less loses less work to a kill and writes more. 0 makes none.
    """
    import torch

    from volant.modalities import open_modality
    from volant.nets.compiling import pays
    from volant.nets.loop import train
    from volant.nets.memory import check_training
    from volant.nets.transformer import family, size_of

    torch.set_num_threads(run.threads)
    texts, tasks, held_out = gathered(run, [data, *more])
    codec = open_modality(run.modality).codec([*texts, *tasks], vocab=vocab, length=context)
    size = size_of(depth)
    rows = max(1, (batch_tokens or size.batch_tokens) // context)
    batches, held = packed(run, codec, texts, tasks, tokens=tokens, context=context, rows=rows, share=task_share)
    eos = getattr(codec, "eos_id", None)
    net = family.build(codec.space, seed=run.seed, depth=depth, eos=eos)
    net.generation_config.eos_token_id = list(getattr(codec, "stop_ids", [])) or eos
    net.generation_config.pad_token_id = getattr(codec, "pad_id", eos)
    net = net.to(run.device)
    recipe = recipe_of(
        size, tokens=tokens, step_tokens=held * context, rate=rate, looks=looks, patience=patience,
        checkpoint_tokens=checkpoint_tokens,
    )  # fmt: skip
    piece = max(context, min(recipe.piece_tokens, held * context))
    fix = "Choose a smaller `depth`, `context` or `vocab`."
    check_training(run, net, tokens=piece, counted=piece, row=context, fix=fix)
    recipe = replace(recipe, compiled=pays(run, net, steps=recipe.steps, step_tokens=held * context))
    parameters = sum(p.numel() for p in net.parameters())
    run.say(f"{parameters:,} parameters, {recipe.steps} steps of {held * context} tokens")
    outcome = train(
        run, net, batches, recipe, validation=looks_at(codec, held_out, context, rows), title="pre-training"
    )
    if run.rank:
        return Model(run.out)
    family.save(net.float().cpu(), run.out)
    codec.save(run.out)
    describe(run, codec, family=family.name, parameters=parameters, depth=depth, outcome=outcome)
    # The task metric is measured on the first dataset that holds the task; running text has none.
    asked = next((d for d in (data, *more) if set(TASKS) & set(d.about["shapes"])), data)
    _measure(run, net, codec, asked, held_out, parameters, outcome)
    return Model(run.out)


def _measure(
    run: Run,
    net: Any,
    codec: Codec,
    data: Dataset,
    held_out: Sequence[Sample],
    parameters: int,
    outcome: Outcome,
) -> None:
    """Size, tokens seen, bits per byte on validation, and the task metric where there are tasks."""
    from volant.engines.torch import TorchSession
    from volant.scorers.measure import bits_per_byte, check_task, mean_score

    run.score(Score.exact("parameters", parameters, direction="lower"))
    run.score(Score.exact("training_tokens", outcome.tokens))
    session = TorchSession(net, codec)
    texts = spread((s for s in held_out if s.shape == "text"), 64) or spread(held_out, 64)
    if texts:
        note = "validation" if texts[0].shape == "text" else "validation answers"
        values = bits_per_byte(session, texts)
        run.score(mean_score("bits_per_byte", values, unit="bits", direction="lower", note=note))
    else:
        run.say("bits per byte were not measured: there is no validation split")
    if any(s.shape in TASKS for s in held_out):
        check_task(run, session, data)
