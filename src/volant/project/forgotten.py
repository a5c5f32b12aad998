"""`forgotten.jsonl`: the records that this project must not use again, declared beside the project file.

One JSON object a line: `id`, `asked_at` (a date) and `reason`. Gathering and cleaning methods leave such records
out with the rule `forgotten`; the ids enter their inputs key, so that a new line makes those steps stale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from volant.core.errors import SpecError

FILE = "forgotten.jsonl"


def forgotten_ids(root: Path) -> frozenset[str]:
    """The ids that the file of a project lists; none where there is no file.

    Raises:
        SpecError: a line is no JSON object with an `id`.
    """
    file = root / FILE
    if not file.is_file():
        return frozenset()
    found = set()
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found.add(str(entry["id"]))
        except (ValueError, KeyError, TypeError) as error:
            fix = 'Write one object a line, as in {"id": "3f9c...", "reason": "asked by the author"}.'
            raise SpecError(f"the line names no record: {error}.", where=f"{FILE}:{number}", fix=fix) from error
    return frozenset(found)


def add_forgotten(root: Path, reasons: Mapping[str, str]) -> list[str]:
    """Append records to the file, each with its reason; returns the ids that were not there yet."""
    known = forgotten_ids(root)
    new = [id for id in reasons if id not in known]
    today = datetime.now(UTC).date().isoformat()
    lines = [json.dumps({"id": id, "asked_at": today, "reason": reasons[id]}, ensure_ascii=False) for id in new]
    file = root / FILE
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    if new:
        draft = file.with_name(f".{FILE}.new")
        draft.write_text(before + "\n".join(lines) + "\n", encoding="utf-8")
        draft.replace(file)
    return new
