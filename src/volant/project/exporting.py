"""Curves and figures of runs go to another tool's files, afterwards or while the runs go on.

Enters: the records, names of steps, and where the points go. Leaves: how many points of which run were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from volant.core.errors import ArtifactError
from volant.core.score import Score
from volant.store.runs import RunRow

if TYPE_CHECKING:
    from volant.project.project import Project


class Sink(Protocol):
    """Where points go."""

    def points(self, run: RunRow, points: Sequence[tuple[str, float, int]]) -> None:
        """Add points, as (name, value, at)."""

    def ended(self, run: RunRow, scores: Sequence[Score]) -> None:
        """The run is over; these are its figures."""

    def close(self) -> None:
        """No more will come."""


def export(project: Project, sink: Sink, steps: Sequence[str] = (), *, every: bool = False) -> dict[str, int]:
    """Write the newest run of each step, or every run; returns the points of each run by `step/id`.

    Args:
        project: whose records are read.
        sink: where the points go; closed at the end.
        steps: their names; none for all.
        every: all runs of each step in place of the newest one.

    Raises:
        ArtifactError: a step has never run.
    """
    rows = _chosen(project, steps, every=every)
    found: dict[str, int] = {}
    try:
        for row in rows:
            points, scores = project.records.metrics(row.id), project.records.scores(row.id)
            if points or scores:
                sink.points(row, points)
                if row.status != "running":
                    sink.ended(row, scores)
                found[f"{row.step}/{row.id}"] = len(points) + len(scores)
    finally:
        sink.close()
    return found


def follow(project: Project, sink: Sink, steps: Sequence[str] = (), *, seconds: float = 2.0) -> dict[str, int]:
    """Write the runs that go on now as their points come, until all of them are over or the project is stopped.

    Args:
        project, sink, steps: as `export`'s.
        seconds: between two looks; the records get points about every five.

    Raises:
        ArtifactError: nothing runs now.
    """
    project.end_dead_runs()
    running = {row.id: 0 for row in project.records.runs(status="running") if not steps or row.step in steps}
    if not running:
        what = f"no run of {', '.join(steps) or 'this project'} goes on now"
        raise ArtifactError(what, where="metrics-export", fix="Leave --follow out for runs that are over.")
    found: dict[str, int] = {}
    try:
        while running:
            for id, seen in list(running.items()):
                row = project.records.run(id)  # before its points: none can come once it is over
                points = project.records.metrics_after(id, seen)
                if points:
                    sink.points(row, [point[1:] for point in points])
                    running[id] = points[-1][0]
                name = f"{row.step}/{id}"
                found[name] = found.get(name, 0) + len(points)
                if row.status != "running":
                    scores = project.records.scores(id)
                    sink.ended(row, scores)
                    found[name] += len(scores)
                    del running[id]
            if not running or project.stop.wait(seconds):
                break
            project.end_dead_runs()
    finally:
        sink.close()
    return found


def _chosen(project: Project, steps: Sequence[str], *, every: bool) -> list[RunRow]:
    """The runs that are meant, oldest first."""
    newest: dict[str, list[RunRow]] = {}
    for row in project.records.runs():
        if not steps or row.step in steps:
            kept = newest.setdefault(row.step, [])
            if every or not kept:
                kept.append(row)
    missing = [name for name in steps if name not in newest]
    if missing:
        raise ArtifactError(f"{missing[0]!r} has never run", where="metrics-export", fix="`volant status` lists steps.")
    return sorted((row for rows in newest.values() for row in rows), key=lambda row: row.started_at)
