"""The command line: `volant`. Enters: words. Leaves: text or JSON, and an exit code.

0 done, 1 something is wrong with what was looked at (`verify`, `doctor`), 2 a wrong input with one
readable message, 130 stopped by Ctrl-C. Commands import what they need when they run, so that help,
completion and `volant run` with nothing to do are quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# How often a thread asks whether the others are done before it sleeps; usual are 300,000 times, or milliseconds. Where
# another process has a core, the thread that is waited for has none, and the others spin its time away: training by
# two threads beside one busy process came to 795 tokens a second so, and to 3,770 with this (alone 9,000 and 8,500).
_SPINS = "10000"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line on `arguments` (the process's own by default); ends the process."""
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)  # read once, when torch is loaded
    try:
        from volant.cli.app import app

        app(args=list(arguments) if arguments is not None else None, prog_name="volant")
    except KeyboardInterrupt:  # while commands are loaded; later ones are met in `Group`
        sys.exit(130)
