"""Grammar as a lint rate: how many of a few plain rules a text breaks, for each 100 words.

Not a grammar checker. The rules catch what small models get wrong (loops, doubled words, unclosed
brackets, sentences without beginning or end, a/an, made-up words); they do not catch wrong agreement.
Correct text has lints too (names, code), so the figure is read beside that of the references.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Any

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Direction
from volant.scorers.measure import prompt_of
from volant.scorers.scoring import Scoring
from volant.scorers.texts import sentences, words

_DOUBLED = re.compile(r"\b([A-Za-z]+)\s+\1\b", re.IGNORECASE)
_ALLOWED_DOUBLES = {"had", "that", "is", "so"}
_SPACED = re.compile(r"\w\s+[,;](?:\s|$)|\w +\.(?:\s|$)|,,|;;|\?\?\?|!!!")
_ARTICLE = re.compile(r"\b(an?)\s+([a-z]{2,})\b")
_VOWEL_SOUND = ("hour", "honest", "honour", "honor", "heir")
_CONSONANT_SOUND = (
    "uni",
    "use",
    "usa",
    "usu",
    "one",
    "once",
    "euro",
    "eu",
    "ubiq",
    "util",
    "uuid",
    "utf",
    "url",
    "uri",
)
_START = re.compile(r"^[\"'`(\[{*\u2018\u201c]*[A-Z0-9]|^[`<_$%#@\\-]|^\S*[._()=\[\]]\S|^[a-z]+[A-Z]")
_END = re.compile(r"[.!?:\u2026][\"'`)\]}*\u2019\u201d]*$")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_SHAPELESS = re.compile(r"([a-z])\1\1|[bcdfghjklmnpqrstvwxz]{6}")


def lints(text: str, vocabulary: Collection[str] = ()) -> list[str]:
    """What is wrong with a text, in words; one entry an occurrence.

    Args:
        text: any text; an empty one is one lint.
        vocabulary: known words in lower case; other words of three or more small letters are lints.
            Empty: only shapes that no word has are.
    """
    if not text.strip():
        return ["empty"]
    found = [f"doubled word '{m[1]}'" for m in _DOUBLED.finditer(text) if m[1].lower() not in _ALLOWED_DOUBLES]
    found += ["misplaced punctuation"] * len(_SPACED.findall(text))
    found += [f"'{m[1]} {m[2]}'" for m in _ARTICLE.finditer(text) if _wrong_article(m[1], m[2])]
    found += _unbalanced(text)
    found += ["sentence without a capital"] * sum(not _START.search(s) for s in sentences(text))
    if not _END.search(text.strip()):
        found.append("no end mark")
    found += ["repetition loop"] * _loops(words(text))
    return found + [f"unknown word '{w}'" for w in re.findall(r"\b[a-z]{3,}\b", text) if _unknown(w, vocabulary)]


def _wrong_article(article: str, word: str) -> bool:
    if word.startswith(_VOWEL_SOUND):
        vowel = True
    else:
        vowel = word[0] in "aeiou" and not word.startswith(_CONSONANT_SOUND)
    return vowel != (article == "an")


def _unbalanced(text: str) -> list[str]:
    stack: list[str] = []
    wrong = 0
    for mark in text:
        if mark in _BRACKETS.values():
            stack.append(mark)
        elif mark in _BRACKETS:
            if stack and stack[-1] == _BRACKETS[mark]:
                stack.pop()
            else:
                wrong += 1
    odd = [f"odd number of {mark}" for mark in '"`' if text.count(mark) % 2]
    return ["unbalanced bracket"] * (wrong + len(stack)) + odd


def _loops(found: list[str]) -> int:
    """How often a run of 2 to 6 words follows itself at once."""
    count, at = 0, 0
    while at < len(found):
        size = next((n for n in range(2, 7) if found[at : at + n] == found[at + n : at + 2 * n] != []), 0)
        count += bool(size)
        at += size or 1
    return count


def _unknown(word: str, vocabulary: Collection[str]) -> bool:
    if vocabulary:
        return word not in vocabulary
    return bool(_SHAPELESS.search(word)) or (len(word) > 4 and not re.search("[aeiouy]", word))


class Grammar(Scoring):
    """See the module."""

    name = "grammar"
    unit = "lints/100 words"
    direction: Direction = "lower"
    ladder = "fidelity"
    of_references = True
    note = "lint rate by our own light rules; compare with the references' own"

    def __init__(self, vocabulary: Collection[str]) -> None:
        self.vocabulary = frozenset(vocabulary)

    @property
    def settings(self) -> dict[str, Any]:
        """The vocabulary, as a hash."""
        return {"vocabulary": hashlib.sha256("\n".join(sorted(self.vocabulary)).encode()).hexdigest()}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """Lints for each 100 words; at most 100, which is also what an empty output gets."""
        return [self._rate(o.text, prompt_of(r)) for o, r in zip(outputs, references, strict=True)]

    def _rate(self, text: str, prompt: str) -> float:
        count = len(words(text))
        if not count:
            return 100.0
        # What the prompt calls things is no made-up word.
        known = self.vocabulary | set(words(prompt)) if self.vocabulary else ()
        return min(100.0, 100 * len(lints(text, known)) / count)


def grammar(*, training: Sequence[Sample] | None = None, vocabulary: Collection[str] = ()) -> Grammar:
    """The scorer.

    Args:
        training: known words are learnt from it where no vocabulary is given.
        vocabulary: known words in lower case; `vocabulary_of` learns them from texts. Empty: words are
            judged by their shape only.
    """
    return Grammar(vocabulary or (vocabulary_of([s.text for s in training]) if training else ()))


def vocabulary_of(texts: Sequence[str], *, least: int = 2) -> frozenset[str]:
    """Words that occur at least `least` times in texts, in lower case."""
    from collections import Counter

    counts = Counter(w for text in texts for w in re.findall(r"[a-z]{3,}", text.lower()))
    return frozenset(w for w, c in counts.items() if c >= least)
