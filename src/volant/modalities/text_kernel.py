"""One pass over many texts in compiled loops, as UTF-8 bytes in one buffer: figures of each, and hashes of its words.

In go the bytes of an Arrow array of strings with its offsets and the tables of `text_characters`. Each text is looked
at while it lies in the cache; no Python object is made of it. What the figures mean is said in `text_features`, which
calls this. The parts are in `text_reading`, `text_words`, `text_repeats` and `text_c4`.

Legend: N texts, W likeness words of all texts, F figures.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from volant.modalities.compiled import compiled
from volant.modalities.text_c4 import ALL, LEFT_WORDS, ROW_FIGURES, rows_into, suspect
from volant.modalities.text_reading import LEFT, RIGHT, Desk, desk_for, read_into, slots_for
from volant.modalities.text_repeats import (
    LEFT_FIGURES,
    LINE_FIGURES,
    RUN_FIGURES,
    left_into,
    lines_into,
    paragraphs_into,
    runs_into,
)
from volant.modalities.text_scan import Bytes, Classes, Counts, Hashes, mix
from volant.modalities.text_words import CHARACTERS, WORD_FIGURES, Lengths, Lower, letter_words_into, likeness_into

FIGURES = (*WORD_FIGURES, *LINE_FIGURES, *ROW_FIGURES, *RUN_FIGURES, *LEFT_FIGURES)
_LINES = len(WORD_FIGURES)
_ROWS = _LINES + len(LINE_FIGURES)
_LEFT_WORDS = _ROWS + LEFT_WORDS
_RUNS = _ROWS + len(ROW_FIGURES)
_LEFT = _RUNS + len(RUN_FIGURES)


class Read(NamedTuple):
    """What one pass finds of texts.

    Attributes:
        figure_NF: what is counted of each, in the order of `FIGURES`.
        out, out_N: the bytes of the rows that stay, and where each text's begin [N + 1]; nothing if all stay.
        went_N: how many rows of each went.
        word_W, word_N: the likeness words of what stays, and where each text's begin [N + 1].
        whole_N: a hash of each.
    """

    figure_NF: Counts
    out: Bytes
    out_N: Counts
    went_N: Counts
    word_W: Hashes
    word_N: Counts
    whole_N: Hashes


def read(data: Bytes, begin_N: Counts, classes: Classes, lower: Lower, letters: bool, keep: int) -> Read:
    """Read texts.

    Args:
        begin_N: where each text begins, and where the last one ends [N + 1].
        letters: whether words are `letters-1` to the rules; else `whitespace-1`.
        keep: which rows stay: `text_c4.ALL`, `STRICT` or `LOOSE`.
    """
    count = len(begin_N) - 1
    size = int(begin_N[count] - begin_N[0])
    found = Read(
        np.zeros((count, len(FIGURES)), np.int64),
        np.empty(size + 1 if keep != ALL else 1, np.uint8), np.zeros(count + 1, np.int64), np.zeros(count, np.int64),
        np.empty((size + count) // 2 + 1, np.uint64), np.zeros(count + 1, np.int64), np.empty(count, np.uint64),
    )  # fmt: skip
    room: tuple[Any, ...] = (*found, *desk_for(data, begin_N))
    _read(data, begin_N, classes, lower, int(letters), keep, *room)
    return found._replace(out=found.out[: found.out_N[count]], word_W=found.word_W[: found.word_N[count]])


@compiled
def _read(
    data: Bytes, begin_N: Counts, classes: Classes, lower: Lower, letters: int, keep: int,
    figure_NF: Counts, out: Bytes, out_N: Counts, went_N: Counts, word_W: Hashes, word_N: Counts, whole_N: Hashes,
    word_R: Hashes, length_R: Lengths, part_R: Hashes, row_T6: Counts, feed_L: Counts, copy: Bytes, run_R: Lengths,
    at_A: Lengths, times: Lengths, before: Lengths, where: Lengths, ends: Counts, met: Bytes,
    keys: Hashes, marks: Counts, turns: Counts,
) -> None:  # fmt: skip
    desk = Desk(word_R, length_R, part_R, row_T6, feed_L, copy, run_R, at_A, times, before, where, ends, met, keys,
                marks, turns)  # fmt: skip
    turn = turns[0]
    for i in range(len(begin_N) - 1):
        first, last = begin_N[i], begin_N[i + 1]
        row_F = figure_NF[i]
        words, feeds, rows = read_into(data, first, last, classes, lower, desk, word_W, word_N[i], row_F)
        left, right = bounds(desk, rows, last)
        out_N[i + 1], word_N[i + 1], went_N[i], whole = rows_into(
            data, classes, lower, desk, rows, suspect(data, first, last), keep, out, out_N[i], word_W, word_N[i],
            row_F[_ROWS:_RUNS],
        )  # fmt: skip
        whole_N[i] = mix(whole)
        if letters and keep != ALL:  # counted of the whole text anew below
            left_words = letter_words_into(out, out_N[i], out_N[i + 1], classes, word_R, length_R, row_F)
            row_F[_LEFT_WORDS] = left_words
        if letters:
            words = letter_words_into(data, first, last, classes, word_R, length_R, row_F)
        mask = slots_for(words, feeds) - 1
        wide, line_F = row_F[CHARACTERS] < last - first, row_F[_LINES:_ROWS]
        lines_into(data, first, last, classes, feed_L, feeds, wide, keys, marks, mask, turn, line_F)
        paragraphs_into(data, left, right, feed_L, feeds, wide, keys, marks, mask, turn + 1, line_F)
        if keep != ALL:
            left_into(out, out_N[i], out_N[i + 1], classes, wide, keys, marks, mask, turn + 2, row_F[_LEFT:])
        turn = runs_into(desk, words, keys, marks, mask, turn + 3, row_F[_RUNS:_LEFT])
    turns[0] = turn


@compiled
def bounds(desk: Desk, rows: int, last: int) -> tuple[int, int]:
    """Where a text begins and ends without the white space around it."""
    left = right = last
    for t in range(rows):
        if desk.row_T6[t, LEFT] >= 0:
            left = desk.row_T6[t, LEFT]
            break
    for t in range(rows - 1, -1, -1):
        if desk.row_T6[t, LEFT] >= 0:
            right = desk.row_T6[t, RIGHT]
            break
    return left, right


def likeness(data: Bytes, begin_N: Counts, classes: Classes, lower: Lower) -> tuple[Hashes, Counts, Hashes]:
    """The hashes of the likeness words [W], where each text's begin [N + 1], and a hash of each whole text [N]."""
    count = len(begin_N) - 1
    word_W = np.empty((begin_N[count] - begin_N[0] + count) // 2 + 1, np.uint64)
    edge_N, whole_N = np.zeros(count + 1, np.int64), np.empty(count, np.uint64)
    _likeness(data, begin_N, classes, lower, word_W, edge_N, whole_N)
    return word_W[: edge_N[count]], edge_N, whole_N


@compiled
def _likeness(
    data: Bytes, begin_N: Counts, classes: Classes, lower: Lower, word_W: Hashes, edge_N: Counts, whole_N: Hashes
) -> None:
    for i in range(len(begin_N) - 1):
        edge_N[i + 1], whole = likeness_into(
            data, begin_N[i], begin_N[i + 1], classes, lower, word_W, edge_N[i], np.uint64(0)
        )
        whole_N[i] = mix(whole)
