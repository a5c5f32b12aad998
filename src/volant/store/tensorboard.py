"""Curves of runs as event files that TensorBoard reads, written by tensorboardX: neither TensorFlow nor a server.

Enters: a folder, then points and figures run by run. Leaves: `<step>/<run id>/events.out.tfevents.*`; what was there
of the same run is written anew. The records keep no time with a point, so points that are read afterwards stand at
the time of their run's start; points that are followed while they come have their own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from volant.core.errors import MissingPackage
from volant.core.score import Score
from volant.store.runs import RunRow


class TensorBoard:
    """Event files under one folder, which `tensorboard --logdir FOLDER` shows."""

    def __init__(self, folder: Path) -> None:
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            what = "tensorboardX is not installed, which writes TensorBoard's files."
            raise MissingPackage(what, where="metrics-export", fix="pip install 'volant[tensorboard]'.") from None
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._last: dict[str, int] = {}

    def points(self, run: RunRow, points: Sequence[tuple[str, float, int]]) -> None:
        """Add points of a run's curves; they are in the file when this returns."""
        from tensorboardX.summary import scalar

        at_seconds = time.time() if run.status == "running" else started(run)
        for name, value, at in points:
            self._write(run, scalar(name, value), at, at_seconds)
            self._last[run.id] = max(at, self._last.get(run.id, 0))
        self._writer(run).flush()

    def ended(self, run: RunRow, scores: Sequence[Score]) -> None:
        """Add a run's settings, and its figures at its last step, and close its file."""
        from tensorboardX.summary import scalar, text

        rows = [f"| {name} | {value} |" for name, value in described(run).items()]
        self._write(run, text("run", "\n".join(["| | |", "|-|-|", *rows])), 0, started(run))
        for name, score in named(scores).items():
            self._write(run, scalar(f"figures/{name}", score.value), self._last.get(run.id, 0), started(run))
        self._writer(run).close()
        del self._writers[run.id]

    def close(self) -> None:
        """Close what is open still."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write(self, run: RunRow, summary: Any, at: int, at_seconds: float) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer(run).write_event(Event(wall_time=at_seconds, step=at, summary=summary))

    def _writer(self, run: RunRow) -> Any:
        if run.id not in self._writers:
            from tensorboardX.event_file_writer import EventsWriter

            place = self._folder / run.step / run.id
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            self._writers[run.id] = EventsWriter(str(place / "events"))
        return self._writers[run.id]


def started(run: RunRow) -> float:
    """When a run began, in seconds since 1970."""
    return datetime.fromisoformat(run.started_at).timestamp()


def described(run: RunRow) -> dict[str, str]:
    """What a run was, as words by name: method, seed, artifact and settings."""
    facts = {"method": run.method, "seed": str(run.seed), "artifact": run.artifact, "status": run.status}
    return {**facts, **{f"settings.{name}": str(value) for name, value in run.settings.items()}}


def named(scores: Sequence[Score]) -> dict[str, Score]:
    """A run's figures by name; those of another than the model have its name before theirs."""
    return {s.name if s.of == "model" else f"{s.of.replace(':', '.')}.{s.name}": s for s in scores}
