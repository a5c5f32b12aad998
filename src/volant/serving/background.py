"""Servers that go on without the terminal: start one and wait until it is ready, list them, stop one.

What enters: the same names as `run.serve` takes. What leaves: the process and its port. Who runs is read
from the live state in the records; a process is only signalled when it is still the one that wrote it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from volant.core.errors import MachineError, SettingError
from volant.serving.arguments import written
from volant.serving.run import LOOPBACK, Process, live_name

if TYPE_CHECKING:
    from volant.store.records import Records

MODULE = "volant.serving.run"


def command(
    root_store: Path, records_url: str, target: str, *, process: Process, prompt: str = "", until: str = ""
) -> list[str]:
    """The command that serves `target` in a process of its own."""
    names = ["--store", str(root_store), "--records", records_url, "--target", target]
    names += ["--prompt", prompt] if prompt else []
    names += ["--until", until] if until else []
    return [sys.executable, "-m", MODULE, *names, *written(process)]


def start_background(
    root_store: Path,
    records_url: str,
    target: str,
    *,
    process: Process | None = None,
    prompt: str = "",
    until: str = "",
    log: Path | None = None,
    seconds: float = 180.0,
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server that outlives this process, and wait until it takes requests.

    Args:
        until: digest of the model that is served until something is promoted to the alias.
        log: where its output goes; `<store>/logs/serve-<workload>.log` by default.
        seconds: how long it may take to open the model.

    Returns:
        The process and its port.

    Raises:
        SettingError: the workload is served already.
        MachineError: it ended, or was not ready in time; the message holds its last line.
    """
    from volant.store.records import Records

    process = process or Process()
    records = Records.open(records_url)
    if (state := alive(records, process.workload)) is not None:
        what = f"workload {process.workload!r} is served already on port {state['port']}."
        raise SettingError(what, where="up", fix="Run `volant down` first, or name another workload.")
    log = log or root_store / "logs" / f"serve-{process.workload}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(
            command(root_store, records_url, target, process=process, prompt=prompt, until=until),
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.poll() is None:
        state = records.live(live_name(process.workload))
        if state is not None and state["pid"] == child.pid:
            return child, int(state["port"])
        time.sleep(0.05)
    raise _ended(child, log, process.workload, seconds)


def _ended(child: subprocess.Popen[bytes], log: Path, where: str, seconds: float) -> MachineError:
    """The error of a child that ended before it was ready, or took too long and is killed now."""
    ended = child.poll() is not None
    if not ended:
        child.kill()
        child.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    what = "the server ended" if ended else f"the server was not ready after {seconds:.0f} s"
    return MachineError(f"{what}: {lines[-1] if lines else 'no output'}", where=where, fix=f"See {log}.")


@contextlib.contextmanager
def child_at(folder: Path, command: Sequence[str], *, log: Path, seconds: float = 180.0) -> Iterator[str]:
    """A container's start command as a child, in its directory and on a free loopback port; stopped in the end.

    Args:
        command: begins with `python`; this interpreter takes its place.
        log: where its output goes, outside of the directory.

    Raises:
        MachineError: it ended, was not ready in time, or did not stop.
    """
    environment = {
        **os.environ, "VOLANT_HOST": LOOPBACK, "VOLANT_PORT": "0", "VOLANT_RECORDS": "", "PYTHONDONTWRITEBYTECODE": "1",
        "VOLANT_PARENT": str(os.getpid()),
    }  # fmt: skip
    # The directory's own copy of the server is what has to run, not the one that is installed here.
    environment.pop("PYTHONPATH", None)
    # A server that a killed run left behind may still write to its log; it must not speak for this one.
    log.unlink(missing_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, *command[1:]], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and child.poll() is None:
            words = log.read_text(encoding="utf-8", errors="replace").split("ready ", 1)
            if len(words) == 2 and words[1].endswith("\n"):
                break
            time.sleep(0.05)
        else:
            raise _ended(child, log, folder.name, seconds)
        yield words[1].split()[0]
    finally:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.returncode != 0:
        raise MachineError(f"the server ended with {child.returncode}", where=folder.name, fix=f"See {log}.")


def alive(records: Records, workload: str) -> dict[str, Any] | None:
    """The live state of a workload's server, or None when it does not run (any more)."""
    state: dict[str, Any] | None = records.live(live_name(workload))
    if state is None:
        return None
    return state if _process_of(state) is not None else None


def stop(records: Records, workload: str = "default", *, seconds: float = 60.0) -> bool:
    """End a workload's server in an orderly way and wait for it; False when none runs.

    Raises:
        MachineError: it still runs after `seconds`.
    """
    state = records.live(live_name(workload))
    running = _process_of(state) if state else None
    if running is None:
        if state:  # it was killed and could not clean up
            records.clear_live(live_name(workload))
        return False
    running.terminate()
    try:
        running.wait(seconds)
    except psutil.TimeoutExpired:
        what = f"the server (process {running.pid}) still runs after {seconds:.0f} s"
        raise MachineError(what, where=workload, fix="Kill it, or wait for its requests to end.") from None
    return True


def _process_of(state: dict[str, Any]) -> psutil.Process | None:
    """The process that wrote the state: a number alone may belong to another one by now."""
    try:
        found = psutil.Process(int(state["pid"]))
        mine = MODULE in found.cmdline() or found.pid == psutil.Process().pid
        return found if mine and found.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, KeyError, ValueError):
        return None
