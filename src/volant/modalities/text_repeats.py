"""The lines, paragraphs and runs of words of a text, in compiled loops: how much of it was there before.

In goes a text as UTF-8 bytes, or the hashes of its words; out comes what is counted (`LINE_FIGURES`, `RUN_FIGURES`).
Lines and words with equal 64-bit hashes are taken for equal.

Legend: R rule words of a text, F figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled
from volant.modalities.text_scan import (
    NEWLINE,
    Bytes,
    Classes,
    Counts,
    Hashes,
    characters_in,
    ends_sentence,
    mix,
    number_of,
    span_hash,
    stripped,
)

Lengths = NDArray[np.int32]

LINE_FIGURES = (
    "newlines", "lines", "lines_again", "line_characters_again", "full_lines", "terminal_lines", "short_lines",
    "full_characters_again", "paragraphs", "paragraphs_again", "paragraph_characters_again",
)  # fmt: skip
(
    NEWLINES, LINES, LINES_AGAIN, LINE_CHARACTERS_AGAIN, FULL_LINES, TERMINAL_LINES, SHORT_LINES,
    FULL_CHARACTERS_AGAIN, PARAGRAPHS, PARAGRAPHS_AGAIN, PARAGRAPH_CHARACTERS_AGAIN,
) = range(len(LINE_FIGURES))  # fmt: skip
RUN_FIGURES = ("top_2", "top_3", "top_4", "again_5", "again_6", "again_7", "again_8", "again_9", "again_10")
SHORT = 30
"""Characters of a short line (FineWeb)."""

_S32 = np.uint64(32)


@compiled
def lines_into(
    data: Bytes, first: int, last: int, classes: Classes, keys: Hashes, marks: Counts, mask: int, turn: int,
    row_F: Counts,
) -> None:  # fmt: skip
    """What is counted of the lines between line feeds: repeated ones, short ones, ends of sentences."""
    begin = first
    known = 0
    for at in range(first, last + 1):
        if at < last and data[at] != NEWLINE:
            continue
        row_F[NEWLINES] += at < last
        if at > begin:
            length = characters_in(data, begin, at)
            again = number_of(keys, marks, mask, turn, span_hash(data, begin, at), known) < known
            known += not again
            row_F[LINES] += 1
            row_F[LINES_AGAIN] += again
            row_F[LINE_CHARACTERS_AGAIN] += length * again
            left, right = stripped(data, begin, at, classes)
            if left < right:
                row_F[FULL_LINES] += 1
                row_F[SHORT_LINES] += length <= SHORT
                row_F[FULL_CHARACTERS_AGAIN] += length * again
                row_F[TERMINAL_LINES] += right == at and ends_sentence(data, begin, at, classes)
        begin = at + 1
    if last > first:  # split at runs of line feeds, a text has an empty line before the first and after the last
        edges = (data[first] == NEWLINE) + (data[last - 1] == NEWLINE)
        row_F[LINES] += edges
        row_F[LINES_AGAIN] += edges == 2


@compiled
def paragraphs_into(
    data: Bytes, first: int, last: int, keys: Hashes, marks: Counts, mask: int, turn: int, row_F: Counts
) -> None:
    """What is counted of the paragraphs of a stripped text, which runs of two line feeds or more divide."""
    begin = at = first
    known = 0
    while at <= last:
        if at < last and not (data[at] == NEWLINE and data[at + 1] == NEWLINE):
            at += 1
            continue
        again = number_of(keys, marks, mask, turn, span_hash(data, begin, at), known) < known
        known += not again
        row_F[PARAGRAPHS] += 1
        row_F[PARAGRAPHS_AGAIN] += again
        if again:
            row_F[PARAGRAPH_CHARACTERS_AGAIN] += characters_in(data, begin, at)
        at += 1
        while at < last and data[at] == NEWLINE:
            at += 1
        begin = at


@compiled
def runs_into(
    word_R: Hashes,
    length_R: NDArray[np.int32],
    words: int,
    keys: Hashes,
    marks: Counts,
    mask: int,
    turn: int,
    row_F: Counts,
) -> int:
    """Characters in the commonest run of 2 to 4 words and in repeated runs of 5 to 10; returns the next free turn.

    A run of n words can occur twice only if its first n - 1 and its last n - 1 words do, so that hardly any run of
    a plain text is looked up at all. Runs are compared by the numbers of those two: exactly, given the words.
    """
    run_R = np.empty(words, np.int32)
    times, before = np.empty(words, np.int32), np.empty(words, np.int32)
    where = np.empty(words, np.int32)
    ends = np.zeros(words + 1, np.int64)
    known = 0
    for i in range(words):
        ends[i + 1] = ends[i] + length_R[i]
        run_R[i] = number_of(keys, marks, mask, turn, word_R[i], known)
        if run_R[i] == known:
            before[known] = 0
            known += 1
        before[run_R[i]] += 1
    for n in range(2, min(10, words) + 1):
        turn += 1
        known = best = 0
        for i in range(words - n + 1):
            a, b = run_R[i], run_R[i + 1]
            if a < 0 or b < 0 or before[a] < 2 or before[b] < 2:
                run_R[i] = -1
                continue
            key = mix(np.uint64(a) << _S32 | np.uint64(b))
            run = number_of(keys, marks, mask, turn, key, known)
            if run == known:
                where[known], times[known] = i, 0
                known += 1
            times[run] += 1
            run_R[i] = run
            if times[run] > times[best] or (times[run] == times[best] and run < best):
                best = run
        if n <= 4:
            count = times[best] if known and times[best] > 1 else 1
            i = where[best] if count > 1 else 0
            row_F[n - 2] = count * (ends[i + n] - ends[i] + n - 1)
        elif known:
            row_F[n - 2] = repeated(run_R, ends, words, n, known)
        else:
            break
        before, times = times, before
    return turn + 1


@compiled
def repeated(run_R: NDArray[np.int32], ends: Counts, words: int, n: int, known: int) -> int:
    """Characters of runs that were met before, walking on by `n` words after each such run."""
    met = np.zeros(known, np.bool_)
    total = i = 0
    while i <= words - n:
        run = run_R[i]
        if run >= 0 and met[run]:
            total += ends[i + n] - ends[i]
            i += n
            continue
        if run >= 0:
            met[run] = True
        i += 1
    return total
