"""GRPO and RLOO: the same training, with another baseline.

What enters: a run, a Model, a Dataset and the settings of either method. What leaves: the Model that learnt.
"""

from __future__ import annotations

from typing import Any, Literal

from volant.core import Dataset, Model, Run
from volant.core.method import Scorers
from volant.stages.align.rewarded import begun, finished, task_of, trained


def learnt(
    run: Run,
    model: Model,
    data: Dataset,
    baseline: Literal["group", "rest"],
    *,
    name: str,
    reward: Model | None,
    judge: Model | None,
    scorers: Scorers,
    steps: int,
    prompts: int,
    group_size: int,
    tokens: int,
    temperature: float,
    lr: float,
    patience: int,
    beta: float,
    bound: float,
    limit: int,
) -> Model:
    """Train; see `grpo` for the settings."""
    from volant.nets.policy import group_loss

    task = task_of(
        run, model, data, scorers=scorers, reward=reward, judge=judge, tokens=tokens, temperature=temperature,
        limit=limit,
    )  # fmt: skip
    start, _, _ = begun(run, task, prompts=prompts, group_size=group_size)
    loss = group_loss(task.drawing, start, baseline=baseline, beta=beta)
    outcome = trained(
        run, task, task.net, loss, name=name, draws=steps, prompts=prompts, group_size=group_size, lr=lr,
        patience=patience,
    )  # fmt: skip
    told: dict[str, Any] = {"steps": outcome.steps, "answers": outcome.tokens, "beta": beta, "ended": outcome.reason}
    return finished(run, model, data, task, start, {name: told}, bound=bound, judge=judge)
