"""How often words of a list stand in texts: flags for offensive words, or for words of one's own.

In go texts and lists; out comes a count a list and text. A flag says look, not drop. A line of a list is a word or a
phrase, in any case; it counts where no ASCII letter, digit or underscore stands beside it, as in C4's rule, so that
Scunthorpe is none. Blank lines and lines that begin with `#` are no words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from volant.core.errors import DataError

VERSION = 1  # of how words are bounded
OFFENSIVE = "offensive"  # the list that ships: LDNOOBW, English, CC-BY-4.0
LISTS = Path(__file__).parent / "lists"


@lru_cache(maxsize=1)
def offensive() -> tuple[str, ...]:
    """The English LDNOOBW list (CC-BY-4.0), which C4's bad-word rule drops by."""
    return tuple(words((LISTS / "ldnoobw-en.txt").read_text(encoding="utf-8"), "ldnoobw-en.txt"))


def words(text: str, where: str) -> list[str]:
    """The words and phrases of a list's text.

    Raises:
        DataError: there is none.
    """
    found = [line.strip().lower() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not found:
        raise DataError("the list holds no word.", where=where, fix="Write one word or phrase a line.")
    return list(dict.fromkeys(found))


def flagged(texts: pa.StringArray, lists: Mapping[str, Iterable[str]]) -> dict[str, pa.Int32Array]:
    """How many words of each list every text holds, as int32 arrays; a null holds none."""
    return {name: pc.fill_null(_count(texts, _pattern(tuple(found))), 0) for name, found in lists.items()}


def _count(texts: pa.StringArray, pattern: str) -> pa.Int32Array:
    return pc.count_substring_regex(texts, pattern).cast(pa.int32())


@lru_cache(maxsize=64)
def _pattern(found: tuple[str, ...]) -> str:
    """One expression for RE2, the longest phrase first, so that of two that begin alike the longer one counts."""
    ordered = sorted(found, key=lambda word: (-len(word), word))
    # `\b` stands beside letters only: a list's emoji has no word's end to look for.
    return "(?i)(?:" + "|".join(_bounded(word) for word in ordered) + ")"


def _bounded(word: str) -> str:
    before = r"\b" if re.match(r"[A-Za-z0-9_]", word) else ""
    after = r"\b" if re.search(r"[A-Za-z0-9_]$", word) else ""
    return f"{before}{re.escape(word)}{after}"
