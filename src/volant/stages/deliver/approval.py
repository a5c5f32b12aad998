"""A person's word on generated content: approved or not, by whom.

Enters: a file of JSON lines that a person (or `record`) writes, one decision a line:
`{"id": "3f2a...", "approved": true, "by": "Ada"}`. Leaves: the last decision on each id. It is a plain
file so that it can be read, reviewed and versioned, and so that an edit makes `publish` stale.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from volant.core.errors import DataError
from volant.core.outside import OutsideFile

FILE = "approvals.jsonl"


class Approval(BaseModel):
    """One decision; `by` names the person, for an approval by nobody is none."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    id: str
    approved: bool
    by: str
    note: str = ""


def decisions(files: Iterable[OutsideFile]) -> dict[str, Approval]:
    """The last decision on each id, over all files in order.

    Raises:
        DataError: a line is no decision, or names nobody.
    """
    found: dict[str, Approval] = {}
    for file in files:
        for number, line in enumerate(file.path.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            where = f"{file.name}:{number}"
            try:
                decision = Approval.model_validate_json(line)
            except ValidationError as error:
                fix = 'Write {"id": "...", "approved": true, "by": "your name"} on one line.'
                raise DataError(f"this is no decision: {error.errors()[0]['msg']}.", where=where, fix=fix) from error
            if not decision.by:
                raise DataError("the decision names nobody.", where=where, fix="Put your name into `by`.")
            found[decision.id] = decision
    return found


def record(file: Path, decision: Approval) -> None:
    """Add a decision at the end of the file."""
    with file.open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(decision.model_dump(), ensure_ascii=False) + "\n")
