"""The rows of a SQL query as a Dataset, from a SQLite file or a Postgres server.

Enters: a SELECT, the columns that tell its rows apart, and where to ask. Leaves: a Dataset in the order of those
columns; a record's source names its row (`sql:shop.db#id=17`). Nothing can be written to the database. The address
of a server comes from the environment and is in no record. A SQLite file that changes makes the step stale; what
changes on a server does not, and `--refresh` asks it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Files, Run
from volant.core.errors import SettingError

if TYPE_CHECKING:
    from volant.core.sample import Source
    from volant.stages.collect._query import Query
    from volant.stages.collect._reading import Arriving


def sql(
    run: Run,
    *,
    query: str,
    key: list[str],
    licence: str,
    file: Files = "",
    server: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = "",
    consent: Literal["not-personal", "given", "contract", "public", "withheld"] = "not-personal",
    collected_at: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = "",
    fields: dict[str, str] | None = None,
    group: str = "",
    reading: dict[str, Any] | None = None,
    refuse_above: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Dataset:
    """Gather the rows of a query.

    Args:
        query: one SELECT without parameters; its columns are the fields of the records.
        key: columns of the result that together tell its rows apart; they give the order, and the step goes on behind
            the last of them after a kill.
        licence: SPDX name of the terms of all rows (`LicenseRef-own`); one that forbids goal.use is refused.
        file: a SQLite file, relative to the project; or give `server`.
        server: name of the environment variable that holds a Postgres server's address (`SHOP_URL`).
        consent: whether the people in the data agreed: not-personal, given, contract or public; `withheld` is refused.
        collected_at: day on which it was gathered (`2026-11-24`); empty where nobody states it.
        fields: your names of the known fields, as in {prompt: question, completion: answer}; `licence` and
            `collected_at` name columns in which a row states its own.
        group: a column whose value keeps rows in one split (a customer); empty groups by prompt.
        reading: further options of the modality's reader (`types`, `key` and `constraints` for tables).
        refuse_above: share of bad records (0 to 1) beyond which the step fails instead of going on without them.

    Returns:
        A Dataset with a split on every record.

    Raises:
        LicenceError: the licence is unknown or forbids the use.
        SettingError: no SELECT, no key, or not one of `file` and `server`.
        DataError: the query fails, or nothing usable came.
        RemoteError: the server does not answer.
        MissingPackage: the driver of Postgres is not installed.
    """
    from volant.stages.collect import _query
    from volant.stages.collect._arrival import arrive, terms
    from volant.stages.collect._reading import read

    files = run.snapshot("file").files if file else ()
    if bool(files) == bool(server) or len(files) > 1:
        fix = "Give one SQLite file as `file`, or the name of a variable as `server`."
        raise SettingError("it is not one database that is asked.", where=run.step, fix=fix)
    _query.check(query, key)
    where = files[0].name if files else server
    uri = "sql:" if run.modality == "text" else f"sql:{where}/"
    source = terms(run, uri, licence, consent, collected_at, where=where)
    engine = _query.of_file(files[0].path, run, where) if files else _query.of_server(server, where)
    asked = _query.Query(run, engine, query, key, where, named=run.modality == "text")
    named = fields or {}
    options: dict[str, Any] = {"fields": named, "group": group} | (reading or {})
    if run.modality == "text":
        options["fields"] = {"uri": "volant_uri", **named}
    found = read(run, _files(run, asked, source), options, total=0, few=False)
    return arrive(run, found, refuse_above=refuse_above, where=where, fix="Name its columns with `fields`.")


def _files(run: Run, asked: Query, source: Source) -> Iterator[tuple[Arriving, Source]]:
    """The chunks as files to read; as one file where a modality looks at all rows of a file together."""
    import hashlib
    import shutil

    from volant.core.outside import OutsideFile
    from volant.stages.collect._query import CHUNK

    if run.modality == "text":
        for number, path in enumerate(asked.files()):
            raw = path.read_bytes()
            name = f"{asked.where}/rows from {number * CHUNK + 1:,} on.jsonl"
            yield OutsideFile(path, name, len(raw), hashlib.sha256(raw).hexdigest()), source
        return
    whole = run.work / "rows.jsonl"
    with whole.open("wb") as out:
        for path in asked.files():
            with path.open("rb") as part:
                shutil.copyfileobj(part, out)
    yield OutsideFile(whole, "rows.jsonl", whole.stat().st_size, ""), source
