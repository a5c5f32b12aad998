"""Work in this process and this thread.

Enters: a call, its run, its arguments. Leaves: a handle whose `result` returns or raises what the call did.
The call runs when it is submitted: Ctrl-C then reaches it as it would without a runner, and the records
see runs in the order in which they were asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from volant.core.run import Run


@dataclass(frozen=True)
class Done:
    """Work that is over: its value, or the error that it raised."""

    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """What the call returned; raises what it raised."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True)
class Local:
    """Runs each call at once, in the calling thread."""

    name: str = "local"

    def submit(self, call: Callable[..., Any], run: Run, *arguments: Any) -> Done:
        """Run `call(run, *arguments)` and keep what came of it."""
        # Read by OpenMP when torch is first loaded. Threads that spin while they wait halve the tokens per
        # CPU second as soon as another process wants the core too; that is every shared machine.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # as NumPy is: its own spin for 25 ms
        try:
            return Done(call(run, *arguments))
        except Exception as error:
            return Done(error=error)


runner = Local()
