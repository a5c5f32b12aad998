"""What made this, and what did this feed: the edges of runs, followed both ways.

Enters: the records and a digest. Leaves: edges, each with the run that drew it. The database walks the
graph itself (one recursive query), so ten thousand runs cost milliseconds; a circle ends the walk.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import TextClause, text

from volant.store.records import Records

_ANCESTORS = text(
    "WITH RECURSIVE reached (digest) AS (SELECT :digest UNION "
    "SELECT e.parent FROM edges e JOIN reached ON e.child = reached.digest) "
    "SELECT e.run, e.parent, e.child, e.role FROM edges e JOIN reached ON e.child = reached.digest"
)
_DESCENDANTS = text(
    "WITH RECURSIVE reached (digest) AS (SELECT :digest UNION "
    "SELECT e.child FROM edges e JOIN reached ON e.parent = reached.digest WHERE e.child <> '') "
    "SELECT e.run, e.parent, e.child, e.role FROM edges e JOIN reached ON e.parent = reached.digest WHERE e.child <> ''"
)


class Edge(NamedTuple):
    """`run` took `parent` as its input `role` and made `child`."""

    run: str
    parent: str
    child: str
    role: str


def ancestors(records: Records, digest: str) -> list[Edge]:
    """Every edge on the way to an artifact: what made it, and what made that, to the roots."""
    return _walk(records, _ANCESTORS, digest)


def descendants(records: Records, digest: str) -> list[Edge]:
    """Every edge that leads on from an artifact: what it fed, and what that fed."""
    return _walk(records, _DESCENDANTS, digest)


def _walk(records: Records, query: TextClause, digest: str) -> list[Edge]:
    with records.database.read() as connection:
        # The driver's own rows: SQLAlchemy's would cost as much again as the query, at forty thousand edges.
        cursor = connection.execute(query, {"digest": digest}).cursor
        assert cursor is not None
        return [Edge._make(row) for row in cursor.fetchall()]
