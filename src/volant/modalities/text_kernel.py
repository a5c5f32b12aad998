"""One pass over many texts in compiled loops, as UTF-8 bytes in one buffer: figures of each, and hashes of its words.

In go the bytes of an Arrow array of strings with its offsets and the tables of `text_characters`. Each text is looked
at while it lies in the cache; no Python object is made of it. What the figures mean is said in `text_features`, which
calls this. The parts are in `text_words`, `text_repeats` and `text_c4`.

Legend: N texts, W likeness words of all texts, F figures.
"""

from __future__ import annotations

import numpy as np

from volant.modalities.compiled import compiled
from volant.modalities.text_c4 import ROW_FIGURES, rows_into, trimmed
from volant.modalities.text_repeats import LINE_FIGURES, RUN_FIGURES, lines_into, paragraphs_into, runs_into
from volant.modalities.text_scan import Bytes, Classes, Counts, Hashes, stripped
from volant.modalities.text_words import WORD_FIGURES, Lower, likeness_into, words_into

FIGURES = (*WORD_FIGURES, *LINE_FIGURES, *ROW_FIGURES, *RUN_FIGURES)
_LINES = len(WORD_FIGURES)
_ROWS = _LINES + len(LINE_FIGURES)
_RUNS = _ROWS + len(ROW_FIGURES)


@compiled
def figures(data: Bytes, begin_N: Counts, classes: Classes, letters: bool) -> Counts:
    """What is counted of each text, int64 [N, F] in the order of `FIGURES`.

    Args:
        begin_N: where each text begins, and where the last one ends [N + 1].
        letters: whether words are `letters-1`; else `whitespace-1`.
    """
    count = len(begin_N) - 1
    out_NF = np.zeros((count, len(FIGURES)), np.int64)
    longest = 1
    for i in range(count):
        longest = max(longest, begin_N[i + 1] - begin_N[i])
    copy = np.empty(longest, np.uint8)
    word_R, length_R = np.empty(longest // 2 + 1, np.uint64), np.empty(longest // 2 + 1, np.int32)
    keys, marks, turn = np.empty(4096, np.uint64), np.zeros(4096, np.int64), 1
    for i in range(count):
        first, last = begin_N[i], begin_N[i + 1]
        row_F = out_NF[i]
        words = words_into(data, first, last, classes, letters, word_R, length_R, 0, row_F)
        rows_into(data, first, last, classes, copy, row_F[_ROWS:_RUNS])
        lines = 2
        for at in range(first, last):
            lines += data[at] == 10
        size = 16
        while size < 2 * max(words, lines):
            size *= 2
        if size > len(keys):
            keys, marks, turn = np.empty(size, np.uint64), np.zeros(size, np.int64), 1
        lines_into(data, first, last, classes, keys, marks, size - 1, turn, row_F[_LINES:_ROWS])
        left, right = stripped(data, first, last, classes)
        paragraphs_into(data, left, right, keys, marks, size - 1, turn + 1, row_F[_LINES:_ROWS])
        turn = runs_into(word_R, length_R, words, keys, marks, size - 1, turn + 2, row_F[_RUNS:])
    return out_NF


@compiled
def likeness(data: Bytes, begin_N: Counts, classes: Classes, lower: Lower) -> tuple[Hashes, Counts, Hashes]:
    """The hashes of the likeness words [W], where each text's begin [N + 1], and a hash of each whole text [N]."""
    count = len(begin_N) - 1
    word_W = np.empty((begin_N[count] - begin_N[0] + count) // 2 + 1, np.uint64)
    edge_N, whole_N = np.zeros(count + 1, np.int64), np.empty(count, np.uint64)
    for i in range(count):
        edge_N[i + 1], whole_N[i] = likeness_into(data, begin_N[i], begin_N[i + 1], classes, lower, word_W, edge_N[i])
    return word_W[: edge_N[count]], edge_N, whole_N


@compiled
def trim(data: Bytes, begin_N: Counts, classes: Classes, loose: bool) -> tuple[Bytes, Counts, Counts]:
    """The texts with the lines only that C4 keeps: their bytes, where each begins, and how many lines went."""
    count = len(begin_N) - 1
    out = np.empty(begin_N[count] - begin_N[0] + 1, np.uint8)
    edge_N, went_N = np.zeros(count + 1, np.int64), np.zeros(count, np.int64)
    for i in range(count):
        edge_N[i + 1], went_N[i] = trimmed(data, begin_N[i], begin_N[i + 1], classes, loose, out, edge_N[i])
    return out[: edge_N[count]], edge_N, went_N
