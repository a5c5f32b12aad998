"""What full fine-tuning and LoRA have in common for content other than text: examples, replay, figures.

What enters: a Model that draws whole samples, and a Dataset. What leaves: the network, tuned, with its
files and scores written. Where the data brings a class that the model has not met, the class takes a
spare condition, and samples that the model draws itself of what it knows go into the training: without
them it would forget (self-generated replay, Shin et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from volant.core import Dataset, Model, Run, Sample
from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.sample import spread
from volant.nets import content
from volant.nets.opened import Opened, to_train

REPLAY = 0.5
_MEASURED = 512  # validation examples whose loss is compared


@dataclass
class Adapting:
    """One fine-tuning under way.

    Attributes:
        opened: the model, its network and its codec, which knows the new classes.
        examples: encoded training examples, replay included.
        held_out: encoded validation examples; empty where there is no such split.
        fresh: classes that the model had not met.
        before: the loss of each group of held-out examples before training.
    """

    run: Run
    opened: Opened
    examples: list[Any]
    held_out: list[Any]
    fresh: list[str]
    before: list[float]


def begun(run: Run, model: Model, data: Dataset, replay: float | None) -> Adapting:
    """The network and its codec, the data encoded, and the figures from before.

    Raises:
        DataError: the train split is empty, or the new classes are more than there is room for.
        SettingError: the model was converted for another runtime.
    """
    from volant.store.dataset import count, rows

    task = to_train(run, model)
    family, net, codec = task.family, task.net, task.codec
    train = list(rows(data, "train"))
    held = list(rows(data, "validation")) if count(data, "validation") else []
    fresh = _fresh(codec, train)
    named = bool(getattr(codec, "classes", ()))
    # Words share their ids and the network's memory with the old ones; without captions there is nothing to replay.
    share = replay if replay is not None else (REPLAY if fresh and named else 0.0)
    old = _replayed(run, task, len(train), share)
    if fresh:
        task.codec = codec = codec.with_classes(fresh)
        if hasattr(family, "adopt"):  # a family without a table of conditions has nothing to prepare
            family.adopt(net, [codec.condition(name)[0] for name in fresh])
        what = "classes" if named else "words"
        shown = ", ".join(fresh[:20]) + (", ..." if len(fresh) > 20 else "")
        run.say(f"new {what}: {shown}; {len(old)} samples of what the model knows are mixed in")
    elif old:
        run.say(f"{len(old)} samples of what the model knows are mixed in")
    examples = content.encoded(codec, [*train, *old])
    held_out = content.encoded(codec, spread(held, _MEASURED))
    before = content.losses(family, net, codec, held_out)
    return Adapting(run, task, examples, held_out, fresh, before)


def _fresh(codec: Any, train: Sequence[Sample]) -> list[str]:
    """Classes, or words of captions, that the data brings and the codec does not know."""
    found: list[str] = codec.fresh([s.condition for s in train if s.condition]) if hasattr(codec, "fresh") else []
    return found


def _replayed(run: Run, task: Opened, n: int, share: float) -> list[Sample]:
    """Samples of the model's own, one class as often as another, so that they are `share` of all examples."""
    from volant.core.protocols import Request
    from volant.nets.session import DrawSession

    if not share:
        return []
    if share >= 1:
        raise DataError("replay leaves no room for the data.", where=run.step, fix="Choose a share below 1.")
    wanted = round(n * share / (1 - share))
    names = list(getattr(task.codec, "classes", ())) or [""]
    wanted = max(wanted, 10 * len(names)) if len(names) > 1 else wanted
    requests = [Request(id=str(i), prompt=names[i % len(names)], seed=run.seed * 1_000_003 + i) for i in range(wanted)]
    session = DrawSession(task.family, task.net, task.codec, task.controls)
    with run.progress("replay", wanted, "samples") as bar:
        made = []
        for chunk in session.generate(requests):
            run.check_stop()
            if chunk.sample is not None:
                made.append(chunk.sample)
            bar.advance(1)
    return made


def budget(task: Adapting, *, epochs: float, steps: int, batch: int, lr: float, patience: int) -> content.Budget:
    """The budget in steps; a rate of 0 takes a quarter of the family's own for training from scratch."""
    rows = min(batch, len(task.examples))
    chosen = steps or max(1, round(epochs * len(task.examples) / rows))
    factor = 0.25
    opened = task.opened
    if lr and hasattr(opened.family, "recipe"):
        factor = lr / float(opened.family.recipe(opened.codec.space, steps=chosen, batch=rows)["lr"])
    return content.Budget(chosen, rows, factor, patience)


def finish(task: Adapting, data: Dataset, judge: Model | None, outcome: Any, extra: dict[str, Any]) -> Model:
    """Save and describe the tuned model, and compare it with the one before."""
    from volant.nets.session import DrawSession
    from volant.scorers.compare import paired
    from volant.scorers.measure import check_task, mean_score

    run, opened = task.run, task.opened
    ended = {} if outcome is None else {"steps": outcome.steps, "ended": outcome.reason}
    opened.save(run, parameters=content.parameters(opened.net), **extra, **ended)
    if task.before:
        after = content.losses(opened.family, opened.net, opened.codec, task.held_out)
        run.score(mean_score("validation_loss", after, direction="lower", note="same noise before and after"))
        comparison = paired("validation_loss", task.before, after, direction="lower")
        run.score(comparison.change)
        run.say(str(comparison))
    session = DrawSession(opened.family, opened.net, opened.codec, opened.controls)
    # A model that lacked a class cannot be asked for it, so there is nothing to pair with.
    check_task(run, session, data, before=None if task.fresh else opened.model, judge=judge)
    return Model(run.out)


def refuse(run: Run, kind: str, **given: Any) -> None:
    """Refuse settings that were given and mean nothing for this model.

    Args:
        kind: what they are for.
        given: as they came, by name; what is empty was not given.

    Raises:
        SettingError: one was given.
    """
    named = next((name for name, value in given.items() if value), "")
    if named:
        what = f"`{named}` is for models of {kind}, which this is not."
        raise SettingError(what, where=run.step, fix=f"Leave `{named}` out.")


def need_loop(task: Adapting) -> None:
    """Refuse a family that has no weights to adapt.

    Raises:
        ArtifactError: it is fitted at once.
    """
    if hasattr(task.opened.family, "estimate"):
        what = f"a {task.opened.family.name} is fitted at once and has no layers for adapters"
        raise ArtifactError(f"{what}.", where=task.run.step, fix="Use `finetune.full`, which fits it anew.")
