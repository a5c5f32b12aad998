"""Several draws of an answer: which one they agree on, and how many do (self-consistency; Wang et al., 2022).

Enters: texts, and a regular expression for the part that decides. Leaves: the index of the answer that most draws agree
with, and their share. Where no part is named, two answers agree when they hold the same numbers and their words overlap
by `ALIKE` (F1): answers in free words are hardly ever equal, and a number is what must not differ.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

ALIKE = 0.8
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def decisive(text: str, pattern: str) -> str | None:
    """The part of an answer that decides, in lower case; None where the expression finds none.

    >>> decisive("2 and 3 is 5\\n#### 5", r"#### (.+)")
    '5'
    """
    if not pattern:
        return text
    found = list(re.finditer(pattern, text))
    if not found:
        return None
    last = found[-1]
    return " ".join((last[1] if last.re.groups and last[1] is not None else last[0]).lower().split())


def alike(one: str, other: str) -> bool:
    """Whether two answers in free words say the same, by their numbers and words."""
    return numbers(one) == numbers(other) and word_f1(one, other) >= ALIKE


def word_f1(one: str, other: str) -> float:
    """F1 of the words, articles aside; 1 for two texts without any."""
    from volant.scorers.tokens import answer_words

    mine, theirs = Counter(answer_words(one)), Counter(answer_words(other))
    if not mine or not theirs:
        return float(mine == theirs)
    return 2 * (mine & theirs).total() / (mine.total() + theirs.total())


def numbers(text: str) -> Counter[str]:
    """The numbers in a text, without separators."""
    return Counter(found.replace(",", "") for found in _NUMBER.findall(text))


def agreed(texts: Sequence[str], pattern: str = "", *, of: int = 0) -> tuple[int, float]:
    """The draw that most draws agree with (the first of equals), and their share.

    Args:
        of: how many draws there were, where some gave no text at all.
    """
    parts = [decisive(text, pattern) for text in texts]
    best, most = 0, 0
    for at, part in enumerate(parts):
        if part is None:
            continue
        votes = sum(other is not None and (part == other if pattern else alike(part, other)) for other in parts)
        if votes > most:
            best, most = at, votes
    return best, most / max(1, of or len(texts))
