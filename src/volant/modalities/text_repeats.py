"""The lines, paragraphs and runs of words of a text, in compiled loops: how much of it was there before.

In goes a text as UTF-8 bytes, or the hashes of its words; out comes what is counted (`LINE_FIGURES`, `RUN_FIGURES`).
Lines and words with equal 64-bit hashes are taken for equal.

Legend: R rule words of a text, F figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled
from volant.modalities.text_reading import Desk
from volant.modalities.text_scan import (
    NEWLINE,
    Bytes,
    Classes,
    Counts,
    Hashes,
    characters_in,
    ends_sentence,
    feed_in,
    mix,
    number_of,
    span_hash,
    stripped,
)

Numbers = NDArray[np.int32]

LINE_FIGURES = (
    "newlines", "lines", "lines_again", "line_characters_again", "full_lines", "terminal_lines", "short_lines",
    "full_characters_again", "paragraphs", "paragraphs_again", "paragraph_characters_again",
)  # fmt: skip
(
    NEWLINES, LINES, LINES_AGAIN, LINE_CHARACTERS_AGAIN, FULL_LINES, TERMINAL_LINES, SHORT_LINES,
    FULL_CHARACTERS_AGAIN, PARAGRAPHS, PARAGRAPHS_AGAIN, PARAGRAPH_CHARACTERS_AGAIN,
) = range(len(LINE_FIGURES))  # fmt: skip
RUN_FIGURES = ("top_2", "top_3", "top_4", "again_5", "again_6", "again_7", "again_8", "again_9", "again_10")
LEFT_FIGURES = (
    "left_newlines", "left_full_lines", "left_terminal_lines", "left_short_lines", "left_full_characters_again",
    "left_characters_in_lines",
)  # fmt: skip
SHORT = 30
"""Characters of a short line (FineWeb)."""

_S32 = np.uint64(32)


@compiled
def lines_into(
    data: Bytes, first: int, last: int, classes: Classes, feed_L: Counts, feeds: int, wide: bool,
    keys: Hashes, marks: Counts, mask: int, turn: int, row_F: Counts,
) -> None:  # fmt: skip
    """What is counted of the lines between line feeds: repeated ones, short ones, ends of sentences."""
    begin = first
    known = 0
    row_F[NEWLINES] = feeds
    for k in range(feeds + 1):
        at = feed_L[k] if k < feeds else last
        if at > begin:
            length = characters_in(data, begin, at) if wide else at - begin
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
def left_into(
    data: Bytes, first: int, last: int, classes: Classes, wide: bool, keys: Hashes, marks: Counts, mask: int, turn: int,
    row_F: Counts,
) -> None:  # fmt: skip
    """What FineWeb counts of lines, of a text of which rows went: in the order of `LEFT_FIGURES`."""
    begin, known, at = first, 0, first
    while begin < last:
        at = feed_in(data, at, last)
        length = characters_in(data, begin, at) if wide else at - begin
        left, right = stripped(data, begin, at, classes)
        if left < right:
            again = number_of(keys, marks, mask, turn, span_hash(data, begin, at), known) < known
            known += not again
            row_F[1] += 1
            row_F[2] += right == at and ends_sentence(data, begin, at, classes)
            row_F[3] += length <= SHORT
            row_F[4] += length * again
        row_F[0] += at < last
        row_F[5] += length
        at += 1
        begin = at


@compiled
def paragraphs_into(
    data: Bytes, first: int, last: int, feed_L: Counts, feeds: int, wide: bool,
    keys: Hashes, marks: Counts, mask: int, turn: int, row_F: Counts,
) -> None:  # fmt: skip
    """What is counted of the paragraphs of a stripped text, which runs of two line feeds or more divide."""
    begin, known, k = first, 0, 0
    while k < feeds and feed_L[k] < first:
        k += 1
    while True:
        while k < feeds and feed_L[k] < last and not (k + 1 < feeds and feed_L[k + 1] == feed_L[k] + 1):
            k += 1
        at = feed_L[k] if k < feeds and feed_L[k] < last else last
        again = number_of(keys, marks, mask, turn, span_hash(data, begin, at), known) < known
        known += not again
        row_F[PARAGRAPHS] += 1
        row_F[PARAGRAPHS_AGAIN] += again
        if again:
            row_F[PARAGRAPH_CHARACTERS_AGAIN] += characters_in(data, begin, at) if wide else at - begin
        if at == last:
            return
        while k + 1 < feeds and feed_L[k + 1] == feed_L[k] + 1:
            k += 1
        begin = feed_L[k] + 1
        k += 1


@compiled
def numbered(
    word_R: Hashes, words: int, keys: Hashes, marks: Counts, mask: int, turn: int, number_R: Numbers, times: Numbers
) -> None:
    """The number of each word among the different ones, and how often each of these occurs."""
    known = 0
    for i in range(words):
        number = number_of(keys, marks, mask, turn, word_R[i], known)
        if number == known:
            times[known] = 0
            known += 1
        times[number] += 1
        number_R[i] = number


@compiled
def runs_into(desk: Desk, words: int, keys: Hashes, marks: Counts, mask: int, turn: int, row_F: Counts) -> int:
    """Characters in the commonest run of 2 to 4 words and in repeated runs of 5 to 10; returns the next free turn.

    A run of n words can occur twice only if its first n - 1 and its last n - 1 words do, so that hardly any run of
    a plain text is looked up at all: `at_A` are the places where a run begins that was met twice. Runs are compared by
    the numbers of those two: exactly, given the words.
    """
    length_R, run_R, at_A, ends = desk.length_R, desk.run_R, desk.at_A, desk.ends
    times, before, where = desk.times, desk.before, desk.where
    numbered(desk.word_R, words, keys, marks, mask, turn, run_R, before)
    ends[0] = 0
    active = 0
    for i in range(words):
        ends[i + 1] = ends[i] + length_R[i]
        at_A[active] = i
        active += before[run_R[i]] > 1
    for n in range(2, min(10, words) + 1):
        turn += 1
        known = best = found = 0
        for k in range(active - 1):
            i = at_A[k]
            if at_A[k + 1] != i + 1:
                continue
            key = mix(np.uint64(run_R[i]) << _S32 | np.uint64(run_R[i + 1]))
            run = number_of(keys, marks, mask, turn, key, known)
            if run == known:
                where[known], times[known] = i, 0
                known += 1
            times[run] += 1
            run_R[i] = run
            if times[run] > times[best] or (times[run] == times[best] and run < best):
                best = run
            at_A[found] = i
            found += 1
        if n <= 4:
            count = times[best] if known and times[best] > 1 else 1
            i = where[best] if count > 1 else 0
            row_F[n - 2] = count * (ends[i + n] - ends[i] + n - 1)
        elif known:
            row_F[n - 2] = repeated(run_R, at_A, found, ends, n, desk.met, known)
        else:
            break
        active = 0
        for k in range(found):
            at_A[active] = at_A[k]
            active += times[run_R[at_A[k]]] > 1
        before, times = times, before
    return turn + 1


@compiled
def repeated(run_R: Numbers, at_A: Numbers, active: int, ends: Counts, n: int, met: Bytes, known: int) -> int:
    """Characters of runs that were met before, walking on by `n` words after each such run."""
    met[:known] = 0
    total = free = 0
    for k in range(active):
        i = at_A[k]
        if i < free:
            continue
        if met[run_R[i]]:
            total += ends[i + n] - ends[i]
            free = i + n
        else:
            met[run_R[i]] = 1
    return total
