"""Loops over the texts of a corpus: hashes of lines, ends that other texts have too, and how usual its characters are.

In go texts as UTF-8 bytes in one buffer; out come hashes and spans of lines, counts of runs of three characters, and
what the characters of each text say of themselves. What these mean is said in `text_corpus`, which calls this.

Legend: N texts, L lines of all texts, S shared lines, T runs of three kinds of characters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled, inlined
from volant.modalities.text_scan import ALNUM, LETTER, NEWLINE, SPACE, Bytes, Classes, Counts, Hashes, character, mix
from volant.modalities.text_words import FNV, FNV_BASE

KINDS = 64
"""Kinds of characters: 26 letters of ASCII in any case, a digit, white space, 32 marks of ASCII, and four more."""
DIGIT, BLANK, MARKS, LATIN, LATIN_MARK, OTHER, OTHER_MARK = 26, 27, 28, 60, 61, 62, 63
FEWEST = 64
"""Characters that a text needs for its surprise to mean something."""
_LATIN_END = 0x250
_ZERO, _NINE = 48, 57

ASCII = np.full(128, BLANK, np.uint8)
_marks = MARKS
for _code in range(33, 127):
    if chr(_code).isalpha():
        ASCII[_code] = ord(chr(_code).lower()) - ord("a")
    elif chr(_code).isdigit():
        ASCII[_code] = DIGIT
    else:
        ASCII[_code], _marks = _marks, _marks + 1


@inlined
def kind_at(data: Bytes, at: int, last: int, classes: Classes) -> tuple[int, int]:
    """The kind of the character that begins at a place, and where the next one does."""
    if data[at] < 0x80:
        return int(ASCII[data[at]]), at + 1
    code, after = character(data, at, last)
    if classes[code] & SPACE:
        return BLANK, after
    if code < _LATIN_END:
        return LATIN if classes[code] & LETTER else LATIN_MARK, after
    return OTHER if classes[code] & ALNUM else OTHER_MARK, after


@compiled
def triples_into(data: Bytes, begin_N: Counts, classes: Classes, count_T: Counts) -> None:
    """Count runs of three kinds in each text, which white space stands around and of which no two blanks follow."""
    for i in range(len(begin_N) - 1):
        at, last, run, before = begin_N[i], begin_N[i + 1], BLANK * KINDS + BLANK, BLANK
        while at < last:
            kind, at = kind_at(data, at, last, classes)
            if kind == BLANK and before == BLANK:
                continue
            run = (run * KINDS + kind) & (KINDS * KINDS * KINDS - 1)
            count_T[run] += 1
            before = kind


def surprises(data: Bytes, begin_N: Counts, classes: Classes, bits_T: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean bits of the characters of each text [N]; 0 where fewer than `FEWEST`, or than half, are of a known kind."""
    found_N = np.zeros(len(begin_N) - 1)
    _surprises(data, begin_N, classes, bits_T, found_N)
    return found_N


@compiled
def _surprises(
    data: Bytes, begin_N: Counts, classes: Classes, bits_T: NDArray[np.float32], found_N: NDArray[np.float64]
) -> None:
    for i in range(len(found_N)):
        at, last, run, before = begin_N[i], begin_N[i + 1], BLANK * KINDS + BLANK, BLANK
        total, told, seen = 0.0, 0, 0
        while at < last:
            kind, at = kind_at(data, at, last, classes)
            if kind == BLANK and before == BLANK:
                continue
            run = (run * KINDS + kind) & (KINDS * KINDS * KINDS - 1)
            before, seen = kind, seen + 1
            if kind != OTHER:
                total += bits_T[run]
                told += 1
        if told >= FEWEST and 2 * told >= seen:
            found_N[i] = total / told


@compiled
def line_at(data: Bytes, first: int, last: int) -> tuple[np.uint64, int]:
    """A hash of the line that begins at a place, and where it ends; 0 where it is blank.

    White space around it, the case of ASCII letters and what digits a number has do not count.
    """
    hashed, blanks, number, at = FNV_BASE, 0, False, first
    while at < last and data[at] != NEWLINE:
        code = int(data[at])
        at += 1
        if ASCII[code & 127] == BLANK and code < 128:
            blanks += 1
            continue
        if blanks and hashed != FNV_BASE:
            hashed, number = (hashed ^ np.uint64(BLANK)) * FNV, False
        blanks = 0
        digit = _ZERO <= code <= _NINE
        if digit and number:
            continue
        number = digit
        code = _ZERO if digit else code + 32 if 65 <= code <= 90 else code
        hashed = (hashed ^ np.uint64(code)) * FNV
    return (mix(hashed) if hashed != FNV_BASE else np.uint64(0)), at


def lines(data: Bytes, begin_N: Counts) -> tuple[Hashes, Counts]:
    """The hashes of all lines that are not blank [L], and where each text's begin [N + 1]."""
    count = len(begin_N) - 1
    most = count + int(np.count_nonzero(data[begin_N[0] : begin_N[count]] == NEWLINE))
    hash_L, edge_N = np.empty(most, np.uint64), np.zeros(count + 1, np.int64)
    _lines(data, begin_N, hash_L, edge_N)
    return hash_L[: edge_N[count]], edge_N


@compiled
def _lines(data: Bytes, begin_N: Counts, hash_L: Hashes, edge_N: Counts) -> None:
    found = 0
    for i in range(len(begin_N) - 1):
        at = begin_N[i]
        while at < begin_N[i + 1]:
            hashed, end = line_at(data, at, begin_N[i + 1])
            if hashed:
                hash_L[found] = hashed
                found += 1
            at = end + 1
        edge_N[i + 1] = found


def inner(
    data: Bytes, begin_N: Counts, number_N: Counts, shared_S: Hashes, first_S: Counts
) -> tuple[Counts, Counts, Counts]:
    """Where each text begins and ends without the shared lines at its ends [N], and how many those are [N].

    Args:
        number_N: of each text.
        shared_S: rising hashes of shared lines.
        first_S: the number of the text in which each stays.
    """
    from_N, to_N, went_N = begin_N[:-1].copy(), begin_N[1:].copy(), np.zeros(len(begin_N) - 1, np.int64)
    _inner(data, begin_N, number_N, shared_S, first_S, from_N, to_N, went_N)
    return from_N, to_N, went_N


@compiled
def _inner(
    data: Bytes, begin_N: Counts, number_N: Counts, shared_S: Hashes, first_S: Counts,
    from_N: Counts, to_N: Counts, went_N: Counts,
) -> None:  # fmt: skip
    for i in range(len(went_N)):
        begin, end, at = begin_N[i], begin_N[i], begin_N[i]
        upper, lower, inside = 0, 0, False
        while at < begin_N[i + 1]:
            hashed, after = line_at(data, at, begin_N[i + 1])
            if hashed:
                place = place_of(shared_S, hashed)
                if place < 0 or first_S[place] == number_N[i]:
                    begin, inside = (begin, True) if inside else (at, True)
                    end, lower = after, 0
                elif inside:
                    lower += 1
                else:
                    upper += 1
            at = after + 1
        went_N[i] = upper + lower
        if upper and not inside:
            to_N[i] = from_N[i]
        elif inside:
            from_N[i] = begin if upper else from_N[i]
            to_N[i] = end if lower else to_N[i]


@compiled
def place_of(rising_S: Hashes, wanted: np.uint64) -> int:
    """Where a hash stands among rising ones; -1 where it does not."""
    low, high = 0, len(rising_S)
    while low < high:
        middle = (low + high) // 2
        if rising_S[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low if low < len(rising_S) and rising_S[low] == wanted else -1
