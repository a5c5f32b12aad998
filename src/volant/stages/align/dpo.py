"""Move a model towards what is preferred, straight from pairs: direct preference optimisation (DPO).

Enters: a Model, a Dataset of preference pairs and, if there is one, a reward model that weeds out doubtful pairs.
Leaves: a Model of the same kind. Reported: held-out pair accuracy, how far the model moved (nats an answer, with
a bound), whether answers grew longer (the usual way to cheat), and the task metric before and after. Pictures and rows
go the same way with another stand-in for their likelihood: `content_pairs.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample
from volant.core.artifact import ModelAbout
from volant.core.errors import DataError, SettingError
from volant.stages.align import content_pairs
from volant.stages.align.aligned import lengths, pairs_of, state_lengths, state_pairs


def dpo(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    reward: Model | None = None,
    beta: Annotated[float, Field(gt=0, le=10)] = 0.1,
    epochs: Annotated[float, Field(gt=0, le=100)] = 2.0,
    rows: Annotated[int, Field(ge=1, le=1024)] = 8,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    anchor: Annotated[float, Field(ge=0, le=10)] = 0.1,
    bound: Annotated[float, Field(gt=0)] = 10.0,
    limit: Annotated[int, Field(ge=1, le=10_000)] = 64,
) -> Model:
    """Align a model with preference pairs by DPO.

    Args:
        run: seed, threads, checkpoints, where to write.
        model: the model to align; as it is now, it is the reference.
        data: pairs from `align.preferences`; those of the validation split are held out.
        judge: a model that the task metric asks, where it needs one.
        reward: a model from `align.reward`; train pairs in which it prefers the rejected answer are left out.
        beta: how dearly distance from the reference is paid; higher stays closer and learns less.
        epochs: passes over the train pairs; the weights that do best on held-out pairs are kept.
        rows: pairs in one step.
        lr: AdamW's highest rate; 0 takes what suits the model's width (1e-6 at 2048), or a fiftieth of what the
            family of pictures or rows trains with. Too high makes answers shorter and worse.
        anchor: weight of the chosen answers' own likelihood, which DPO alone lets fall; 0 is plain DPO.
        bound: the farthest from the reference on held-out answers, in nats an answer on average; weights beyond it
            are pulled back towards the reference.
        limit: how many validation samples measure the task metric and the length; for text.

    Raises:
        DataError: there is no pair to learn from.
        SettingError: the model was converted, or its family cannot tell how likely an example is.
    """
    import math

    import torch

    from volant.engines.torch import TorchSession
    from volant.modalities import open_modality
    from volant.nets import preference
    from volant.nets.opened import draws
    from volant.nets.transformer import family
    from volant.scorers.measure import check_task

    if draws(model):
        if reward is not None:
            what = "a reward model reads text and cannot weed out pairs of pictures or rows."
            raise SettingError(what, where=run.step, fix="Raise `margin` of `align.preferences` instead.")
        return content_pairs.aligned(
            run, model, data, judge, beta=beta, epochs=epochs, rows=rows, lr=lr, anchor=anchor, bound=bound
        )
    torch.set_num_threads(run.threads)
    preference.check_trainable(model)
    codec: Any = open_modality(model.about.modality).open_codec(model.path)
    train, held = pairs_of(data, "train"), pairs_of(data, "validation")
    if reward is not None:
        train = _agreed(run, reward, train)
    pairs, watched = (preference.fitted(preference.encoded(codec, part), codec.space.length) for part in (train, held))
    if not pairs:
        fix = "Run `align.preferences` with more `prompts`, or without `reward`."
        raise DataError("there is no pair to learn from.", where=run.step, fix=fix)
    net = family.load(model.path).to(run.device)
    before = lengths(TorchSession(net, codec), data, limit)
    outcome, judged = preference.dpo(
        run, net, pairs, watched, steps=math.ceil(epochs * len(pairs) / min(rows, len(pairs))), rows=rows,
        lr=lr or preference.rate_for(net, 1e-6), beta=beta, anchor=anchor, bound=bound, pad=codec.pad_id,
    )  # fmt: skip
    family.save(net.float().cpu(), run.out)
    codec.save(run.out)
    if judged is None:
        run.say("there are no held-out pairs: pair accuracy was not measured, and the last weights were kept")
    else:
        state_pairs(run, judged, bound)
    session = TorchSession(net, codec)
    state_lengths(run, before, lengths(session, data, limit))
    check_task(run, session, data, before=model, limit=limit)
    told = {"beta": beta, "anchor": anchor, "pairs": len(pairs), "held_out": len(watched), "steps": outcome.steps}
    known = {**model.about.model_dump(), "extra": {**model.about.extra, "dpo": told}}
    about = ModelAbout.model_validate(known).model_dump_json(indent=1)
    (run.out / "volant.json").write_text(about + "\n", encoding="utf-8")
    return Model(run.out)


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
        cut = [preference.fitted(preference.encoded(codec, [s]), codec.space.length) for s in part]
        whole = [(s, pair[0]) for s, pair in zip(part, cut, strict=True) if pair]
        if not whole:
            continue
        batch = preference.Pairs([pair for _, pair in whole], rows=len(whole), seed=0, pad=codec.pad_id).in_order()[0]
        with torch.inference_mode():
            rewards_P2 = preference.pair_rewards(net, batch)
        kept += [s for (s, _), r in zip(whole, rewards_P2.tolist(), strict=True) if r[0] >= r[1]]
    run.say(f"the reward model agrees with {len(kept)} of {len(train)} train pairs; the others are left out")
    return kept
