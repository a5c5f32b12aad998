"""GRPO and RLOO: the same training, with another baseline.

What enters: a run, a Model, a Dataset and the settings of either method. What leaves: the Model that learnt.
"""

from __future__ import annotations

from typing import Any, Literal

from volant.core import Dataset, Model, Run
from volant.core.method import Scorers
from volant.stages.align.rewarded import check_memory, finished, task_of


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
    from volant.nets.loop import Recipe, train
    from volant.nets.nearness import Start
    from volant.nets.policy import Questions, group_loss
    from volant.nets.preference import rate_for

    task = task_of(
        run,
        model,
        data,
        scorers=scorers,
        reward=reward,
        judge=judge,
        tokens=tokens,
        temperature=temperature,
        limit=limit,
    )
    check_memory(run, task, answers=min(prompts, len(task.train)) * group_size)
    start = Start(task.net)
    questions = Questions(len(task.train), rows=prompts, group=group_size, seed=run.seed)
    recipe = Recipe(
        steps, lr or rate_for(task.net, 1e-6), betas=(0.9, 0.95), warmup=max(1, steps // 20), decay=max(1, steps // 4),
        evaluate_every=max(1, steps // 5), checkpoint_every=max(5, steps // 10), bf16=False, patience=patience,
    )  # fmt: skip
    held = Questions(len(task.held), rows=32, group=1, seed=0).held() if task.held else []
    loss = group_loss(task.drawing, start, baseline=baseline, beta=beta)
    outcome = train(run, task.net, questions, recipe, validation=held, loss=loss, name=name, title=name)
    told: dict[str, Any] = {"steps": outcome.steps, "answers": outcome.tokens, "beta": beta, "ended": outcome.reason}
    return finished(run, model, data, task, start, {name: told}, bound=bound, judge=judge)
