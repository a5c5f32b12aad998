"""The peak of a process's own memory, as the kernel counts it.

`ru_maxrss` is no measure of a child: it starts at the peak of the process that made it, so a test in a large
process would see the test's memory, and growth below that not at all.
"""

from __future__ import annotations

from pathlib import Path

KILOBYTES = "int(__import__('pathlib').Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
"""An expression for the programs that tests start."""


def from_here() -> None:
    """Let the peak of this process start anew at what it has now."""
    Path("/proc/self/clear_refs").write_text("5")


def kilobytes() -> int:
    """This process's peak since its start, or since `from_here`."""
    return int(eval(KILOBYTES))
