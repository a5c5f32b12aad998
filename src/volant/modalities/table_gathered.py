"""What is gathered of one column while training rows go by, and the kind that it amounts to.

In go the values of rows, one by one; out come numbers as an array, texts with their counts, fresh ids.
Numbers cost eight bytes each, texts one entry for each different one.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import DataError
from volant.modalities.table_kinds import iso_date, text_of
from volant.modalities.table_rules import days_of

_FEW = 20  # so many different texts or numbers may well be no ids
_NAMES_ROWS = re.compile(r"(.*[_ \-.])?(id|index|uuid|no|nr|number|#)", re.IGNORECASE)


class Gathered:
    """The values of one column.

    Attributes:
        count: values that are not missing.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self._numbers = array("d")
        self._whole = True
        self._texts: Counter[str] = Counter()

    def add(self, value: Any) -> None:
        """One row's value."""
        if value is None:
            return
        self.count += 1
        kind = type(value)
        if kind is str:
            self._texts[value] += 1
        elif kind is int or kind is float:
            self._numbers.append(value)
            self._whole = self._whole and kind is int
        else:
            self._texts[text_of(value)] += 1

    @property
    def only_numbers(self) -> bool:
        """Whether no value is a text."""
        return not self._texts and bool(self._numbers)

    @property
    def whole(self) -> bool:
        """Whether all numbers are ints."""
        return self._whole

    def distinct(self) -> int:
        """Different values."""
        return len(self._texts) + len(set(self._numbers))

    def all_texts(self) -> list[str]:
        """The different texts."""
        return list(self._texts)

    def values(self) -> NDArray[np.float64]:
        """All as numbers.

        Raises:
            DataError: one is a text.
        """
        if self._texts:
            text = next(iter(self._texts))
            raise DataError(
                f"column {self.name!r} holds {text[:40]!r}, no number.", fix="Declare another kind in `types`."
            )
        return np.array(self._numbers, np.float64)

    def days(self) -> NDArray[np.float64]:
        """All as days since 1970.

        Raises:
            DataError: one is no date.
        """
        found = np.empty(self._texts.total())
        at = 0
        for text, count in self._texts.items():
            days = days_of(iso_date(text) or "")
            if days is None:
                raise DataError(f"column {self.name!r} holds {text[:40]!r}, no date.", fix="Write it like 2024-01-31.")
            found[at : at + count] = days
            at += count
        if self._numbers:
            raise DataError(
                f"column {self.name!r} holds {self._numbers[0]:g}, no date.", fix="Write it like 2024-01-31."
            )
        return found

    def texts(self) -> Counter[str]:
        """All as texts, with their counts."""
        found = Counter(self._texts)
        for number, count in Counter(self._numbers).items():
            found[text_of(int(number) if self._whole else number)] += count
        return found

    def fresh(self) -> tuple[int, str]:
        """Where fresh ids begin: an int above all, or a prefix that none has."""
        if self.only_numbers and self._whole:
            return int(max(self._numbers)) + 1, ""
        prefix = "new-"
        while any(text.startswith(prefix) for text in self._texts):
            prefix = f"new-{prefix}"
        return 1, prefix


def kind_of(column: Gathered) -> str:
    """The kind of a column that nobody declared.

    All different texts, or all different whole numbers under a name like `id`, name rows.
    """
    few = column.count < _FEW
    if column.only_numbers:
        if not column.whole:
            return "numeric"
        named = _NAMES_ROWS.fullmatch(column.name) is not None
        return "id" if named and not few and column.distinct() == column.count else "integer"
    texts = column.all_texts()
    if len(texts) and column.count == column.texts().total() and all(iso_date(text) == text for text in texts):
        return "date"
    return "id" if not few and column.distinct() == column.count else "categorical"


def declared_in(about: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Add what a row declares to what was found in others."""
    for name, kind in about.get("types", {}).items():
        found.setdefault("types", {}).setdefault(name, kind)
    for part in ("key", "constraints"):
        known = found.setdefault(part, [])
        known.extend(value for value in about.get(part, []) if value not in known)
