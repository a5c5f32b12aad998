"""Rules that say whether a text is worth learning from, each with the figure that it looked at.

In goes one text; out comes the first rule that it breaks as `rule: value against threshold`, or
nothing. Figures and thresholds are Gopher's (Rae et al. 2021, table A1) where Gopher has them; words
are split at white space, since with punctuation counted as words the same thresholds drop nine
tenths of ordinary text.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rules:
    """Thresholds; a rule whose threshold is 0 (for a minimum) or 1 (for a share) never drops.

    Attributes:
        min_words, max_words: words of a text.
        min_word_length, max_word_length: mean characters of a word.
        min_letters: share of words that hold a letter.
        max_symbols: `#` and ellipses per word.
        max_bullets: share of lines that begin with a bullet.
        max_duplicate_lines: share of lines that repeat an earlier line.
        max_top_phrase: share of characters in the commonest run of 3 words.
        max_duplicate_phrases: share of words that lie in a run of 8 words seen before.
    """

    min_words: int = 5
    max_words: int = 100_000
    min_word_length: float = 2.0
    max_word_length: float = 14.0
    min_letters: float = 0.6
    max_symbols: float = 0.1
    max_bullets: float = 0.9
    max_duplicate_lines: float = 0.30
    max_top_phrase: float = 0.18
    max_duplicate_phrases: float = 0.30


def broken_rule(text: str, rules: Rules) -> str:
    """The first rule that the text breaks, as `rule: value against threshold`; empty when it passes."""
    words = text.split()
    count = len(words)
    if count < rules.min_words:
        return f"min_words: {count} against {rules.min_words}"
    if count > rules.max_words:
        return f"max_words: {count} against {rules.max_words}"
    mean = sum(map(len, words)) / count
    if not rules.min_word_length <= mean <= rules.max_word_length:
        return f"word_length: {mean:.2f} against {rules.min_word_length:g} to {rules.max_word_length:g}"
    letters = sum(1 for word in words if _LETTER.search(word)) / count
    if letters < rules.min_letters:
        return f"min_letters: {letters:.3f} against {rules.min_letters:g}"
    symbols = (text.count("...") + text.count("…") + len(_HASH.findall(text))) / count
    if symbols > rules.max_symbols:
        return f"max_symbols: {symbols:.3f} against {rules.max_symbols:g}"
    return _broken_repetition(text, words, rules)


def _broken_repetition(text: str, words: list[str], rules: Rules) -> str:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    bullets = sum(1 for line in lines if line.startswith(("- ", "* ", "• "))) / len(lines)
    if bullets > rules.max_bullets:
        return f"max_bullets: {bullets:.3f} against {rules.max_bullets:g}"
    if len(lines) > 4:
        # Lines of closing brackets and the like repeat in any code; only lines with words count.
        wordy = [line for line in lines if len(line) > 12]
        repeated = (len(wordy) - len(set(wordy))) / len(lines)
        if repeated > rules.max_duplicate_lines:
            return f"max_duplicate_lines: {repeated:.3f} against {rules.max_duplicate_lines:g}"
    if len(words) >= 20:
        share = _top_phrase(words)
        if share > rules.max_top_phrase:
            return f"max_top_phrase: {share:.3f} against {rules.max_top_phrase:g}"
        share = _repeated(words, 8)
        if share > rules.max_duplicate_phrases:
            return f"max_duplicate_phrases: {share:.3f} against {rules.max_duplicate_phrases:g}"
    return ""


def _top_phrase(words: list[str]) -> float:
    phrases = Counter(zip(words, words[1:], words[2:], strict=False))
    (phrase, times) = phrases.most_common(1)[0]
    if times < 3:
        return 0.0
    return times * sum(map(len, phrase)) / sum(map(len, words))


def _repeated(words: list[str], run: int) -> float:
    number: dict[str, int] = {}
    ids = np.array([number.setdefault(word, len(number)) for word in words])
    if len(ids) <= run or len(number) == len(ids):
        return 0.0
    windows = np.lib.stride_tricks.sliding_window_view(ids, run)
    _, first = np.unique(windows, axis=0, return_index=True)
    again = np.ones(len(windows), bool)
    again[first] = False
    marks = np.zeros(len(ids) + 1, np.int64)
    starts = np.flatnonzero(again)
    np.add.at(marks, starts, 1)
    np.add.at(marks, starts + run, -1)
    return float(np.mean(np.cumsum(marks[:-1]) > 0))


_LETTER = re.compile(r"[^\W\d_]")
_HASH = re.compile(r"(?<!\S)#(?=\S)")


def broken_answer(text: str, answer: str, rules: Rules) -> str:
    """The first rule that a task sample breaks: its whole length, and the repetition of its answer."""
    count = len(text.split())
    if count > rules.max_words:
        return f"max_words: {count} against {rules.max_words}"
    words = answer.split()
    return _broken_repetition(answer, words, rules) if len(words) >= 20 else ""
