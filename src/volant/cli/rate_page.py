"""`volant rate --page`: pairs of answers on a local page, for several people at once.

Enters: pairs as they are drawn, and the project. Leaves: ratings in its records, each kept before the next pair comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from volant.cli import present

if TYPE_CHECKING:
    from volant.cli.rate import Shown
    from volant.project import Project
    from volant.serving.rating import Pair


def said_before(opened: Project) -> Iterator[dict[str, Any]]:
    """All ratings so far, oldest first."""
    from volant.core.outside import Snapshot

    return opened.records.ratings(Snapshot("ratings", "*", facts=opened.records.marks("*")))


def serve(opened: Project, shown: Iterator[Shown], total: int, *, scored: bool, port: int) -> None:
    """Serve the page until Ctrl-C.

    Args:
        opened: whose records keep what is said, and know what was said before.
        shown: drawn a few ahead of the raters.
        total: how many pairs there are at most.
        scored: each answer gets a score in place of a choice.
        port: 0 takes a free one.
    """
    from volant.serving import rating
    from volant.serving.local_page import serve as serve_page

    kept = 0

    def keep(pair: Pair, choice: str, rater: str, scores: tuple[int, int] | None) -> None:
        nonlocal kept
        opened.records.add_rating(pair.prompt, pair.a, pair.b, choice, rater, scores)
        kept += 1

    drawn = (rating.Pair(one.prompt, one.a, one.b, one.html) for one in shown)
    pairs = rating.Pairs(drawn, total, keep, said_before(opened))
    try:
        app = rating.create_app(pairs, scored=scored)
        serve_page(app, port, lambda url: present.say(f"Rate at {url}  (Ctrl-C ends; each choice is kept at once)"))
    finally:
        pairs.close()
    present.say(f"Kept {kept} ratings. `align.preferences` uses them in the next `volant run`.")
