"""The contract of a method: `check_method(function, arguments, folder=...)`.

A method and a builder of its arguments enter (called with a fresh project: it puts artifacts into its
store, files into its folder, and returns inputs and settings by name, the same ones every time). An
`AssertionError` leaves where the contract is broken, else the artifact. Everything goes through a real
project, because that is where methods live: snapshots, keys, sealing and views are part of the promise.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volant.core.artifact import KINDS, Artifact, Dataset, file_sha256
from volant.core.errors import Interrupted, SettingError, VolantError
from volant.core.method import Method, method_of
from volant.testing import worlds
from volant.testing.expecting import expect, outcome, refusal, same
from volant.testing.provenance import check_provenance, ids_of
from volant.testing.stopping import STEP, StopsAt, digest_after_kills, whole

if TYPE_CHECKING:
    from volant.project import Project
    from volant.project.execute import Call, Done

Arguments = Callable[["Project"], dict[str, Any]]
_NOBODY = "a-workload-that-nobody-uses"


def check_method(
    function: Callable[..., Artifact],
    arguments: Arguments,
    *,
    folder: Path,
    seed: int = 0,
    stops: int = 2,
    edges: bool = True,
    kill: bool = False,
    kills: int = 3,
) -> Artifact:
    """Hold a method to its contract.

    Args:
        function: the method.
        arguments: puts what the call needs into a project and returns inputs and settings by name.
        folder: an empty directory for projects.
        seed: of the runs, and of the moments at which they are interrupted.
        stops: stop a run by Ctrl-C so many times, and let it go on.
        edges: also call it with no example and with one.
        kill: also kill runs with SIGKILL; slow, and the method must be importable by name.
        kills: how many times.

    Raises:
        AssertionError: the contract is broken; the sentence says where.
    """
    case = _Case(method_of(function), arguments, folder, seed)
    check_documented(case.method)
    project, given = case.world("first")
    check_settings(case.method, given)
    _check_refusals(case, project, given)
    before = _surroundings(case, project, given)
    watcher = _watch(project)
    done = case.call(project, given)
    same(_surroundings(case, project, given), before, f"{case.name} changed its inputs")
    whole(project.root, "the run")
    if isinstance(done.artifact, Dataset):
        inputs = [artifact for p in case.method.inputs for artifact in _listed(given.get(p.name))]
        check_provenance(case.name, done.artifact, project.root, ids_of(inputs))
    _check_fresh(case, project, given, done)
    _check_outside(case, project, given)
    second, given = case.world("second")
    stopped = [_stopped(case, second, given, at) for at in _moments(watcher.seen, stops, seed)]
    _check_same(case, done, case.call(second, given), any(stopped))
    if edges:
        _check_edges(case, second, given)
    if kill:
        found = digest_after_kills(function, lambda name: case.place(f"kill-{name}"), kills=kills, seed=seed)
        same(found, done.artifact.digest, f"{case.name} makes another artifact in a process of its own")
    return done.artifact


@dataclass
class _Case:
    """A method under test, and where its projects are made."""

    method: Method
    arguments: Arguments
    folder: Path
    seed: int
    made: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.method.name

    def world(self, name: str) -> tuple[Project, dict[str, Any]]:
        """A fresh project and the arguments in it."""
        from volant.project import Project

        project = Project(self.folder / name, device="cpu", threads=1)
        project.root.mkdir(parents=True, exist_ok=True)
        given = self.arguments(project)
        inputs = {p.name: [a.digest for a in _listed(given.get(p.name))] for p in self.method.inputs}
        first = self.made.setdefault("first", inputs)
        same(inputs, first, f"the arguments builder of {self.name} makes other inputs each time")
        return project, given

    def place(self, name: str) -> tuple[Path, dict[str, Any]]:
        """The same, as a path that another process opens."""
        project, given = self.world(name)
        return project.root, given

    def call(self, project: Project, given: Mapping[str, Any], *, step: str = STEP) -> Done:
        return project.call(step, self.method, given, seed=self.seed)

    def prepared(self, project: Project, given: Mapping[str, Any], *, seed: int | None = None) -> Call:
        from volant.project.execute import prepare

        bound = self.method.bind(given, where=STEP)
        return prepare(project, STEP, self.method, bound, self.seed if seed is None else seed, [])


def check_documented(method: Method) -> None:
    """Every setting has a line in the docstring's `Args:`, and every line a parameter."""
    expect(method.summary.strip(), f"{method.name} has no docstring")
    silent = [name for name in method.fields if not method.setting_docs.get(name, "").strip()]
    expect(not silent, f"{method.name} does not document {', '.join(silent)} in the Args section of its docstring")
    known = {"run", *method.fields, *(p.name for p in method.inputs)}
    stray = sorted(set(method.setting_docs) - known)
    expect(not stray, f"{method.name} documents what it does not take: {', '.join(stray)}")


def check_settings(method: Method, given: Mapping[str, Any]) -> None:
    """Settings survive JSON, the defaults are values that the method takes, and there is a JSON Schema."""
    names = {p.name for p in method.inputs}
    settings = {name: value for name, value in given.items() if name not in names}
    defaults = {name: info.default for name, (_, info) in method.fields.items() if not info.is_required()}
    for said, values in (("its defaults", {**settings, **defaults}), ("its settings", settings)):
        try:
            read = method.settings.model_validate(values)
            dumped = read.model_dump(mode="json")
            again = method.settings.model_validate(json.loads(json.dumps(dumped)))
        except ValueError as error:
            raise AssertionError(f"{method.name}: {said} do not survive JSON: {error}") from error
        same(again.model_dump(mode="json"), dumped, f"{method.name}: {said} come back from JSON changed")
        expect(again == read, f"{method.name}: {said} come back from JSON as other values: {again!r}")
    schema = json.loads(json.dumps(method.json_schema()))
    same(
        set(schema.get("properties", {})), set(method.fields), f"the JSON Schema of {method.name} lists other settings"
    )


def _check_refusals(case: _Case, project: Project, given: Mapping[str, Any]) -> None:
    """A misspelt setting and inputs of a wrong kind are refused before anything is written."""
    right = next((n for n in case.method.fields if len(n) > 2), "")
    wrong = f"{right[1]}{right[0]}{right[2:]}" if right and right[0] != right[1] else f"{right}q"
    sentence = f"{case.name} has to refuse the misspelt setting {wrong!r}"
    error = refusal(lambda: case.call(project, {**given, wrong: 1}), sentence, kind=SettingError)
    if right:
        expect(right in str(error) and wrong in str(error), f"{sentence} and to name the right one; it says: {error}")
    for parameter in case.method.inputs:
        other = next(kind for kind in KINDS.values() if kind is not parameter.kind)
        swapped = other(project.root)
        sentence = f"{case.name} has to refuse a {other.kind} as {parameter.name!r}"
        refusal(lambda p=parameter, s=swapped: case.call(project, {**given, p.name: s}), sentence, kind=SettingError)  # type: ignore[misc]
    same(len(project.records.runs(step=STEP)), 0, f"{case.name}: a refused call left a run")


def _check_fresh(case: _Case, project: Project, given: Mapping[str, Any], done: Done) -> None:
    expect(isinstance(done.artifact, case.method.returns), f"{case.name} returned a {done.artifact.kind}")
    again = case.call(project, given)
    expect(
        again.fresh and again.artifact.digest == done.artifact.digest, f"{case.name} runs again although it is fresh"
    )
    place = str(project.root).encode()
    for file in done.artifact.path.rglob("*"):
        if file.is_file() and file.name != "artifact.json":
            expect(place not in file.read_bytes(), f"{case.name} wrote the project's place into {file.name}")
    other = case.prepared(project, given, seed=case.seed + 1)
    expect(project.records.fresh(other.inputs_key) is None, f"{case.name} does not run again with another seed")


def _check_outside(case: _Case, project: Project, given: Mapping[str, Any]) -> None:
    """Edit one byte of what was read outside: the call is not fresh any more."""
    call = case.prepared(project, given)
    for setting, snapshot in call.outside.items():
        for file in snapshot.files[:1]:
            kept, times = file.path.read_bytes(), file.path.stat()
            middle = len(kept) // 2
            flipped = bytes([kept[middle] ^ 1]) if kept else b"x"
            file.path.write_bytes(kept[:middle] + flipped + kept[middle + 1 :])
            _expect_stale(case, project, given, f"a byte of {file.name} ({setting}) changed")
            file.path.write_bytes(kept)
            os.utime(file.path, ns=(times.st_atime_ns, times.st_mtime_ns))
        if snapshot.kind == "records" and snapshot.value != _NOBODY:
            workload = "contract" if snapshot.value == "*" else str(snapshot.value)
            asked = {"messages": [{"role": "user", "content": "one more"}]}
            request = project.records.add_request(
                workload, "contract", asked, None, model="", status=200, milliseconds=1.0,
                first_token_ms=1.0, prompt_tokens=1, completion_tokens=1,
            )  # fmt: skip
            project.records.add_feedback(request, client="contract", rating=1)
            _expect_stale(case, project, given, f"the records ({setting}) grew")


def _expect_stale(case: _Case, project: Project, given: Mapping[str, Any], after: str) -> None:
    call = case.prepared(project, given)
    expect(project.records.fresh(call.inputs_key) is None, f"{case.name} does not run again after {after}")


def _watch(project: Project, at: int = 0) -> StopsAt:
    watcher = StopsAt(at=at, stop=project.stop)
    project.watcher = watcher
    return watcher


def _moments(seen: int, stops: int, seed: int) -> list[int]:
    """After how many of the things that a run told it is stopped: random ones, spread over the run."""
    rng = random.Random(seed)
    return [1 + int(seen * (i + rng.random()) / stops) for i in range(stops)] if seen else []


def _stopped(case: _Case, project: Project, given: Mapping[str, Any], at: int) -> bool:
    """Stop the call at a moment; whether it left early. Nothing of it may be visible then."""
    watcher = _watch(project, at)
    known = set(project.store.digests())
    try:
        case.call(project, given)
        stopped = False
    except Interrupted:
        stopped = True
        same(set(project.store.digests()), known, f"{case.name} was stopped and yet left an artifact")
    except Exception as error:
        raise AssertionError(f"{case.name} answers Ctrl-C with {type(error).__name__}: {error}") from error
    finally:
        watcher.at = 0
        project.stop.clear()
    whole(project.root, "Ctrl-C")
    return stopped


def _check_same(case: _Case, first: Done, second: Done, stopped: bool) -> None:
    if first.artifact.digest == second.artifact.digest:
        return
    project, given = case.world("third")
    third = case.call(project, given).artifact
    assert first.artifact.card and second.artifact.card and third.card
    alike = third.digest == first.artifact.digest
    other = second.artifact.card if alike else third.card
    mine = {f.path: f.sha256 for f in first.artifact.card.files}
    theirs = {f.path: f.sha256 for f in other.files}
    differ = sorted(n for n in {*mine, *theirs} if mine.get(n) != theirs.get(n))
    if alike and stopped:
        raise AssertionError(f"{case.name}, stopped and resumed, makes another artifact; these differ: {differ}")
    raise AssertionError(f"{case.name} makes another artifact from the same seed; these differ: {differ}")


def _surroundings(case: _Case, project: Project, given: Mapping[str, Any]) -> dict[str, str]:
    """Every file of the inputs and of the outside, with its sha256."""
    found = {}
    for parameter in case.method.inputs:
        for artifact in _listed(given.get(parameter.name)):
            for file in sorted(artifact.path.rglob("*")):
                if file.is_file():
                    found[f"{parameter.name}/{file.relative_to(artifact.path)}"] = file_sha256(file)
            problems = project.store.verify(artifact.digest)
            expect(not problems, f"the input {parameter.name!r} of {case.name} is damaged: {problems}")
    for setting, snapshot in case.prepared(project, given).outside.items():
        found |= {f"{setting}:{file.name}": file_sha256(file.path) for file in snapshot.files}
    return found


def _check_edges(case: _Case, project: Project, given: Mapping[str, Any]) -> None:
    """No example, and one: a result, or an error with a fix."""
    for parameter in case.method.inputs:
        listed = _listed(given.get(parameter.name))
        if not issubclass(parameter.kind, Dataset) or not listed:
            continue
        for n, kept in ((0, []), (1, _first(listed[0]))):
            small = worlds.dataset(project, kept)
            value = [small, *listed[1:]] if parameter.many else small
            _check_edge(case, project, {**given, parameter.name: value}, f"a {parameter.name!r} with n = {n}")
    outside = case.prepared(project, given).outside
    for setting, snapshot in outside.items():
        if snapshot.kind == "records":
            _check_edge(case, project, {**given, setting: _NOBODY}, f"no records for {setting!r}")
    for setting, snapshot in outside.items():
        for n in (0, 1):
            for file in snapshot.files:
                lines = file.path.read_bytes().splitlines(keepends=True) if n and file is snapshot.files[0] else []
                file.path.write_bytes(b"".join(lines[:n]))
            if snapshot.files:
                _check_edge(case, project, given, f"{n} line{'s' * (n != 1)} in what {setting!r} names")


def _check_edge(case: _Case, project: Project, given: Mapping[str, Any], edge: str) -> None:
    sentence = f"{case.name} has to take {edge}, or to refuse it with a fix"
    found = outcome(lambda: case.call(project, given, step="edge"), sentence)
    if not isinstance(found, VolantError):
        whole(project.root, edge)


def _first(data: Artifact) -> list[Any]:
    from volant.store.dataset import rows

    assert isinstance(data, Dataset)
    return [next(iter(rows(data)))]


def _listed(value: Any) -> list[Artifact]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
