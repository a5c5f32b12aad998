"""Teach a model by a reward with proximal policy optimisation (PPO), which learns the value of each token.

Enters: a Model, prompts, and scorers or a reward model. Leaves: a Model of the same kind; the values are thrown away.
Several updates on the same answers make it thriftier with draws than `grpo`, and dearer in memory. Our own, since TRL
has it no more.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.core.method import Scorers
from volant.stages.align.rewarded import begun, finished, task_of, trained

_CLIP, _SMOOTH = 0.2, 0.95  # of Schulman et al. 2017 and 2016


def ppo(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    reward: Model | None = None,
    judge: Model | None = None,
    scorers: Scorers = [],  # noqa: B006  a method's default is read, never changed
    draws: Annotated[int, Field(ge=1, le=100_000)] = 40,
    prompts: Annotated[int, Field(ge=1, le=4096)] = 16,
    group_size: Annotated[int, Field(ge=1, le=256)] = 4,
    updates: Annotated[int, Field(ge=1, le=64)] = 4,
    tokens: Annotated[int, Field(ge=1, le=4096)] = 32,
    temperature: Annotated[float, Field(gt=0, le=5)] = 1.0,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    beta: Annotated[float, Field(ge=0, le=10)] = 0.05,
    patience: Annotated[int, Field(ge=0)] = 0,
    bound: Annotated[float, Field(gt=0)] = 20.0,
    limit: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000,
) -> Model:
    """Train a model by PPO on rewards that a scorer or a reward model gives.

    Args:
        model: the model to teach; as it is now, it is the reference.
        data: prompts (and targets, where a scorer compares with them); validation prompts are held out.
        reward: a model from `align.reward`; instead of `scorers`, or added to them.
        judge: a model that scorers and the task metric ask, where they need one.
        scorers: whose values are the reward; the mean of several. What is better low counts negative. Beside a
            `reward` model, which knows only what its pairs told it, they hold on to what can be computed.
        draws: how often answers are drawn; each is learnt from in `updates` steps.
        prompts: answered in one draw.
        group_size: answers a prompt, whose mean reward is what each is compared with before values are learnt; at 1
            it is the mean of the draw, and what sets prompts apart is noise.
        updates: steps on the same answers; more are thriftier, and beyond the clipping of 0.2 they gain nothing.
        tokens: the longest answer; at most what the model's context leaves behind the longest prompt.
        temperature: of the draws; low ones explore little.
        lr: AdamW's highest rate; 0 takes what suits the model's width (1e-6 at 2048).
        beta: what each nat of distance from the reference costs, in spreads of the reward; higher stays closer.
        patience: stop after this many of the five looks at what is held out without a gain; 0 never does.
        bound: the farthest from the reference on held-out answers, in nats an answer; weights beyond it go back.
        limit: how many prompts of the train split are used.

    Raises:
        DataError: there is no prompt.
        SettingError: neither scorers nor a reward model.
    """
    from volant.nets.policy import Critic, ppo_loss

    task = task_of(
        run, model, data, scorers=scorers, reward=reward, judge=judge, tokens=tokens, temperature=temperature,
        limit=limit,
    )  # fmt: skip
    start, answers, width = begun(run, task, prompts=prompts, group_size=group_size)
    critic = Critic(task.net, answers=answers, width=width, pad=task.codec.pad_id).to(run.device)
    loss = ppo_loss(task.drawing, start, beta=beta, clip=_CLIP, smooth=_SMOOTH)
    outcome = trained(
        run, task, critic, loss, name="ppo", draws=draws, prompts=prompts, group_size=group_size, lr=lr,
        patience=patience, updates=updates,
    )  # fmt: skip
    told: dict[str, Any] = {"draws": draws, "answers": outcome.tokens, "beta": beta, "ended": outcome.reason}
    return finished(run, model, data, task, start, {"ppo": told}, bound=bound, judge=judge)
