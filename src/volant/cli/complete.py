"""What the shell offers after TAB: steps, aliases, methods, templates.

Enters: the word so far. Leaves: names that begin with it. A project that cannot be read offers nothing:
an error in the middle of a word would only be in the way.
"""

from __future__ import annotations

from volant.cli import place
from volant.core.errors import VolantError


def steps(incomplete: str) -> list[str]:
    """The steps of the project file."""
    from volant.project.spec_file import load_spec

    try:
        names = list(load_spec(place.root() / place.FILE).steps)
    except (VolantError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def things(incomplete: str) -> list[str]:
    """Steps and aliases: all that `volant show` takes besides digests."""
    found = steps(incomplete)
    try:
        found += [row.name for row in place.project().records.aliases() if row.name.startswith(incomplete)]
    except (VolantError, OSError):
        return found
    return found


def methods(incomplete: str) -> list[str]:
    """Stages and methods."""
    from volant.core.method import STAGES
    from volant.core.method import methods as all_methods

    return [name for name in (*STAGES, *all_methods()) if name.startswith(incomplete)]
