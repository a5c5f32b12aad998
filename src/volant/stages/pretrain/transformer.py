"""Train a decoder-only transformer and its tokenizer from scratch.

What enters: Datasets with running text and, if there are any, prompts with answers. What leaves: a
Model (Qwen3 shape) with tokenizer and `volant.json`. Answers are mixed in with the chat template, so
that fine-tuning meets a format that the model has seen; they and the text are drawn in a fixed share,
since otherwise the larger of the two would drown the other within a small budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample, Score
from volant.core.artifact import ModelAbout
from volant.core.errors import DataError
from volant.core.protocols import Codec, Encoded, space_json

if TYPE_CHECKING:
    from volant.nets.batches import Batch, Batches
    from volant.nets.loop import Outcome

_TASKS = ("completion", "messages")


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
    from volant.nets.loop import Recipe, train
    from volant.nets.memory import check_training
    from volant.nets.transformer import family, size_of

    torch.set_num_threads(run.threads)
    texts, tasks, held_out = _samples(run, [data, *more])
    codec = open_modality(run.modality).codec([*texts, *tasks], vocab=vocab, length=context)
    size = size_of(depth)
    rows = max(1, (batch_tokens or size.batch_tokens) // context)
    batches = _batches(run, codec, texts, tasks, tokens=tokens, context=context, rows=rows, share=task_share)
    eos = getattr(codec, "eos_id", None)
    net = family.build(codec.space, seed=run.seed, depth=depth, eos=eos)
    net.generation_config.eos_token_id = list(getattr(codec, "stop_ids", [])) or eos
    net.generation_config.pad_token_id = getattr(codec, "pad_id", eos)
    net = net.to(run.device)
    steps = max(1, tokens // (rows * context))
    recipe = Recipe(
        steps=steps,
        lr=size.lr * rate,
        muon_lr=size.muon_lr * rate,
        warmup=max(1, min(steps // 20, 200)),
        decay=max(1, steps // 2),
        evaluate_every=max(1, steps // looks),
        patience=patience,
        checkpoint_every=max(1, checkpoint_tokens // (rows * context)) if checkpoint_tokens else 0,
    )
    piece = min(recipe.piece_tokens, rows * context)
    fix = "Choose a smaller `depth`, `context` or `vocab`."
    check_training(net, tokens=piece, counted=piece, device=run.device, where=run.step, fix=fix)
    parameters = sum(p.numel() for p in net.parameters())
    run.say(f"{parameters:,} parameters, {steps} steps of {rows * context} tokens")
    outcome = train(run, net, batches, recipe, validation=_looks(codec, held_out, context, rows), title="pre-training")
    family.save(net.float().cpu(), run.out)
    codec.save(run.out)
    _describe(run, codec, parameters, depth, outcome)
    # The task metric is measured on the first dataset that holds the task; running text has none.
    asked = next((d for d in (data, *more) if set(_TASKS) & set(d.about["shapes"])), data)
    _measure(run, net, codec, asked, held_out, parameters, outcome)
    return Model(run.out)


def _samples(run: Run, datasets: Sequence[Dataset]) -> tuple[list[Sample], list[Sample], list[Sample]]:
    """(training texts, training tasks, validation samples of both kinds)."""
    from volant.store.dataset import rows

    texts: list[Sample] = []
    tasks: list[Sample] = []
    held_out: list[Sample] = []
    other = 0
    for dataset in datasets:
        splits = dataset.about["splits"]
        for sample in rows(dataset, "train"):
            if sample.shape == "text":
                texts.append(sample)
            elif sample.shape in _TASKS:
                tasks.append(sample)
            else:
                other += 1
        if splits.get("validation"):
            held_out += [s for s in rows(dataset, "validation") if s.shape in ("text", *_TASKS)]
    if other:
        run.say(f"{other} samples are neither text nor prompts with answers; they were left out")
    if not texts and not tasks:
        raise DataError(
            "the train split holds no text and no answers", where=run.step, fix="Add samples of shape `text`."
        )
    return texts, tasks, held_out


def _batches(
    run: Run,
    codec: Codec,
    texts: Sequence[Sample],
    tasks: Sequence[Sample],
    *,
    tokens: int,
    context: int,
    rows: int,
    share: float,
) -> Batches:
    """Texts and tasks, shuffled, packed and mixed; only as many are encoded as the budget can use."""
    from volant.nets.batches import Mixed, Packed

    kinds = [(texts, 1 - share, 0), (tasks, share, 1)] if texts and tasks else [(texts or tasks, 1.0, 0)]
    parts: list[tuple[Packed, float]] = []
    for samples, part, salt in kinds:
        if part <= 0:
            continue
        # A hundred windows more than the budget, so that a last piece that is cut off does not cause a repeat.
        documents = list(_encoded(codec, samples, int(tokens * part) + 100 * context, seed=run.seed + salt))
        try:
            packed = Packed(documents, length=context, rows=max(1, round(rows * part)), seed=run.seed + salt)
        except DataError as error:
            if len(kinds) == 1:
                raise error.at(run.step) from error
            run.say(f"left out, being too few: {error.what}")
            continue
        run.say(
            f"{packed.tokens:,} tokens of {'answers' if samples is tasks else 'text'} from {len(documents):,} samples"
        )
        parts.append((packed, part))
    if not parts:
        raise DataError("task_share leaves nothing to train on", where=run.step, fix="Choose a share between 0 and 1.")
    return parts[0][0] if len(parts) == 1 else Mixed([packed for packed, _ in parts])


def _encoded(codec: Codec, samples: Sequence[Sample], budget: int, *, seed: int) -> Iterator[Encoded]:
    """Samples in a random order, until the budget of tokens is used up."""
    import numpy as np

    for index in np.random.default_rng(seed).permutation(len(samples)):
        if budget <= 0:
            return
        encoded = codec.encode(samples[int(index)])
        budget -= len(encoded.ids)
        yield encoded


def _looks(codec: Codec, held_out: Sequence[Sample], context: int, rows: int) -> list[Batch]:
    """A few validation batches: the first of both kinds, every token counted."""
    from volant.nets.batches import Padded

    kinds = [[s for s in held_out if (s.shape == "text") is wanted][:8] for wanted in (True, False)]
    found = [codec.encode(sample).ids for kind in kinds for sample in kind]
    whole = [Encoded(ids, [True] * len(ids)) for ids in found if len(ids) > 1]
    return Padded(whole, length=context, rows=rows, seed=0, pad=0).in_order() if whole else []


def _describe(run: Run, codec: Codec, parameters: int, depth: int, outcome: Outcome) -> None:
    about = ModelAbout(
        family="transformer",
        modality=run.modality,
        space=space_json(codec.space),
        chat_template_sha256=str(getattr(codec, "template_sha256", "")),
        parameters=parameters,
        extra={"depth": depth, "tokens": outcome.tokens, "steps": outcome.steps, "ended": outcome.reason},
    )
    body = json.dumps(about.model_dump(mode="json"), indent=2, sort_keys=True)
    (run.out / "volant.json").write_text(body + "\n", encoding="utf-8")


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
    texts = [s for s in held_out if s.shape == "text"][:64] or list(held_out[:64])
    if texts:
        note = "validation" if texts[0].shape == "text" else "validation answers"
        values = bits_per_byte(session, texts)
        run.score(mean_score("bits_per_byte", values, unit="bits", direction="lower", note=note))
    else:
        run.say("bits per byte were not measured: there is no validation split")
    if any(s.shape in _TASKS for s in held_out):
        check_task(run, session, data)
