"""Two processes share a training over gloo: the losses of one, a kill that says so, and going on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import psutil
import pytest

from volant.core.errors import Interrupted, MachineError
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source, sample_id
from volant.project import Project
from volant.runners.torchrun import Torchrun, _end, _Listener, _told
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
    """Keeps what is said, and does something after some steps."""

    def __init__(self, after=0, do=None):
        super().__init__()
        self.after, self.do, self.steps = after, do, 0

    def bar(self, step, title, total, unit):
        return self

    def advance(self, n=1, **fields):
        self.steps += n
        if self.do and self.steps >= self.after:
            do, self.do = self.do, None
            do()

    def curve(self, name):
        return [value for n, value, _ in self.metrics if n == name]


class Killing(Watched):
    """Kills the second process after some steps; it is looked up at the first, since that may take as long as many."""

    def advance(self, n=1, **fields):
        if not self.steps:
            others = [p for p in psutil.Process().children(recursive=True) if "volant.runners.member" in p.cmdline()]
            ranks = {p.environ().get("RANK"): p.pid for p in others if p.environ().get("RANK")}
            self.do = lambda: os.kill(ranks["1"], signal.SIGKILL)
        super().advance(n, **fields)


def made(folder, processes, watcher=None):
    watcher = watcher or Watched()
    project = Project(folder, watcher=watcher, device="cpu", threads=1, processes=processes)
    data = worlds.dataset(project, [*texts(30, "train"), *texts(4, "validation", 100)])
    return watcher, project, lambda: project.step("base").run(pretrain.transformer, data, **SETTINGS)


def test_two_processes_have_the_losses_of_one_and_a_killed_one_is_carried_on_from(tmp_path):
    alone, _, call = made(tmp_path / "alone", 1)
    one = call()
    _, project, call = made(tmp_path / "team", 2, Killing(7))
    with pytest.raises(
        MachineError, match=r"base: process 1 of 2, counted from 0, was killed \(exit code -9, SIGKILL\)"
    ):
        call()
    assert project.records.runs()[0].status == "failed"
    both, project, call = made(tmp_path / "team", 2, Watched(11))
    both.do = project.stop.set  # as Ctrl-C does
    with pytest.raises(Interrupted):
        call()
    assert any("from the checkpoint at step 5 of 16" in line for line in both.lines)
    assert project.records.runs()[0].status == "stopped" and project.records.runs()[0].facts["processes"] == 2
    last, _, call = made(tmp_path / "team", 1)
    two = call()
    reached = 5 + len(both.curve("loss"))
    assert reached >= 11 and any(f"from the checkpoint at step {reached} of 16" in line for line in last.lines)
    for name, close in (("loss", 2e-3), ("gradient_norm", 2e-2)):
        assert len(alone.curve(name)) == 16
        assert both.curve(name) + last.curve(name) == pytest.approx(alone.curve(name)[5:], rel=close)
    looks = both.curve("validation_loss") + last.curve("validation_loss")
    assert looks == pytest.approx(alone.curve("validation_loss")[-len(looks) :], rel=2e-3) and len(looks) > 2
    assert two.about == one.about
    fresh, _, call = made(tmp_path / "team", 2)
    assert call().digest == two.digest and not fresh.lines  # how many processes is no reason to run again


LOG = """
Failures:
[1]:
  time      : 2026-11-29_02:18:08
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 10559)
  error_file: <N/A>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-29_02:18:08
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 10558)
"""  # as torchrun writes it where both have ended by its next look


@pytest.mark.parametrize(("code", "wanted"), [(-9, "process 1 of 2, .* was killed"), (-15, "connection closed")])
def test_a_kill_is_told_from_the_error_that_follows_from_it_whichever_is_heard_first(tmp_path, code, wanted):
    (tmp_path / "log").write_text(LOG.format(code=code))
    heard = [(0, "error", RuntimeError("connection closed by peer")), (1, "vanished", None)]
    run = Run(step="base", out=tmp_path, work=tmp_path)
    listener = _Listener(None, SimpleNamespace(returncode=1), run, (print, ()), 2, tmp_path, ended=heard)
    with pytest.raises((MachineError, RuntimeError), match=wanted):
        listener._outcome().result()


def test_one_that_dies_on_its_way_out_after_all_have_handed_over_takes_nothing_with_it(tmp_path):
    (tmp_path / "log").write_text(LOG.format(code=-9))
    run = Run(step="base", out=tmp_path, work=tmp_path)
    heard = [(1, "done", None), (0, "done", "made")]
    listener = _Listener(None, SimpleNamespace(returncode=1), run, (print, ()), 2, tmp_path, ended=heard)
    assert listener._outcome().result() == "made"
    listener.ended = heard[1:]
    with pytest.raises(MachineError):
        listener._outcome().result()


HOLDING = """
import ctypes
from pathlib import Path
from volant.core.run import Run
from volant.runners.torchrun import Torchrun

def hold(run):
    (run.work / f"held-{run.rank}").touch()
    ctypes.PyDLL(None).sleep(120)  # with Python's lock, as a library may: no thread of the process comes to its turn

if __name__ == "__main__":
    import holding
    here = Path(__file__).parent
    Torchrun(2).submit(holding.hold, Run("base", here, here)).result()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has no such signal")
@pytest.mark.parametrize("who", ["the starter", "torchrun"])
def test_whichever_is_killed_none_is_left_even_where_the_work_hears_nothing(tmp_path, who):
    (tmp_path / "holding.py").write_text(HOLDING)
    starter = subprocess.Popen([sys.executable, str(tmp_path / "holding.py")], stderr=subprocess.DEVNULL)
    others = []
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("held-*"))) < 2:
            assert starter.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        others = psutil.Process(starter.pid).children(recursive=True)
        assert len(others) == 3
        torchrun = next(p for p in others if p.ppid() == starter.pid)
        os.kill(starter.pid if who == "the starter" else torchrun.pid, signal.SIGKILL)
        assert not psutil.wait_procs(others, timeout=5)[1]
    finally:
        for one in others:
            with suppress(psutil.Error):
                one.kill()
        starter.kill()
        starter.wait()


def test_who_ends_torchrun_ends_what_it_started_too(tmp_path):
    code = """
import pathlib, subprocess, sys, time
subprocess.Popen(["sleep", "60"], start_new_session=True)
pathlib.Path(sys.argv[1]).touch()
time.sleep(60)
"""
    ended = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "begun")], start_new_session=True)
    until = time.monotonic() + 20
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.05)
    (child,) = psutil.Process(ended.pid).children()
    try:
        _end(ended)
        assert ended.poll() == -signal.SIGTERM and not psutil.wait_procs([child], timeout=5)[1]
    finally:
        with suppress(psutil.Error):
            child.kill()


def test_a_stop_before_all_have_started_waits_for_none(tmp_path):
    run = Run("base", tmp_path, tmp_path, stop=threading.Event())
    run.stop.set()
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="base: stopped before all processes had started"):
        Torchrun(2).submit(print, run).result()
    assert time.monotonic() - begun < 3


def test_how_a_process_ended_is_said_and_memory_asked_about_where_it_may_be_that():
    told = {code: " ".join(_told(code)) for code in (-9, -15, -11, 3, None)}
    assert [code for code, words in told.items() if "memory" in words] == [-9]
    assert "SIGTERM" in told[-15] and "crashed (exit code -11, SIGSEGV)" in told[-11] and "exit code 3" in told[3]


def test_contract(tmp_path):
    check_runner(Torchrun(2), folder=tmp_path)
