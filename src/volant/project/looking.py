"""What there is to see: the state of the wheel, lineage both ways, and what differs between two artifacts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import psutil

from volant.core.artifact import Artifact, Plan
from volant.core.score import Score
from volant.project.execute import find_fresh

if TYPE_CHECKING:
    from volant.core.spec import Goal
    from volant.project.execute import Call
    from volant.project.planning import Planned
    from volant.project.project import Project

State = Literal["fresh", "fresh, older code", "stale", "failed", "stopped", "never run"]


@dataclass(frozen=True)
class StepState:
    """One row of `volant status`.

    Attributes:
        why: for `stale`, what changed; for `failed`, the error.
        score: the step's own headline figure; `target` is the goal's bar for it, if it has one.
        seconds, estimated_seconds: what it took, and what `plan.sizing` expected (None: not said).
        bits, estimated_bits: the loss in bits per byte that it came to, and what was expected, lowest and highest.
    """

    step: str
    method: str
    state: State
    why: str = ""
    artifact: str = ""
    score: Score | None = None
    target: str = ""
    met: bool | None = None
    seconds: float | None = None
    estimated_seconds: float | None = None
    bits: float | None = None
    estimated_bits: tuple[float, float, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """The row for `--json`."""
        return {**asdict(self), "score": self.score.model_dump() if self.score else None}


@dataclass(frozen=True)
class Difference:
    """What differs between two artifacts: settings, inputs, versions and scores, as (left, right)."""

    left: str
    right: str
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)


def fresh_artifacts(project: Project) -> dict[str, Artifact]:
    """The artifacts of the steps that are fresh for the project file as it is."""
    return {row.step: project.store.get(row.artifact) for row in status(project) if row.state.startswith("fresh")}


def status(project: Project) -> list[StepState]:
    """The state of every step of the project file, in order; runs nothing."""
    planned = project.plan()
    extra = project.champion_extensions()
    upcoming = project.upcoming()
    artifacts: dict[str, Artifact] = {}
    rows: list[StepState] = []
    for step in planned:
        missing = [name for name in step.needs if name not in artifacts]
        if missing:
            rows.append(_stale(project, step, f"waits for {missing[0]}"))
            continue
        inputs = {name: [artifacts[n] for n in names] for name, names in step.inputs.items()}
        call = project.prepared(step, inputs, extra, upcoming)
        done = find_fresh(project, call)
        if done is None:
            rows.append(_stale(project, step, "", call))
            continue
        artifacts[step.name] = done.artifact
        scores = project.records.scores(done.run)
        score, bits = headline(scores, project.goal), Score.of_model(scores, "bits_per_byte")
        target = project.goal.targets.get(score.name) if score else None
        rows.append(
            StepState(
                step.name,
                step.method.name,
                "fresh, older code" if done.older_code else "fresh",
                artifact=done.artifact.digest,
                score=score,
                target=str(target or ""),
                met=target.met_by(score.value) if target and score else None,
                seconds=done.seconds,
                bits=bits.value if bits else None,
            )
        )
    project.save_caches()
    return _with_estimates(rows, artifacts)


def headline(scores: list[Score], goal: Goal) -> Score | None:
    """The figure of a step that a person looks for first: one with a target, the task metric, quality, any."""
    own = [score for score in scores if score.of == "model"]
    for wanted in (*goal.accept, goal.metric):
        for score in own:
            if score.name == wanted:
                return score
    return next((score for score in own if is_quality(score)), own[0] if own else None)


# Sizes, costs, counts and distances: true of what was made, and no sign that it is good.
_NO_QUALITY = re.compile(
    "parameters|training_tokens|weights_share|(size|speed)_ratio|.*_difference|(chosen_)?logratio"
    "|(answer|chosen)_length(_change)?|pairs|mixed_.*|screened_share|kept_share|dropped_.*"
)


def is_quality(score: Score) -> bool:
    """Whether the figure says how good something is, so that a search may aim at it unasked."""
    return not _NO_QUALITY.fullmatch(score.name)


def _stale(project: Project, step: Planned, why: str, call: Call | None = None) -> StepState:
    row = project.records.latest(step.name)
    state: State = "stale"
    if row is None:
        state, why = "never run", why
    elif row.status == "failed" and (call is None or row.inputs_key == call.inputs_key):
        state, why = "failed", row.error.strip().split("\n")[-1]
    elif row.status in ("stopped", "running") and (call is None or row.inputs_key == call.inputs_key):
        running = row.status == "running" and psutil.pid_exists(int(row.facts.get("pid", 0)))
        state, why = "stopped", "runs now" if running else "`volant run` carries on"
    elif call is not None:
        why = what_changed(row.facts.get("parts", {}), call.parts) or "its artifact is gone"
    return StepState(step.name, step.method.name, state, why=why, artifact=row.artifact if row else "")


def what_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """In words, which parts of two inputs keys differ: `rank 8 -> 16`, `input data changed`."""
    found: list[str] = []
    for part in sorted({*before, *after}):
        old, new = before.get(part), after.get(part)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            for name in sorted({*old, *new}):
                if old.get(name) != new.get(name):
                    told = (
                        f"{name} {old.get(name)} -> {new.get(name)}" if part == "settings" else f"{part} {name} changed"
                    )
                    found.append(told if len(told) < 80 else f"{name} changed")
        else:
            found.append(f"{part} {old} -> {new}" if part == "seed" else f"{part} changed")
    return ", ".join(found)


def _with_estimates(rows: list[StepState], artifacts: Mapping[str, Artifact]) -> list[StepState]:
    """Put what `plan.sizing` expected beside what each step took."""
    seconds: dict[str, float] = {}
    bits: dict[str, tuple[float, float, float]] = {}
    for artifact in artifacts.values():
        if isinstance(artifact, Plan) and (artifact.path / "plan.json").is_file():
            for entry in artifact.read_json("plan.json").get("steps", []):
                if isinstance(entry, dict) and "seconds" in entry:
                    seconds[str(entry["step"])] = float(entry["seconds"])
                    loss = entry.get("loss")
                    if loss and loss["inside"]:  # beyond what was fitted the interval holds nothing
                        bits[str(entry["step"])] = (loss["bits"], loss["low"], loss["high"])
    return [replace(row, estimated_seconds=seconds.get(row.step), estimated_bits=bits.get(row.step)) for row in rows]


def difference(project: Project, left: str, right: str) -> Difference:
    """What differs between two artifacts, named by alias, step or digest."""
    a, b = project.artifact(left), project.artifact(right)
    flat_a, flat_b = _flat(a), _flat(b)
    changed = {
        name: (flat_a.get(name), flat_b.get(name))
        for name in sorted({*flat_a, *flat_b})
        if flat_a.get(name) != flat_b.get(name)
    }
    return Difference(a.digest, b.digest, changed)


def _flat(artifact: Artifact) -> dict[str, Any]:
    card = artifact.card
    assert card is not None
    found: dict[str, Any] = {"kind": card.kind, "method": card.method, "seed": card.seed, "bytes": card.size_bytes}
    found |= {f"settings.{name}": value for name, value in card.settings.items()}
    found |= {f"inputs.{name}": [d[:12] for d in digests] for name, digests in card.parents.items()}
    found |= {f"versions.{name}": value for name, value in card.versions.items()}
    found |= {f"scores.{s.name}" if s.of == "model" else f"scores.{s.name} ({s.of})": s.value for s in card.scores}
    found["licences"] = card.licences
    return found
