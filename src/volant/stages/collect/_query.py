"""Rows of a query, read without being able to write, in an order that is the same each time.

In go a SQLite file or a server's address, a query and the columns that tell its rows apart; out come rows as plain
JSON values, in chunks that are kept in the step's scratch directory as they come. After a kill the chunks are there
and the query goes on behind the last row of them.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from volant.core import Run
from volant.core.errors import DataError, MissingPackage, RemoteError, SettingError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, MappingResult, RowMapping

CHUNK = 2_000
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
            sqlite3.SQLITE_TRANSACTION}  # fmt: skip
_LOOK = 100_000  # SQLite's instructions between two looks at Ctrl-C


class Query:
    """A query against a database that is only read.

    Args:
        run: its scratch directory keeps the chunks, its stop ends the query.
        query: one SELECT, without parameters.
        key: columns of the result that together tell its rows apart; the order is theirs.
        where: what messages and records call the database.
        named: each row also says where it came from, as `volant_uri`.
    """

    def __init__(self, run: Run, engine: Engine, query: str, key: Sequence[str], where: str, named: bool) -> None:
        self.run, self.engine, self.key, self.where, self.named = run, engine, list(key), where, named
        self.query = query.strip().rstrip(";")
        self.folder = run.work / "rows"

    def files(self) -> Iterator[Path]:
        """Files of JSON lines, one a chunk, those of an earlier run first.

        Raises:
            DataError: the query fails, lacks a key column, or the key does not tell its rows apart.
            RemoteError: the server does not answer.
        """
        from sqlalchemy.exc import SQLAlchemyError

        self.folder.mkdir(exist_ok=True)
        known = sorted(self.folder.glob("*.jsonl"))
        yield from known
        last = self._last(known)
        try:
            with self.engine.connect() as connection, closing(self._chunks(connection, last)) as chunks:
                for number, rows in enumerate(chunks, len(known)):
                    yield self._kept(number, rows)
        except (SQLAlchemyError, sqlite3.Error) as error:
            self.run.check_stop()  # Ctrl-C ends a query with an error
            raise self._said(error) from error
        finally:
            self.engine.dispose()

    def _last(self, known: Sequence[Path]) -> list[Any] | None:
        """The key of the last row that is there already."""
        if not known:
            return None
        row = json.loads(known[-1].read_text(encoding="utf-8").splitlines()[-1])
        return [row[name] for name in self.key]

    def _chunks(self, connection: Connection, last: list[Any] | None) -> Generator[list[dict[str, Any]], None, None]:
        from sqlalchemy import text

        dialect = connection.dialect
        columns = ", ".join(dialect.identifier_preparer.quote(name) for name in self.key)
        # The query may end in a comment.
        asked = f"SELECT * FROM (\n{self.query.replace(':', chr(92) + ':')}\n) AS gathered"  # noqa: S608 (the user's own)
        behind = f" WHERE ({columns}) > ({', '.join(f':key{n}' for n in range(len(self.key)))})" if last else ""
        values = {f"key{n}": value for n, value in enumerate(last or ())}
        streaming = connection.execution_options(stream_results=True, max_row_buffer=CHUNK)
        with closing(streaming.execute(text(f"{asked}{behind} ORDER BY {columns}"), values)) as found:
            yield from self._checked(found.mappings(), last)

    def _checked(self, found: MappingResult, last: list[Any] | None) -> Iterator[list[dict[str, Any]]]:
        missing = [name for name in self.key if name not in found.keys()]  # noqa: SIM118 (a result, no dict)
        if missing:
            raise DataError(f"the query has no column {missing[0]!r}.", where=self.where, fix="Name one in `key`.")
        while rows := found.fetchmany(CHUNK):
            self.run.check_stop()
            made = [self._row(row) for row in rows]
            for row in made:
                here = [row[name] for name in self.key]
                if here == last or None in here:
                    what = f"two rows have {', '.join(self.key)} = {here}" if here == last else "a key is missing"
                    fix = "Name columns that tell the rows apart, so that their order is the same each time."
                    raise DataError(f"{what}.", where=self.where, fix=fix)
                last = here
            yield made

    def _row(self, row: RowMapping) -> dict[str, Any]:
        made = {str(name): _plain(value) for name, value in row.items()}
        if not self.named:
            return made
        told = "&".join(f"{name}={quote(str(made[name]), safe='')}" for name in self.key)
        return {**made, "volant_uri": f"sql:{self.where}#{told}"}

    def _kept(self, number: int, rows: list[dict[str, Any]]) -> Path:
        file = self.folder / f"{number:08}.jsonl"
        draft = file.with_suffix(".part")
        with draft.open("w", encoding="utf-8", errors="replace") as out:
            out.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
            out.flush()
            os.fsync(out.fileno())
        draft.rename(file)
        return file

    def _said(self, error: Exception) -> DataError | RemoteError:
        """What the database says, without the address and the statement that SQLAlchemy shows with it."""
        from sqlalchemy.exc import InterfaceError, OperationalError

        said = str(getattr(error, "orig", None) or error).strip().split("\n")[0]
        password = self.engine.url.password
        said = said.replace(str(password), "***") if password else said
        if self.engine.dialect.name != "sqlite" and isinstance(error, OperationalError | InterfaceError):
            return RemoteError(f"the database does not answer: {said}.", where=self.where, fix="Is it up?")
        return DataError(f"the query fails: {said}.", where=self.where, fix="Give one SELECT over what is there.")


def of_file(path: Path, run: Run, where: str) -> Engine:
    """A SQLite file that is opened as it is: read-only, without locks, extensions or other files.

    Raises:
        DataError: a program is still writing to it.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    log = path.with_name(f"{path.name}-wal")
    if log.is_file() and log.stat().st_size:
        what = f"has changes in {log.name} that are not in it yet."
        raise DataError(what, where=where, fix="End the program that writes to it, or run PRAGMA wal_checkpoint.")

    def connected() -> sqlite3.Connection:
        raw = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
        raw.execute("PRAGMA trusted_schema=OFF")
        raw.execute("PRAGMA cell_size_check=ON")
        raw.text_factory = _text
        raw.set_authorizer(_authorised)
        raw.set_progress_handler(lambda: run.stopping, _LOOK)
        return raw

    return create_engine("sqlite://", creator=connected, poolclass=NullPool)


def of_server(variable: str, where: str) -> Engine:
    """A Postgres server whose address stands in an environment variable, in one read-only view of its data.

    Raises:
        SettingError: the variable is not set, or holds no address of a Postgres server.
        MissingPackage: the driver is not installed.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    address = os.environ.get(variable, "")
    fix = f"export {variable}=postgresql://user:password@host/name; a SQLite file goes into `file`."
    try:
        url = make_url(address)
    except ArgumentError:
        what = "holds no address of a database" if address else "is not set"
        raise SettingError(f"the environment variable {variable} {what}.", where=where, fix=fix) from None
    if url.get_backend_name() != "postgresql":
        raise SettingError(f"{url.get_backend_name()} is not read from.", where=where, fix=fix)
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"), poolclass=NullPool, isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
        )  # fmt: skip
    except (ImportError, NoSuchModuleError) as error:
        raise MissingPackage(f"{error}.", where=where, fix="pip install 'volant[postgres]'") from error


def check(query: str, key: Sequence[str]) -> None:
    """Whether it is one SELECT with a key; the database itself holds it to reading.

    Raises:
        SettingError: it is none.
    """
    if not re.match(r"\s*(--[^\n]*\n\s*|/\*.*?\*/\s*)*(select|with|values)\b", query, re.IGNORECASE | re.DOTALL):
        raise SettingError("the query is no SELECT.", where="query", fix="Only what reads is run.")
    if not key:
        raise SettingError("no key is given.", where="key", fix="Name the columns that tell the rows apart: [id].")


def _authorised(action: int, name: str | None, *_: str | None) -> int:
    """Reading alone; SQLAlchemy asks for one setting by itself."""
    known = action in _ALLOWED or (action == sqlite3.SQLITE_PRAGMA and name == "read_uncommitted")
    return sqlite3.SQLITE_OK if known else sqlite3.SQLITE_DENY


def _text(raw: bytes) -> str | None:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def _plain(value: Any) -> Any:
    """A value as JSON has it: dates in ISO 8601, other types as they are written; what cannot be is missing."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value))
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
