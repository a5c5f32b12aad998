"""Curves as files of TensorBoard and MLflow: read back by the tools' own readers where they are installed."""

import math
import os
import struct
import threading

import pytest
from typer.testing import CliRunner

from volant.cli.app import app
from volant.core.errors import ArtifactError, PathError, SettingError
from volant.core.score import Score
from volant.project import Project, exporting

LOSS = [("loss", 3.0 / (1 + step), step) for step in range(40)]
BUMP = [("gradient_norm", math.nan, 3), ("gradient_norm", 0.5, 4)]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "volant.yaml").write_text("volant: 1\nname: toy\nsteps: {}\n")
    return Project(tmp_path)


def begun(project, step="tuned", **settings):
    facts = {"pid": os.getpid()}
    return project.records.start_run(step, "finetune.lora", "k", "c", settings, 7, {}, facts)


def finished(project, step="tuned"):
    run = begun(project, step, rank=4)
    project.records.add_metrics(run, [*LOSS, *BUMP])
    project.records.add_scores(
        run, [Score.exact("relevance", 0.25), Score.exact("relevance", 0.1).model_copy(update={"of": "baseline:none"})]
    )
    project.records.end_run(run, "done", "abc", seconds=2.0)
    return run


def events(folder):
    """(name, step, value) of the event files below a folder, by TensorBoard's reader or else frame by frame."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        return frames(folder)
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return [(tag, e.step, e.value) for tag in read.Tags()["scalars"] for e in read.Scalars(tag)]


def frames(folder):
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in folder.glob("events.out.tfevents.*"):
        body, at = file.read_bytes(), 0
        while at < len(body):
            (size,) = struct.unpack_from("<Q", body, at)
            event = Event.FromString(body[at + 12 : at + 12 + size])
            at += 16 + size
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value if v.HasField("simple_value")]
    return found


def same(found, wanted):
    assert [f[:2] for f in found] == [(name, at) for name, _, at in wanted]
    assert [f[2] for f in found] == pytest.approx([value for _, value, _ in wanted], nan_ok=True)


def curve(found, name):
    return [f for f in found if f[0] == name]


def test_tensorboard_reads_each_curve_once(project, tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    monkeypatch.chdir(tmp_path)
    run = finished(project)
    for _ in range(2):  # again doubles nothing
        result = CliRunner().invoke(app, ["metrics-export", "curves", "tuned"])
        assert result.exit_code == 0 and "44 points of 1 runs" in result.output, result.output
    found = events(tmp_path / "curves" / "tuned" / run)
    same(curve(found, "loss"), LOSS)
    same(curve(found, "gradient_norm"), BUMP)
    assert curve(found, "figures/relevance")[0][1:] == (39, pytest.approx(0.25))
    assert curve(found, "figures/baseline.none.relevance")[0][2] == pytest.approx(0.1)


def test_a_run_is_followed_to_its_end(project, tmp_path):
    pytest.importorskip("tensorboardX")
    from volant.store.tensorboard import TensorBoard

    run = begun(project)
    project.records.add_metrics(run, LOSS[:10])
    sink, looks = TensorBoard(tmp_path / "live"), []

    def wait(seconds):
        looks.append(len(curve(events(tmp_path / "live" / "tuned" / run), "loss")))
        if len(looks) == 1:
            project.records.add_metrics(run, LOSS[10:])
        else:
            project.records.end_run(run, "done", "abc")
        return False

    project.stop = threading.Event()
    project.stop.wait = wait
    assert exporting.follow(project, sink, ["tuned"]) == {f"tuned/{run}": 40}
    assert looks == [10, 40]
    same(curve(events(tmp_path / "live" / "tuned" / run), "loss"), LOSS)
    with pytest.raises(ArtifactError, match="goes on now"):
        exporting.follow(project, sink, ["tuned"])


@pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy's deprecations
def test_mlflow_reads_each_curve_once(project, tmp_path):
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    from mlflow import MlflowClient

    from volant.store.mlflow import MLflow

    finished(project)
    first = project.records.run(finished(project))
    # What --follow leaves when it is stopped: part of the points, in the order in which they came.
    MLflow(tmp_path / "ml", "toy").points(first, [*BUMP[::-1], *LOSS[30:], *LOSS[:5]])
    for _ in range(2):
        exporting.export(project, MLflow(tmp_path / "ml", "toy"), every=True)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'ml' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert len(runs) == 2 and {r.info.status for r in runs} == {"FINISHED"}
    for run in runs:
        for name, wanted in (("loss", LOSS), ("gradient_norm", BUMP)):
            history = client.get_metric_history(run.info.run_id, name)
            same(sorted(((m.key, m.step, m.value) for m in history), key=lambda m: m[1]), wanted)
    assert runs[0].data.metrics["figures.relevance"] == 0.25 and runs[0].data.params["settings.rank"] == "4"
    assert runs[0].data.tags["artifact"] == "abc"


def test_what_is_not_there_is_said(project, tmp_path, monkeypatch):
    from volant.cli import metrics_export

    with pytest.raises(ArtifactError, match="'tuned' has never run"):
        exporting.export(project, None, ["tuned"])
    with pytest.raises(SettingError, match="no tool 'wandb'"):
        metrics_export._sink("wandb", tmp_path, project)
    (tmp_path / "notes.txt").write_text("mine")
    for folder in (tmp_path / "notes.txt", tmp_path / "notes.txt" / "curves"):
        for to in ("tensorboard", "mlflow"):
            with pytest.raises(PathError, match=r"notes.txt is a file, and points go into a folder"):
                metrics_export._sink(to, folder, project)
    assert (tmp_path / "notes.txt").read_text() == "mine"
