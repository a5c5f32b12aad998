"""Teach a model by a reward that can be checked: group-relative policy optimisation (GRPO).

Enters: a Model, prompts, and scorers (does it parse, does it match, is it short) or a reward model. Leaves: a Model of
the same kind. For each prompt a group of answers is drawn, and each is held against its group; no second network learns
values. `rloo` differs in what an answer is compared with, `ppo` learns a value for each token.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.core.method import Scorers
from volant.stages.align import group


def grpo(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    reward: Model | None = None,
    judge: Model | None = None,
    scorers: Scorers = [],  # noqa: B006  a method's default is read, never changed
    steps: Annotated[int, Field(ge=1, le=100_000)] = 60,
    prompts: Annotated[int, Field(ge=1, le=1024)] = 8,
    group_size: Annotated[int, Field(ge=2, le=256)] = 8,
    tokens: Annotated[int, Field(ge=1, le=4096)] = 32,
    temperature: Annotated[float, Field(gt=0, le=5)] = 1.0,
    lr: Annotated[float, Field(ge=0, le=1)] = 0.0,
    beta: Annotated[float, Field(ge=0, le=10)] = 0.04,
    patience: Annotated[int, Field(ge=0)] = 0,
    bound: Annotated[float, Field(gt=0)] = 20.0,
    limit: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000,
) -> Model:
    """Train a model by GRPO on rewards that a scorer or a reward model gives.

    Args:
        model: the model to teach; as it is now, it is the reference.
        data: prompts (and targets, where a scorer compares with them); validation prompts are held out.
        reward: a model from `align.reward`; instead of `scorers`, or added to them.
        judge: a model that scorers and the task metric ask, where they need one.
        scorers: whose values are the reward; the mean of several. What is better low counts negative. Beside a
            `reward` model, which knows only what its pairs told it, they hold on to what can be computed.
        steps: of training; each draws prompts x group_size answers, which is most of the time.
        prompts: in one step.
        group_size: answers a prompt that are compared with each other; more are steadier and dearer.
        tokens: the longest answer; at most what the model's context leaves behind the longest prompt.
        temperature: of the draws; low ones explore little.
        lr: AdamW's highest rate; 0 takes what suits the model's width (1e-6 at 2048).
        beta: weight of the divergence from the reference, token by token; higher stays closer.
        patience: stop after this many of the five looks at what is held out without a gain; 0 never does.
        bound: the farthest from the reference on held-out answers, in nats an answer; weights beyond it go back.
        limit: how many prompts of the train split are used.

    Raises:
        DataError: there is no prompt.
        SettingError: neither scorers nor a reward model.
    """
    return group.learnt(
        run, model, data, "group", name="grpo", reward=reward, judge=judge, scorers=scorers, steps=steps,
        prompts=prompts, group_size=group_size, tokens=tokens, temperature=temperature, lr=lr, patience=patience,
        beta=beta, bound=bound, limit=limit,
    )  # fmt: skip
