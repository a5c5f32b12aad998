"""Connections, transactions and their errors, for SQLite and Postgres alike.

Enters: a URL. Leaves: `read()` and `write()` contexts. On SQLite every write transaction and checkpoint
is taken under one advisory lock (see `lock.py`), the log is never checkpointed behind our back, and a
promotion is on the disk before it is acknowledged. On Postgres the same lock is `pg_advisory_xact_lock`.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError

from volant.core.errors import ArtifactError, MachineError, MissingPackage, RemoteError, SettingError
from volant.store.disk import full_error, is_full, room
from volant.store.lock import AdvisoryLock
from volant.store.migrations import MIGRATIONS, migrate, version_of

CHECKPOINT_BYTES = 4 << 20
"""The log is folded into the database when it has grown by this much."""
_POSTGRES_LOCK = 0x766F6C616E74  # "volant" in ASCII: one lock number for all our writers
_orphans: list[Engine] = []  # of parent processes: collecting them would close the parent's files under it


class Database:
    """One SQLite file or one Postgres database.

    Args:
        url: an SQLAlchemy URL, or the path of an SQLite file.
    """

    def __init__(self, url: str | Path) -> None:
        self.url, self.file = _parse(url)
        self.where = str(self.file) if self.file else make_url(self.url).render_as_string(hide_password=True)
        self.lock = AdvisoryLock(self.file.with_name(f"{self.file.name}.lock")) if self.file else None
        self._engines: dict[int, Engine] = {}
        self._folded = 0

    @property
    def engine(self) -> Engine:
        """The engine of this process; a forked child gets its own."""
        pid = os.getpid()
        if pid not in self._engines:
            _orphans.extend(self._engines.values())
            engine = self._engines.setdefault(pid, _engine(self.url, self.file, self.where))
            # Without this the last connection would fold the log at exit, outside of the lock.
            weakref.finalize(self, _close, engine, self.lock, pid)
        return self._engines[pid]

    def prepare(self) -> None:
        """Make or migrate the schema where it is not the newest; cheap where it is.

        Raises:
            ArtifactError: it was written by a newer Volant, or is no database.
        """
        if self.file:
            with room(self.file.parent, "opening the records"):
                self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.read() as connection:
            if version_of(connection) == len(MIGRATIONS):
                return
        with self.write(durable=True) as connection:
            migrate(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view of the database; waits for no writer.

        Raises:
            MachineError, ArtifactError, RemoteError: as `write`.
        """
        with self._said(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A write transaction: all of the block or nothing, one writer at a time.

        Args:
            durable: on the disk before the block ends, at the price of one fsync; else safe from kills
                but not from a power cut.

        Raises:
            MachineError: the disk is full or the file is read-only.
            ArtifactError: the file is damaged or no database.
            RemoteError: the server does not answer.
        """
        with self._said():
            if self.lock is None:
                with self.engine.begin() as connection:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})
                    yield connection
                return
            with self.lock:
                engine = self.engine.execution_options(volant="durable" if durable else "write")
                with engine.begin() as connection:
                    yield connection
                self._fold()

    def _fold(self) -> None:
        """Fold the write-ahead log into the database when it is long; called with the lock held."""
        assert self.file is not None
        log = self.file.with_name(f"{self.file.name}-wal")
        try:
            size = log.stat().st_size
        except FileNotFoundError:
            return
        self._folded = min(self._folded, size)
        if size - self._folded < CHECKPOINT_BYTES:
            return
        raw = self.engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA busy_timeout=0")  # a reader in the way: fold next time instead of waiting
            busy, _, _ = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            raw.cursor().execute("PRAGMA busy_timeout=10000")
            self._folded = size if busy else 0
        finally:
            raw.close()

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Turn the errors of the database into words."""
        try:
            yield
        except (DatabaseError, InterfaceError, sqlite3.Error) as error:  # the last: from our own BEGIN
            said = str(getattr(error, "orig", error)).strip()
            if is_full(error):
                raise full_error(Path(self.where).parent, "writing the records") from error
            if self.file is None:
                raise RemoteError(f"the records do not answer: {said}.", where=self.where, fix="Is it up?") from error
            if "readonly" in said or "unable to open" in said:
                fix = "Check the owner and the rights of the file and its folder."
                raise MachineError(f"the records cannot be written: {said}.", where=self.where, fix=fix) from error
            if "locked" in said:
                fix = "Another program holds the file open for writing; end it."
                raise MachineError(f"the records are locked: {said}.", where=self.where, fix=fix) from error
            if "malformed" in said or "not a database" in said:
                fix = "Restore the file from a copy, or move it away to start anew."
                raise ArtifactError(f"the records are damaged: {said}.", where=self.where, fix=fix) from error
            raise

    def close(self) -> None:
        """Close every connection, under the lock; the next use opens them again."""
        engine = self._engines.pop(os.getpid(), None)
        if engine is not None:
            _close(engine, self.lock, os.getpid())


def _parse(url: str | Path) -> tuple[str, Path | None]:
    if isinstance(url, Path):
        url = f"sqlite:///{url.absolute()}"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        fix = "Write sqlite:///path/to/file.db or postgresql://user@host/name."
        raise SettingError("records: it is no database URL.", where=repr(url), fix=fix) from error
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise SettingError("records need a file.", where=url, fix="Write sqlite:///path/to/file.db.")
        return url, Path(parsed.database).absolute()
    if kind != "postgresql":
        raise SettingError(f"records live in sqlite or postgresql, not in {kind}.", where=url, fix="Use one of them.")
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False), None


def _engine(url: str, file: Path | None, where: str) -> Engine:
    if file is None:
        try:
            return create_engine(url, pool_pre_ping=True)
        except (ImportError, NoSuchModuleError) as error:
            raise MissingPackage(f"{error}.", where=where, fix="pip install 'volant[postgres]'") from error
    engine = create_engine(url, pool_size=8, max_overflow=56)
    event.listen(engine, "connect", _connected)
    event.listen(engine, "begin", _begun)
    return engine


def _connected(raw: sqlite3.Connection, _: Any) -> None:
    """Set a fresh SQLite connection up; transactions are begun by us and not by the driver's guesses."""
    raw.isolation_level = None
    raw.execute("PRAGMA busy_timeout=10000")
    raw.execute("PRAGMA wal_autocheckpoint=0")
    raw.execute("PRAGMA secure_delete=ON")  # what a purge deletes is gone from the file too


def _begun(connection: Connection) -> None:
    mode = connection.get_execution_options().get("volant", "read")
    raw = connection.connection.cursor()
    if mode == "read":
        raw.execute("BEGIN")
        return
    if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        raw.execute("PRAGMA journal_mode=WAL")
    raw.execute(f"PRAGMA synchronous={'FULL' if mode == 'durable' else 'NORMAL'}")
    raw.execute("BEGIN IMMEDIATE")


def _close(engine: Engine, lock: AdvisoryLock | None, pid: int) -> None:
    """Close an engine under the lock if it is free. If it is not, its holder's connection stays open, so ours
    is not the last one and folds nothing; waiting here could be waiting for oneself (a collector runs anywhere)."""
    if pid != os.getpid():
        return
    try:
        held = lock is not None and lock.attempt()
    except (OSError, MachineError):  # the folder is gone: there is nothing left to guard
        held = False
    engine.dispose()
    if lock is not None and held:
        lock.release()
