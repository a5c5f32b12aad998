"""Methods that break the contract in one way each, and one that keeps it. Children import them by name."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Annotated

from pydantic import Field

from volant.core import Dataset, Files, Run
from volant.core.errors import DataError
from volant.core.sample import Sample, Source
from volant.store.dataset import rows, writer


def _write(run: Run, kept: list[Sample]) -> Dataset:
    with writer(run.out) as out:
        out.write_all(kept)
    return Dataset(run.out)


def good(run: Run, data: Dataset, *, path: Files = "", more: int = 1) -> Dataset:
    """Copy the samples, slowly, with a checkpoint.

    Args:
        path: a file that is counted.
        more: repeats.
    """
    state = run.work / "state.json"
    done = json.loads(state.read_text()) if state.exists() else []
    kept = list(rows(data))
    for sample in kept[len(done) :]:
        time.sleep(0.002)
        done.append(sample.id)
        state.with_suffix(".new").write_text(json.dumps(done))
        state.with_suffix(".new").replace(state)
        run.metric("copied", len(done), len(done))
        if run.stopping:
            run.interrupt()
    (run.out / "copied.json").write_text(json.dumps(done * more))
    return _write(run, kept)


def undocumented(run: Run, data: Dataset, *, more: int = 1) -> Dataset:
    """Copy the samples."""
    return _write(run, list(rows(data)))


def misdocumented(run: Run, data: Dataset) -> Dataset:
    """Copy the samples.

    Args:
        speed: what it does not take.
    """
    return _write(run, list(rows(data)))


def bad_default(run: Run, data: Dataset, *, more: Annotated[int, Field(ge=1)] = 0) -> Dataset:
    """Copy the samples.

    Args:
        more: at least 1, and by default 0.
    """
    return _write(run, list(rows(data)))


def tells_time(run: Run, data: Dataset) -> Dataset:
    """Copy the samples with a date that changes."""
    (run.out / "when.txt").write_text(str(time.time_ns()))
    return _write(run, list(rows(data)))


def tells_place(run: Run, data: Dataset) -> Dataset:
    """Copy the samples with the place."""
    (run.out / "where.txt").write_text(str(data.path))
    return _write(run, list(rows(data)))


def scribbles(run: Run, data: Dataset) -> Dataset:
    """Copy the samples and leave a file beside them."""
    (run.work.parent.parent / "artifacts" / data.digest / "notes.txt").write_text("seen")
    return _write(run, list(rows(data)))


def forgets(run: Run, data: Dataset) -> Dataset:
    """Copy the samples; start in the middle after a stop."""
    state = run.work / "state.txt"
    kept = list(rows(data))[int(state.read_text()) + 1 if state.exists() else 0 :]
    for number, _ in enumerate(kept):
        state.write_text(str(number))
        run.metric("seen", number, number)
        if run.stopping:
            run.interrupt()
    return _write(run, kept)


def panics(run: Run, data: Dataset) -> Dataset:
    """Copy the samples; fall over at Ctrl-C."""
    for number in range(9):
        run.metric("seen", number, number)
        if run.stopping:
            raise RuntimeError("help")
    return _write(run, list(rows(data)))


def divides(run: Run, data: Dataset) -> Dataset:
    """Copy the samples and average over validation ones."""
    found = list(rows(data))
    held = [s for s in found if s.split == "validation"]
    (run.out / "mean.txt").write_text(str(sum(len(s.text) for s in held) / len(held)))
    return _write(run, found)


def shrugs(run: Run, data: Dataset) -> Dataset:
    """Copy the samples; refuse few without saying what to do."""
    found = list(rows(data))
    if len(found) < 2:
        raise DataError("that will not do.")
    return _write(run, found)


def invents(run: Run, data: Dataset) -> Dataset:
    """Add a generated record of which nobody knows what made it."""
    source = Source(uri="model:", licence="MIT", origin="generated")
    return _write(run, [*rows(data), Sample(id="new", shape="text", content="x", source=source)])


def unlicensed(run: Run, data: Dataset) -> Dataset:
    """Copy the samples under a licence that is none."""
    found = list(rows(data))
    return _write(run, [s.model_copy(update={"source": Source(uri="u", licence="free")}) for s in found])


def half_written(run: Run, data: Dataset) -> Dataset:
    """Copy the samples from a checkpoint that is written in place, in two halves."""
    kept = sorted(s.id for s in rows(data))
    state = run.work / "state.txt"
    if not state.exists():
        with state.open("w") as handle:
            for name in kept:
                handle.write(f"{name}\n")
                handle.flush()
                time.sleep(0.02)
    (run.out / "names.txt").write_text(state.read_text())
    return _write(run, list(rows(data)))


def leaves_child(run: Run, data: Dataset) -> Dataset:
    """Copy the samples while a process of its own sleeps."""
    child = subprocess.Popen(["sleep", "120"])
    time.sleep(2)
    child.kill()
    child.wait()
    return _write(run, list(rows(data)))
