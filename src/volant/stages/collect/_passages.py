"""Passages of documents, what is asked of a model about them, and whether an answer stands in its passage.

Enters: a document's text, or what a model said. Leaves: passages of whole sentences; a question with its answer, or the
reason why there is none; the share of an answer that its passage bears out, and where it stands word for word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from volant.stages.collect._agreement import numbers

ASK = """Here is a passage:

{passage}

Write one question that this passage answers, and its answer in the passage's own words. The question must make sense \
to somebody who does not see the passage. Reply with JSON and nothing else: {{"question": "...", "answer": "..."}}"""
READ = """Here is a passage:

{passage}

Answer in as few words as possible, from the passage alone: {question}"""
_PAIR = re.compile(r"(?:question|q)\s*:\s*(.+?)\s*\n+\s*(?:answer|a)\s*:\s*(.+)", re.IGNORECASE | re.DOTALL)
_POINTS = re.compile(
    r"\b(?:the|this|that) (?:passage|text|excerpt|paragraph|document|article|author)\b|\b(?:above|below|mentioned)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Passage:
    """A part of a document: its text and the number of its first character."""

    text: str
    at: int


def passages(text: str, words: int) -> Iterator[Passage]:
    """Whole sentences in a row, of about so many words; what is shorter than a quarter of that is left out."""
    begin, count, last = 0, 0, 0
    for sentence in re.finditer(r"[^.!?\n]+(?:[.!?]+(?=\s|$)|[.!?]+|\n+|$)+", text):
        many = len(sentence[0].split())
        if count and count + many > words:
            if 4 * count >= words:
                yield _cut(text, begin, last)
            begin, count = sentence.start(), 0
        count += many
        last = sentence.end()
    if 4 * count >= words:
        yield _cut(text, begin, last)


def _cut(text: str, begin: int, end: int) -> Passage:
    part = text[begin:end]
    return Passage(part.strip(), begin + len(part) - len(part.lstrip()))


def asked_and_answered(said: str) -> tuple[str, str]:
    """The question and the answer in what a model said, from JSON or from marked lines; empty where there is none.

    >>> asked_and_answered('Sure: {"question": "Who?", "answer": "Ada."}')
    ('Who?', 'Ada.')
    """
    for start in (found.start() for found in re.finditer(r"\{", said)):
        try:
            body, _ = json.JSONDecoder().raw_decode(said[start:])
        except (ValueError, RecursionError):
            continue
        if isinstance(body, dict) and all(isinstance(body.get(k), str) for k in ("question", "answer")):
            return " ".join(body["question"].split()), body["answer"].strip()
    pair = _PAIR.search(said)
    return (" ".join(pair[1].split()), pair[2].strip()) if pair else ("", "")


def problem(question: str, answer: str, passage: str) -> str:
    """Why a question cannot stand for itself, as the reason of a drop; empty where it can."""
    from volant.scorers.texts import STOP_WORDS, words

    if not question or not answer:
        return "malformed: no question with an answer against one"
    pointing = _POINTS.search(question)
    if pointing:
        return f"points: {pointing[0]} against a question that stands alone"
    own = set(words(question)) - STOP_WORDS
    if not own & set(words(passage)):
        return "unrelated: 0 words of the question in the passage against 1"
    plain = _plain(answer)
    return "given_away: the answer stands in its question against not" if plain and plain in _plain(question) else ""


def support(answer: str, passage: str) -> tuple[float, int]:
    """The share (0 to 1) of an answer that its passage bears out, and the character where it stands; -1 for nowhere.

    An answer that stands there word for word has 1. Else it is the share of its content words that the passage has; an
    answer with a number that the passage does not have has 0.
    """
    from volant.scorers.texts import STOP_WORDS, words

    found = words(answer)
    if not found:
        return 0.0, -1
    spot = re.search(r"(?<!\w)" + r"\W+".join(map(re.escape, answer_parts(answer))) + r"(?!\w)", passage, re.IGNORECASE)
    if spot:
        return 1.0, spot.start()
    if numbers(answer) - numbers(passage):
        return 0.0, -1
    content = [word for word in found if word not in STOP_WORDS] or found
    there = set(words(passage))
    return sum(word in there for word in content) / len(content), -1


def answer_parts(answer: str) -> list[str]:
    """The runs of letters and digits of an answer."""
    return re.findall(r"\w+", answer)


def same_answer(one: str, other: str) -> float:
    """How far two answers agree, in content words: 1 where one stands in the other, 0 where their numbers differ."""
    from volant.scorers.texts import STOP_WORDS, words
    from volant.stages.collect._agreement import word_f1

    mine, theirs = f" {_plain(one)} ", f" {_plain(other)} "
    if mine.strip() and theirs.strip() and (mine in theirs or theirs in mine):
        return 1.0
    content = [" ".join([w for w in words(text) if w not in STOP_WORDS] or words(text)) for text in (one, other)]
    return word_f1(*content) if numbers(one) == numbers(other) else 0.0


def _plain(text: str) -> str:
    return " ".join(answer_parts(text.lower()))
