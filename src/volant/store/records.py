"""The records of a project: everything that happened, in SQLite by default and in Postgres by URL.

Enters: rows. Leaves: rows. Runs and figures are in `runs.py`, aliases and promotions in `aliases.py`,
requests and feedback in `requests.py`, live state in `live.py`; `Records` is all of them over one database.
Artifacts hold no time and no host: what has them is kept here and joined when a page is rendered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from volant.core.outside import Snapshot
from volant.core.run import RecordsReader
from volant.store.aliases import AliasRecords, AliasRow, Promotion
from volant.store.database import Database
from volant.store.live import Event, LiveRecords
from volant.store.requests import UseRecords
from volant.store.runs import RunRecords, RunRow, Status

__all__ = ["AliasRow", "Event", "Promotion", "Reader", "Records", "RunRow", "Status"]


@dataclass
class Records(RunRecords, AliasRecords, UseRecords, LiveRecords):
    """All records over one database; may be used from many threads and after a fork."""

    database: Database

    @classmethod
    def open(cls, url: str | Path) -> Records:
        """Open, and where needed make or migrate, the records at an SQLAlchemy URL or an SQLite file's path.

        Raises:
            SettingError: the URL is none, or names another database than SQLite or Postgres.
            ArtifactError: the file is no database, or was written by a newer Volant.
            MachineError: the disk is full or the file cannot be written.
            RemoteError: the server does not answer.
            MissingPackage: Postgres was asked for and its driver is not installed.
        """
        database = Database(url)
        database.prepare()
        return cls(database)

    def reader(self) -> RecordsReader:
        """What a method may read of the records, as `run.records`."""
        return Reader(self)

    def close(self) -> None:
        """Close every connection; the next call opens them again."""
        self.database.close()

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Reader:
    """Read access up to a snapshot's marks; fulfils `core.run.RecordsReader`."""

    records: Records

    def requests(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Requests up to the snapshot's mark, oldest first."""
        return self.records.requests(snapshot)

    def feedback(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Feedback up to the snapshot's mark, each with its request."""
        return self.records.feedback(snapshot)

    def ratings(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Judged pairs up to the snapshot's mark."""
        return self.records.ratings(snapshot)

    def runs(self, method: str | None = None) -> Iterator[dict[str, Any]]:
        """Past runs, newest first, with their figures."""
        found = self.records.runs(method=method or "")
        scores = self.records.scores_of([row.id for row in found])
        names = ("id", "step", "method", "status", "seconds", "cpu_seconds", "peak_bytes", "artifact")
        for row in found:
            yield {**{name: getattr(row, name) for name in names}, "settings": row.settings, "scores": scores[row.id]}
