"""What the methods that learn from judged texts share: DPO, SimPO, ORPO, KTO.

Enters: a Model, a Dataset of preference pairs (and rated answers), a loss. Leaves: a Model of the same kind.
Reported alike by all: held-out pair accuracy, how far the model moved (nats an answer, with a bound), whether answers
grew longer (the usual way to cheat), and the task metric before and after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from volant.core import Dataset, Model, Run, Sample
from volant.core.artifact import ModelAbout
from volant.core.errors import DataError, SettingError
from volant.stages.align.aligned import cut_away, lengths, pairs_of, state_lengths, state_pairs, steps_of

GOOD = 0.0  # a rating above it says that an answer is wanted


def learnt(
    run: Run, model: Model, data: Dataset, name: str, loss: Any, told: Mapping[str, Any], *,
    judge: Model | None, reward: Model | None = None, single: bool = False, epochs: float, rows: int, lr: float,
    patience: int, at_2048: float, bound: float, limit: int,
) -> Model:  # fmt: skip
    """Align a model of text; settings as `dpo`'s.

    Args:
        run: seed, threads, checkpoints, where to write.
        model: the model to align; as it is now, it is the reference.
        data: pairs, and rated answers where `single`.
        name: of the method.
        loss: one of `pair_losses`.
        told: its settings, for the model's own record.
        judge: a model that the task metric asks.
        reward: train pairs in which it prefers the rejected answer are left out.
        single: the loss takes answers one by one, good and bad.
        epochs: passes over what is learnt from.
        rows: pairs, or answers, in one step.
        lr: 0 takes what suits the model's width, which is `at_2048` at a width of 2048.
        patience: looks without a gain after which it stops; 0 for never.
        at_2048: see `lr`.
        bound: in nats an answer.
        limit: validation samples that measure the task metric and the length.

    Raises:
        DataError: there is nothing to learn from.
        SettingError: the model was converted, or makes no text.
    """
    import torch

    from volant.engines.torch import TorchSession
    from volant.modalities import open_modality
    from volant.nets import preference
    from volant.nets.opened import draws
    from volant.nets.transformer import family
    from volant.scorers.measure import check_task

    torch.set_num_threads(run.threads)
    if draws(model):
        what = f"{name} compares how likely texts are; this model draws pictures or rows."
        raise SettingError(what, where=run.step, fix="Take `align.dpo` or `align.reward_weighted`.")
    preference.check_trainable(model)
    codec: Any = open_modality(model.about.modality).open_codec(model.path)
    pairs, watched, extra = _material(run, codec, data, reward, single)
    steps = steps_of(run, len(pairs), rows, epochs, "answers" if single else "pairs")
    net = family.load(model.path).to(run.device)
    session = TorchSession(net, codec)
    before = lengths(session, data, limit)
    outcome, judged = preference.prefer(
        run, net, pairs, watched, loss=loss, steps=steps, rows=rows, lr=lr or preference.rate_for(net, at_2048),
        patience=patience, bound=bound, pad=codec.pad_id, name=name,
        check=lambda back: check_task(run, session, data, before=model, judge=judge, limit=limit, back=back), **extra,
    )  # fmt: skip
    if judged is None:
        run.say("there are no held-out pairs: pair accuracy was not measured")
    else:
        state_pairs(run, judged, bound)
    state_lengths(run, before, lengths(session, data, limit))
    family.save(net.float().cpu(), run.out)
    codec.save(run.out)
    ended = {"steps": outcome.steps, "ended": outcome.reason}
    facts = {**told, "answers" if single else "pairs": len(pairs), "held_out": len(watched), **ended}
    known = {**model.about.model_dump(), "extra": {**model.about.extra, name: facts}}
    about = ModelAbout.model_validate(known).model_dump_json(indent=1)
    (run.out / "volant.json").write_text(about + "\n", encoding="utf-8")
    return Model(run.out)


def _material(
    run: Run, codec: Any, data: Dataset, reward: Model | None, single: bool
) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """What is learnt from, what is held out, and what `preference.prefer` takes besides.

    Raises:
        DataError: there is nothing to learn from, or a rating is no number.
    """
    from volant.nets import preference

    train, held = pairs_of(data, "train"), pairs_of(data, "validation")
    given, length = len(train), codec.space.length
    if reward is not None:
        train = _agreed(run, reward, train)
    pairs, ranked = (preference.fitted(preference.encoded(codec, part), length) for part in (train, held))
    watched, extra = ranked, dict[str, Any]()
    if single:
        good, bad = _rated(codec, data, "train", train)
        if bool(good) != bool(bad):
            kind, other = ("good", "bad") if good else ("bad", "good")
            run.say(f"all {len(good) + len(bad)} answers are {kind}: without {other} ones (a rating above 0 is good) "
                    "little can be learnt")  # fmt: skip
        pairs, worth = preference.rated(good, bad, length)
        watched, held_worth = preference.rated(*_rated(codec, data, "validation", held), length)
        extra = {"worth": worth, "held_worth": held_worth, "ranked": ranked}
    if not pairs:
        what, fix = f"there is no {'answer' if single else 'pair'} to learn from.", "Leave `reward` out."
        if not given:
            fix = "Give records of `prompt`, `chosen` and `rejected`, or run `align.preferences` with more `prompts`."
            fix = f"Give answers to two prompts or more, each with a label `rating`. {fix}" if single else fix
        elif reward is None:
            fix = cut_away(length)
        raise DataError(what, where=run.step, fix=fix)
    return pairs, watched, extra


def _rated(codec: Any, data: Dataset, split: Any, pairs: Sequence[Sample]) -> tuple[list[Any], list[Any]]:
    """Good and bad answers of a split, encoded: both sides of its pairs, and what carries a label `rating`."""
    from volant.nets import preference
    from volant.store.dataset import count, rows

    both = preference.encoded(codec, pairs)
    good, bad = [chosen for chosen, _ in both], [rejected for _, rejected in both]
    if count(data, split):
        for sample in rows(data, split):
            ratings = [_number(label.value, sample) for label in sample.labels if label.name == "rating"]
            # What `improve.harvest` kept of a correction was not rated: it stands in the place of what was.
            corrected = sample.attrs.get("taught_by") == "correction"
            if sample.shape in ("completion", "messages") and (ratings or corrected):
                liked = corrected or sum(ratings) / len(ratings) > GOOD
                (good if liked else bad).append(preference.answer(codec, sample))
    return good, bad


def _number(rating: str, sample: Sample) -> float:
    """A rating as a number.

    Raises:
        DataError: it is none.
    """
    try:
        value = float(rating)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        what = f"sample {sample.id} has a rating that is no number: {rating!r}."
        raise DataError(what, where=sample.source.uri, fix="Give numbers: above 0 for a good answer, else it is bad.")
    return value


def _agreed(run: Run, reward: Model, train: list[Sample]) -> list[Sample]:
    """The pairs whose chosen answer the reward model prefers as well."""
    import torch

    from volant.modalities import open_modality
    from volant.nets import judge, preference

    codec: Any = open_modality(reward.about.modality).open_codec(reward.path)
    net = judge.load(reward.path)
    kept = []
    for start in range(0, len(train), 16):
        part = train[start : start + 16]
        whole = preference.with_pairs(codec, part, codec.space.length)
        if not whole:
            continue
        batch = preference.Pairs([pair for _, pair in whole], rows=len(whole), seed=0, pad=codec.pad_id).in_order()[0]
        with torch.inference_mode():
            rewards_P2 = preference.pair_rewards(net, batch)
        kept += [s for (s, _), r in zip(whole, rewards_P2.tolist(), strict=True) if r[0] >= r[1]]
    run.say(f"the reward model agrees with {len(kept)} of {len(train)} train pairs; the others are left out")
    return kept
