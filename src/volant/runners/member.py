"""One of the processes that torchrun starts: `python -m volant.runners.member ADDRESS`; see `torchrun.py`.

Enters: the socket of the process that keeps the records. Leaves: what the call returned or raised, and until then what
it says. It ends at once when that process or torchrun has died, whatever it is in the middle of.
"""

from __future__ import annotations

import itertools
import os
import pickle
import sys
import threading
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection
from typing import Any

from volant.core.run import Bar, Run, Silent
from volant.core.score import Score
from volant.runners.parent import end_with_parent


@dataclass
class _Teller:
    """A watcher whose words reach the process that keeps the records."""

    line: Connection
    _numbers: Any = field(default_factory=itertools.count)

    def say(self, step: str, text: str) -> None:
        self.line.send(("say", step, text))

    def score(self, step: str, score: Score) -> None:
        self.line.send(("score", step, score))

    def metric(self, step: str, name: str, value: float, at: int) -> None:
        self.line.send(("metric", step, name, value, at))

    def bar(self, step: str, title: str, total: float, unit: str) -> Bar:
        bar = _ToldBar(self.line, next(self._numbers))
        self.line.send(("bar", bar.number, step, title, total, unit))
        return bar

    def close_bar(self, bar: Bar) -> None:
        assert isinstance(bar, _ToldBar)
        self.line.send(("close_bar", bar.number))


@dataclass(frozen=True)
class _ToldBar:
    line: Connection
    number: int

    def advance(self, n: float = 1, **fields: float | str) -> None:
        self.line.send(("advance", self.number, n, fields))


def main(address: str) -> int:
    """Make the call; returns the exit code, which tells torchrun to end the others where it is not 0."""
    rank = int(os.environ["RANK"])
    line = Client(address, "AF_UNIX")
    line.send(rank)
    try:
        fields, call, arguments = line.recv()
        run = Run(**fields, watcher=_Teller(line) if rank == 0 else Silent())
        if run.device == "cuda":
            import torch

            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        threading.Thread(target=_listen, args=(line, run.stop), daemon=True).start()
        made = call(run, *arguments)
    except BaseException as error:
        _tell(line, error)
        return 1
    line.send(("done", made if rank == 0 else None))
    return 0


def _listen(line: Connection, stop: threading.Event) -> None:
    """Hear that the user wants to stop, or that nobody is there any more."""
    try:
        while line.recv() == "stop":
            stop.set()
    except (EOFError, OSError):
        os._exit(1)


def _tell(line: Connection, error: BaseException) -> None:
    """Send the error, or what it says where it cannot be sent."""
    said = "".join(traceback.format_exception(error))
    error.add_note(said)
    error.__cause__ = error.__context__ = None
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes of this very line
    except Exception:  # one that does not survive pickling, whatever its class
        error = RuntimeError(said)
    line.send(("error", error))


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1]))
