"""What a method is given first: seed, device, threads, where to write, and whom to tell.

These belong to the run, never to a method's settings, so that the same call means the same work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from volant.core.artifact import Artifact, Dataset
from volant.core.errors import Interrupted, SettingError
from volant.core.outside import Snapshot
from volant.core.paths import Resolver
from volant.core.sample import Sample
from volant.core.score import Score
from volant.core.spec import Goal


class Bar(Protocol):
    """A progress bar in use."""

    def advance(self, n: float = 1, **fields: float | str) -> None:
        """Move on by `n` units and show further figures (`loss=2.31`, `tokens_s=8100`)."""


class Watcher(Protocol):
    """Who is told what happens: the terminal, the records, a test."""

    def say(self, step: str, text: str) -> None:
        """One line for a person: what was done, skipped or noticed."""

    def score(self, step: str, score: Score) -> None:
        """A measured figure, kept with the run and on the artifact's card."""

    def metric(self, step: str, name: str, value: float, at: int) -> None:
        """One point of a curve; `at` is a step or a token count."""

    def bar(self, step: str, title: str, total: float, unit: str) -> Bar:
        """Open a progress bar."""

    def close_bar(self, bar: Bar) -> None:
        """The work of the bar is over, done or not."""


class _SilentBar:
    def advance(self, n: float = 1, **fields: float | str) -> None:
        """Show nothing."""


@dataclass
class Silent:
    """A watcher that shows nothing and keeps everything; for tests and for embedding."""

    lines: list[str] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    metrics: list[tuple[str, float, int]] = field(default_factory=list)

    def say(self, step: str, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)

    def score(self, step: str, score: Score) -> None:
        """Keep the score."""
        self.scores.append(score)

    def metric(self, step: str, name: str, value: float, at: int) -> None:
        """Keep the point."""
        self.metrics.append((name, value, at))

    def bar(self, step: str, title: str, total: float, unit: str) -> Bar:
        """A bar that shows nothing."""
        return _SilentBar()

    def close_bar(self, bar: Bar) -> None:
        """Nothing to close."""


class RecordsReader(Protocol):
    """What methods may read of the records: rows up to a snapshot's high-water marks, never later ones."""

    def requests(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Requests of the workload, oldest first: id, at, workload, client, request, response, consent, model."""

    def feedback(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Feedback with its request: id, at, client, rating, correction, consent, request, response, model."""

    def ratings(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Pairs judged by people: id, at, prompt, a, b, choice (`a`, `b`, `tie`), rater."""

    def runs(self, method: str | None = None) -> Iterator[dict[str, Any]]:
        """Past runs: id, step, method, status, seconds, cpu_seconds, peak_bytes, artifact, scores."""


@dataclass
class Run:
    """The first argument of every method.

    Attributes:
        step: the step's name in the project.
        out: an empty directory; what the method leaves in it becomes the artifact's payload.
        work: a scratch directory that survives a kill; the same call finds it again. For checkpoints.
        seed: for every random choice of the method.
        device: `cpu`, `cuda` or `mps`; already resolved from `auto`.
        threads: how many the method may use.
        processes: how many share the work of this call, this one counted; `nets/team.py` shares a training.
        rank: which of them this is, from 0. What the others leave in `out` is not kept.
        modality: the goal's modality, by name (`text`).
        goal: what the project wants, with its targets; never None (an empty goal where none was given).
        resolver: for file names in settings.
        records: read access to requests, feedback, ratings and past runs.
        forgotten: ids of records that the project was asked to forget; gathering methods call `remembered`.
        findings: gives a folder that outlives the step, for what a method finds of an artifact (features of its
            records, whatever the thresholds are), by kind and by what else it depends on. It may be empty at any time
            and its files damaged: a method checks them, and makes the same artifact with them and without. None where
            nothing is to outlive the step.
        past: the datasets that finished runs of the project made and that are still kept, newest first. Like the
            runs in `records` they do not make a step stale: for looking at what exists, never for data to learn from.
        spec_steps: the coming steps as `(name, method, settings, inputs by name)`; for `plan.sizing`.
    """

    step: str
    out: Path
    work: Path
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    processes: int = 1
    rank: int = 0
    modality: str = "text"
    goal: Goal = field(default_factory=Goal)
    resolver: Resolver = field(default_factory=lambda: Resolver.for_project(Path.cwd()))
    watcher: Watcher = field(default_factory=Silent)
    records: RecordsReader | None = None
    outside: dict[str, Snapshot] = field(default_factory=dict)
    forgotten: frozenset[str] = frozenset()
    findings: Callable[[Artifact, str, str], Path] | None = None
    past: Callable[[], Iterable[Dataset]] = tuple
    spec_steps: list[tuple[str, str, dict[str, Any], dict[str, list[str]]]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def snapshot(self, setting: str) -> Snapshot:
        """What the project resolved the outside setting `setting` to.

        Raises:
            SettingError: it names nothing.
        """
        if setting not in self.outside:
            raise SettingError(
                f"{setting!r} names nothing.", where=self.step, fix="Name a file, a folder or a pattern."
            )
        return self.outside[setting]

    def remembered(self, sample: Sample) -> Sample:
        """The sample; of one that was to be forgotten only id, source and the reason, nothing of what it said."""
        if sample.id not in self.forgotten:
            return sample
        kept = {"id": sample.id, "shape": sample.shape, "source": sample.source, "parents": sample.parents}
        return Sample(**kept, split=sample.split, group=sample.id, drop="forgotten: asked for against kept")

    def score(self, score: Score) -> None:
        """Record a measured figure; it appears in the records and on the artifact's card."""
        self.watcher.score(self.step, score)

    def metric(self, name: str, value: float, at: int) -> None:
        """Record one point of a curve (`loss` at step 40)."""
        self.watcher.metric(self.step, name, value, at)

    def say(self, text: str) -> None:
        """Tell the user one line: what was done, skipped or noticed."""
        self.watcher.say(self.step, text)

    @contextmanager
    def progress(self, title: str, total: float, unit: str = "steps") -> Iterator[Bar]:
        """A progress bar for anything over two seconds."""
        bar = self.watcher.bar(self.step, title, total, unit)
        try:
            yield bar
        finally:
            self.watcher.close_bar(bar)

    @property
    def stopping(self) -> bool:
        """Whether the user pressed Ctrl-C; long loops look, make a checkpoint and call `interrupt`."""
        return self.stop.is_set()

    def interrupt(self) -> None:
        """Leave after the checkpoint was made.

        Raises:
            Interrupted: always.
        """
        raise Interrupted(
            "stopped; a checkpoint was kept.", where=self.step, fix="The same command carries on from it."
        )

    def check_stop(self) -> None:
        """For loops without a checkpoint: leave at once if the user pressed Ctrl-C."""
        if self.stopping:
            fix = "The same command makes this step again, from its last checkpoint where it has one."
            raise Interrupted("stopped", where=self.step, fix=fix)
