"""What people said of records: a file of JSON lines that only grows.

    {"id": "3f2a...", "name": "topic", "value": "sport", "by": "ana", "final": false, "note": "", "at": "2026-11-24"}

Enters: a judgement, as it is made. Leaves: the last word of each rater on each record. It is a plain file, as the
approvals are, so that it can be read, reviewed and versioned, and so that an edit makes `collect.label` stale. An empty
value says that the rater could not tell; `final` is the word of whoever decided a dispute, and overrules votes. A word
that was taken back stands again with `"withdrawn": true`, and counts no more.
"""

from __future__ import annotations

import datetime
import fcntl
import json
import os
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volant.core.errors import DataError, MachineError
from volant.core.outside import OutsideFile

FILE = "labels.jsonl"


class Judgement(BaseModel):
    """One rater's word on one record; `by` names the person, a pseudonym will do."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    id: str = Field(min_length=1, max_length=200)
    name: str = Field(default="label", min_length=1, max_length=100)
    value: str = Field(max_length=1000)
    by: str = Field(min_length=1, max_length=100)
    final: bool = False
    note: str = Field(default="", max_length=4000)
    at: str = ""
    withdrawn: bool = False


def judgements(files: Iterable[OutsideFile], name: str = "") -> list[Judgement]:
    """Each rater's last word on each record that was not withdrawn; of one label where `name` is given.

    Raises:
        DataError: a line is no judgement, or names nobody.
    """
    found: dict[tuple[str, str, str, bool], Judgement] = {}
    for file in files:
        try:
            lines = file.path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"the labels are no UTF-8: {error}.", where=file.name, fix="Save the file as UTF-8."
            ) from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                one = Judgement.model_validate_json(line)
            except ValidationError as error:
                fix = 'Write {"id": "...", "name": "topic", "value": "sport", "by": "your name"} on one line.'
                what, where = f"this is no label: {error.errors()[0]['msg']}.", f"{file.name}:{number}"
                raise DataError(what, where=where, fix=fix) from error
            if not name or one.name == name:
                key = (one.id, one.name, one.by, one.final)
                found.pop(key, None)  # the newest word stands last
                if not one.withdrawn:
                    found[key] = one
    return list(found.values())


def read(file: Path, name: str = "") -> list[Judgement]:
    """The same of one file, nothing where it is not there yet."""
    return judgements([OutsideFile(file, file.name, 0, "")], name) if file.is_file() else []


def append(file: Path, *said: Judgement) -> None:
    """Add judgements at the end of the file, on disk when this returns; several raters may write at once.

    Raises:
        MachineError: the file cannot be written.
    """
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    rows = [one if one.at else one.model_copy(update={"at": today}) for one in said]
    text = "".join(json.dumps(_fields(one), ensure_ascii=False) + "\n" for one in rows)
    try:
        with file.open("a+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.seek(0, os.SEEK_END)
            if handle.tell():  # a line that a crash cut short must not swallow the next one
                handle.seek(-1, os.SEEK_END)
                text = text if handle.read(1) == b"\n" else "\n" + text
            handle.write(text.encode())
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise MachineError(
            f"the labels cannot be kept: {error.strerror}.", where=str(file), fix="Mend that."
        ) from error


def _fields(one: Judgement) -> dict[str, object]:
    return one.model_dump(exclude=None if one.withdrawn else {"withdrawn"})
