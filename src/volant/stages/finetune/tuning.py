"""What full fine-tuning and LoRA have in common: data with masks, the recipe, and what is measured.

What enters: an opened network, its codec and a Dataset. What leaves: the network, tuned, with its
files and scores written. The methods differ only in which weights they train and how they save them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volant.core import Dataset, Model, Run, Sample
from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.protocols import Codec
from volant.core.sample import spread
from volant.core.spaces import Encoded

if TYPE_CHECKING:
    from volant.nets.batches import Padded
    from volant.nets.loop import Outcome

_LOOKED_AT = 48  # validation examples for early stopping
_MEASURED = 64  # validation examples for the paired test
_LEAST_CONTEXT = 16  # tokens, as in pre-training
_MUCH = 1.5  # times the bits before: worse in any case, however few were measured
_DRAWN, _DRAWN_TOKENS = 32, 48  # texts of the base's own, where nothing else says what it knows
_FADED = 1.2  # times the bits before for those: some more they always take, being the base's likeliest


@dataclass(frozen=True)
class Budget:
    """How long and how to train; see the methods' settings.

    Attributes:
        muon: rate of Muon, for the matrices among what is trained; 0 leaves them to AdamW.
    """

    epochs: float
    steps: int
    rows: int
    lr: float
    context: int
    patience: int
    weight_decay: float = 0.0
    pack: bool = False
    muon: float = 0.0


@dataclass
class Tuning:
    """One fine-tuning under way: the data, encoded, and the figures from before it.

    Attributes:
        held_out: validation samples with answers; empty where there is no validation split.
        before: bits per byte of each held-out answer before training.
        known: samples of what the base knew, and how many bits per byte of each it took.
        drawn: they are texts that the base itself wrote.
    """

    run: Run
    codec: Codec
    budget: Budget
    batches: Padded
    looks: list[Any]
    held_out: list[Sample]
    before: list[float]
    known: tuple[list[Sample], list[float]] = ([], [])
    drawn: bool = False


def opened(run: Run, model: Model) -> tuple[Any, Codec]:
    """The network, on the run's device, and its codec.

    Raises:
        SettingError: it was converted for another runtime.
        ArtifactError: it cannot be trained here, its weights are not all numbers, or its chat template is another one
            than it was trained with.
    """
    import torch

    from volant.modalities import open_modality
    from volant.nets import open_family
    from volant.nets.guard import check_numbers
    from volant.nets.opened import unconverted

    torch.set_num_threads(run.threads)
    about = model.about
    if about.engine not in ("torch", "remote"):
        what = f"fine-tuning takes a model that torch runs, not one for {about.engine!r}."
        raise SettingError(what, where=run.step, fix=unconverted(model))
    if about.family != "transformer":
        what = f"a model of family {about.family!r} cannot be fine-tuned"
        raise ArtifactError(
            what, where=run.step, fix="Start from `pretrain.transformer` or a downloaded `pretrain.base`."
        )
    codec = open_modality(about.modality).open_codec(model.path)
    net = open_family(about.family).load(model.path).to(run.device)
    check_numbers(net, where=run.step)  # before it writes texts of its own, which broken weights cannot
    return net, codec


def prepare(run: Run, net: Any, codec: Codec, data: Dataset, budget: Budget, retain: Dataset | None = None) -> Tuning:
    """Read and encode the data, show three examples with their mask, and measure the model as it is.

    Args:
        retain: what the base knows and should go on knowing; its validation split is measured before and after. None
            takes texts that the base writes itself, from nothing.

    Raises:
        DataError: there are no answers, or none is left for the loss to count.
        SettingError: the context is too short for any example.
    """
    from volant.engines.torch import TorchSession
    from volant.nets.batches import fit
    from volant.scorers.measure import bits_per_byte
    from volant.stages.finetune import examples

    if 0 < budget.context < _LEAST_CONTEXT:
        what = f"a `context` of {budget.context} tokens has no room for a prompt and its answer."
        fix = f"Give {_LEAST_CONTEXT} or more, or leave it out for the model's own."
        raise SettingError(what, where=run.step, fix=fix)
    train = _tasks(data, "train")
    if not train:
        what = "the train split holds no prompts with answers"
        fix = "Add samples of shape `completion` or `messages`; running text belongs into `pretrain`."
        raise DataError(what, where=run.step, fix=fix)
    examples.check_plain(run, train)
    most = int(getattr(net.config, "max_position_embeddings", 0)) or 512
    length = min(budget.context, most) if budget.context else min(most, 1024)
    pad = int(getattr(codec, "pad_id", 0))
    encoded = [codec.encode(sample) for sample in train]
    examples.show(run, codec, [fit(example, length) for example in encoded[:3]])
    batches = _batches(run, net, encoded, budget, length, pad)
    examples.state_cut(run, encoded, length)
    if len(encoded) < budget.rows:
        run.say(f"examples: {len(encoded)}, fewer than the {budget.rows} of a step: each step takes all of them")
    if batches.masked_out:
        run.say(f"{batches.masked_out} examples have no answer token and were left out")
    held_out = _tasks(data, "validation") if data.about["splits"].get("validation") else []
    looks = _looks(codec, held_out, length, budget.rows, pad)
    if not held_out:
        run.say("there is no validation split: no early stopping, and the last weights are kept")
    told = spread((s for s in held_out if (s.messages or [{}])[-1].get("content")), _MEASURED)
    measured = [] if run.rank else told  # of several processes the first one compares
    before = bits_per_byte(TorchSession(net, codec), measured) if measured else []
    known = ([], []) if run.rank else _known(run, retain, TorchSession(net, codec))
    return Tuning(run, codec, budget, batches, looks, measured, before, known, drawn=retain is None)


def _batches(run: Run, net: Any, encoded: Sequence[Encoded], budget: Budget, length: int, pad: int) -> Padded:
    """The examples as steps: in rows of their own, or several in one.

    Raises:
        DataError: nothing is left for the loss to count.
    """
    from volant.nets.batches import Padded
    from volant.nets.packing import Together
    from volant.nets.transformer import packs

    pack = budget.pack and packs(net)
    if budget.pack and not pack:
        kind = getattr(net.config, "model_type", "unknown")
        run.say(f"examples are not packed: of a network of type {kind!r} it is not known that it keeps them apart")
    try:
        made = (Together if pack else Padded)(encoded, length=length, rows=budget.rows, seed=run.seed, pad=pad)
    except DataError as error:
        raise error.at(run.step) from error
    if pack:
        first = made.batch(0)
        run.say(f"packed: up to {budget.rows} examples in {first.size} rows of {first.width} tokens in the first step")
    return made


def _known(run: Run, retain: Dataset | None, session: Any) -> tuple[list[Sample], list[float]]:
    """Held-out samples of `retain`, or what the model writes itself, and what it takes for each before it is tuned."""
    from volant.scorers.measure import bits_per_byte
    from volant.store.dataset import count, rows

    if retain is None:
        drawn = _drawn(run, session)
        return drawn, bits_per_byte(session, drawn) if drawn else []
    held = rows(retain, "validation") if count(retain, "validation") else []
    samples = [s for s in held if s.shape in ("text", "completion", "messages") and s.text.strip()]
    if not samples:
        what = "`retain` holds no validation samples of text, so forgetting cannot be measured."
        raise DataError(what, where=run.step, fix="Name the dataset that the base was trained on, split.")
    chosen = spread(samples, _MEASURED)
    return chosen, bits_per_byte(session, chosen)


def _drawn(run: Run, session: Any) -> list[Sample]:
    """Texts that the model writes from nothing: their bits say how far a tuned one is from it (Kullback-Leibler)."""
    from volant.core.protocols import Request
    from volant.core.sample import Source, sample_id
    from volant.scorers.drawn import drawn

    seeds = {str(n): run.seed * 1_000_003 + n for n in range(_DRAWN)}
    asked = {
        id: Request(id=id, prompt="", max_tokens=_DRAWN_TOKENS, temperature=1.0, seed=seed)
        for id, seed in seeds.items()
    }
    source = Source(uri="drawn:base", licence="LicenseRef-generated", origin="generated")
    return [
        Sample(id=sample_id("drawn", id, output.text), shape="text", content=output.text, source=source)
        for id, output in drawn(run, session, asked, title="texts of the base").items()
        if output.text.strip()
    ]


def tune(tuning: Tuning, net: Any) -> Outcome:
    """Train, on the answers only.

    Args:
        tuning: from `prepare`.
        net: its parameters with `requires_grad` are trained.

    Raises:
        MachineError: there is too little memory; said before anything starts, with the way that fits.
    """
    from volant.nets.loop import Recipe, train
    from volant.nets.memory import check_ways
    from volant.nets.recipe import rows_at_once

    run, budget, batches = tuning.run, tuning.budget, tuning.batches
    steps = budget.steps or max(1, round(batches.steps * budget.epochs))
    recipe = Recipe(
        steps=steps,
        lr=budget.lr,
        muon_lr=budget.muon,
        betas=(0.9, 0.99),
        weight_decay=budget.weight_decay,
        warmup=max(1, min(steps // 10, 100)),
        decay=max(1, steps * 2 // 3),
        evaluate_every=max(1, steps // 5),
        start_counts=True,
        patience=budget.patience,
        checkpoint_every=max(10, min(200, steps // 5)),
    )
    # A step that holds the longest example has all of its rows padded to that.
    row = batches.longest
    piece = row * min(batches.rows, rows_at_once(row, recipe.piece_tokens))
    run.say(check_ways(run, net, tokens=piece, counted=piece, row=row))
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    # The bar and the curves show Muon's rate where there is one, so both are said.
    rate = f"rate {budget.lr:.2g}" + (f" ({budget.muon:.2g} by Muon, which is shown)" if budget.muon else "")
    run.say(f"{trained:,} weights are trained, steps: {steps} of up to {batches.rows} examples, {rate}")
    return train(run, net, batches, recipe, validation=tuning.looks, title="fine-tuning")


def finish(
    tuning: Tuning, net: Any, model: Model, data: Dataset, outcome: Outcome, extra: dict[str, Any],
    judge: Model | None = None,
) -> Model:  # fmt: skip
    """Describe the tuned model, and compare it with the one before: its own metric and the task's.

    Args:
        tuning: from `prepare`.
        net: the tuned network, merged.
        model: the one before.
        data: whose validation split the task metric is measured on.
        outcome: of the training.
        extra: what the method adds to `volant.json`.
        judge: a model that the task metric asks.
    """
    from volant.engines.torch import TorchSession
    from volant.scorers.compare import paired
    from volant.scorers.measure import bits_per_byte, check_task, mean_score

    run, codec = tuning.run, tuning.codec
    codec.save(run.out)
    ended = {"tokens": outcome.tokens, "steps": outcome.steps, "ended": outcome.reason}
    known = {n: v for n, v in model.about.extra.items() if n not in ("rank", "base")}  # of adapters that it had before
    about = model.about.model_copy(update={"extra": {**known, **extra, **ended}})
    body = json.dumps(about.model_dump(mode="json"), indent=2, sort_keys=True)
    (run.out / "volant.json").write_text(body + "\n", encoding="utf-8")
    session = TorchSession(net, codec)
    if tuning.held_out:
        after = bits_per_byte(session, tuning.held_out)
        note = "validation answers"
        run.score(mean_score("bits_per_byte", after, unit="bits", direction="lower", note=note))
        comparison = paired("bits_per_byte", tuning.before, after, direction="lower", unit="bits")
        run.score(comparison.change)
        run.say(str(comparison))
        if comparison.verdict == "worse" or comparison.after > _MUCH * comparison.before:
            run.say("WARNING: it needs more bits for held-out answers than before. Lower `lr`, or give it more data.")
        check_task(run, session, data, before=model, judge=judge)
    samples, before = tuning.known
    if samples:
        kept = paired("retention", before, bits_per_byte(session, samples), direction="lower", unit="bits")
        run.score(kept.change)
        what = "what the base wrote itself" if tuning.drawn else "what the base knew"
        run.say(f"{what}, in bits per byte: {kept}")
        if kept.after > _FADED * kept.before if tuning.drawn else kept.verdict == "worse":
            other = ", or `finetune.lora`," if extra["tuned"] == "full" else ""
            run.say(f"WARNING: it forgets. A lower `lr` or fewer `epochs`{other} would forget less.")
    return Model(run.out)


def default_lr(net: Any, at_2048: float) -> float:
    """A rate that suits the width: `at_2048` at a width of 2048, more for narrower networks."""
    return float(at_2048 * 2048 / int(net.config.hidden_size))


def _tasks(data: Dataset, split: Any) -> list[Sample]:
    from volant.store.dataset import rows

    return [s for s in rows(data, split) if s.shape in ("completion", "messages") and not s.rated_down]


def _looks(codec: Codec, held_out: Sequence[Sample], length: int, rows: int, pad: int) -> list[Any]:
    from volant.nets.batches import Padded

    encoded = [codec.encode(sample) for sample in spread(held_out, _LOOKED_AT)]
    try:
        return Padded(encoded, length=length, rows=rows, seed=0, pad=pad).in_order()
    except DataError:
        return []
