"""Curves of runs in a store of MLflow: an SQLite file in a folder, without a server.

Enters: a folder, then points and figures run by run. Leaves: `mlflow.db`, which `mlflow ui --backend-store-uri
sqlite:///FOLDER/mlflow.db` shows: the project as an experiment, each run with its settings as parameters. A run that
is there already is added to, never doubled. MLflow's word home about how it is used is switched off.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volant.core.errors import MissingPackage
from volant.core.score import Score
from volant.store.runs import RunRow
from volant.store.tensorboard import described, named, started

_PIECE = 1000  # points that MLflow takes at once
_LONGEST = 6000  # characters that it keeps of a setting
_TAG = "volant.run"
_ENDS = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_Point = tuple[str, str, int]


class MLflow:
    """A tracking store in one folder."""

    def __init__(self, folder: Path, experiment: str) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
        try:
            from mlflow import MlflowClient
        except ImportError:
            what = "MLflow is not installed."
            raise MissingPackage(what, where="metrics-export", fix="pip install 'volant[mlflow]'.") from None
        folder.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=f"sqlite:///{folder.resolve() / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(experiment)
        place = (folder.resolve() / "artifacts").as_uri()
        self._experiment = found.experiment_id if found else self._client.create_experiment(experiment, place)
        self._ids: dict[str, str] = {}
        self._known: dict[str, Counter[_Point]] = {}

    def points(self, run: RunRow, points: Sequence[tuple[str, float, int]]) -> None:
        """Add points of a run's curves; those that are there already, in whatever order they came, are passed over."""
        from mlflow.entities import Metric

        id, known = self._run(run), self._known[run.id]
        at_ms = int(1000 * (time.time() if run.status == "running" else started(run)))
        new = []
        for name, value, at in points:
            point = _point(name, value, at)
            if known[point]:
                known[point] -= 1
            else:
                new.append(Metric(name, value, at_ms, at))
        for start in range(0, len(new), _PIECE):
            self._client.log_batch(id, metrics=new[start : start + _PIECE])

    def ended(self, run: RunRow, scores: Sequence[Score]) -> None:
        """Add a run's figures, and say how and when it ended."""
        end_ms = int(1000 * (started(run) + run.seconds))
        self.points(run, [(f"figures.{name}", score.value, 0) for name, score in named(scores).items()])
        self._client.set_tag(self._run(run), "artifact", run.artifact)
        self._client.set_terminated(self._run(run), _ENDS.get(run.status, "RUNNING"), end_ms)

    def close(self) -> None:
        """Nothing stays open."""

    def _run(self, run: RunRow) -> str:
        """MLflow's id of a run, which is made where it is not there yet."""
        if run.id in self._ids:
            return self._ids[run.id]
        found = self._client.search_runs([self._experiment], filter_string=f"tags.`{_TAG}` = '{run.id}'")
        if found:
            id = str(found[0].info.run_id)
            self._known[run.id] = Counter(
                _point(name, point.value, point.step)
                for name in found[0].data.metrics
                for point in self._client.get_metric_history(id, name)
            )
        else:
            id = self._begun(run)
            self._known[run.id] = Counter()
        self._ids[run.id] = id
        return id

    def _begun(self, run: RunRow) -> str:
        from mlflow.entities import Param

        tags = {_TAG: run.id, "step": run.step}
        began = self._client.create_run(self._experiment, int(1000 * started(run)), tags, run_name=run.step)
        told: list[Any] = [
            Param(name, value[:_LONGEST])
            for name, value in described(run).items()
            if name not in ("artifact", "status")
        ]
        for start in range(0, len(told), 100):
            self._client.log_batch(began.info.run_id, params=told[start : start + 100])
        return str(began.info.run_id)


def _point(name: str, value: float, at: int) -> _Point:
    """A point as it can be looked up: NaN is like itself, and for infinity MLflow keeps the largest number."""
    most = sys.float_info.max
    return name, repr(value if value != value else min(max(float(value), -most), most)), at
