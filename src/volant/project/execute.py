"""Runs one checked call: fresh from the store, or the method in a scratch directory, sealed and recorded.

A kill at any moment leaves the old state or the new one: the artifact appears by a rename, the run
becomes `done` after that, and a call that finds a finished artifact of a dead run simply runs again
(its checkpoints in `work/` make that short).
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import resource
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

import volant
from volant.core.artifact import Artifact, Dataset, Model
from volant.core.errors import DataError, Interrupted, SettingError, VolantError
from volant.core.method import Bound, Method
from volant.core.outside import Snapshot
from volant.core.run import Run
from volant.project.fingerprint import Code, inputs_key, key_parts
from volant.project.watching import RecordingWatcher
from volant.runners.local import Local
from volant.runners.local import runner as local
from volant.runners.torchrun import Torchrun
from volant.store.disk import room
from volant.store.records import Status

if TYPE_CHECKING:
    from volant.project.project import Project

SEES_TEST = {"collect", "evaluate"}
"""Stages whose methods see the test split: `collect` makes and guards it, `evaluate` opens it."""

SHOWN_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "numpy",
    "scikit-learn",
    "pyarrow",
    "ctranslate2",
)


@dataclass(frozen=True)
class Call:
    """A call ready to be looked up or run: checked arguments, snapshots, and the two keys."""

    step: str
    method: Method
    bound: Bound
    seed: int
    outside: dict[str, Snapshot]
    parts: dict[str, Any]
    inputs_key: str
    code: Code


@dataclass(frozen=True)
class Done:
    """A finished call.

    Attributes:
        fresh: it was not run now.
        older_code: it was made by other code of Volant's own than today's.
        run: the id of the run that made it.
    """

    artifact: Artifact
    fresh: bool
    older_code: bool
    run: str
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def prepare(project: Project, step: str, method: Method, bound: Bound, seed: int, spec_steps: list[Any]) -> Call:
    """Take the snapshots and compute the keys of a call whose inputs are all artifacts.

    Raises:
        DataError, PathError: something outside is not there.
    """
    outside = {}
    for name, kind in method.outside.items():
        value = bound.settings.get(name)
        if value not in (None, "", []):
            snapshot = project.snapshots.take(kind, value, where=f"{step}.{name}")
            outside[name] = project.narrow(snapshot)
    models = [a.about for values in bound.inputs.values() for a in values if isinstance(a, Model)]
    by_name = [name for about in models for name in (f"nets.{about.family}", f"engines.{about.engine}")]
    code = project.code.of(method, [f"volant.{name}" for name in (f"modalities.{project.goal.modality}", *by_name)])
    parts = key_parts(
        method,
        code,
        settings=bound.settings,
        inputs={name: [a.digest for a in values] for name, values in bound.inputs.items()},
        outside=outside,
        seed=seed,
        goal=project.goal,
        modality=project.goal.modality,
        spec_steps=spec_steps,
        forgotten=project.forgotten,
    )
    return Call(step, method, bound, seed, outside, parts, inputs_key(parts), code)


def find_fresh(project: Project, call: Call) -> Done | None:
    """The finished artifact of an equal call, if the store still has it."""
    row = project.records.fresh(call.inputs_key)
    if row is None or not project.store.has(row.artifact):
        return None
    artifact = project.store.get(row.artifact)
    return Done(artifact, fresh=True, older_code=row.code_key != call.code.digest, run=row.id, seconds=row.seconds)


def execute(project: Project, call: Call, *, refresh: bool = False, spec_steps: list[Any] | None = None) -> Done:
    """Return the fresh artifact of the call, or run the method and seal what it made.

    Args:
        refresh: run it although it is fresh.
        spec_steps: the coming steps, for `plan.sizing`.
    """
    done = None if refresh else find_fresh(project, call)
    if done:
        return done
    with _only_one(project.store.root / "work" / f"{call.inputs_key[:24]}.lock"):
        # Another process may have finished the same call while this one waited for the lock.
        done = None if refresh else find_fresh(project, call)
        return done or _run(project, call, spec_steps or [])


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """One process at a time works on a call; the lock is freed by the system when its holder dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(project: Project, call: Call, spec_steps: list[Any]) -> Done:
    work = project.store.root / "work" / call.inputs_key[:24]
    work.mkdir(parents=True, exist_ok=True)
    out = project.store.scratch(call.step)
    inputs = {name: [_as_seen(project, call.method, a) for a in values] for name, values in call.bound.inputs.items()}
    parents = {name: [a.digest for a in values] for name, values in call.bound.inputs.items() if values}
    try:
        with _recorded(project, call, parents) as log, room(project.store.root, f"running {call.step}"):
            run = _as_run(project, call, out, work, log.watcher, spec_steps)
            _say_left_out(run)
            _say_alone(run, project.wanted_processes, call.method)
            made = (
                runner_of(project.processes(call.method))
                .submit(call.method.call, run, Bound(inputs, call.bound.settings))
                .result()
            )
            log.artifact = _seal(call, project, log, made, out, parents)
            _index(project, log.artifact)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)
    assert log.artifact is not None
    return Done(log.artifact, fresh=False, older_code=False, run=log.run_id, seconds=log.seconds)


def runner_of(processes: int) -> Local | Torchrun:
    """Where the work of so many processes happens: one is this one."""
    return local if processes == 1 else Torchrun(processes)


def _say_left_out(run: Run) -> None:
    """Links that lead nowhere or out of the project are not followed; whoever put them there is told."""
    for name, snapshot in run.outside.items():
        left = snapshot.facts.get("left_out", [])
        if left:
            shown = ", ".join(left[:3]) + (" ..." if len(left) > 3 else "")
            run.say(f"{name}: {len(left):,} links lead nowhere or out of the project and are not followed: {shown}")


def _say_alone(run: Run, wanted: int, method: Method) -> None:
    """A training that several processes cannot share is done by one, and whoever asked for more is told."""
    if wanted > 1 and not method.by_team and method.stage in ("pretrain", "finetune", "align"):
        run.say(f"one process trains: {method.name} cannot be shared by {wanted}")


@dataclass
class _Log:
    """A run being recorded."""

    run_id: str
    watcher: RecordingWatcher
    artifact: Artifact | None = None
    seconds: float = 0.0


@contextmanager
def _recorded(project: Project, call: Call, parents: dict[str, list[str]]) -> Iterator[_Log]:
    """Keeps the run's row: started, and how it ended, with figures, costs and the error if there was one."""
    facts = {"pid": os.getpid(), "host": socket.gethostname(), "threads": project.threads, "parts": call.parts}
    facts["processes"] = project.processes(call.method)
    settings = to_jsonable_python(call.bound.settings)
    run_id = project.records.start_run(
        call.step, call.method.name, call.inputs_key, call.code.digest, settings, call.seed, parents, facts
    )
    log = _Log(run_id, RecordingWatcher(project.records, run_id, project.watcher))
    clock, cpu = time.monotonic(), _cpu_seconds()
    status: Status = "failed"
    error = ""
    try:
        yield log
        status = "done"
    except Interrupted:
        status = "stopped"
        raise
    except VolantError as problem:
        placed = _placed(project, call, problem)
        error = str(placed)
        raise placed from problem
    except BaseException:
        error = traceback.format_exc()
        raise
    finally:
        log.seconds = time.monotonic() - clock
        try:
            log.watcher.flush()
            project.records.add_scores(run_id, log.watcher.scores)
            project.records.end_run(
                run_id,
                status,
                artifact=log.artifact.digest if log.artifact else "",
                seconds=log.seconds,
                cpu_seconds=_cpu_seconds() - cpu,
                peak_bytes=_peak_bytes(),
                error=error,
            )
        except Exception:
            # A full disk refuses the record too; the first error says more than this one.
            if status == "done":
                raise


def _placed(project: Project, call: Call, problem: VolantError) -> VolantError:
    """The error with its step, and with the line of the project file where it is about an option that stands there."""
    if not problem.where:
        return problem.at(call.step)
    option = "" if problem.where == call.step else problem.where.partition(".")[0]
    if isinstance(problem, SettingError) and project.spec and call.step in project.spec.steps:
        for name, value in call.bound.settings.items():
            if isinstance(value, Mapping) and option in value:
                return problem.at(project.spec.where("steps", call.step, name, option))
        if option in call.bound.settings:
            return problem.at(project.spec.where("steps", call.step, option))
    return problem


def _as_run(
    project: Project, call: Call, out: Path, work: Path, watcher: RecordingWatcher, spec_steps: list[Any]
) -> Run:
    return Run(
        step=call.step,
        out=out,
        work=work,
        seed=call.seed,
        device=project.device,
        threads=project.threads,
        modality=project.goal.modality,
        goal=project.goal,
        resolver=project.resolver,
        watcher=watcher,
        records=project.reader(),
        outside=call.outside,
        forgotten=project.forgotten,
        findings=partial(_findings, project, call),
        past=project.past_datasets,
        spec_steps=spec_steps,
        stop=project.stop,
    )


def _findings(project: Project, call: Call, artifact: Artifact, kind: str, about: str) -> Path:
    """Where this method, by its code of today, keeps what it finds of an artifact."""
    return project.findings.folder(artifact.digest, kind, f"{call.method.name} {call.code.digest} {about}")


def _as_seen(project: Project, method: Method, artifact: Artifact) -> Artifact:
    """The artifact as the method may see it: without the test split outside of `collect` and `evaluate`."""
    if isinstance(artifact, Dataset) and method.stage not in SEES_TEST:
        return project.store.view(artifact)
    return artifact


def _seal(
    call: Call, project: Project, log: _Log, made: Artifact, out: Path, parents: dict[str, list[str]]
) -> Artifact:
    if not isinstance(made, call.method.returns) or made.path != out:
        raise DataError(
            f"{call.method.name} returned {made!r}.",
            where=call.step,
            fix=f"Return {call.method.returns.kind}(run.out).",
        )
    return project.store.seal(
        call.method.returns,
        out,
        method=call.method.name,
        step=call.step,
        settings=to_jsonable_python(call.bound.settings),
        seed=call.seed,
        parents=parents,
        licences=_licences(made, [a for values in call.bound.inputs.values() for a in values]),
        scores=log.watcher.scores,
        run=log.run_id,
        versions=_versions(),
        recipe=_recipe(call, project.processes(call.method)),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _recipe(call: Call, processes: int) -> dict[str, Any]:
    """What the inputs key hashes and the card does not hold already, with the files behind each outside digest."""
    rest = {name: value for name, value in call.parts.items() if name not in ("method", "settings", "inputs", "seed")}
    rest["outside"] = {
        name: {
            "digest": snapshot.digest,
            "facts": {} if snapshot.kind == "machine" else snapshot.facts,
            "files": [[file.name, file.bytes, file.sha256] for file in snapshot.files],
        }
        for name, snapshot in sorted(call.outside.items())
    }
    return {**rest, "code": call.code.digest} | ({"processes": processes} if processes > 1 else {})


def _index(project: Project, artifact: Artifact) -> None:
    """Index a dataset's records now, while its shards are warm, so that no trace waits for it."""
    if isinstance(artifact, Dataset):
        from volant.store.record_index import index_of

        index_of(project.store.root).add(artifact)


def _licences(made: Artifact, inputs: list[Artifact]) -> list[str]:
    own: set[str] = set()
    if isinstance(made, Dataset):
        own |= set(made.about["licences"])
    if isinstance(made, Model):
        own |= {str(made.about.extra["licence"])} if made.about.extra.get("licence") else set()
    return sorted(own.union(*(a.licences for a in inputs)))


def _versions() -> dict[str, str]:
    """The versions of the loaded packages that shape results."""
    found = {"volant": volant.__version__, "python": sys.version.split()[0]}
    for name in SHOWN_PACKAGES:
        if name.replace("scikit-learn", "sklearn") in sys.modules:
            found[name] = importlib.metadata.version(name)
    return found


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit
