"""Work that several processes of this machine share, started by torchrun.

Enters: a call, its run, its arguments. Leaves: a handle with what the first process (rank 0) returned. Every process
makes the same call with a `run.rank` of its own; what they share, and how, is the method's (`nets/team.py`). Only what
rank 0 says, scores and leaves in `out` counts. This process keeps records and artifacts and listens; it ends the others
when it is stopped, and they end by themselves when it dies. One that is killed ends all, with an error that says so.

Calls, words and results go over a socket in a folder that only this user can enter.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from secrets import token_hex
from typing import Any

import psutil

from volant.core.errors import Interrupted, MachineError, VolantError
from volant.core.run import Bar, Run
from volant.runners.local import Done

_LOOK_SECONDS = 0.2
_END_SECONDS = 5.0
_LOG_BYTES = 4000


@dataclass(frozen=True)
class Torchrun:
    """Runs each call in `processes` processes at once, and waits for them.

    Args:
        processes: how many; the run's threads are shared out among them.
    """

    processes: int
    name: str = "torchrun"

    def submit(self, call: Callable[..., Any], run: Run, *arguments: Any) -> Done:
        """Have `call(run, *arguments)` made by all processes and keep what came of it."""
        with tempfile.TemporaryDirectory(prefix="volant-") as name, socket.socket(socket.AF_UNIX) as server:
            folder = Path(name)
            _bind(server, folder / "team", run.step)
            server.listen(self.processes)
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    self._command(folder / "team"),
                    env=self._environment(run),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C comes to this process alone, which tells the others
                )
            try:
                heard = _Listener(server, process, run, (call, arguments), self.processes, folder)
                return heard.until_the_end()
            finally:
                _end(process)

    def _command(self, address: Path) -> list[str]:
        start = [sys.executable, "-m", "volant.runners.parent", "--nproc-per-node", str(self.processes)]
        # They meet through a file that only this user can read: the meeting point is pickled, and a port of
        # torchrun's own would be open to every host that reaches this machine.
        file = ["--rdzv-endpoint", str(address.with_name("meeting")), "--rdzv-conf", "store_type=file"]
        place = ["--rdzv-backend", "c10d", *file, "--rdzv-id", token_hex(8), "--local-addr", "127.0.0.1"]
        logs = ["--log-dir", str(address.with_name("logs"))]  # by default it leaves a folder behind
        return [*start, *place, *logs, "--monitor-interval", "0.2", "-m", "volant.runners.member", str(address)]

    def _environment(self, run: Run) -> dict[str, str]:
        threads = str(max(1, run.threads // self.processes))
        # What this process can import the others can import, too.
        path = os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
        return {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": path}


@dataclass
class _Listener:
    """Hands the call to each process that comes, and hears what they say until torchrun ends."""

    server: socket.socket
    process: subprocess.Popen[bytes]
    run: Run
    work: tuple[Callable[..., Any], tuple[Any, ...]]
    processes: int
    folder: Path
    ranks: dict[Connection, int] = field(default_factory=dict)
    bars: dict[int, Bar] = field(default_factory=dict)
    ended: list[tuple[int, str, Any]] = field(default_factory=list)
    told: set[int] = field(default_factory=set)

    def until_the_end(self) -> Done:
        """Wait, and say what came of it."""
        while True:
            over = self.process.poll() is not None
            ready = wait([self.server, *self.ranks], timeout=0 if over else _LOOK_SECONDS)
            for one in ready:
                if isinstance(one, Connection):
                    self._hear(one)
                else:
                    self._welcome()
            if self.run.stopping:
                if len({*self.ranks.values(), *(who for who, _, _ in self.ended)}) < self.processes and not over:
                    return Done(error=self._too_early())
                self._tell_to_stop()
            if over and not ready:
                return self._outcome()

    def _welcome(self) -> None:
        connection = Connection(self.server.accept()[0].detach())
        with suppress(EOFError, OSError):  # one that has died meanwhile ends torchrun
            rank: int = connection.recv()
            out = self.run.out if rank == 0 else self.folder / f"out-{rank}"
            out.mkdir(exist_ok=True)
            self.ranks[connection] = rank
            connection.send((_sendable(self.run, rank, self.processes, out), *self.work))

    def _hear(self, connection: Connection) -> None:
        rank = self.ranks[connection]
        try:
            kind, *rest = connection.recv()
        except (EOFError, OSError):
            del self.ranks[connection]
            if rank not in {who for who, _, _ in self.ended}:
                self.ended.append((rank, "vanished", None))
            return
        if kind in ("done", "error"):
            self.ended.append((rank, kind, *rest))
        elif kind == "bar":
            number, *rest = rest
            self.bars[number] = self.run.watcher.bar(*rest)
        elif kind == "advance":
            number, n, fields = rest
            self.bars[number].advance(n, **fields)
        elif kind == "close_bar":
            self.run.watcher.close_bar(self.bars.pop(rest[0]))
        else:
            getattr(self.run.watcher, kind)(*rest)

    def _tell_to_stop(self) -> None:
        for connection, rank in self.ranks.items():
            if rank not in self.told:
                self.told.add(rank)
                with suppress(OSError):  # it has just ended
                    connection.send("stop")

    def _too_early(self) -> Interrupted:
        """Some have not come yet, so that none has learnt anything that is worth a wait."""
        what = "stopped before all processes had started; a checkpoint of an earlier run is still there."
        return Interrupted(what, where=self.run.step, fix="The same command carries on.")

    def _outcome(self) -> Done:
        """What rank 0 returned, the first error, or that one was killed."""
        errors = [error for _, kind, error in self.ended if kind == "error"]
        vanished = [rank for rank, kind, _ in self.ended if kind == "vanished"]
        own = [error for error in errors if isinstance(error, VolantError)]
        if own:
            return Done(error=own[0])
        codes = self._codes()
        # torchrun ends the others by SIGTERM; any other signal came first, even where an error that followed from it,
        # such as a connection that broke, was heard first.
        killed = [rank for rank in vanished if codes.get(rank, 0) < 0 and codes[rank] != -signal.SIGTERM]
        first = next((kind for _, kind, _ in self.ended if kind != "done"), "")
        if errors and first == "error" and not killed:
            return Done(error=errors[0])
        done = {rank: value for rank, kind, value in self.ended if kind == "done"}
        if len(done) == self.processes:  # all is made and handed over, even where one then died on its way out
            return Done(done[0])
        return Done(error=self._killed(killed or vanished, codes))

    def _log(self) -> str:
        return (self.folder / "log").read_bytes()[-_LOG_BYTES:].decode(errors="replace")

    def _codes(self) -> dict[int, int]:
        """How each process ended that torchrun saw fail, by rank."""
        found = re.findall(r"rank\s*:\s*(\d+) \(local_rank: \d+\)\s*exitcode\s*:\s*(-?\d+)", self._log())
        return {int(rank): int(code) for rank, code in found}

    def _killed(self, vanished: list[int], codes: Mapping[int, int]) -> MachineError:
        if not vanished:
            last = [line for line in self._log().splitlines() if re.search(r"\w", line)][-1:]
            what = f"torchrun could not start {self.processes} processes: {''.join(last)[:300]}"
            return MachineError(what, where=self.run.step, fix="Run with `--processes 1`.")
        how, why = _told(codes.get(vanished[0], next(iter(codes.values()), None)))
        what = f"process {vanished[0]} of {self.processes}, counted from 0, {how} and the others were ended."
        fix = f"{why}`volant run` carries on from the last checkpoint, with any number of `--processes`."
        return MachineError(what, where=self.run.step, fix=fix)


def _told(code: int | None) -> tuple[str, str]:
    """How a process ended that said nothing, and what may be behind it: only SIGKILL is how the system frees memory."""
    if code is None:
        return "ended without a word", ""
    if code >= 0:
        return f"ended by itself (exit code {code})", ""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "a signal"
    if -code == signal.SIGKILL:
        return f"was killed (exit code {code}, {name})", "Was memory short? "
    if -code in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return f"was stopped from outside (exit code {code}, {name})", ""
    return f"crashed (exit code {code}, {name})", "A library may not suit this processor: see `volant doctor`. "


def _sendable(run: Run, rank: int, processes: int, out: Path) -> dict[str, Any]:
    """The fields of a run that another process can have; no records, no watcher, no datasets of the past."""
    kept = ("step", "work", "seed", "device", "modality", "goal", "resolver", "outside", "forgotten", "spec_steps")
    own = {"out": out, "threads": max(1, run.threads // processes), "processes": processes, "rank": rank}
    return {**{name: getattr(run, name) for name in kept}, **own}


def _bind(server: socket.socket, address: Path, step: str) -> None:
    try:
        server.bind(str(address))
    except OSError as error:
        what = f"no socket can be made in {str(address.parent)!r}: {error}."
        raise MachineError(what, where=step, fix="Set TMPDIR to a folder with a shorter name.") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End torchrun and all that it started, which has sessions of its own; nothing where it has ended."""
    started: list[psutil.Process] = []
    try:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                return
            with suppress(psutil.Error):  # it has just ended
                started += psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
    finally:
        for one in started:
            with suppress(psutil.Error):
                one.kill()
