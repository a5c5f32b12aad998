"""The command line: `volant`. Enters: words. Leaves: text or JSON, and an exit code.

0 done, 1 something is wrong with what was looked at (`verify`, `doctor`), 2 a wrong input with one
readable message, 130 stopped by Ctrl-C. Commands import what they need when they run, so that help,
completion and `volant run` with nothing to do are quick.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on `arguments` (the process's own by default); ends the process."""
    from volant.cli.app import app

    app(args=list(arguments) if arguments is not None else None, prog_name="volant")
