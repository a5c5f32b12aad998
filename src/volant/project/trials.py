"""The trials of a search and what is drawn next, by Optuna.

Enters: ranges and the trials so far. Leaves: the next values, whether a trial falls behind, and how much each setting
matters. The draws follow from the seed, the trial's number and the trials before it alone, so that nothing of Optuna
has to be kept: a search that was killed goes on to the same trials as one that was not.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from volant.project.ranges import Choice

_START_UP = 4  # trials before any is ended early
# With another value of these the loss counts something else (tokens of another size, another weight of a term), so that
# a lower one is no better: of pre-training, of `pretrain.fit` and its sizes, and of the methods of `align`.
_OF_THE_LOSS = frozenset(
    {"vocab", "context", "family", "codec", "sigma", "latent_channels", "beta", "margin", "anchor", "weight"}
)

State = Literal["done", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """One set of values and what became of it.

    Attributes:
        values: the settings that were tried.
        raw: the same as the sampler drew them, before they were rounded.
        state: `pruned` where its curve was below the middle of the others.
        score: what it reached, by the metric that is searched for.
        looks: points of its curve, by their number.
        error: of a failed one.
    """

    number: int
    values: dict[str, Any]
    raw: dict[str, Any]
    state: State
    score: float | None = None
    looks: tuple[float, ...] = ()
    error: str = ""
    seconds: float = 0.0


@dataclass
class Search:
    """A search and what it found so far.

    Attributes:
        target: the step whose figure counts.
        metric: its name; empty until the first trial has shown the main one.
        stands: what the project file takes now, defaults filled in.
        importance: share of what the settings change that is due to each; empty where too few trials tell.
    """

    step: str
    target: str
    choices: tuple[Choice, ...]
    metric: str
    stands: dict[str, Any]
    seed: int
    direction: Literal["higher", "lower"] = "higher"
    trials: list[Trial] = field(default_factory=list)
    importance: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> Trial | None:
        """The trial with the best figure, the first of equal ones."""
        done = [t for t in self.trials if t.state == "done" and t.score is not None]
        sign = 1.0 if self.direction == "higher" else -1.0
        return max(done, key=lambda t: (sign * (t.score or 0.0), -t.number), default=None)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        best = self.best
        return {
            "step": self.step, "target": self.target, "metric": self.metric, "direction": self.direction,
            "seed": self.seed, "best": best.values if best else None, "score": best.score if best else None,
            "importance": self.importance, "trials": self.trials,
        }  # fmt: skip


@dataclass(frozen=True)
class Draw:
    """The values of the next trial.

    Attributes:
        raw: as the sampler drew them.
        behind: told the curve so far, whether the trial is not worth going on with.
    """

    values: dict[str, Any]
    raw: dict[str, Any]
    behind: Callable[[Sequence[float]], bool]


def draw(found: Search) -> Draw:
    """The next values, and whether their curve falls behind those of the trials before."""
    asked = _study(found).ask(_distributions(found))
    raw = {c.name: asked.params[c.name] for c in found.choices}
    values = {c.name: json.loads(raw[c.name]) if c.values else c.neat(raw[c.name]) for c in found.choices}
    compared = not unlike(found)
    last = max((len(t.looks) for t in found.trials if t.state == "done"), default=0)

    def behind(looks: Sequence[float]) -> bool:
        asked.report(_sign(found) * looks[-1], len(looks))
        # At its last look a trial has cost all that it will.
        return compared and len(looks) < last and bool(asked.should_prune())

    return Draw(values, raw, behind)


def unlike(found: Search) -> list[str]:
    """The searched settings that change what the loss counts: curves of such trials do not compare."""
    return [c.name for c in found.choices if _words(c) & _OF_THE_LOSS]


def _words(choice: Choice) -> set[str]:
    """The names in a setting's path, and in the mappings that it may be."""
    return {*choice.name.split("."), *(key for value in choice.values if isinstance(value, dict) for key in value)}


def _study(found: Search) -> Any:
    """The search as Optuna knows it, with a sampler whose draws follow from the seed and the trial's number."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    number = len(found.trials)
    study = optuna.create_study(
        direction="maximize" if found.direction == "higher" else "minimize",
        sampler=optuna.samplers.TPESampler(
            seed=random.Random(f"{found.seed} {number}").getrandbits(31),
            n_startup_trials=max(4, 2 * len(found.choices)),
        ),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_START_UP),
    )
    states = optuna.trial.TrialState
    for trial in found.trials:
        study.add_trial(
            optuna.trial.create_trial(
                state={"done": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[trial.state],
                value=trial.score if trial.state == "done" else None,
                params=trial.raw,
                distributions=_distributions(found),
                intermediate_values={n: _sign(found) * look for n, look in enumerate(trial.looks, 1)},
            )
        )
    held = {c.name: found.stands[c.name] for c in found.choices if c.holds(found.stands[c.name])}
    if number == 0 and held:  # what the file takes now is tried first
        by_name = {c.name: c for c in found.choices}
        coded = {n: json.dumps(by_name[n].same(v)) if by_name[n].values else v for n, v in held.items()}
        study.enqueue_trial(coded)
    return study


def _sign(found: Search) -> int:
    """Optuna reads a curve in the direction of what is searched for; a loss is better low."""
    return -1 if found.direction == "higher" else 1


def _distributions(found: Search) -> dict[str, Any]:
    import optuna

    kinds = optuna.distributions
    made: dict[str, Any] = {}
    for c in found.choices:
        if c.values:
            made[c.name] = kinds.CategoricalDistribution([json.dumps(v) for v in c.values])
        elif c.whole:
            made[c.name] = kinds.IntDistribution(int(c.low), int(c.high), log=c.log, step=int(c.step) or 1)
        else:
            made[c.name] = kinds.FloatDistribution(c.low, c.high, log=c.log, step=c.step or None)
    return made


def importance(found: Search) -> dict[str, float]:
    """The share of each setting, largest first; nothing where fewer than four trials say anything."""
    import optuna

    scores = {t.score for t in found.trials if t.state == "done"}
    if sum(t.state == "done" for t in found.trials) < 4 or len(scores) < 2:
        return {}
    return {name: round(share, 4) for name, share in optuna.importance.get_param_importances(_study(found)).items()}
