"""The kinds of columns: what a cell looks like, which kind fits all cells of a column, and a cell as a value.

In go cells (texts of a CSV file, typed values of Parquet or JSON); out come kinds and the values that
samples hold: ints, floats, ISO dates, texts, None where a value is missing.

| kind        | values                                                       | learnt            |
|-------------|--------------------------------------------------------------|-------------------|
| numeric     | floats                                                       | yes               |
| integer     | ints up to 2**53                                             | yes               |
| date        | `2024-01-31`, or with a time of day `2024-01-31T09:30:00`    | yes, as days      |
| categorical | texts                                                        | yes               |
| id          | texts or ints that name a row                                | no: numbered anew |

Dates are read where they are unambiguous: year first, or day first with dots. `03/04/2024` stays a text.
Numbers with leading zeros (`00123`: a postcode, an account) stay texts too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from volant.core.errors import SettingError, did_you_mean

KINDS = ("numeric", "integer", "categorical", "date", "id")
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NULL", "null", "?", "#N/A")
EXACT = 2**53  # beyond it a float64 does not hold every integer
MOST_CELL = 131_072
_AGREE = 0.99  # share of the cells that make a column a number or a date; the others are refused one by one

_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)")
_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.IGNORECASE)
_DATE = re.compile(
    r"(\d{4})([-/])(\d{2})\2(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?"
)
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})")


def check_kinds(types: Mapping[str, Any], columns: Mapping[str, Any] | tuple[str, ...] | list[str]) -> dict[str, str]:
    """Declared kinds, checked against the columns that there are.

    Raises:
        SettingError: there is no such kind, or no such column.
    """
    for name, kind in types.items():
        if kind not in KINDS:
            raise SettingError(f"there is no kind {kind!r}.", where=f"types.{name}", fix=did_you_mean(str(kind), KINDS))
        if name not in columns:
            raise SettingError(f"there is no column {name!r}.", where="types", fix=did_you_mean(name, columns))
    return {str(name): str(kind) for name, kind in types.items()}


@lru_cache(maxsize=262_144)
def look(text: str) -> str:
    """What a text looks like: `integer`, `numeric`, `infinite`, `date` or `text`."""
    if not text or len(text) > 40:
        return "text"
    if text[0] in "+-.0123456789":
        if _INTEGER.fullmatch(text):
            return "integer" if abs(int(text)) <= EXACT else "text"
        if _NUMBER.fullmatch(text):
            return "numeric" if math.isfinite(float(text)) else "infinite"
        if iso_date(text) is not None:
            return "date"
    return "infinite" if _INFINITE.fullmatch(text) else "text"


@lru_cache(maxsize=262_144)
def iso_date(text: str) -> str | None:
    """A written date as ISO: `2024-01-31`, or `2024-01-31T09:30:00` in UTC; None where it is none."""
    found, dotted = _DATE.fullmatch(text), _DOTTED.fullmatch(text)
    try:
        if dotted:
            return date(int(dotted[3]), int(dotted[2]), int(dotted[1])).isoformat()
        if not found:
            return None
        if found[5] is None:
            return date(int(found[1]), int(found[3]), int(found[4])).isoformat()
        return iso_time(datetime.fromisoformat(text.replace("/", "-")))
    except (ValueError, OverflowError):
        return None


def iso_time(moment: datetime) -> str:
    """A moment as ISO with whole seconds, in UTC where it says its zone."""
    plain = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return plain.replace(microsecond=0).isoformat()


def text_of(value: Any) -> str:
    """A value as the text of a category: `true`, `3`, `0.5`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)


class Guess:
    """Cells of one column, counted by what they look like.

    Attributes:
        missing: cells without a value.
        timed: whether a date has a time of day other than midnight.
    """

    def __init__(self) -> None:
        self.looks: Counter[str] = Counter()
        self.missing = 0
        self.timed = False

    def see(self, cell: Any, typed: bool) -> None:
        """Count a cell. Texts of a typed format may be dates (JSON has none) and are never numbers."""
        if cell is None:
            self.missing += 1
        elif isinstance(cell, str):
            seen = look(cell)
            self.looks[seen if not typed or seen == "date" else "text"] += 1
            if seen == "date" and len(cell) > 10 and not str(iso_date(cell)).endswith("T00:00:00"):
                self.timed = True
        elif isinstance(cell, bool):
            self.looks["text"] += 1
        elif isinstance(cell, int):
            self.looks["integer" if abs(cell) <= EXACT else "text"] += 1
        elif isinstance(cell, float):
            self.looks["numeric" if math.isfinite(cell) else "infinite"] += 1
        else:
            self.looks["date" if isinstance(cell, date) else "text"] += 1
            if isinstance(cell, datetime) and not iso_time(cell).endswith("T00:00:00"):
                self.timed = True

    @property
    def count(self) -> int:
        """Cells with a value."""
        return self.looks.total()

    @property
    def kind(self) -> str:
        """The kind that all cells have, or 99 of 100 of them."""
        looks, enough = self.looks, _AGREE * self.count
        finite = looks["integer"] + looks["numeric"]
        if finite and finite + looks["infinite"] >= enough:
            return "numeric" if looks["numeric"] else "integer"
        return "date" if self.count and looks["date"] >= enough else "categorical"


def value_of(cell: Any, kind: str, *, whole_ids: bool = False, timed: bool | None = None) -> Any:
    """A cell as the value that a sample holds.

    Args:
        cell: a text, a typed value, or None where it is missing.
        kind: of its column.
        whole_ids: whether the ids of this column are ints.
        timed: whether dates get a time of day (True), lose it (False) or stay as they are.

    Raises:
        ValueError: it is none of that kind; the text says why.
    """
    if cell is None:
        return None
    if isinstance(cell, str) and len(cell) > MOST_CELL:
        raise ValueError(f"has {len(cell):,} characters; a cell may have {MOST_CELL:,}")
    if kind in ("categorical", "id"):
        if kind == "id" and whole_ids:
            return _integer(cell)
        if isinstance(cell, date):
            return iso_time(cell) if isinstance(cell, datetime) else cell.isoformat()
        return text_of(cell)
    if kind == "date":
        found = _date(cell)
        if timed is None:
            return found
        return (found if "T" in found else f"{found}T00:00:00") if timed else found[:10]
    return _integer(cell) if kind == "integer" else _number(cell)


def _date(cell: Any) -> str:
    if isinstance(cell, datetime):
        return iso_time(cell)
    if isinstance(cell, date):
        return cell.isoformat()
    found = iso_date(cell) if isinstance(cell, str) else None
    if found is None:
        raise ValueError(
            f"is {str(cell)[:40]!r}, no date; write it like 2024-01-31, or declare another kind in `types`"
        )
    return found


def _number(cell: Any) -> float:
    text = cell if isinstance(cell, str) else ""
    if not isinstance(cell, int | float) or isinstance(cell, bool):
        if look(text) == "infinite":
            raise ValueError(f"is {text}; a number has to be finite. Leave the cell empty where it is not known")
        if look(text) not in ("integer", "numeric"):
            raise ValueError(f"is {str(cell)[:40]!r}, no number; mend it, or declare another kind in `types`")
    value = float(cell)
    if not math.isfinite(value):
        raise ValueError(f"is {value}; a number has to be finite. Leave the cell empty where it is not known")
    return value


def _integer(cell: Any) -> int:
    value = cell if isinstance(cell, int) and not isinstance(cell, bool) else _number(cell)
    if value != int(value):
        raise ValueError(f"is {value!r}, no whole number; declare it `numeric` in `types`")
    if abs(value) > EXACT:
        raise ValueError(f"is {value!r}, beyond the whole numbers that are kept exactly; declare it `id` in `types`")
    return int(cell) if isinstance(cell, str) and _INTEGER.fullmatch(cell) else int(value)
