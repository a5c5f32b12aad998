"""How values go into columns and come back: JSON as text, times as ISO, identifiers.

Enters: Python values. Leaves: what SQLite and Postgres store alike. JSON is kept in ASCII, so that text
with half a surrogate pair (valid in a request's JSON, refused by databases) survives.
"""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from typing import Any


def packed(value: Any) -> str:
    """A value as JSON text in ASCII."""
    return json.dumps(value, separators=(",", ":"))


def unpacked(text: str) -> Any:
    """The value of a JSON text."""
    return json.loads(text)


def plain(text: str) -> str:
    """Text that every database takes: half surrogate pairs become `?`, NUL bytes go."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def now() -> str:
    """The time as ISO in UTC with milliseconds; sorts as text."""
    return iso(datetime.now(UTC))


def iso(moment: datetime) -> str:
    """A moment as ISO in UTC with milliseconds; a naive one is taken as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat(timespec="milliseconds")


def fresh_id(kind: str) -> str:
    """An identifier that nothing else has: `run-5f1c0a9d2b7e`."""
    return f"{kind}-{secrets.token_hex(6)}"
