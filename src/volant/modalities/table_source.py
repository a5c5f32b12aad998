"""What a table file is once it is open: a header, and rows that can be gone through again and again.

The noun that `table_files` and `table_csv` make and `table_rows` takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from volant.core.protocols import Refusal

MOST_COLUMNS = 2000
Found = tuple[str, list[Any]] | Refusal


class Unreadable(Exception):
    """The whole file cannot be used.

    Args:
        where: the file, with the line where there is one.
        reason: with what would mend it.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(where, reason)


@dataclass(frozen=True)
class Table:
    """A file as a table.

    Attributes:
        header: the columns' names, unique.
        rows: a fresh pass over the rows.
        typed: whether cells have types of their own.
        kinds: that the file itself declares (Parquet which Volant delivered).
    """

    header: tuple[str, ...]
    rows: Callable[[], Iterator[Found]]
    typed: bool
    kinds: dict[str, str] = field(default_factory=dict)


def check_header(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Column names, each there once.

    Raises:
        Unreadable: one is empty or twice there, or there are too many.
    """
    if len(names) > MOST_COLUMNS:
        raise Unreadable(where, f"has {len(names):,} columns; a table may have {MOST_COLUMNS:,}")
    for number, name in enumerate(names, 1):
        if not name:
            raise Unreadable(where, f"column {number} has no name; name it, or give all names in `columns`")
        if len(name) > 200 or any(not c.isprintable() for c in name):
            raise Unreadable(where, f"column {number} has no name but {name[:40]!r}; give all names in `columns`")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise Unreadable(where, f"the header names {twice[0]!r} twice; rename one, or give all names in `columns`")
    return tuple(names)
