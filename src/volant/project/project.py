"""A project: a directory with a `volant.yaml`, a store and records. It runs methods and keeps the thread.

    project = volant.Project("docstrings")
    corpus = project.run(collect.files, glob="data/*.jsonl", licence="CC-BY-4.0")
    tuned = project.step("tuned", seed=1).run(finetune.lora, base, corpus, rank=16)

YAML and Python compile to the same calls: `Project.go` runs the file, `Project.run` a single call.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import psutil

from volant.core.artifact import Artifact, Dataset
from volant.core.errors import ArtifactError, MachineError, SettingError, SpecError, did_you_mean
from volant.core.method import Method, method_of
from volant.core.outside import Snapshot
from volant.core.paths import Resolver
from volant.core.run import RecordsReader, Run, Silent, Watcher
from volant.core.spec import Goal, Spec
from volant.project.execute import Call, Done, execute, prepare
from volant.project.fingerprint import CodeReader
from volant.project.forgotten import forgotten_ids
from volant.project.goal_defaults import filled
from volant.project.looking import fresh_artifacts
from volant.project.planning import Planned, check_outside, checked_seed, plan_steps, with_ancestors
from volant.project.snapshots import Hashes, Snapshots
from volant.project.spec_file import load_spec
from volant.store.blobs import Store
from volant.store.findings import Findings
from volant.store.records import Records

P = ParamSpec("P")
A = TypeVar("A", bound=Artifact)

SPEC_FILE = "volant.yaml"


@dataclass(frozen=True)
class FeedbackAfter:
    """A records reader that leaves out feedback which an earlier turn has judged already."""

    inner: RecordsReader

    def requests(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """All requests up to the snapshot's mark."""
        return self.inner.requests(snapshot)

    def feedback(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Feedback up to the snapshot's mark and after its `feedback_after`."""
        after = int(snapshot.facts.get("feedback_after", 0))
        return (row for row in self.inner.feedback(snapshot) if int(row["id"]) > after)

    def ratings(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """All ratings up to the snapshot's mark."""
        return self.inner.ratings(snapshot)

    def runs(self, method: str | None = None) -> Iterator[dict[str, Any]]:
        """Past runs."""
        return self.inner.runs(method)


_A_CORE = 4  # threads, or processes that share a training; more than one are good for trying out only


class Project:
    """One project.

    Args:
        root: its directory; made with the first run if it does not exist.
        watcher: who is told what happens; nobody by default.
        device: `auto`, `cpu`, `cuda` or `mps`; the file's by default.
        threads: how many a method may use; the file's, or all cores, by default.
        processes: how many share a training where its method can; the file's by default.
    """

    def __init__(
        self,
        root: str | Path = ".",
        *,
        watcher: Watcher | None = None,
        device: str = "",
        threads: int = 0,
        processes: int = 0,
    ) -> None:
        self.root = Path(root).expanduser().resolve()
        self.watcher: Watcher = watcher or Silent()
        self.stop = threading.Event()
        self.feedback_after = 0
        self._device, self._threads, self._processes = device, threads, processes
        self.store = Store(self.root / ".volant")
        self.findings = Findings(self.store.root / "findings")
        self.resolver = Resolver.for_project(self.root)
        self.hashes = Hashes(self.store.root / "cache" / "hashes.json")
        self.code = CodeReader(self.store.root / "cache" / "code.json")

    @cached_property
    def spec(self) -> Spec | None:
        """The project file, or None where there is none."""
        path = self.root / SPEC_FILE
        return filled(load_spec(path)) if path.is_file() else None

    @property
    def goal(self) -> Goal:
        """The goal of the project file, or an empty one."""
        return self.spec.goal if self.spec else Goal()

    @cached_property
    def records(self) -> Records:
        """The records: the file's `records` URL, `VOLANT_RECORDS`, or SQLite in `.volant/`."""
        self.store.root.mkdir(parents=True, exist_ok=True)
        url = (self.spec.records if self.spec else "") or os.environ.get("VOLANT_RECORDS", "")
        return Records.open(url or f"sqlite:///{self.store.root / 'records.db'}")

    @cached_property
    def forgotten(self) -> frozenset[str]:
        """Ids of the records that were asked to be forgotten: `forgotten.jsonl` beside the project file."""
        return forgotten_ids(self.root)

    @cached_property
    def snapshots(self) -> Snapshots:
        """Takes snapshots of the outside."""
        return Snapshots(self.resolver, self.hashes, lambda: self.records)

    @property
    def threads(self) -> int:
        """How many threads a method may use.

        Raises:
            MachineError: far more were asked for than there are cores.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        wanted = self._threads or (self.spec.threads if self.spec else 0) or cores
        # By the machine's cores, so that a project keeps its threads, and its digests, where it is given fewer.
        there = os.cpu_count() or 1
        if wanted > _A_CORE * there:
            what = f"{wanted} threads are too many for {there} cores: they would wait for one another."
            raise MachineError(what, where="threads", fix=f"Take {there}, or leave `threads` out.")
        return wanted

    @property
    def wanted_processes(self) -> int:
        """How many processes share a training where its method can."""
        return self._processes or (self.spec.processes if self.spec else 1)

    def processes(self, method: Method) -> int:
        """How many processes share the work of the method.

        Raises:
            MachineError: each needs an accelerator of its own, and there are fewer; or far fewer cores.
        """
        wanted = self.wanted_processes
        if wanted == 1 or not method.by_team:
            return 1
        if self.device == "cpu":
            most = _A_CORE * (os.cpu_count() or 1)
            if wanted > most:  # hundreds of them have no memory left to say so themselves
                what = f"{wanted} processes are too many for {os.cpu_count()} cores: each loads torch and the model."
                raise MachineError(
                    what, where="processes", fix=f"Take {most} at most; more than one a core gain nothing."
                )
            return wanted
        import torch

        there = torch.cuda.device_count() if self.device == "cuda" else 1
        if wanted > there:
            what = f"{wanted} processes need as many accelerators, and {there} are here."
            raise MachineError(what, where="processes", fix=f"Take {there}, or `--device cpu`.")
        return wanted

    @cached_property
    def device(self) -> str:
        """The device, `auto` resolved. Loads torch, so it is asked for only when something runs.

        Raises:
            MachineError: the device asked for is not there.
        """
        wanted = self._device or (self.spec.device if self.spec else "auto")
        if wanted == "cpu":
            return wanted
        import torch

        there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if wanted == "auto":
            return next((name for name, found in there.items() if found), "cpu")
        if not there.get(wanted):
            found = ", ".join(["cpu", *(name for name, yes in there.items() if yes)])
            raise MachineError(f"there is no device {wanted!r} here.", where="device", fix=f"Found: {found}.")
        return wanted

    def reader(self) -> RecordsReader:
        """What methods may read of the records."""
        return FeedbackAfter(self.records.reader())

    def past_datasets(self) -> Iterator[Dataset]:
        """The datasets that finished runs made and that the store still has, newest first, each once."""
        seen: set[str] = set()
        for row in self.records.runs(status="done"):
            if row.artifact and row.artifact not in seen and self.store.has(row.artifact):
                seen.add(row.artifact)
                artifact = self.store.get(row.artifact)
                if isinstance(artifact, Dataset):
                    yield artifact

    def narrow(self, snapshot: Snapshot) -> Snapshot:
        """Within a turn, a snapshot of the records leaves out feedback that an earlier turn judged."""
        if snapshot.kind == "records" and self.feedback_after:
            return replace(snapshot, facts={**snapshot.facts, "feedback_after": self.feedback_after})
        return snapshot

    # --- single calls -------------------------------------------------------------------------

    def run(self, method: Callable[Concatenate[Run, P], A], *args: P.args, **kwargs: P.kwargs) -> A:
        """Run one method, or take its fresh artifact; the step is named like the function."""
        return self.step(_function(method).__name__).run(method, *args, **kwargs)

    def step(self, name: str, *, seed: int = 0, refresh: bool = False) -> StepCall:
        """A call with a step name and a seed of its own: `project.step("tuned", seed=1).run(...)`.

        Raises:
            SettingError: the seed is none.
        """
        return StepCall(self, name, checked_seed(seed, where=f"{name}.seed"), refresh)

    def call(
        self, step: str, method: Method, arguments: Mapping[str, Any], *, seed: int = 0, refresh: bool = False
    ) -> Done:
        """Run one method by named arguments (artifacts and settings).

        Raises:
            SettingError: an argument that the method does not take, a step's name in place of its artifact, or no seed.
        """
        seed = checked_seed(seed, where=f"{step}.seed")
        bound = method.bind(arguments, where=step)
        for parameter in method.inputs:
            for value in bound.inputs[parameter.name]:
                if not isinstance(value, Artifact):
                    what = f"{method.name} takes a {parameter.kind.kind} as {parameter.name!r}, not {value!r}."
                    named = value if isinstance(value, str) else "step"
                    fix = f"`project.artifact({named!r})` gives what a step or an alias stands for."
                    raise SettingError(what, where=step, fix=fix)
        done = execute(self, prepare(self, step, method, bound, seed, []), refresh=refresh)
        self.save_caches()
        return done

    # --- the project file ---------------------------------------------------------------------

    def plan(self, spec: Spec | None = None, *, settings: Mapping[str, Any] | None = None) -> list[Planned]:
        """Check every step of the project file before the first one starts.

        Raises:
            VolantError: the first thing that is wrong, with file, line and mend.
        """
        steps = plan_steps(spec or self.need_spec(), settings)
        check_outside(steps, self.snapshots, self.code)
        return steps

    def need_spec(self) -> Spec:
        """The project file. Raises `SpecError` where there is none."""
        if self.spec is None:
            raise SpecError(f"there is no {SPEC_FILE} in {self.root}.", fix="Run `volant init`, or change directory.")
        return self.spec

    def go(
        self,
        only: Sequence[str] = (),
        *,
        settings: Mapping[str, Any] | None = None,
        refresh: bool = False,
        extensions: Sequence[Artifact] | None = None,
        on_step: Callable[[Planned, Done], None] | None = None,
    ) -> dict[str, Done]:
        """Run the steps of the project file that are not fresh.

        Args:
            only: these steps and what they need; all by default.
            settings: overrides for this run, `{"tuned.rank": 16}`.
            refresh: run again what older code of Volant made; with `only`, those steps in any case.
            extensions: datasets fed back into `loop.into`; those of the champion by default.
            on_step: called after each step.
        """
        planned = with_ancestors(self.plan(settings=settings), only, "volant run")
        self.store.sweep()
        self.end_dead_runs()
        extra = self.champion_extensions() if extensions is None else list(extensions)
        upcoming = self.upcoming()
        results: dict[str, Done] = {}
        for step in planned:
            artifacts = {name: [results[n].artifact for n in names] for name, names in step.inputs.items()}
            call = self.prepared(step, artifacts, extra, upcoming)
            done = execute(self, call, refresh=refresh and step.name in only, spec_steps=upcoming)
            if refresh and done.fresh and done.older_code:
                done = execute(self, call, refresh=True, spec_steps=upcoming)
            results[step.name] = done
            if on_step:
                on_step(step, done)
        self.save_caches()
        return results

    def upcoming(self) -> list[tuple[str, str, dict[str, Any], dict[str, list[str]]]]:
        """The steps of the file as it stands, for `plan.sizing`: an override for one run does not make it stale."""
        return [(p.name, p.method.name, p.arguments, p.inputs) for p in plan_steps(self.need_spec())]

    def prepared(
        self, step: Planned, artifacts: dict[str, list[Artifact]], extra: Sequence[Artifact], upcoming: list[Any]
    ) -> Call:
        """A step of the file whose input artifacts are known, ready to be looked up or run."""
        loop = self.spec.loop if self.spec else None
        if loop and step.name == loop.into and extra:
            many = next(p.name for p in step.method.inputs if p.rest)
            artifacts = {**artifacts, many: [*artifacts.get(many, []), *extra]}
        bound = step.method.bind({**artifacts, **step.arguments}, where=step.where)
        return prepare(self, step.name, step.method, bound, step.seed, upcoming)

    def end_dead_runs(self) -> None:
        """Runs of this machine whose process was killed are `stopped`; the next call carries on from their work."""
        for row in self.records.runs(status="running"):
            if row.facts.get("host") == socket.gethostname() and not psutil.pid_exists(int(row.facts.get("pid", 0))):
                self.records.end_run(row.id, "stopped", error="the process was killed")

    def champion_extensions(self) -> list[Artifact]:
        """The harvested datasets that the champion was made with, so that a run after its promotion is fresh."""
        if self.spec is None or self.spec.loop is None:
            return []
        row = self.records.alias(self.spec.loop.alias)
        if row is None:
            return []
        for promotion in self.records.promotions(self.spec.loop.alias):
            if promotion.digest == row.digest:
                return [self.store.get(digest) for digest in promotion.evidence.get("extensions", [])]
        return []

    def save_caches(self) -> None:
        """Keep what was hashed and parsed for the next time."""
        self.hashes.save()
        self.code.save()

    # --- finding things -----------------------------------------------------------------------

    def artifact(self, name: str) -> Artifact:
        """The artifact of an alias, a step, or a digest's first eight digits or more.

        A step gives the artifact that is fresh for the file as it is, else that of its newest finished run.

        Raises:
            ArtifactError: none of these.
        """
        alias = self.records.alias(name)
        if alias is not None:
            return self.store.get(alias.digest)
        if self.spec and name in self.spec.steps:
            fresh = fresh_artifacts(self)
            if name in fresh:
                return fresh[name]
        done = self.records.runs(step=name, status="done", limit=1)
        if done and self.store.has(done[0].artifact):
            return self.store.get(done[0].artifact)
        if len(name) >= 8 and all(c in "0123456789abcdef" for c in name):
            return self.store.get(name)
        if self.spec and name in self.spec.steps:
            raise ArtifactError(f"step {name!r} has made nothing yet.", fix=f"Run `volant run {name}`.")
        known = [row.name for row in self.records.aliases()] + list(self.spec.steps if self.spec else ())
        raise ArtifactError(f"nothing is called {name!r} here.", fix=did_you_mean(name, known))


@dataclass(frozen=True)
class StepCall:
    """A call to come, with its step name and seed."""

    project: Project
    name: str
    seed: int
    refresh: bool

    def run(self, method: Callable[Concatenate[Run, P], A], *args: P.args, **kwargs: P.kwargs) -> A:
        """Run the method, or take its fresh artifact."""
        read = method_of(cast(Callable[..., Artifact], _function(method)))
        rest: list[Any] = list(args)
        arguments: dict[str, Any] = {}
        for parameter in read.inputs:
            if parameter.rest:
                arguments[parameter.name], rest = rest, []
            elif rest:
                arguments[parameter.name] = rest.pop(0)
        if rest:
            what = f"{read.name} takes {len(read.inputs)} artifacts by position, not {rest[0]!r} as well."
            raise SettingError(what, where=self.name, fix="Give settings by their names.")
        arguments.update(kwargs)
        done = self.project.call(self.name, read, arguments, seed=self.seed, refresh=self.refresh)
        return cast(A, done.artifact)


def _function(method: Any) -> Any:
    """The method itself, where it is a function."""
    if not hasattr(method, "__name__"):
        fix = "Give the function, as `from volant.stages import finetune` and `project.run(finetune.lora, ...)`."
        raise SettingError(f"{method!r} is no function.", where="project.run", fix=fix)
    return method
