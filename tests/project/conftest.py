"""A project with toy methods in a module of the user's own: fast, deterministic, and able to fail."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest

TOY = '''
"""Toy methods."""

import json
import os
import time

from volant.core import Dataset, Endpoint, Files, Model, Records, Report, Run, Score
from volant.core.errors import DataError


def numbers(run: Run, *, path: Files, times: int = 1) -> Dataset:
    """Read numbers, one a line.

    Args:
        path: the file.
        times: multiply by this.
    """
    from volant.core.sample import Sample, Source
    from volant.store.dataset import writer

    with writer(run.out) as out:
        for file in run.snapshot("path").files:
            for i, line in enumerate(file.path.read_text().split()):
                split = ("train", "validation", "test")[i % 3]
                source = Source(uri=file.name, licence="MIT")
                number = str(int(line) * times)
                out.write(Sample(id=f"{file.name}{i}", shape="text", content=number, split=split, source=source))
    return Dataset(run.out)


def join(run: Run, data: Dataset, *more: Dataset) -> Dataset:
    """Join datasets.

    Args:
        none: none.
    """
    from volant.store.dataset import rows, writer

    with writer(run.out) as out:
        for one in (data, *more):
            out.write_all(rows(one))
    return Dataset(run.out)


def total(run: Run, data: Dataset, *, rank: int = 8, pause: float = 0.0, crash: bool = False) -> Model:
    """"Train": add the numbers up, with a checkpoint.

    Args:
        rank: added to the sum.
        pause: seconds a number.
        crash: raise.
    """
    from volant.store.dataset import rows

    seen = sorted(p.name for p in data.path.glob("data/*"))
    assert not any("test-" in name for name in seen), seen
    state = run.work / "state.json"
    done, value = json.loads(state.read_text()) if state.exists() else (0, 0)
    samples = list(rows(data))
    with run.progress("adding", len(samples)) as bar:
        for i, sample in enumerate(samples):
            if i < done:
                continue
            value += int(sample.content)
            time.sleep(pause)
            run.metric("sum", value, i)
            bar.advance(1)
            fresh = state.with_suffix(".tmp")
            fresh.write_text(json.dumps([i + 1, value]))
            os.replace(fresh, state)
            if run.stopping:
                run.interrupt()
    if crash:
        raise RuntimeError("boom")
    (run.out / "model.json").write_text(json.dumps({"value": value + rank, "seed": run.seed}))
    (run.out / "volant.json").write_text(json.dumps({"family": "sum", "modality": "text"}))
    run.score(Score.exact("relevance", float(value), n=max(len(samples), 1)))
    return Model(run.out)


def judge(run: Run, model: Model, data: Dataset) -> Report:
    """Judge a model.

    Args:
        none: none.
    """
    assert any("test-" in p.name for p in data.path.glob("data/*")) is SEES
    (run.out / "report.json").write_text(json.dumps({"value": model.read_json("model.json")["value"]}))
    return Report(run.out)


SEES = False


def serve(run: Run, model: Model) -> Endpoint:
    """Serve a model.

    Args:
        none: none.
    """
    (run.out / "endpoint.json").write_text(json.dumps({"model": model.digest}))
    return Endpoint(run.out)


def harvest(run: Run, *, feedback: Records = "*") -> Dataset:
    """Corrections as numbers.

    Args:
        feedback: the workload.
    """
    from volant.core.sample import Sample, Source
    from volant.store.dataset import writer

    found = list(run.records.feedback(run.snapshot("feedback")))
    if not found:
        raise DataError("no usable feedback.", fix="Send some.")
    with writer(run.out) as out:
        for row in found:
            source = Source(uri=f"feedback:{row['id']}", licence="MIT", consent="given", origin="feedback")
            out.write(Sample(id=f"f{row['id']}", shape="text", content=row["correction"], source=source))
    return Dataset(run.out)


def compare(
    run: Run, model: Model, data: Dataset, *, champion: Model, metric: str = "relevance", limit: int = 10
) -> Report:
    """Compare by value.

    Args:
        metric: the metric.
        limit: examples.
    """
    gain = model.read_json("model.json")["value"] - champion.read_json("model.json")["value"]
    gates = [{"name": "bias_gap", "passed": gain < 1000, "value": gain, "bar": 1000}]
    p = 0.03 if gain > 0 else 0.9
    body = {"metric": metric, "p": p, "gain": gain, "n": limit, "better": gain > 0, "gates": gates, "verdict": ""}
    (run.out / "report.json").write_text(json.dumps(body))
    return Report(run.out)


def review(run: Run, model: Model, report: Report, *data: Dataset) -> Report:
    """Review.

    Args:
        none: none.
    """
    blocking = model.read_json("model.json")["value"] == 666
    items = [{"name": "licences", "state": "fail" if blocking else "pass", "finding": "the number of the beast"}]
    (run.out / "report.json").write_text(json.dumps({"kind": "review", "blocking": blocking, "items": items}))
    return Report(run.out)


def drift(run: Run, data: Dataset, *, workload: Records = "*") -> Report:
    """Drift.

    Args:
        workload: the workload.
    """
    raise DataError("only 3 requests.", fix="Wait.")
'''

SPEC = """\
volant: 1
name: toy
threads: 1
device: cpu
goal: {problem: add, accept: {relevance: ">= 3"}}
steps:
  raw: {use: "toymethods:numbers", path: "data/*.txt"}
  clean: {use: "toymethods:join", data: raw}
  tuned:
    use: toymethods:total
    data: clean
    rank: 8
  report: {use: "toymethods:judge", model: tuned, data: clean}
  live: {use: "toymethods:serve", model: tuned}
loop: {from: "toymethods:harvest", into: clean, candidate: tuned, promote: {p: 0.05}}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The directory of a toy project; its methods are importable as `toymethods`."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "toymethods.py").write_text(dedent(TOY).replace('""""Train"', '"""Train'))
    monkeypatch.syspath_prepend(str(code))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop("toymethods", None)
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "data" / "n.txt").write_text("1 2 3 4 5 6")
    (root / "volant.yaml").write_text(SPEC)
    yield Path(root)
    sys.modules.pop("toymethods", None)
