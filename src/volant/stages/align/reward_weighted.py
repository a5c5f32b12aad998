"""Move a model towards what scorers reward: draw, judge, and train on the drawn samples by their reward.

Enters: a Model that draws whole samples, and a Dataset whose conditions are asked. Leaves: a Model that draws
more of what is rewarded. No gradient goes through the reward, so anything that tells samples apart will do: a
judge's word, a rule, the constraints of a table. The weight of a sample is the exponential of its reward, which
is the best policy near the old one (reward-weighted regression, Peters and Schaal 2007; for diffusion models
Lee et al. 2023). `strength` says how near; the loss on real data, before and after, says how far it went.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Model, Run, Sample, Scorers
from volant.core.artifact import CARD
from volant.core.errors import SettingError
from volant.stages.align.aligned import checked, held, state_distance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from volant.core.protocols import Session
    from volant.nets.opened import Opened

_HELD = 256  # fresh draws that the reward is compared on, before and after


def reward_weighted(
    run: Run,
    model: Model,
    data: Dataset,
    *,
    judge: Model | None = None,
    scorers: Scorers,
    samples: Annotated[int, Field(ge=16, le=100_000)] = 1024,
    strength: Annotated[float, Field(gt=0, le=20)] = 1.0,
    real: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    steps: Annotated[int, Field(ge=0)] = 0,
    batch: Annotated[int, Field(ge=0, le=65_536)] = 0,
    rate: Annotated[float, Field(gt=0, le=100)] = 0.25,
    controls: dict[str, float] | None = None,
) -> Model:
    """Fine-tune `model` on its own samples, weighted by what scorers think of them.

    Args:
        model: draws images or rows.
        data: whose conditions are asked; its train split also keeps the model near real data.
        judge: a model that the scorers ask, where they need one.
        scorers: what is rewarded; several count alike, each in units of its own spread.
        samples: drawn from the model and judged; more teach finer differences and cost time.
        strength: weight of one standard deviation of reward, as an exponent; more moves further and narrows.
        real: share of the training examples that are real ones with weight 1, against narrowing.
        steps: of training; 0 takes a fifth of what the family trains from scratch.
        batch: examples in a step; 0 takes what suits the family.
        rate: factor on the family's learning rates.
        controls: how the samples that are learnt from are drawn (`{guidance: 1.5}`); the model's own by default, which
            the reward is compared under, before and after. Stronger guidance than its own draws what it can do at best.

    Raises:
        SettingError: the model writes text (use `align.dpo`), or no scorer is named.
    """
    from volant.nets import content
    from volant.nets.controls import check_controls
    from volant.nets.opened import draws, to_train
    from volant.scorers import build
    from volant.store.dataset import rows

    if not draws(model):
        raise SettingError("the model writes text.", where=run.step, fix="Use `align.dpo`.")
    if not scorers:
        raise SettingError("there is no scorer to reward with.", where=run.step, fix="Name some under `scorers`.")
    opened = to_train(run, model)
    check_controls(opened.family, controls or {})
    train = list(rows(data, "train"))
    built = build(scorers, {"judge": judge, "training": train})
    drawn = _draw(run, _session(opened, controls), train, samples, run.seed)
    rewards = _rewards(built, drawn)
    if float(rewards.std()) < 1e-9:
        run.say(f"all {len(drawn)} samples get the same reward: there is nothing to learn, the model stays as it is")
        for file in sorted(model.path.iterdir()):
            if file.name != CARD:
                (shutil.copytree if file.is_dir() else shutil.copyfile)(file, run.out / file.name)
        return checked(run, model, data, judge)
    before = _draw(run, _session(opened), train, _HELD, run.seed + 1)
    held_out = content.encoded(opened.codec, held(data)[:512])
    loss_before = content.losses(opened.family, opened.net, opened.codec, held_out)
    examples, weights = _mixed(run, opened.codec, drawn, rewards, train, strength, real)
    ended = _fit(run, opened, examples, weights, held_out, steps, batch, rate)
    opened.save(run, aligned="reward_weighted", rewards=sorted(built), **ended)
    after = _draw(run, _session(opened), train, _HELD, run.seed + 1)
    _state(run, built, before, after)
    state_distance(run, loss_before, content.losses(opened.family, opened.net, opened.codec, held_out))
    return checked(run, model, data, judge)


def _session(opened: Opened, controls: dict[str, float] | None = None) -> Session:
    """Draws as they come: what the engine would draw again is what the model is to learn not to do."""
    from volant.nets.session import DrawSession

    asked = {**opened.controls, **(controls or {})}
    return DrawSession(opened.family, opened.net, opened.codec, asked, strict=False)


def _fit(
    run: Run, opened: Opened, examples: list[Any], weights: list[float], held_out: list[Any], steps: int, batch: int,
    rate: float,
) -> dict[str, Any]:  # fmt: skip
    """Train on weighted examples, and tell how that ended; a family fitted at once gets them as often as they weigh."""
    import numpy as np

    from volant.nets import content

    family = opened.family
    if hasattr(family, "estimate"):
        chances = np.asarray(weights) / sum(weights)
        chosen = np.random.default_rng(run.seed).choice(len(examples), len(examples), p=chances)
        family.estimate(opened.net, [examples[int(i)] for i in chosen], seed=run.seed)
        return {}
    budget = content.Budget(steps or max(1, int(family.default_steps) // 5), batch, rate)
    outcome = content.fit(
        run, family, opened.net, opened.codec, examples, held_out, budget, weights=weights, title="aligning"
    )  # fmt: skip
    return {} if outcome is None else {"steps": outcome.steps, "ended": outcome.reason}


def _draw(run: Run, session: Session, train: Sequence[Sample], n: int, seed: int) -> list[Sample]:
    """`n` samples of the conditions of the train split, as often as they occur there; the same seed, the same ones."""
    import numpy as np

    from volant.core.protocols import Request

    random = np.random.default_rng(seed)
    asked = [train[int(i)].condition or "" for i in random.integers(0, len(train), n)]
    requests = [Request(id=str(i), prompt=a, seed=seed * 1_000_003 + i) for i, a in enumerate(asked)]
    made: dict[str, Sample] = {}
    with run.progress("draws", n, "samples") as bar:
        for start in range(0, n, 512):
            run.check_stop()
            part = requests[start : start + 512]
            made |= {c.id: c.sample for c in session.generate(part) if c.sample is not None}
            bar.advance(len(part))
    return [made[r.id] for r in requests if r.id in made]


def _rewards(scorers: dict[str, Any], samples: Sequence[Sample]) -> NDArray[Any]:
    """The mean over scorers of each one's values, in units of its spread, more being better."""
    import numpy as np

    from volant.core.protocols import Output

    total = np.zeros(len(samples))
    for scorer in scorers.values():
        values = np.asarray(scorer.values([Output("", sample=s) for s in samples], samples), float)
        sign = 1.0 if scorer.direction == "higher" else -1.0
        total += sign * (values - values.mean()) / max(float(values.std()), 1e-9)
    return total / len(scorers)


def _mixed(
    run: Run, codec: Any, drawn: Sequence[Sample], rewards: NDArray[Any], train: Sequence[Sample], strength: float,
    real: float,
) -> tuple[list[Any], list[float]]:  # fmt: skip
    """Drawn examples with their weights, and real ones with weight 1; one sample's weight is bounded by 20."""
    import numpy as np

    from volant.nets import content

    weights = np.minimum(np.exp(strength * rewards), 20.0)
    weights = weights / weights.mean()
    count = min(len(train), round(len(drawn) * real / (1 - real)))
    chosen = np.random.default_rng(run.seed).permutation(len(train))[:count]
    examples = content.encoded(codec, [*drawn, *(train[int(i)] for i in chosen)])
    return examples, [*(float(w) for w in weights), *([1.0] * count)]


def _state(run: Run, scorers: dict[str, Any], before: Sequence[Sample], after: Sequence[Sample]) -> None:
    """What was rewarded, before and after on the same conditions and seeds."""
    from volant.core.protocols import Output
    from volant.scorers.compare import paired

    n = min(len(before), len(after))
    for name, scorer in scorers.items():
        values = [scorer.values([Output("", sample=s) for s in side[:n]], side[:n]) for side in (before, after)]
        told = paired(name, list(values[0]), list(values[1]), direction=scorer.direction, unit=scorer.unit)
        run.score(told.change)
        run.say(f"reward: {told}")
