"""Checks a whole project file before its first step starts, and puts the steps in order.

Names, types, settings, references, files, folders and packages are checked here, so that a run of
an hour does not fail in its last minute over a misspelt word.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from volant.core.errors import MissingPackage, SettingError, SpecError, did_you_mean
from volant.core.method import Method, method_named
from volant.core.spec import Spec
from volant.project.nested import with_value
from volant.project.ranges import Choice, choices

if TYPE_CHECKING:
    from volant.project.fingerprint import CodeReader
    from volant.project.snapshots import Snapshots


@dataclass(frozen=True)
class Planned:
    """One checked step.

    Attributes:
        inputs: the steps whose artifacts go in, by parameter.
        arguments: the settings as written (defaults not filled in).
        where: file, line and name, for messages.
        choices: what `volant tune` may choose from.
    """

    name: str
    method: Method
    inputs: dict[str, list[str]]
    arguments: dict[str, Any]
    seed: int
    where: str
    choices: tuple[Choice, ...] = ()

    @property
    def needs(self) -> list[str]:
        """The names of the steps whose artifacts go in."""
        return [name for names in self.inputs.values() for name in names]


def plan_steps(spec: Spec, settings: Mapping[str, Any] | None = None) -> list[Planned]:
    """Check names, types, settings and references of every step; returns them in an order that works.

    Args:
        settings: overrides, `{"tuned.rank": 16, "made.size.width": 64}`; `tuned.seed` sets a seed.

    Raises:
        SpecError, SettingError: with file, line and mend.
    """
    overrides = _overrides(spec, settings or {})
    planned = {name: _plan_step(spec, name, overrides.get(name, {})) for name in spec.steps}
    for step in planned.values():
        for parameter in step.method.inputs:
            for needed in step.inputs.get(parameter.name, []):
                place = spec.where("steps", step.name, parameter.name)
                if needed not in planned:
                    raise SpecError(f"there is no step {needed!r}.", where=place, fix=did_you_mean(needed, planned))
                made = planned[needed].method.returns
                if not issubclass(made, parameter.kind):
                    what = f"{parameter.name!r} takes a {parameter.kind.kind}, but {needed!r} makes a {made.kind}."
                    fits = [p.name for p in planned.values() if issubclass(p.method.returns, parameter.kind)]
                    raise SpecError(what, where=place, fix=f"Steps that fit: {', '.join(fits) or 'none'}.")
    _check_loop(spec, planned)
    return _ordered(spec, planned)


def check_outside(steps: Sequence[Planned], snapshots: Snapshots, code: CodeReader) -> None:
    """Check that every file, folder and package that the steps name is there.

    Raises:
        DataError, PathError, MissingPackage: for the first one that is not.
    """
    for step in steps:
        for name, kind in step.method.outside.items():
            value = step.arguments.get(name)
            if value not in (None, "", []) and kind in ("files", "folder", "hub"):
                snapshots.take(kind, value, where=f"{step.where}.{name}")
        for package in code.of(step.method).packages:
            if not _installed(package):
                raise MissingPackage(
                    f"{step.method.name} needs the package {package!r}.",
                    where=step.where,
                    fix=f"Install it: pip install {package}",
                )


@lru_cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _overrides(spec: Spec, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path, value in settings.items():
        step, dot, name = path.partition(".")
        if not dot or step not in spec.steps:
            raise SpecError(
                f"there is no step {step!r} to set {path!r} on.", where="--set", fix=did_you_mean(step, spec.steps)
            )
        if not all(name.split(".")):
            raise SpecError(f"{path!r} names no setting.", where="--set", fix="As in: --set tuned.rank=16")
        found.setdefault(step, {})[name] = value
    return found


def checked_seed(seed: object, *, where: str) -> int:
    """The seed, if it is one.

    Raises:
        SettingError: it is no whole number, or one that random generators or the records cannot take.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise SettingError(f"a seed is a whole number, not {seed!r}.", where=where, fix="As in: seed=1")
    if not 0 <= seed < 2**63:
        raise SettingError(f"a seed is from 0 to {2**63 - 1}, not {seed}.", where=where, fix="As in: seed=1")
    return seed


def _plan_step(spec: Spec, name: str, overrides: Mapping[str, Any]) -> Planned:
    step = spec.steps[name]
    where = spec.where("steps", name)
    method = method_named(step.use, where=spec.where("steps", name, "use"))
    arguments = dict(step.arguments)
    for path, value in overrides.items():
        arguments = with_value(arguments, path, value, where=f"--set {name}.{path}")
    seed = checked_seed(arguments.pop("seed", step.seed), where=f"--set {name}.seed")
    places = {key: spec.where("steps", name, key) for key in arguments}
    bound = method.bind(arguments, where=where, places=places)
    for parameter, values in bound.inputs.items():
        for value in values:
            if not isinstance(value, str):
                what = f"{parameter!r} takes the name of a step, not {value!r}."
                raise SpecError(what, where=places[parameter], fix=did_you_mean(str(value), spec.steps))
    own = {key: value for key, value in arguments.items() if key in method.fields}
    return Planned(name, method, bound.inputs, own, seed, where, choices(spec, name, method, arguments))


def _check_loop(spec: Spec, planned: Mapping[str, Planned]) -> None:
    loop = spec.loop
    if loop is None:
        return
    method_named(loop.source, where=spec.where("loop", "from"))
    for key, name in (("into", loop.into), ("candidate", loop.candidate)):
        if name and name not in planned:
            raise SpecError(
                f"there is no step {name!r}.", where=spec.where("loop", key), fix=did_you_mean(name, planned)
            )
    if not any(p.rest for p in planned[loop.into].method.inputs):
        what = f"{loop.into!r} takes no further datasets, so nothing can be fed back into it."
        raise SpecError(what, where=spec.where("loop", "into"), fix="Name a step such as one that uses collect.clean.")
    candidate_step(spec, list(planned.values()))


def candidate_step(spec: Spec, planned: Sequence[Planned]) -> str:
    """The step whose model a turn compares: `loop.candidate`, or the model that `deploy.serve` takes.

    Raises:
        SpecError: there is neither.
    """
    if spec.loop and spec.loop.candidate:
        return spec.loop.candidate
    for step in planned:
        if step.method.name == "deploy.serve":
            return step.inputs["model"][0]
    raise SpecError(
        "the loop does not say which model to compare.",
        where=spec.where("loop"),
        fix="Add `candidate: <step>`, or a step that uses deploy.serve.",
    )


def _ordered(spec: Spec, planned: dict[str, Planned]) -> list[Planned]:
    """The file's order, each step moved behind what it needs."""
    done: dict[str, Planned] = {}

    def place(name: str, trail: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in trail:
            circle = " -> ".join((*trail[trail.index(name) :], name))
            raise SpecError(f"the steps go in a circle: {circle}.", where=planned[name].where, fix="Cut one of them.")
        for needed in planned[name].needs:
            place(needed, (*trail, name))
        done[name] = planned[name]

    for name in spec.steps:
        place(name, ())
    return list(done.values())


def with_ancestors(planned: Sequence[Planned], names: Sequence[str], where: str = "") -> list[Planned]:
    """The named steps and all that they need, in order; all steps for no names.

    Raises:
        SpecError: a name is no step.
    """
    by_name = {step.name: step for step in planned}
    wanted: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in by_name:
            raise SpecError(f"there is no step {name!r}.", where=where, fix=did_you_mean(name, by_name))
        if name not in wanted:
            wanted.add(name)
            todo += by_name[name].needs
    return [step for step in planned if step.name in wanted] if names else list(planned)
