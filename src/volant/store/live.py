"""What is running now, and what happened: live state by name, and a log of events.

Enters: small JSON objects. Leaves: the newest state under a name; events, newest first. Live state (a
server's pid, port and current model) is no artifact: it is true only as long as its process lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from volant.store.database import Database
from volant.store.rows import now, packed, unpacked

_SET = text(
    "INSERT INTO live (name, body, at) VALUES (:name, :body, :at) "
    "ON CONFLICT (name) DO UPDATE SET body = excluded.body, at = excluded.at"
)
_EVENT = text("INSERT INTO events (at, kind, body) VALUES (:at, :kind, :body) RETURNING n")


@dataclass(frozen=True)
class Event:
    """Something that happened: a promotion refused, a server started."""

    id: int
    at: str
    kind: str
    body: dict[str, Any]


class LiveRecords:
    """The part of `Records` that keeps live state and events."""

    database: Database

    def set_live(self, name: str, body: dict[str, Any]) -> None:
        """Replace the state under a name."""
        with self.database.write() as connection:
            connection.execute(_SET, {"name": name, "body": packed(body), "at": now()})

    def live(self, name: str) -> dict[str, Any] | None:
        """The state under a name; None where there is none."""
        with self.database.read() as connection:
            body = connection.execute(text("SELECT body FROM live WHERE name = :name"), {"name": name}).scalar()
        state: dict[str, Any] | None = unpacked(body) if body else None
        return state

    def clear_live(self, name: str) -> None:
        """Forget the state under a name."""
        with self.database.write() as connection:
            connection.execute(text("DELETE FROM live WHERE name = :name"), {"name": name})

    def event(self, kind: str, body: dict[str, Any]) -> int:
        """Log that something happened; returns its number."""
        with self.database.write() as connection:
            values = {"at": now(), "kind": kind, "body": packed(body)}
            return int(connection.execute(_EVENT, values).scalar_one())

    def events(self, kind: str = "", limit: int = 100) -> list[Event]:
        """The newest events first; of one kind where it is named."""
        query = "SELECT n, at, kind, body FROM events WHERE (:kind = '' OR kind = :kind) ORDER BY n DESC LIMIT :limit"
        with self.database.read() as connection:
            rows = connection.execute(text(query), {"kind": kind, "limit": limit})
            return [Event(int(row.n), row.at, row.kind, unpacked(row.body)) for row in rows]
