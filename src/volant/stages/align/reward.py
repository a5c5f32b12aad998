"""Learn to tell which of two answers people prefer: a Bradley-Terry reward model.

Enters: the Model to start from and a Dataset of preference pairs. Leaves: a Model whose directory opens with
`AutoModelForSequenceClassification` alone (one label: the reward). It judges and ranks; it does not write, so
the task metric is not measured on it. Its own figure is the accuracy on held-out pairs.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Score
from volant.core.artifact import ModelAbout
from volant.core.errors import DataError
from volant.core.sample import PERSON, Sample
from volant.stages.align.aligned import cut_away, steps_of


def reward(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    epochs: Annotated[float, Field(gt=0, le=100)] = 3.0,
    rows: Annotated[int, Field(ge=1, le=1024)] = 8,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    patience: Annotated[int, Field(ge=0)] = 0,
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2,
) -> Model:
    """Train a reward model on preference pairs.

    Args:
        run: seed, threads, checkpoints, where to write.
        model: where the weights start; usually the fine-tuned model that is to be aligned.
        data: pairs from `align.preferences`, or records of `prompt`, `chosen` and `rejected` that `collect.files`
            reads; the validation pairs are held out.
        epochs: passes over the train pairs; the weights that do best on held-out pairs are kept.
        rows: pairs in one step; more are smoother and take more memory.
        lr: AdamW's highest rate; 0 takes what suits the model's width (1e-5 at 2048).
        patience: stop after this many of the four looks at what is held out without a gain; 0 never does.
        held_out: the share of the train pairs that is held out where the validation split has fewer than eight.

    Raises:
        DataError: there is no pair.
    """
    import torch

    from volant.modalities import open_modality
    from volant.nets import judge, pair_losses, preference
    from volant.nets.transformer import family

    torch.set_num_threads(run.threads)
    preference.check_trainable(model)
    train, held = _split(run, data, held_out)
    codec: Any = open_modality(model.about.modality).open_codec(model.path)
    net = judge.fresh(model.path, seed=run.seed, pad=codec.pad_id).to(run.device)
    length = codec.space.length
    told = preference.with_pairs(codec, held, length)
    pairs, watched = preference.fitted(preference.encoded(codec, train), length), [pair for _, pair in told]
    if not pairs:
        raise DataError("no pair is left to learn from.", where=run.step, fix=cut_away(length))
    steps = steps_of(run, len(pairs), rows, epochs)
    rate = lr or preference.rate_for(net, 1e-5)
    outcome, judged = preference.reward(
        run, net, pairs, watched, loss=pair_losses.bradley_terry_loss, steps=steps, rows=rows, lr=rate,
        pad=codec.pad_id, patience=patience,
    )  # fmt: skip
    family.save(net.float().cpu(), run.out)
    codec.save(run.out)
    if judged is not None:
        _state(run, judged.margins, train, [sample for sample, _ in told])
    extra = {"reward": {"pairs": len(pairs), "held_out": len(watched), "steps": outcome.steps, "ended": outcome.reason}}
    parameters = sum(p.numel() for p in net.parameters())
    known = {**model.about.model_dump(), "engine": "reward", "parameters": parameters, "extra": extra}
    (run.out / "volant.json").write_text(
        ModelAbout.model_validate(known).model_dump_json(indent=1) + "\n", encoding="utf-8"
    )
    return Model(run.out)


def _split(run: Run, data: Dataset, share: float) -> tuple[list[Sample], list[Sample]]:
    """Train and held-out pairs; from the train split alone where validation has fewer than eight."""
    from volant.store.dataset import count, rows

    train = [s for s in rows(data, "train") if s.shape == "preference"]
    held = [s for s in rows(data, "validation") if s.shape == "preference"] if count(data, "validation") else []
    if not train:
        fix = "Give records of `prompt`, `chosen` and `rejected`, or what `align.preferences` made."
        raise DataError("the train split holds no pairs of answers.", where=run.step, fix=fix)
    if len(held) >= 8:
        return train, held
    apart = [_apart(s.group or s.condition or s.content or s.id, share) for s in train]
    if all(apart):  # of few groups each may be: then there is nothing to hold out
        apart = [False] * len(train)
    run.say(f"only {len(held)} validation pairs: {sum(apart)} of the train pairs are held out with them")
    kept = [s for s, out in zip(train, apart, strict=True) if not out]
    return kept, [*held, *(s for s, out in zip(train, apart, strict=True) if out)]


def _apart(group: str, share: float) -> bool:
    """Whether a group is held out: by a hash of its own, since of the plain one the train split has but some values."""
    return int.from_bytes(hashlib.sha256(f"held out {group}".encode()).digest(), "big") / 2**256 < share


def _state(run: Run, margins: list[float], train: list[Sample], held: list[Sample]) -> None:
    """Accuracy on held-out pairs, beside the rule that comes for free: the longer answer is the better one."""
    from volant.scorers.compare import paired
    from volant.scorers.measure import mean_score

    told = [float(m > 0) for m in margins]
    run.score(mean_score("reward_accuracy", told, note="held-out pairs; chance is 0.5"))
    gain = paired("reward_accuracy", [0.5] * len(told), told, seed=run.seed)
    run.score(gain.change)
    run.say(f"held-out accuracy against chance: {gain.verdict} (p = {gain.p:.2g}, n = {gain.n})")
    people = [right for right, s in zip(told, held, strict=True) if any(a.by.startswith(PERSON) for a in s.labels)]
    if people and len(people) < len(told):
        note = "held-out pairs that people chose from; chance is 0.5"
        run.score(mean_score("reward_accuracy", people, of="people", note=note))
    longer, held_longer = ([_longer(s) for s in pairs] for pairs in (train, held))
    rule = 1 if sum(longer) >= 0 else -1
    name = "longer" if rule > 0 else "shorter"
    note = f"held-out pairs; always takes the {name} answer, and guesses where both are as long"
    run.score(mean_score("reward_accuracy", [(1 + rule * x) / 2 for x in held_longer], of="baseline:length", note=note))
    run.score(Score.exact("reward_margin", sum(margins) / len(margins), n=len(margins)))


def _longer(pair: Sample) -> int:
    """1 where the chosen answer is the longer one, -1 where the rejected one is, else 0."""
    chosen, rejected = len(pair.target or ""), len(pair.rejected or "")
    return (chosen > rejected) - (chosen < rejected)
