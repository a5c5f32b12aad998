"""Few sampling steps in place of many, by distillation.

Enters: a Model whose family samples in steps (a flow), and a Dataset whose validation split says what is lost.
Leaves: a Model of the same family and size that draws in a few steps without guidance, because both are learnt into
its weights; its `volant.json` holds the controls that it is asked with. Or a refusal with the numbers.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.core.errors import DataError, SettingError
from volant.stages.compress.yardstick import need_float, state_speed, yardstick

_UNTOLD = 10  # each so many-th trajectory has no condition, so that the student can be asked without one


def distil(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    steps: Annotated[int, Field(ge=1, le=100)] = 4,
    teacher_steps: Annotated[int, Field(ge=2, le=1000)] = 40,
    guidance: Annotated[float, Field(ge=0, le=20)] = 0.0,
    samples: Annotated[int, Field(ge=1, le=1_000_000)] = 4096,
    train_steps: Annotated[int, Field(ge=0)] = 0,
    batch: Annotated[int, Field(ge=1, le=4096)] = 32,
    rate: Annotated[float, Field(gt=0, le=100)] = 0.25,
    loss: Annotated[float, Field(ge=0, le=10)] = 0.15,
    metric: str = "",
    limit: Annotated[int, Field(ge=2, le=100_000)] = 256,
) -> Model:
    """Teach a model to draw in a few steps what it draws in many, and state what it costs, or refuse.

    Args:
        run: seed, device, threads, where to write.
        model: a flow; it is the teacher, and where the student starts.
        data: the train split's conditions are drawn by the teacher; the validation split is measured on.
        judge: a model that the metric asks, where it needs one.
        steps: of the student; the fewer, the faster and the further from the teacher.
        teacher_steps: of the teacher, rounded up to a multiple of `steps`; more are truer and take longer.
        guidance: of the teacher, learnt into the student, which then needs one call a step; 0 takes the model's own.
        samples: trajectories that the teacher draws; fewer are learnt by heart, more take longer and more memory.
        train_steps: training steps; 0 takes 600.
        batch: trajectories in a step; each costs as many calls of the network as there are `steps`.
        rate: factor on the family's learning rates.
        loss: the share by which the metric may get worse (0.15: 15 %); significantly more is refused.
        metric: a scorer; empty takes the first of the modality's gates, which is `frechet_ratio` for images.
        limit: validation samples that are drawn with both; more narrow the interval and take longer.

    Raises:
        GateRefused: more is lost than `loss`; the message holds the numbers.
        SettingError: the model's family does not sample in steps, or nothing is saved.
        DataError: the train or the validation split holds no content.
    """
    from volant.nets import distil
    from volant.nets.opened import opened
    from volant.nets.session import DrawSession
    from volant.scorers.measure import check_task

    about = model.about
    need_float(run, model)
    found = opened(model, device=run.device)
    family, teacher, codec = found.family, found.net, found.codec
    distil.check_family(family, where=run.step)
    taught = _taught(run, found.controls, steps, distil.teacher_steps_for(steps, teacher_steps), guidance)
    kept = {n: v for n, v in taught.items() if n in ("temperature", "order")}
    asked = {**kept, "steps": steps, "guidance": 1.0}
    student = family.load(model.path).to(run.device)
    measure = yardstick(run, model, data, judge, metric, limit)
    before = measure.values(DrawSession(family, teacher, codec, taught))
    prompts = _prompts(run, codec, data, samples)
    lessons = distil.ways(run, family, teacher, prompts, steps=steps, controls=taught)
    outcome = distil.fit(run, family, student, lessons, steps=train_steps, batch=batch, rate=rate)
    session = DrawSession(family, student.eval(), codec, asked)
    after = measure.values(session)
    fix = (
        f"Train longer (train_steps), take more `samples` or `steps: {2 * steps}`, or allow more (loss: {2 * loss:g})."
    )
    stated = measure.stated(before, after, loss, fix)
    state_speed(run, family, (teacher, taught), (student, asked), prompts)
    check_task(run, session, data, before_session=DrawSession(family, teacher, codec, taught), judge=judge)
    family.save(student.cpu(), run.out)
    codec.save(run.out)
    ended = {"train_steps": outcome.steps, "ended": outcome.reason}
    facts = {**stated, "steps": steps, "teacher": model.digest, "taught": taught, **ended}
    extra = {**about.extra, "controls": asked, "distilled": facts}
    body = json.dumps({**about.model_dump(mode="json"), "extra": extra}, indent=2, sort_keys=True)
    (run.out / "volant.json").write_text(body + "\n", encoding="utf-8")
    return Model(run.out)


def _taught(run: Run, own: dict[str, float], steps: int, many: int, guidance: float) -> dict[str, float]:
    """The controls of the teacher: the model's own, with many plain steps, which is what the student learns to take.

    Raises:
        SettingError: it would take no more steps than the student.
    """
    if many <= steps:
        raise SettingError(f"{steps} steps of {many} save nothing.", where=run.step, fix="Ask for fewer `steps`.")
    return {**own, "steps": many, "order": 1.0, **({"guidance": guidance} if guidance else {})}


def _prompts(run: Run, codec: Any, data: Dataset, samples: int) -> list[tuple[int, ...]]:
    """Condition ids of so many trajectories: those of the train split in a seeded order, over and over."""
    import random

    from volant.scorers.measure import CONTENT_SHAPES
    from volant.store.dataset import count, rows

    words = (
        [s.condition or "" for s in rows(data, "train") if s.shape in CONTENT_SHAPES] if count(data, "train") else []
    )
    if not words:
        what = "the train split holds no content whose conditions could be drawn."
        raise DataError(what, where=run.step, fix="Add samples to the train split.")
    ids = {word: tuple(codec.condition(word)) for word in set(words)}
    rng = random.Random(run.seed)
    found: list[tuple[int, ...]] = []
    while len(found) < samples:
        rng.shuffle(words)
        found += [ids[word] for word in words]
    return [() if n % _UNTOLD == _UNTOLD - 1 else one for n, one in enumerate(found[:samples])]
