"""From figures to a decision: gates, the verdict with its reasons, the worst slices.

Figures, comparisons and the goal's targets enter; `Gate`s, a verdict and `Slice`s leave. The rules are
few and stand here in one place:

* **ship**: every quality gate and every guard holds.
* **retrain**: quality is missed though the training data is not learnt by heart, or a guard fails.
* **collect more**: quality is missed and the model knows its training data much better than the test
  data, or there are too few examples to tell.
* **stop**: significantly worse than the trivial baseline, and no better than the previous model.

Guards (what the modality's `gates` names: bias, safety, copies) count only beside passing quality: a constant
output has no gap.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from volant.core.sample import Sample
from volant.core.score import Direction, Score
from volant.core.spec import Goal, Target
from volant.scorers.compare import Comparison
from volant.scorers.measure import interval, prompt_of

Verdict = Literal["ship", "retrain", "collect more", "stop"]
FEW = 30  # examples; below, a missed target may be chance
OVERFIT = 1.25  # test bits per byte over training bits per byte
LEAST_IN_SLICE = 5
LISTED_SLICES = 8


@dataclass(frozen=True)
class Gate:
    """A bar and whether it is cleared.

    Attributes:
        kind: `quality` (a target, or the baseline), `guard` (what the modality names to gate together) or `note`
            (a target that this report does not measure).
        counts: whether the gate takes part in the verdict.
    """

    name: str
    kind: Literal["quality", "guard", "note"]
    passed: bool
    value: float | None
    bar: float
    asked: str
    counts: bool = True
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """The gate as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Slice:
    """A part of the examples and its mean of the task metric, against that of all others."""

    by: str
    name: str
    n: int
    value: float
    low: float
    high: float
    rest: float


def gates(
    goal: Goal, scores: Mapping[str, Score], against: Comparison | None, baseline: str, guards: Mapping[str, str]
) -> list[Gate]:
    """Targets of the goal, the baseline, and the guards.

    Args:
        goal: its targets.
        scores: the model's figures by name.
        against: the model compared with the goal's baseline in the task metric; None: not measured.
        baseline: that baseline's name.
        guards: the bar of each guard where the goal states none; empty: without a target it is not gated.
    """
    targets = goal.targets
    found = []
    for name, target in targets.items():
        if name not in guards:
            score = scores.get(name)
            if score is None:
                found.append(Gate(name, "note", False, None, target.bar, str(target), False))
            else:
                found.append(Gate(name, "quality", target.met_by(score.value), score.value, target.bar, str(target)))
    if against is not None:
        asked = f"better than {baseline}"
        found.append(
            Gate("beats_baseline", "quality", against.verdict == "better", against.gain, 0.0, asked, why=str(against))
        )
    quality = [g for g in found if g.kind == "quality"]
    counts = all(g.passed for g in quality)
    for name, default in guards.items():
        bar = targets.get(name) or (Target.parse(default) if default else None)
        if name in scores and bar is not None:
            value = scores[name].value
            why = scores[name].note if counts else "does not count: quality has not passed"
            found.append(Gate(name, "guard", bar.met_by(value), value, bar.bar, str(bar), counts, why))
    return found


def decide(
    found: Sequence[Gate],
    *,
    n: int,
    against: Comparison | None,
    since: Comparison | None,
    fit: tuple[float, float] | None,
) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons, the weightiest first.

    Args:
        found: the gates.
        n: examples measured.
        against: comparison with the baseline.
        since: comparison with the previous model.
        fit: bits per byte on training and on held-out samples.
    """
    missed = [g for g in found if g.kind == "quality" and not g.passed]
    guards = [g for g in found if g.kind == "guard" and g.counts and not g.passed]
    reasons = [_missed(g) for g in (*missed, *guards)]
    if not missed and not guards:
        held = sum(g.counts and g.kind != "note" for g in found)
        return "ship", [
            f"all {held} gates hold on {n} examples" if held else "the goal states no target that is measured"
        ]
    if not missed:
        return "retrain", reasons
    if against is not None and against.verdict == "worse" and since is not None and since.verdict != "better":
        return "stop", [*reasons, f"no better than the previous model: {since}"]
    if n < FEW:
        return "collect more", [*reasons, f"only {n} examples: too few to tell a missed target from chance"]
    if fit is not None and fit[1] > OVERFIT * fit[0]:
        return "collect more", [*reasons, f"{_fit(fit)}: it has learnt examples by heart"]
    return "retrain", [*reasons, f"{_fit(fit)}: there is room to train"] if fit is not None else reasons


def _fit(fit: tuple[float, float]) -> str:
    return f"{fit[0]:.2f} bits per byte on training data, {fit[1]:.2f} on held-out data"


def _missed(gate: Gate) -> str:
    if gate.name == "beats_baseline":
        return f"not {gate.asked}: {gate.why}"
    return f"{gate.name} is {gate.value:.4g}, asked {gate.asked}"


def slices(samples: Sequence[Sample], values: Sequence[float], direction: Direction) -> list[Slice]:
    """The worst slices by group, by length of the prompt and by attributes, worst first.

    A slice holds at least `LEAST_IN_SLICE` examples and not all of them. Many are looked at, so the
    worst of them looks worse than it is; its interval is its own, not corrected.
    """
    members: dict[tuple[str, str], list[int]] = defaultdict(list)
    lengths = sorted(len(prompt_of(s)) for s in samples)
    third, two_thirds = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]
    for i, sample in enumerate(samples):
        length = len(prompt_of(sample))
        size = "short" if length < third else "middle" if length < two_thirds else "long"
        members["length of the prompt", size].append(i)
        if sample.group:
            members["group", sample.group].append(i)
        for key, value in sample.attrs.items():
            if isinstance(value, str | bool | int):
                members[key, str(value)].append(i)
    found = []
    for (by, name), own in members.items():
        if LEAST_IN_SLICE <= len(own) < len(samples):
            mean, low, high = interval([values[i] for i in own])
            outside = set(own)
            others = [v for i, v in enumerate(values) if i not in outside]
            found.append(Slice(by, name, len(own), mean, low, high, sum(others) / len(others)))
    sign = 1 if direction == "higher" else -1
    return sorted(found, key=lambda s: (sign * (s.value - s.rest), s.by, s.name))[:LISTED_SLICES]
