"""What both pre-trainings of text share: what they read, how they are budgeted, what they write down of themselves.

Enters: Datasets, a codec and a budget. Leaves: samples by kind, batches that are a pure function of the step, a few
batches of the validation split, the recipe, and `volant.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from volant.core import Dataset, Run, Sample
from volant.core.artifact import ModelAbout
from volant.core.errors import DataError
from volant.core.protocols import Codec
from volant.core.sample import spread
from volant.core.spaces import Encoded, space_json

if TYPE_CHECKING:
    from volant.nets.batches import Batch, Batches
    from volant.nets.loop import Outcome, Recipe
    from volant.nets.transformer import Size

TASKS = ("completion", "messages")


def gathered(run: Run, datasets: Sequence[Dataset]) -> tuple[list[Sample], list[Sample], list[Sample]]:
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
            elif sample.shape in TASKS and not sample.rated_down:
                tasks.append(sample)
            else:
                other += 1
        if splits.get("validation"):
            held = rows(dataset, "validation")
            held_out += [s for s in held if s.shape in ("text", *TASKS) and not s.rated_down]
    if other:
        run.say(f"{other} samples are neither text nor prompts with answers to learn; they were left out")
    if not texts and not tasks:
        raise DataError(
            "the train split holds no text and no answers", where=run.step, fix="Add samples of shape `text`."
        )
    return texts, tasks, held_out


def packed(
    run: Run,
    codec: Codec,
    texts: Sequence[Sample],
    tasks: Sequence[Sample],
    *,
    tokens: int,
    context: int,
    rows: int,
    share: float,
    both_ways: bool = False,
) -> tuple[Batches, int]:
    """Texts and tasks, shuffled, packed and mixed, and the rows of a step; only what the budget can use is encoded.

    Args:
        run, codec: of the training.
        texts, tasks: samples.
        tokens: the budget.
        context, rows: of a step.
        share: of the tasks in the tokens.
        both_ways: the network reads in both directions.

    Returns:
        The batches, and `rows`, or how many a step really holds where data are too short for it.
    """
    from volant.nets.batches import Mixed, Packed

    kinds = [(texts, 1 - share, 0), (tasks, share, 1)] if texts and tasks else [(texts or tasks, 1.0, 0)]
    parts: list[Packed] = []
    short = False
    for samples, part, salt in kinds:
        if part <= 0:
            continue
        # A hundred windows more than the budget, so that a last piece that is cut off does not cause a repeat.
        documents = list(_encoded(codec, samples, int(tokens * part) + 100 * context, seed=run.seed + salt))
        many = max(1, round(rows * part))
        try:
            windows = Packed(documents, length=context, rows=many, seed=run.seed + salt, both_ways=both_ways)
        except DataError as error:
            if len(kinds) == 1:
                raise error.at(run.step) from error
            run.say(f"left out, being too few: {error.what}")
            short = True
            continue
        kind = "answers" if samples is tasks else "text"
        run.say(f"{windows.tokens:,} tokens of {kind} from {len(documents):,} samples")
        if windows.rows < many:
            run.say(f"a step takes all {windows.rows} windows of {kind} there are, not {many}")
            short = True
        parts.append(windows)
    if not parts:
        raise DataError("task_share leaves nothing to train on", where=run.step, fix="Choose a share between 0 and 1.")
    held = sum(windows.rows for windows in parts) if short else rows
    return parts[0] if len(parts) == 1 else Mixed(parts), held


def _encoded(codec: Codec, samples: Sequence[Sample], budget: int, *, seed: int) -> Iterator[Encoded]:
    """Samples in a random order, until the budget of tokens is used up."""
    import numpy as np

    for index in np.random.default_rng(seed).permutation(len(samples)):
        if budget <= 0:
            return
        encoded = codec.encode(samples[int(index)])
        budget -= len(encoded.ids)
        yield encoded


def looks_at(codec: Codec, held_out: Sequence[Sample], context: int, rows: int) -> list[Batch]:
    """A few validation batches: some of both kinds, spread over the split, every token counted."""
    from volant.nets.batches import Padded

    kinds = [spread((s for s in held_out if (s.shape == "text") is wanted), 8) for wanted in (True, False)]
    found = [codec.encode(sample).ids for kind in kinds for sample in kind]
    whole = [Encoded(ids, [True] * len(ids)) for ids in found if len(ids) > 1]
    return Padded(whole, length=context, rows=rows, seed=0, pad=0).in_order() if whole else []


def recipe_of(
    size: Size, *, tokens: int, step_tokens: int, rate: float, looks: int, patience: int, checkpoint_tokens: int
) -> Recipe:
    """The recipe of a budget: warm-up, stable, and a linear decay over its second half.

    Args:
        size: gives the rates.
        tokens: the budget.
        step_tokens: tokens in one step.
        rate: factor on the rates.
        looks: how often the validation loss is measured.
        patience: looks without an improvement that end the training; 0 for never.
        checkpoint_tokens: tokens between checkpoints; 0 for none.
    """
    from volant.nets.loop import Recipe

    steps = max(1, tokens // step_tokens)
    return Recipe(
        steps=steps,
        lr=size.lr * rate,
        muon_lr=size.muon_lr * rate,
        warmup=max(1, min(steps // 20, 200)),
        decay=max(1, steps // 2),
        evaluate_every=max(1, steps // looks),
        patience=patience,
        checkpoint_every=max(1, checkpoint_tokens // step_tokens) if checkpoint_tokens else 0,
    )


def describe(run: Run, codec: Codec, *, family: str, parameters: int, depth: int, outcome: Outcome) -> None:
    """Write `volant.json` beside the weights."""
    about = ModelAbout(
        family=family,
        modality=run.modality,
        space=space_json(codec.space),
        chat_template_sha256=str(getattr(codec, "template_sha256", "")),
        parameters=parameters,
        extra={"depth": depth, "tokens": outcome.tokens, "steps": outcome.steps, "ended": outcome.reason},
    )
    body = json.dumps(about.model_dump(mode="json"), indent=2, sort_keys=True)
    (run.out / "volant.json").write_text(body + "\n", encoding="utf-8")
