"""What GRPO, RLOO and PPO have in common: prompts, rewards, and how the model stands afterwards.

What enters: a run, a Model, a Dataset with prompts, and scorers or a reward model. What leaves: a `Task` that the nets
learn on, and, after the training, a Model with its figures: the reward of held-out prompts before and after with a
paired test, the distance from the start, the length of answers, and the task metric, which shows a reward that is
cheated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volant.core import Dataset, Model, Run, Sample
from volant.core.artifact import ModelAbout
from volant.core.errors import DataError, SettingError
from volant.core.method import Scorers
from volant.core.sample import spread
from volant.stages.align.aligned import lengths, state_lengths

if TYPE_CHECKING:
    from volant.nets.loop import Outcome
    from volant.nets.nearness import Start
    from volant.nets.policy import Drawing, Reward
    from volant.nets.rollout import Rollout

_HELD = 64  # held-out prompts at most


@dataclass(frozen=True)
class Task:
    """A model with prompts and what their answers are worth."""

    net: Any
    codec: Any
    train: list[Sample]
    held: list[Sample]
    drawing: Drawing
    before: list[float]  # characters of its answers before it learns


def task_of(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    scorers: Scorers,
    reward: Model | None,
    judge: Model | None,
    tokens: int,
    temperature: float,
    limit: int,
) -> Task:
    """Open the model, the prompts and the rewards.

    Raises:
        SettingError: neither scorers nor a reward model; a model that torch does not train.
        DataError: the train split has no prompts.
    """
    import torch

    from volant.engines.torch import TorchSession
    from volant.modalities import open_modality
    from volant.nets.healthy import Watch
    from volant.nets.policy import Drawing
    from volant.nets.preference import check_trainable
    from volant.nets.transformer import family
    from volant.store.dataset import count, rows

    if not scorers and reward is None:
        what = "it needs `scorers`, a `reward` model, or both."
        raise SettingError(what, where=run.step, fix="scorers: [relevance], or reward: <step of align.reward>.")
    torch.set_num_threads(run.threads)
    check_trainable(model)
    codec: Any = open_modality(model.about.modality).open_codec(model.path)
    train = spread((s for s in rows(data, "train") if _asked(s)), limit)
    if not train:
        fix = "Give samples with a prompt (`prompt` and `completion`), as collect.files reads them."
        raise DataError("the train split holds no prompt to answer.", where=run.step, fix=fix)
    there = rows(data, "validation") if count(data, "validation") else ()
    held = spread((s for s in there if _asked(s)), _HELD)
    worth = _worth(reward, scorers, judge, run.device)
    net = family.load(model.path).to(run.device)
    session = TorchSession(net, codec)
    prompts, asked = (_prompts(codec, samples, tokens) for samples in (train, held))
    drawing = Drawing(
        prompts=prompts, held=asked, reward=worth(train), held_reward=worth(held), decode=codec.decode, seed=run.seed,
        room=_room(run, [*prompts, *asked], tokens, codec.space.length), heat=temperature, stop=codec.stop_ids,
        pad=codec.pad_id, watch=Watch(run),
    )  # fmt: skip
    return Task(net, codec, train, held, drawing, lengths(session, data, _HELD))


def begun(run: Run, task: Task, *, prompts: int, group_size: int) -> tuple[Start, int, int]:
    """The weights as they are now, answers in one step, and tokens of the longest prompt and answer together.

    Raises:
        MachineError: there is less memory than learning takes, which is said before it starts.
    """
    from volant.nets.memory import check_training
    from volant.nets.nearness import Start

    answers = min(prompts, len(task.train)) * group_size
    width = max(len(p) for p in task.drawing.prompts) + task.drawing.room
    fix = "Take fewer `prompts`, a smaller `group_size`, fewer `tokens`, or a smaller model."
    counted = answers * task.drawing.room
    check_training(run, task.net, tokens=answers * width, counted=counted, row=width, fix=fix, reference=True)
    return Start(task.net), answers, width


def trained(
    run: Run, task: Task, net: Any, loss: Any, *, name: str, draws: int, prompts: int, group_size: int, lr: float,
    patience: int, updates: int = 1,
) -> Outcome:  # fmt: skip
    """Learn in place, and keep the weights whose answers to the held-out prompts earn most.

    Args:
        net: the model, or what holds it.
        loss: of `nets.policy`.
        name: of the method.
        draws: of answers, each learnt from in `updates` steps.
        prompts, group_size, lr, patience: as the methods'.
    """
    from volant.nets.loop import Recipe, train
    from volant.nets.policy import Questions
    from volant.nets.preference import rate_for

    steps = draws * updates
    recipe = Recipe(
        steps, lr or rate_for(task.net, 1e-6), betas=(0.9, 0.95), warmup=max(1, steps // 20), decay=max(1, steps // 4),
        evaluate_every=updates * max(1, draws // 5), checkpoint_every=max(5, steps // 10), bf16=False,
        patience=patience,
    )  # fmt: skip
    questions = Questions(len(task.train), rows=prompts, group=group_size, seed=run.seed, updates=updates)
    held = Questions(len(task.held), rows=32, group=1, seed=0).held() if task.held else []
    return train(run, net, questions, recipe, validation=held, loss=loss, name=name, title=name)


def _prompts(codec: Any, samples: Sequence[Sample], tokens: int) -> list[list[int]]:
    """Prompts as ids, shortened to leave an answer its room, though never to less than half of the context.

    The engine that answers users shortens them in the same way.
    """
    from volant.nets.batches import shorten

    context = codec.space.length
    longest = context - min(tokens, context // 2)
    return [shorten(codec.encode_prompt(_asked(s)), longest) for s in samples]


def _room(run: Run, prompts: Sequence[Sequence[int]], tokens: int, context: int) -> int:
    """The most tokens of an answer: as many as are asked for, or as the context leaves behind the longest prompt."""
    room = min(tokens, context - max(len(ids) for ids in prompts))
    if room < tokens:
        run.say(
            f"answers have {room} tokens at most, not {tokens}: the longest prompt leaves no more of the {context} "
            "that the model reads"
        )
    return room


def _asked(sample: Sample) -> list[Mapping[str, str]]:
    """The turns that an answer follows on; none where the sample is no prompt."""
    from volant.scorers.measure import request_of

    return list(request_of(sample).messages) if sample.condition or sample.turns else []


def _answered(sample: Sample, text: str) -> Sample:
    """The prompt of a sample with another answer."""
    if sample.turns:
        turns = [*_asked(sample), {"role": "assistant", "content": text}]
        update = {"shape": "messages", "target": None, "rejected": None}
        return sample.model_copy(update={**update, "content": json.dumps(turns, ensure_ascii=False)})
    return sample.model_copy(update={"shape": "completion", "target": text, "rejected": None})


def _worth(
    reward: Model | None, scorers: Scorers, judge: Model | None, device: str
) -> Callable[[list[Sample]], Reward]:
    """The reward model's number, the mean of the scorers, or the sum of both."""
    if reward is None:
        return _by_scorers(scorers, judge)
    by_model = _by_model(reward, device)
    if not scorers:
        return by_model
    by_scorers = _by_scorers(scorers, judge)

    def of(samples: list[Sample]) -> Reward:
        parts = by_model(samples), by_scorers(samples)
        return lambda numbers, texts: [sum(two) for two in zip(*(p(numbers, texts) for p in parts), strict=True)]

    return of


def _by_scorers(scorers: Scorers, judge: Model | None = None) -> Callable[[list[Sample]], Reward]:
    """The mean of the scorers' values, those that are better low turned round."""
    from volant.core.protocols import Output
    from volant.scorers import build
    from volant.scorers.measure import worth

    built = build(scorers, {"judge": judge})

    def of(samples: list[Sample]) -> Reward:
        def reward(numbers: Sequence[int], texts: Sequence[str]) -> list[float]:
            return worth(built, [Output(text=text) for text in texts], [samples[n] for n in numbers])

        return reward

    return of


def _by_model(model: Model, device: str) -> Callable[[list[Sample]], Reward]:
    """The reward model's own numbers."""
    import torch

    from volant.modalities import open_modality
    from volant.nets import judge
    from volant.nets.answers import answer_rewards
    from volant.nets.batches import Padded, fit
    from volant.nets.preference import answer

    net = judge.load(model.path).to(device)
    codec: Any = open_modality(model.about.modality).open_codec(model.path)

    def of(samples: list[Sample]) -> Reward:
        def reward(numbers: Sequence[int], texts: Sequence[str]) -> list[float]:
            said = [_answered(samples[n], text or " ") for n, text in zip(numbers, texts, strict=True)]
            cut = [fit(answer(codec, s), codec.space.length) for s in said]
            rows = Padded(cut, length=codec.space.length, rows=len(cut), seed=0, pad=codec.pad_id)
            with torch.inference_mode():
                found: list[float] = answer_rewards(net, rows.collate(cut).to(device)).tolist()
            return found

        return reward

    return of


def finished(
    run: Run, model: Model, data: Dataset, task: Task, start: Start, told: dict[str, Any], *, bound: float,
    judge: Model | None,
) -> Model:  # fmt: skip
    """Keep the model within its bound, and at a share of the way where the task metric holds; measure and write it.

    Args:
        start: the weights that the training began with.
        told: what `volant.json` keeps, by the method's name.
        bound: the largest mean distance of held-out answers from the start, in nats an answer.
        judge: a model that the task metric asks.
    """
    from volant.engines.torch import TorchSession
    from volant.nets.transformer import family
    from volant.scorers.measure import check_task, mean_score

    task.net.eval()
    session = TorchSession(task.net, task.codec)
    judged = start.within(
        run, task.net, lambda: _moved(task, start), bound,
        check=lambda back: check_task(run, session, data, before=model, judge=judge, back=back),
    )  # fmt: skip
    if task.held:
        with start.standing(task.net):
            first, _ = _answers(task)
        last, _ = _answers(task)
        change = _state(run, first, last)
        note = f"mean distance from the start on held-out answers; bound {bound:g}"
        run.score(mean_score("logratio", judged.each, unit="nats", direction="lower", note=note))
        if change.verdict != "better":
            run.say("the held-out reward did not rise significantly; see the metrics of the run")
    else:
        run.say("there are no held-out prompts: the reward was not measured, and the last weights were kept")
    state_lengths(run, task.before, lengths(session, data, _HELD))
    family.save(task.net.float().cpu(), run.out)
    task.codec.save(run.out)
    known = {**model.about.model_dump(), "extra": {**model.about.extra, **told}}
    about = ModelAbout.model_validate(known).model_dump_json(indent=1)
    (run.out / "volant.json").write_text(about + "\n", encoding="utf-8")
    return Model(run.out)


@dataclass(frozen=True)
class _Moved:
    """How far held-out answers are from what they were, nats an answer; empty where none are asked for."""

    each: list[float]

    @property
    def shift(self) -> float:
        return sum(self.each) / max(1, len(self.each))


def _answers(task: Task) -> tuple[list[float], Rollout]:
    """Greedy answers to the held-out prompts, and what they earn."""
    from volant.nets.policy import Asked

    made, rewards_R = task.drawing.draw(task.net, Asked(tuple(range(len(task.held))), -1))
    return [float(r) for r in rewards_R], made


def _moved(task: Task, start: Start) -> _Moved:
    """The log-ratio of today's greedy answers, by how much likelier they have become."""
    import torch

    from volant.nets.rollout import token_logp

    if not task.held:
        return _Moved([])
    _, made = _answers(task)
    with torch.no_grad():
        now_RL, _ = token_logp(task.net, made)
    with start.standing(task.net):
        was_RL, _ = token_logp(task.net, made)
    mask_RL = made.answers[:, 1:].to(now_RL.device)
    return _Moved([float(x) for x in ((now_RL - was_RL) * mask_RL).sum(1).abs()])


def _state(run: Run, first: list[float], last: list[float]) -> Any:
    """The held-out reward, before and after."""
    from volant.scorers.compare import paired
    from volant.scorers.measure import mean_score

    run.score(mean_score("held_out_reward", last, note="greedy answers to held-out prompts"))
    change = paired("held_out_reward", first, last, seed=run.seed)
    run.score(change.change)
    run.say(f"held-out reward: {change}")
    return change
