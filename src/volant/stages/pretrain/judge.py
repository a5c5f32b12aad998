"""Train the judge: a small network that tells the classes apart, whose features image scorers measure in.

What enters: a Dataset with classes. What leaves: a Model of family `conv`, trained on the train split
alone. Its digest stands in every report that was measured with it, because a figure in its features
means nothing without it. What it gets right on the validation split is its own figure.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run
from volant.core.artifact import ModelAbout
from volant.core.sample import spread


def judge(
    run: Run,
    data: Dataset,
    *,
    steps: Annotated[int, Field(ge=1)] = 800,
    batch: Annotated[int, Field(ge=1, le=65_536)] = 64,
) -> Model:
    """Train a classifier on `data` to measure generated samples with.

    Args:
        data: samples with a class as their condition; its train split is learnt.
        steps: of training; 800 take a few seconds for small pictures. A judge that errs often measures little.
        batch: examples in a step.

    Raises:
        DataError: the samples have fewer than two classes.
    """
    from volant.core.spaces import Grid, space_json
    from volant.nets import content
    from volant.nets.conv import family, fit_judge, open_judge
    from volant.scorers.measure import mean_score
    from volant.store.dataset import count, rows

    train = list(rows(data, "train"))
    net, outcome = fit_judge(run, train, steps=steps, rows=batch)
    family.save(net, run.out)
    config: Any = net.config
    space = Grid(config["channels"], (config["side"],) * 2, len(net.classes))
    about = ModelAbout(
        family="conv", modality=run.modality, engine="none", space=space_json(space),
        parameters=content.parameters(net),
        extra={"classes": len(net.classes), "steps": outcome.steps, "ended": outcome.reason},
    )  # fmt: skip
    (run.out / "volant.json").write_text(
        json.dumps(about.model_dump(mode="json"), indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    made = Model(run.out)
    if count(data, "validation"):
        held = spread((s for s in rows(data, "validation") if s.condition), 5_000)
        right = [float(said == s.condition) for said, s in zip(open_judge(made).classify(held), held, strict=True)]
        run.score(mean_score("judge_accuracy", right, binary=True, note="classes of the validation split"))
    return made
