"""Code that a model wrote, run where it can do no harm: bubblewrap, no network, nothing of the disk, little time.

What enters: pieces of Python, each with the tests that it has to pass. What leaves: for each whether it did. All of
them run in one sandbox, each in a process of its own with limits on processor time, memory, files and processes; the
sandbox sees the standard library and an empty folder, and nothing else. Without bubblewrap nothing is run at all.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from volant.core.errors import MissingPackage

SECONDS, MEMORY_BYTES = 4, 512 << 20
_OUTER_SECONDS = 30  # beside what the pieces may take: start and end of the sandbox
_SIGNALLED = 128  # exit statuses above it are those of signals

# Runs inside. Each piece gets a child, so that one cannot reach the next; what it prints goes nowhere. A piece that
# ends the process itself (`os._exit(0)`) has not passed: only what is written to a pipe after the tests says so. Code
# that goes looking for that pipe in the frames of its callers could still cheat its tests; it cannot do harm.
_RUNNER = """
import json, os, resource, signal, sys, time
pieces, seconds, memory = json.load(sys.stdin)
def limited():
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
found = []
for number, (code, tests) in enumerate(pieces):
    token = os.urandom(16)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        os.setsid()
        limited()
        null = os.open("/dev/null", os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        try:
            world = {"__name__": "__main__"}
            exec(compile(code, "answer.py", "exec"), world)
            exec(compile(tests, "tests.py", "exec"), world)
            os.write(write, token)
        except BaseException:
            pass
        os._exit(1)
    os.close(write)
    end = time.monotonic() + seconds
    done = 0
    while not done and time.monotonic() < end:
        done, _ = os.waitpid(child, os.WNOHANG)
        if not done:
            time.sleep(0.002)
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if not done:
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except OSError:
            pass
    os.set_blocking(read, False)
    try:
        found.append(os.read(read, 17) == token)
    except BlockingIOError:
        found.append(False)
    os.close(read)
print(json.dumps(found))
"""


def available() -> bool:
    """Whether code can be run here: bubblewrap is installed and may make a sandbox."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return False
    tried = subprocess.run([bwrap, "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def passed(pieces: Sequence[tuple[str, str]], *, seconds: int = SECONDS) -> list[bool]:
    """Whether each piece of Python passes its tests.

    Args:
        pieces: (code, tests); the tests are Python that raises where something is wrong.
        seconds: of processor and of wall time, for each.

    Raises:
        MissingPackage: there is no bubblewrap, or it may not make a sandbox; nothing was run.
    """
    if not pieces:
        return []
    if not available():
        raise MissingPackage(
            "running code needs bubblewrap, and it is not here (or may not make a sandbox).", where="passes_tests",
            fix="Install it: sudo apt-get install -y bubblewrap. Volant runs a model's code nowhere else.",
        )  # fmt: skip
    return _passed(pieces, seconds)


def _passed(pieces: Sequence[tuple[str, str]], seconds: int) -> list[bool]:
    """The same, in one sandbox; what kills or stops all processes that it sees has failed, and the others run anew."""
    given = json.dumps([[list(piece) for piece in pieces], seconds, MEMORY_BYTES])
    most = _OUTER_SECONDS + (seconds + 1) * len(pieces)
    try:
        done = subprocess.run(_command(), input=given, capture_output=True, text=True, timeout=most, check=False)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode > _SIGNALLED:
        half = len(pieces) // 2
        return [*_passed(pieces[:half], seconds), *_passed(pieces[half:], seconds)] if half else [False]
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = None
    if not isinstance(found, list) or len(found) != len(pieces):
        what = f"the sandbox ended with {done.returncode}: {done.stderr.strip()[-200:]}"
        raise MissingPackage(what, where="passes_tests", fix="See whether `bwrap` works for this user.")
    return [bool(one) for one in found]


def _command() -> list[str]:
    """Python in a sandbox that holds the system's libraries and the standard library, read-only."""
    python = Path(sys.executable).resolve()
    places = [Path("/usr"), Path(sys.base_prefix)]
    binds = [part for place in places if place.exists() for part in ("--ro-bind", str(place), str(place))]
    links = []
    for name in ("lib", "lib64", "bin"):
        place = Path("/", name)
        if place.is_symlink():
            links += ["--symlink", str(place.readlink()), str(place)]
        elif place.exists():
            binds += ["--ro-bind", str(place), str(place)]
    return [
        "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", *binds, *links,
        "--proc", "/proc", "--dev", "/dev", "--size", str(16 << 20), "--tmpfs", "/box", "--chdir", "/box",
        str(python), "-I", "-S", "-B", "-c", _RUNNER,
    ]  # fmt: skip
