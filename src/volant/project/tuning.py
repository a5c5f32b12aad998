"""`volant tune`: a search for the settings of one step, by Optuna.

Enters: a project whose file gives ranges, and what is to become better. Leaves: a `Search`: the trials in the records,
the best values, and how much each setting matters. A trial is a run like every other: what is finished lies in the
store, and a killed one carries on from its checkpoint. The test split is never looked at.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from volant.core.errors import Interrupted, SettingError, SpecError, VolantError, did_you_mean
from volant.core.run import Bar, Watcher
from volant.core.score import Score
from volant.project.execute import Done
from volant.project.looking import headline, is_quality
from volant.project.nested import value_at, with_value
from volant.project.planning import Planned, with_ancestors
from volant.project.trials import Search, State, Trial, draw, importance, unlike

if TYPE_CHECKING:
    from volant.project.project import Project

CURVE = "validation_loss"
"""The curve by which hopeless trials are ended; every training loop looks a few times."""
_FAILURES = 3  # in a row end the search
_KIND = "trial"


def search(project: Project, step: str, *, trials: int, goal: str = "", seed: int = 0) -> Search:
    """Try settings of a step until there are `trials` of them.

    Args:
        project: its file says what may be chosen from.
        step: the one whose settings are searched.
        trials: in all; those of an earlier call with the same file count.
        goal: a metric of the step, or `STEP.METRIC` of a later one; empty takes the step's main figure.
        seed: of the search.

    Raises:
        SpecError: the step has no ranges, or the figure would come from the test split.
        SettingError: no such metric.
        Interrupted: the user stopped it; the same call carries on.
    """
    planned = project.plan()
    found = _begun(planned, step, goal, seed)
    chain = with_ancestors(planned, [found.target])
    _check_sealed(chain, planned, found)
    key = _key(project, planned, found)
    found.trials = _recorded(project, key)
    outer, failed = project.watcher, 0
    found.direction, found.metric = _known_direction(project, key, found)
    if len(found.trials) < trials and (why := never_early(found)):
        outer.say(step, why)
    bar = outer.bar(step, "search", trials, "trials")
    bar.advance(min(len(found.trials), trials))
    try:
        while len(found.trials) < trials:
            trial = _one(project, found, outer)
            if trial.state == "done" and not any(t.state == "done" for t in found.trials):
                project.records.event("search", {"key": key, "metric": found.metric, "direction": found.direction})
            project.records.event(_KIND, {"key": key, **vars(trial)})
            found.trials.append(trial)
            outer.say(step, _line(found, trial))
            best = found.best
            bar.advance(1, **({} if best is None or best.score is None else {"best": best.score}))
            failed = failed + 1 if trial.state == "failed" else 0
            if failed >= _FAILURES:
                what = f"{failed} trials in a row failed, the last one so: {trial.error}"
                raise SpecError(what, where=step, fix="Narrow the ranges of `search`, and run `volant tune` again.")
    finally:
        project.watcher = outer
        outer.close_bar(bar)
    found.importance = importance(found)
    return found


def _begun(planned: Sequence[Planned], step: str, goal: str, seed: int) -> Search:
    by_name = {p.name: p for p in planned}
    if step not in by_name:
        raise SpecError(f"there is no step {step!r}.", where="volant tune", fix=did_you_mean(step, by_name))
    own = by_name[step]
    if not own.choices:
        fix = "Give it some, as in `search: {lr: {range: [1e-4, 1e-2], log: true}}`; see docs/project-file.md."
        raise SpecError("the step has no ranges to search.", where=own.where, fix=fix)
    target, dot, metric = goal.partition(".")
    if not dot:
        target, metric = step, goal
    if target not in by_name:
        raise SpecError(f"there is no step {target!r}.", where="--for", fix=did_you_mean(target, by_name))
    if step not in {p.name for p in with_ancestors(planned, [target])}:
        after = [p.name for p in planned if step in {a.name for a in with_ancestors(planned, [p.name])}]
        what = f"{target!r} does not depend on {step!r}."
        raise SpecError(what, where="--for", fix=f"Steps that do: {', '.join(after)}.")
    stands = own.method.bind({**own.inputs, **own.arguments}).settings
    return Search(step, target, own.choices, metric, {c.name: value_at(stands, c.name) for c in own.choices}, seed)


def _check_sealed(chain: Sequence[Planned], planned: Sequence[Planned], found: Search) -> None:
    """Refuse figures of the test split: choosing by it would wear it out."""
    for step in chain:
        depends = found.step in {p.name for p in with_ancestors(planned, [step.name])}
        if not depends or step.method.stage != "evaluate":
            continue
        known = step.method.fields.get("split")
        if known and step.arguments.get("split", known[1].default) != "test":
            continue
        what = f"a search that looks at {step.name!r} would choose by the test split."
        fix = "Set `split: validation` on it, or take another step's figure with `--for`."
        raise SpecError(what, where=step.where, fix=fix)


def _key(project: Project, planned: Sequence[Planned], found: Search) -> str:
    """What has to be the same for trials to belong together; makes what the searched step needs.

    Everything that the searched step does not change stands there by the digest of its artifact.
    """
    chain = with_ancestors(planned, [found.target])
    changed = {p.name for p in chain if found.step in {a.name for a in with_ancestors(planned, [p.name])}}
    fixed = sorted({need for p in chain if p.name in changed for need in p.needs if need not in changed})
    made: dict[str, Done] = project.go(fixed) if fixed else {}
    own = {c.name for c in found.choices}
    left = {
        p.name: {k: v for k, v in p.arguments.items() if p.name != found.step or k not in own}
        for p in chain
        if p.name in changed
    }
    for name in own:
        if "." in name:
            left[found.step] = with_value(left[found.step], name, None)
    steps = {p.name: [p.method.name, p.seed, left[p.name]] for p in chain if p.name in changed}
    told = {
        "step": found.step, "target": found.target, "metric": found.metric, "seed": found.seed, "steps": steps,
        "choices": {c.name: c.as_json() for c in found.choices}, "stands": found.stands,
        "inputs": {name: made[name].artifact.digest for name in fixed}, "goal": project.goal.model_dump(),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _recorded(project: Project, key: str) -> list[Trial]:
    """The trials of a search, in order; a number that was recorded twice counts once."""
    found: dict[int, Trial] = {}
    for event in reversed(project.records.events(_KIND, limit=1_000_000)):
        body = dict(event.body)
        if body.pop("key", "") == key:
            found.setdefault(int(body["number"]), Trial(**{**body, "looks": tuple(body["looks"])}))
    return [found[n] for n in sorted(found) if n < len(found)]


def _known_direction(project: Project, key: str, found: Search) -> tuple[Literal["higher", "lower"], str]:
    for event in project.records.events("search", limit=1_000_000):
        if event.body.get("key") == key:
            return ("lower" if event.body["direction"] == "lower" else "higher"), str(event.body["metric"])
    return found.direction, found.metric


# --- one trial --------------------------------------------------------------------------------


@dataclass
class _Watch:
    """Hears a trial: passes bars on, keeps what is said for itself, and ends a trial that falls behind.

    Attributes:
        looks: points of the curve so far.
        pruned: whether the trial was asked to stop.
    """

    outer: Watcher
    project: Project
    step: str
    behind: Any
    looks: list[float] = field(default_factory=list)
    pruned: bool = False

    def say(self, step: str, text: str) -> None:
        """Only what the user has to know."""
        if text.startswith(("WARNING", "RED FLAG")):
            self.outer.say(step, text)

    def score(self, step: str, score: Score) -> None:
        """It is in the records."""

    def metric(self, step: str, name: str, value: float, at: int) -> None:
        """A point; the searched step's curve decides whether the trial goes on."""
        self.outer.metric(step, name, value, at)
        if step == self.step and name == CURVE and not self.pruned:
            self.looks.append(value)
            if self.behind(self.looks):
                self.pruned = True
                self.project.stop.set()

    def bar(self, step: str, title: str, total: float, unit: str) -> Bar:
        """Passed on."""
        return self.outer.bar(step, title, total, unit)

    def close_bar(self, bar: Bar) -> None:
        """Passed on."""
        self.outer.close_bar(bar)


def _one(project: Project, found: Search, outer: Watcher) -> Trial:
    """Draw the values of the next trial, run it, and say what became of it."""
    drawn = draw(found)
    watch = _Watch(outer, project, found.step, drawn.behind, _earlier_looks(project, found, drawn.values))
    project.watcher = watch
    spent = {"seconds": 0.0}

    def seen(planned: Planned, done: Done) -> None:
        spent["seconds"] += 0.0 if done.fresh and planned.name != found.step else done.seconds

    settings = {f"{found.step}.{name}": value for name, value in drawn.values.items()}
    state: State = "done"
    score, error = None, ""
    try:
        done = project.go([found.target], settings=settings, on_step=seen)
        score = _figure(project, found, done[found.target])
    except Interrupted:
        if not watch.pruned:
            raise
        state = "pruned"
        _clear_work(project, found.step)
    except VolantError as problem:
        if isinstance(problem, SpecError | SettingError):
            raise
        state, error = "failed", str(problem)
    finally:
        project.watcher = outer
        if watch.pruned:
            project.stop.clear()
    seconds = round(spent["seconds"], 3)
    return Trial(len(found.trials), drawn.values, drawn.raw, state, score, tuple(watch.looks), error, seconds)


def _earlier_looks(project: Project, found: Search, values: dict[str, Any]) -> list[float]:
    """The points of the curve from before the user stopped this very trial, which carries on from its checkpoint.

    Of one that was killed the last points may not have reached the records. Its checkpoint is given up, so that what
    is ended early stays the same.
    """
    project.end_dead_runs()
    looks: list[float] = []
    for row in project.records.runs(step=found.step, limit=100):
        if row.status != "stopped" or any(value_at(row.settings, name) != value for name, value in values.items()):
            break
        if row.error:
            shutil.rmtree(project.store.root / "work" / row.inputs_key[:24], ignore_errors=True)
            return []
        looks = [value for _, value, _ in project.records.metrics(row.id, CURVE)] + looks
    return looks


def never_early(found: Search) -> str:
    """Why no trial of the search is ended early; nothing where some may be."""
    names = " or ".join(unlike(found))
    return f"no trial is ended early: with another {names} the {CURVE} counts something else" if names else ""


def _figure(project: Project, found: Search, done: Done) -> float:
    """The score that is searched for; the first trial settles its name and direction."""
    scores = [s for s in project.records.scores(done.run) if s.of == "model"]
    named = next((s for s in scores if s.name == found.metric), None) if found.metric else None
    if not found.metric:
        named = headline([s for s in scores if is_quality(s)], project.goal)
        if named is None and scores:
            what = f"no figure that {found.target!r} states says how good it is: {', '.join(s.name for s in scores)}."
            fix = f"Say which counts, as in `--for {found.target}.{scores[0].name}`."
            raise SettingError(what, where="volant tune", fix=fix)
    if named is None:
        what = (
            f"{found.target!r} states no figure {found.metric!r}." if found.metric else f"{found.target!r} states none."
        )
        raise SettingError(what, where="--for", fix=did_you_mean(found.metric, {s.name for s in scores}))
    found.metric, found.direction = named.name, named.direction
    return named.value


def _clear_work(project: Project, step: str) -> None:
    """The checkpoint of a trial that was ended is of no use."""
    row = project.records.latest(step)
    if row is not None and row.status == "stopped":
        shutil.rmtree(project.store.root / "work" / row.inputs_key[:24], ignore_errors=True)


def _line(found: Search, trial: Trial) -> str:
    said = ", ".join(f"{name} {value}" for name, value in trial.values.items())
    best = found.best
    if trial.state == "failed":
        return f"trial {trial.number}: {said}: failed: {trial.error}"
    if trial.state == "pruned":
        return f"trial {trial.number}: {said}: ended early, its {CURVE} is behind the others'"
    so_far = f" (best so far: trial {best.number}, {best.score:.4g})" if best and best.score is not None else ""
    return f"trial {trial.number}: {said}: {found.metric} {trial.score:.4g}{so_far}"
