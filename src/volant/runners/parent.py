"""Ending with one's parent; run as `python -m volant.runners.parent`, it is torchrun that does so.

Enters: nothing, or torchrun's own arguments. Leaves: a process that the system kills once its parent is gone. A process
that watches by itself cannot do so while a library holds Python's lock, or while Python shuts down.
"""

from __future__ import annotations

import ctypes
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def end_with_parent() -> None:
    """Have this process killed when its parent ends; does nothing where the system cannot (it is not Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("torch.distributed.run", run_name="__main__", alter_sys=True)
