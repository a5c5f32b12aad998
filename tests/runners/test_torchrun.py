"""Two processes share a training over gloo: the losses of one, a kill that says so, and going on from there."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from volant.core.errors import MachineError
from volant.core.run import Silent
from volant.core.sample import Sample, Source, sample_id
from volant.project import Project
from volant.runners.torchrun import Torchrun
from volant.stages import pretrain
from volant.testing import check_runner, worlds

pytestmark = pytest.mark.slow
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SETTINGS = {
    "depth": 2, "vocab": 300, "context": 32, "batch_tokens": 224, "tokens": 224 * 16, "patience": 0,
    "checkpoint_tokens": 224 * 5,
}  # fmt: skip


def texts(count, split, start=0):
    for i in range(start, start + count):
        content = " ".join(WORDS[(i + k * (1 + i % 3)) % 10] for k in range(50))
        yield Sample(
            id=sample_id(content, str(i)), shape="text", content=content, split=split,
            source=Source(uri="made:", licence="CC0-1.0"),
        )  # fmt: skip


class Watched(Silent):
    """Keeps what is said, and kills a process of the team after some steps."""

    def __init__(self, kill_after=0):
        super().__init__()
        self.kill_after, self.steps = kill_after, 0

    def bar(self, step, title, total, unit):
        return self

    def advance(self, n=1, **fields):
        self.steps += n
        if self.kill_after and self.steps >= self.kill_after:
            self.kill_after = 0
            others = [p for p in psutil.Process().children(recursive=True) if "volant.runners.member" in p.cmdline()]
            ranks = {p.environ().get("RANK"): p.pid for p in others if p.environ().get("RANK")}
            os.kill(ranks["1"], signal.SIGKILL)

    def curve(self, name):
        return [value for n, value, _ in self.metrics if n == name]


def made(folder, processes, kill_after=0):
    watcher = Watched(kill_after)
    project = Project(folder, watcher=watcher, device="cpu", threads=1, processes=processes)
    data = worlds.dataset(project, [*texts(30, "train"), *texts(4, "validation", 100)])
    return watcher, project, lambda: project.step("base").run(pretrain.transformer, data, **SETTINGS)


def test_two_processes_have_the_losses_of_one_and_a_killed_one_is_carried_on_from(tmp_path):
    alone, _, call = made(tmp_path / "alone", 1)
    one = call()
    told, project, call = made(tmp_path / "team", 2, kill_after=7)
    with pytest.raises(MachineError, match=r"base: process 1 of 2, counted from 0, was killed \(exit code -9\)"):
        call()
    assert project.records.runs()[0].status == "failed"
    again, project, call = made(tmp_path / "team", 2)
    two = call()
    assert any("from the checkpoint at step 5 of 16" in line for line in again.lines)
    assert len(alone.curve("loss")) == 16 and len(again.curve("loss")) == 11
    assert again.curve("loss") == pytest.approx(alone.curve("loss")[5:], rel=2e-3)
    assert again.curve("gradient_norm") == pytest.approx(alone.curve("gradient_norm")[5:], rel=2e-2)
    assert again.curve("validation_loss")[-1] == pytest.approx(alone.curve("validation_loss")[-1], rel=2e-3)
    assert {s.name: s.value for s in again.scores}["bits_per_byte"] == pytest.approx(
        {s.name: s.value for s in alone.scores}["bits_per_byte"], rel=2e-3
    )
    assert two.about == one.about
    assert project.records.runs()[0].facts["processes"] == 2
    fresh, _, call = made(tmp_path / "team", 1)
    assert call().digest == two.digest and not fresh.lines  # how many processes is no reason to run again


def test_contract(tmp_path):
    check_runner(Torchrun(2), folder=tmp_path)
