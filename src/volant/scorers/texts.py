"""Words, sentences and hashed vectors of text, for scorers. No fit, no model, no randomness.

Text enters; lists of words or sparse vectors (hash to weight) leave. Hashes are CRC-32, which is the
same in every process and on every machine.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n\s*\n")
# Words that say little about the topic; they count for a tenth.
_STOP_LIST = """
a an and are as at be been but by can could did do does for from had has have he her his how i if in into is it its
may might not of on one or our she should so some such than that the their them then there these they this to was we
were what when where which who will with would you your
"""
STOP_WORDS = frozenset(_STOP_LIST.split())
_STOP_WEIGHT = 0.1


def words(text: str) -> list[str]:
    """The words in lower case; parts of `snake_case` are words of their own."""
    return [w.lower() for w in WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """The sentences, stripped; a text without an end mark is one."""
    return [s.strip() for s in _SENTENCE_END.split(text) if s and s.strip()]


def word_vector(text: str) -> dict[int, float]:
    """Words, stop words at a tenth, with damped counts, of length 1; empty for a text without words."""
    counts = Counter(words(text))
    return _unit({_hash(w): (1 + math.log(c)) * (_STOP_WEIGHT if w in STOP_WORDS else 1.0) for w, c in counts.items()})


def char_vector(text: str) -> dict[int, float]:
    """Runs of 3 to 5 characters inside words, with damped counts, of length 1."""
    counts: Counter[str] = Counter()
    for word in words(text):
        padded = f" {word} "
        weight = _STOP_WEIGHT if word in STOP_WORDS else 1.0
        for size in (3, 4, 5):
            for start in range(len(padded) - size + 1):
                counts[padded[start : start + size]] += weight  # type: ignore[assignment]
    return _unit({_hash(gram): math.log1p(c) for gram, c in counts.items()})


def cosine(left: Mapping[int, float], right: Mapping[int, float]) -> float:
    """Cosine of two vectors of length 1; 0 where one is empty."""
    if len(left) > len(right):
        left, right = right, left
    return min(1.0, sum(weight * right.get(key, 0.0) for key, weight in left.items()))


def similarity(left: str, right: str) -> float:
    """How alike two texts are in words and in runs of characters: the mean of both cosines, in [0, 1]."""
    return (cosine(word_vector(left), word_vector(right)) + cosine(char_vector(left), char_vector(right))) / 2


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def _unit(vector: dict[int, float]) -> dict[int, float]:
    length = math.sqrt(sum(w * w for w in vector.values()))
    return {key: w / length for key, w in vector.items()} if length else {}
