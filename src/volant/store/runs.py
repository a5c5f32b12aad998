"""Runs, their figures and their curves.

Enters: what a run was given (`start_run`) and what became of it (`end_run`, scores, metrics). Leaves:
`RunRow`s: the newest of a step, the newest done one with an inputs key, lists. A run's parents become
lineage edges at its start; they get their child when it ends with an artifact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Row, bindparam, text

from volant.core.errors import ArtifactError
from volant.core.score import Score
from volant.store.database import Database
from volant.store.rows import fresh_id, now, packed, plain, unpacked

Status = Literal["running", "done", "failed", "stopped"]

_COLUMNS = (
    "id, step, method, inputs_key, code_key, settings, seed, status, artifact, started_at, seconds, cpu_seconds, "
    "peak_bytes, error, parents, facts"
)
_START = text(
    "INSERT INTO runs (id, step, method, inputs_key, code_key, settings, seed, status, started_at, parents, facts) "
    "VALUES (:id, :step, :method, :inputs_key, :code_key, :settings, :seed, 'running', :at, :parents, :facts)"
)
_END = text(
    "UPDATE runs SET status = :status, artifact = :artifact, seconds = :seconds, cpu_seconds = :cpu_seconds, "
    "peak_bytes = :peak_bytes, error = :error WHERE id = :id"
)
_EDGE = text("INSERT INTO edges (run, parent, role) VALUES (:run, :parent, :role)")
_CHILD = text("UPDATE edges SET child = :child WHERE run = :run")
_SCORE = text(
    "INSERT INTO scores (run, name, value, low, high, count, unit, direction, whose, note) "
    "VALUES (:run, :name, :value, :low, :high, :n, :unit, :direction, :of, :note)"
)
_SCORES = text(
    "SELECT run, name, value, low, high, count AS n, unit, direction, whose AS of, note FROM scores "
    "WHERE run IN :runs ORDER BY scores.n"
).bindparams(bindparam("runs", expanding=True))
_METRIC = text("INSERT INTO metrics (run, name, value, at) VALUES (:run, :name, :value, :at)")

_METRICS = text("SELECT name, value, at FROM metrics WHERE run = :run AND (:name = '' OR name = :name) ORDER BY n")
_METRICS_AFTER = text("SELECT n, name, value, at FROM metrics WHERE run = :run AND n > :after ORDER BY n")


@dataclass(frozen=True)
class RunRow:
    """One run as the records know it; `started_at` is ISO in UTC."""

    id: str
    step: str
    method: str
    inputs_key: str
    code_key: str
    settings: dict[str, Any]
    seed: int
    status: Status
    artifact: str
    started_at: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    error: str
    parents: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class RunRecords:
    """The part of `Records` that keeps runs."""

    database: Database

    def start_run(
        self,
        step: str,
        method: str,
        inputs_key: str,
        code_key: str,
        settings: dict[str, Any],
        seed: int,
        parents: dict[str, list[str]],
        facts: dict[str, Any],
    ) -> str:
        """Record that a run began; returns its id."""
        run = fresh_id("run")
        values = {
            "id": run, "step": step, "method": method, "inputs_key": inputs_key, "code_key": code_key,
            "settings": packed(settings), "seed": seed, "at": now(), "parents": packed(parents), "facts": packed(facts),
        }  # fmt: skip
        edges = [{"run": run, "parent": digest, "role": role} for role, all_ in parents.items() for digest in all_]
        with self.database.write() as connection:
            connection.execute(_START, values)
            if edges:
                connection.execute(_EDGE, edges)
        return run

    def end_run(
        self,
        run: str,
        status: Status,
        artifact: str = "",
        seconds: float = 0.0,
        cpu_seconds: float = 0.0,
        peak_bytes: int = 0,
        error: str = "",
    ) -> None:
        """Record how a run ended; on the disk when this returns.

        Raises:
            ArtifactError: there is no such run.
        """
        values = {
            "id": run, "status": status, "artifact": artifact, "seconds": seconds, "cpu_seconds": cpu_seconds,
            "peak_bytes": peak_bytes, "error": plain(error),
        }  # fmt: skip
        with self.database.write(durable=True) as connection:
            if connection.execute(_END, values).rowcount != 1:
                raise ArtifactError(f"there is no run {run}", where=self.database.where, fix="Start it first.")
            connection.execute(_CHILD, {"run": run, "child": artifact if status == "done" else ""})

    def run(self, id: str) -> RunRow:
        """One run by id.

        Raises:
            ArtifactError: there is none.
        """
        found = self._runs("WHERE id = :id", {"id": id}, 1)
        if not found:
            raise ArtifactError(f"there is no run {id}", where=self.database.where, fix="See `volant status`.")
        return found[0]

    def latest(self, step: str) -> RunRow | None:
        """The newest run of a step, whatever became of it."""
        found = self._runs("WHERE step = :step", {"step": step}, 1)
        return found[0] if found else None

    def fresh(self, inputs_key: str) -> RunRow | None:
        """The newest done run with that inputs key: the one whose artifact may be used again."""
        found = self._runs("WHERE inputs_key = :key AND status = 'done'", {"key": inputs_key}, 1)
        return found[0] if found else None

    def runs(self, method: str = "", step: str = "", status: str = "", limit: int = 0) -> list[RunRow]:
        """Runs, newest first; empty arguments do not filter, `limit` 0 means all."""
        given = {name: value for name, value in (("method", method), ("step", step), ("status", status)) if value}
        where = " AND ".join(f"{name} = :{name}" for name in given)
        return self._runs(f"WHERE {where}" if where else "", given, limit)

    def _runs(self, where: str, values: dict[str, Any], limit: int) -> list[RunRow]:
        # Only fixed words are put together here; every value is bound.
        query = f"SELECT {_COLUMNS} FROM runs {where} ORDER BY n DESC" + (" LIMIT :limit" if limit else "")  # noqa: S608
        with self.database.read() as connection:
            return [
                _run_row(row) for row in connection.execute(text(query), values | ({"limit": limit} if limit else {}))
            ]

    # --- figures and curves ------------------------------------------------------------------

    def add_scores(self, run: str, scores: Sequence[Score]) -> None:
        """Keep a run's figures."""
        if scores:
            with self.database.write() as connection:
                connection.execute(
                    _SCORE, [{"run": run, **score.model_dump(), "note": plain(score.note)} for score in scores]
                )

    def scores(self, run: str) -> list[Score]:
        """A run's figures in the order in which they were measured."""
        return self.scores_of([run])[run]

    def scores_of(self, runs: Sequence[str]) -> dict[str, list[Score]]:
        """The figures of many runs at once."""
        found: dict[str, list[Score]] = {run: [] for run in runs}
        with self.database.read() as connection:
            for start in range(0, len(runs), 500):  # databases bound the number of parameters
                for row in connection.execute(_SCORES, {"runs": list(runs[start : start + 500])}).mappings():
                    values = dict(row)
                    found[values.pop("run")].append(Score.model_validate(values))
        return found

    def add_metrics(self, run: str, points: Sequence[tuple[str, float, int]]) -> None:
        """Keep points of curves, as (name, value, at); give many at once."""
        if points:
            rows = [
                {"run": run, "name": name, "value": None if math.isnan(value) else float(value), "at": at}
                for name, value, at in points
            ]
            with self.database.write() as connection:
                connection.execute(_METRIC, rows)

    def metrics(self, run: str, name: str = "") -> list[tuple[str, float, int]]:
        """The points of a run's curves in the order written; of one curve where it is named."""
        with self.database.read() as connection:
            rows = connection.execute(_METRICS, {"run": run, "name": name})
            return [(row[0], math.nan if row[1] is None else float(row[1]), int(row[2])) for row in rows]

    def metrics_after(self, run: str, after: int) -> list[tuple[int, str, float, int]]:
        """The points of a run's curves whose number is above `after`, as (number, name, value, at)."""
        with self.database.read() as connection:
            rows = connection.execute(_METRICS_AFTER, {"run": run, "after": after})
            return [(int(r[0]), r[1], math.nan if r[2] is None else float(r[2]), int(r[3])) for r in rows]


def _run_row(row: Row[Any]) -> RunRow:
    values = dict(row._mapping)
    for name in ("settings", "parents", "facts"):
        values[name] = unpacked(values[name])
    return RunRow(**values)
