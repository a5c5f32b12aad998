"""Rules that say whether a text is worth learning from, each with the figure that it looked at.

In go texts one at a time, out come their figures; and in go the figures of many texts with thresholds, out comes for
each the first rule that it breaks as `rule: value against threshold`. So a threshold changes without a text being read
again. Figures and thresholds are Gopher's (Rae et al. 2021, table A1) where Gopher has them; words are split at white
space, since with punctuation counted as words the same thresholds drop nine tenths of ordinary text.

Legend: N texts, F figures, R words, and runs of words that begin at each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIGURES = (
    "words", "word_length", "letters", "symbols", "bullets", "duplicate_lines", "top_phrase", "duplicate_phrases"
)  # fmt: skip
"""What is known of each text, in this order; all are 0 where a text is too short for a rule to look at it."""
Figures = NDArray[np.float64]


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


def figures(text: str) -> list[float]:
    """The figures of a text, in the order of `FIGURES`."""
    words = text.split()
    if not words:
        return [0.0] * len(FIGURES)
    count = len(words)
    mean = sum(map(len, words)) / count
    letters = sum(1 for word in words if _LETTER.search(word)) / count
    symbols = (text.count("...") + text.count("…") + len(_HASH.findall(text))) / count
    return [count, mean, letters, symbols, *_repetition(text, words)]


def answer_figures(text: str, answer: str) -> list[float]:
    """The figures of a task sample: its whole length, and the repetition of an answer of twenty words or more."""
    words = answer.split()
    return [len(text.split()), 0.0, 0.0, 0.0, *(_repetition(answer, words) if len(words) >= 20 else [0.0] * 4)]


def broken_figures(figure_NF: Figures, answer_N: NDArray[np.bool_], rules: Rules) -> dict[int, str]:
    """The first rule that each text breaks, by its number; answers are not asked how short or how spelt they are."""
    found: dict[int, str] = {}
    for name, broken_N, told in reversed(list(_verdicts(figure_NF, ~answer_N, rules))):
        value_N = figure_NF[:, FIGURES.index(name)]
        found |= {number: told(float(value_N[number])) for number in np.flatnonzero(broken_N).tolist()}
    return found


def _verdicts(
    figure_NF: Figures, plain_N: NDArray[np.bool_], rules: Rules
) -> Iterator[tuple[str, NDArray[np.bool_], Callable[[float], str]]]:
    """Of each rule in order: its figure, which texts break it, and what it says of a value."""
    value = dict(zip(FIGURES, figure_NF.T, strict=True))
    least, most = rules.min_word_length, rules.max_word_length
    length = value["word_length"]
    fewest, many = f"against {rules.min_words}", f"against {rules.max_words}"
    yield "words", plain_N & (value["words"] < rules.min_words), lambda v: f"min_words: {v:.0f} {fewest}"
    yield "words", value["words"] > rules.max_words, lambda v: f"max_words: {v:.0f} {many}"
    yield (
        "word_length",
        plain_N & ~((least <= length) & (length <= most)),
        lambda v: f"word_length: {v:.2f} against {least:g} to {most:g}",
    )
    yield (
        "letters",
        plain_N & (value["letters"] < rules.min_letters),
        lambda v: f"min_letters: {v:.3f} against {rules.min_letters:g}",
    )
    for name in FIGURES[3:]:
        bound = float(getattr(rules, f"max_{name}"))
        yield name, value[name] > bound, _most(name, bound)


def _most(name: str, bound: float) -> Callable[[float], str]:
    return lambda value: f"max_{name}: {value:.3f} against {bound:g}"


def _repetition(text: str, words: list[str]) -> list[float]:
    """Bullets, repeated lines, the commonest phrase, repeated phrases."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    bullets = sum(1 for line in lines if line.startswith(("- ", "* ", "• "))) / len(lines)
    repeated = 0.0
    if len(lines) > 4:
        # Lines of closing brackets and the like repeat in any code; only lines with words count.
        wordy = [line for line in lines if len(line) > 12]
        repeated = (len(wordy) - len(set(wordy))) / len(lines)
    if len(words) < 20:
        return [bullets, repeated, 0.0, 0.0]
    number: dict[str, int] = {}
    id_R = np.array([number.setdefault(word, len(number)) for word in words])
    return [bullets, repeated, _top_phrase(words, id_R), _repeated(id_R)]


def _top_phrase(words: list[str], id_R: NDArray[np.int64]) -> float:
    run_R = _runs(_runs(id_R, id_R[1:]), id_R[2:])
    _, first, times = np.unique(run_R, return_index=True, return_counts=True)
    most = int(times.max())
    if most < 3:
        return 0.0
    at = int(first[times == most].min())  # of several the one that comes first
    return most * sum(map(len, words[at : at + 3])) / sum(map(len, words))


def _repeated(id_R: NDArray[np.int64]) -> float:
    """The share of words in a run of eight that was there before."""
    run_R = id_R
    for half in (1, 2, 4):
        run_R = _runs(run_R, run_R[half:])
    _, first = np.unique(run_R, return_index=True)
    if len(first) == len(run_R):
        return 0.0
    again = np.ones(len(run_R), bool)
    again[first] = False
    marks = np.zeros(len(id_R) + 1, np.int64)
    starts = np.flatnonzero(again)
    marks[starts] += 1
    marks[starts + 8] -= 1
    return float(np.mean(np.cumsum(marks[:-1]) > 0))


def _runs(run_R: NDArray[np.int64], next_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each run of words that two shorter ones make; equal for equal ones."""
    pair_R = run_R[: len(next_R)] * (int(next_R.max()) + 1) + next_R
    found: NDArray[np.int64] = np.unique(pair_R, return_inverse=True)[1]
    return found


_LETTER = re.compile(r"[^\W\d_]")
_HASH = re.compile(r"(?<!\S)#(?=\S)")
