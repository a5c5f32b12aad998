"""C4's rules on lines, in compiled loops: which lines stay, how many sentences they hold, what condemns the text.

In goes a text as UTF-8 bytes; out come counts, or the text of the lines that stay. The order of the tests is that of
C4's own code, which decides what is counted: a line is passed over for a word of more than 1,000 characters, for
having no terminal punctuation, for fewer than 3 words; what is left is searched for `lorem ipsum` (condemns the text),
`javascript` (drops the line), `{` (condemns), and phrases of policies and cookies (drop the line). `loose` is the same
without the test of punctuation, as FineWeb uses it. Marks of citation (`[12]`, `[edit]`, `[citation needed]`) are
taken out of a line before it is judged, and of what stays.

A line ends where `str.splitlines` says. A sentence ends after a run of terminal punctuation, and closing quotes or
brackets, where white space or the end of the line follows (or nothing at all, in scripts without blanks); a rest
counts where it holds a letter or a digit.
"""

from __future__ import annotations

import numpy as np

from volant.modalities.compiled import compiled
from volant.modalities.text_reading import (
    BRACKET,
    CURLY,
    LEFT,
    LIKE_END,
    LONG,
    MARKS,
    RIGHT,
    SENTENCES,
    WORDS_END,
    Desk,
)
from volant.modalities.text_scan import (
    ALNUM,
    BULLET,
    QUOTE,
    SPACE,
    TERMINAL,
    Bytes,
    Classes,
    Counts,
    Hashes,
    character,
    copied,
    ends_sentence,
    octet,
    stripped,
)
from volant.modalities.text_words import FNV, Lower, likeness_into

FEWEST_WORDS = 3
ALL, STRICT, LOOSE = range(3)
"""Which rows stay: all, those that C4 keeps, those that it keeps without the test of punctuation."""
LOREM, SCRIPT, POLICY = 1, 2, 4
ENDED = 8  # the row ends like a sentence
ROW_FIGURES = (
    "rows", "bullet_rows", "ellipsis_rows", "c4_rows", "c4_sentences", "c4_lorem", "c4_curly", "loose_rows",
    "loose_sentences", "loose_lorem", "loose_curly", "left_words",
)  # fmt: skip
ROWS, BULLET_ROWS, ELLIPSIS_ROWS, C4_ROWS, LOOSE_ROWS, LEFT_WORDS = 0, 1, 2, 3, 7, 11
PHRASES = (
    ("lorem ipsum", "p", LOREM), ("javascript", "v", SCRIPT), ("terms of use", "f", POLICY),
    ("privacy policy", "v", POLICY), ("cookie policy", "k", POLICY), ("uses cookies", "k", POLICY),
    ("use of cookies", "k", POLICY), ("use cookies", "k", POLICY),
)  # fmt: skip
"""A phrase, its rarest letter (where the search begins), and what it means."""

_TEXT = np.array([list(phrase.encode().ljust(16, b"\0")) for phrase, _, _ in PHRASES], np.uint8)
_LENGTH = np.array([len(phrase) for phrase, _, _ in PHRASES])
_ANCHOR = np.array([phrase.index(rare) for phrase, rare, _ in PHRASES])
_MEANS = np.array([means for _, _, means in PHRASES])
_RARE = np.array([chr(byte | 0x20) in "pvfk" and chr(byte).isalpha() for byte in range(256)])
_A, _C, _E, _F, _I, _K, _O, _P, _S, _U, _V, _Y = (np.uint8(ord(letter)) for letter in "acefikopsuvy")
_FOLD = np.uint8(32)  # a blank, and what a capital letter lacks of its small one
_CITATIONS = (b"[edit]", b"[citation needed]")
_OPEN, _CLOSE, _ROUND, _DOT = 91, 93, 41, 46
_WIDE = 0x3000


@compiled
def folded(byte: int) -> int:
    """An ASCII capital as a small letter; any other byte as it is."""
    return byte + 32 if 65 <= byte <= 90 else byte


@compiled
def phrases_in(data: Bytes, first: int, last: int) -> int:
    """Which kinds of phrases the bytes hold, whatever the case of their (ASCII) letters."""
    found = 0
    for at in range(first, last):
        if not _RARE[data[at]]:
            continue
        for p in range(len(_LENGTH)):
            begin = at - _ANCHOR[p]
            if begin < first or begin + _LENGTH[p] > last:
                continue
            k = 0
            while k < _LENGTH[p] and folded(data[begin + k]) == _TEXT[p, k]:
                k += 1
            if k == _LENGTH[p]:
                found |= _MEANS[p]
    return found


@compiled
def citation(data: Bytes, at: int, last: int) -> int:
    """Where the mark of citation that begins at `at` ends; `at` where none does."""
    end = at + 1
    while end < last and 48 <= data[end] <= 57:
        end += 1
    if end < last and data[end] == _CLOSE:
        return end + 1
    for mark in _CITATIONS:
        if at + len(mark) <= last:
            k = 0
            while k < len(mark) and data[at + k] == mark[k]:
                k += 1
            if k == len(mark):
                return at + len(mark)
    return at


@compiled
def without_citations(data: Bytes, first: int, last: int, out: Bytes, to: int) -> int:
    """Copy a line without its marks of citation to `out[to:]`; where the copy ends."""
    at = first
    while at < last:
        if data[at] == _OPEN:
            after = citation(data, at, last)
            if after > at:
                at = after
                continue
        out[to] = data[at]
        at, to = at + 1, to + 1
    return to


@compiled
def sentences_in(data: Bytes, first: int, last: int, classes: Classes) -> int:
    """How many sentences a line holds."""
    count, at = 0, first
    said = ended = wide = False
    while at < last:
        code, at = character(data, at, last)
        kind = int(classes[code])
        if kind & TERMINAL:
            ended, wide = True, code >= _WIDE
            continue
        if ended and (kind & QUOTE or code in (_ROUND, _CLOSE)):
            continue
        if ended and said and (kind & SPACE or wide):
            count, said = count + 1, False
        ended = wide = False
        said = said or kind & ALNUM > 0
    return count + said


@compiled
def words_in(data: Bytes, first: int, last: int, classes: Classes) -> int:
    """How many words white space divides a line into."""
    count, at = 0, first
    inside = False
    while at < last:
        code, at = character(data, at, last)
        blank = classes[code] & SPACE > 0
        count += not blank and not inside
        inside = not blank
    return count


@compiled
def ellipsis_ends(data: Bytes, first: int, last: int) -> bool:
    """Whether the bytes end with `...` or the character for it."""
    if last - first < 3:
        return False
    a, b, c = data[last - 3], data[last - 2], data[last - 1]
    return bool((a == _DOT and b == _DOT and c == _DOT) or (a == 0xE2 and b == 0x80 and c == 0xA6))


@compiled
def suspect(data: Bytes, first: int, last: int) -> bool:
    """Whether a text may hold one of the phrases: four letters of each, looked for a register full at a time."""
    found = False
    for k in range(last - first - 3):
        at = first + k
        a, b = octet(data, at) | _FOLD, octet(data, at + 1) | _FOLD
        c, d = octet(data, at + 2) | _FOLD, octet(data, at + 3) | _FOLD
        found |= (
            ((a == _V) & (b == _A) & (c == _S) & (d == _C))  # javascript
            | ((a == _V) & (b == _A) & (c == _C) & (d == _Y))  # privacy policy
            | ((a == _O) & (b == _K) & (c == _I) & (d == _E))  # cookie, cookies
            | ((a == _I) & (b == _P) & (c == _S) & (d == _U))  # lorem ipsum
            | ((a == _F) & (b == _FOLD) & (c == _U) & (d == _S))  # terms of use
        )
    return found


@compiled
def marks_of(data: Bytes, first: int, last: int, classes: Classes, phrases: bool) -> int:
    """What a row says (`LOREM`, `SCRIPT`, `POLICY`), and whether it ends like a sentence (`ENDED`)."""
    found = phrases_in(data, first, last) if phrases else 0
    if last > first and ends_sentence(data, first, last, classes) and not ellipsis_ends(data, first, last):
        found |= ENDED
    return found


@compiled
def rows_into(
    data: Bytes, classes: Classes, lower: Lower, desk: Desk, rows: int, phrases: bool, keep: int,
    out: Bytes, to: int, word_W: Hashes, w: int, row_F: Counts,
) -> tuple[int, int, int, np.uint64]:  # fmt: skip
    """Count what is said of the rows of a text, in the order of `ROW_FIGURES`, and write those that stay.

    Args:
        phrases: whether there may be phrases of policies and the like.
        keep: `ALL`, `STRICT` or `LOOSE`.
        out, to: where the text of the rows that stay is written, with line feeds between; nothing if all do.
        word_W, w: where the text's words of likeness begin; those of rows that go are taken out.

    Returns:
        Where the text ends, and its words; how many rows went; a hash of what stays.
    """
    row_T6, part_R, copy = desk.row_T6, desk.part_R, desk.copy
    whole = np.uint64(0)
    begin, end, kept_w, went = 0, to, w, 0
    row_F[ROWS] = rows
    for t in range(rows):
        left, right, marks, sentences = row_T6[t, LEFT], row_T6[t, RIGHT], row_T6[t, MARKS], row_T6[t, SENTENCES]
        words_end, like_end = row_T6[t, WORDS_END], row_T6[t, LIKE_END]
        stays = keep == ALL
        size = right - left
        if words_end > begin:
            row_F[BULLET_ROWS] += classes[character(data, left, right)[0]] & BULLET > 0
            row_F[ELLIPSIS_ROWS] += ellipsis_ends(data, left, right)
        if words_end - begin >= FEWEST_WORDS and not marks & LONG:
            if marks & BRACKET:
                size = without_citations(data, left, right, copy, 0)
                sentences = sentences_in(copy, 0, size, classes)
                marks |= marks_of(copy, 0, size, classes, True)  # a citation may have stood within a phrase
            else:
                marks |= marks_of(data, left, right, classes, phrases)
            kept = not marks & (SCRIPT | POLICY)
            for loose in range(2):
                if loose or marks & ENDED:
                    place = LOOSE_ROWS if loose else C4_ROWS
                    row_F[place] += kept
                    row_F[place + 1] += sentences * kept
                    row_F[place + 2] += marks & LOREM > 0
                    row_F[place + 3] += marks & CURLY > 0 and not marks & SCRIPT
            stays |= kept and (keep == LOOSE or marks & ENDED > 0)
        if not stays:
            went += 1
        else:
            if keep != ALL:
                if end > to:
                    out[end] = 10
                    end += 1
                if marks & BRACKET:
                    copied(out, end, copy, 0, size)
                    row_F[LEFT_WORDS] += words_in(copy, 0, size, classes)
                else:
                    copied(out, end, data, left, size)
                    row_F[LEFT_WORDS] += words_end - begin
            if keep != ALL and marks & BRACKET:
                kept_w, whole = likeness_into(out, end, end + size, classes, lower, word_W, kept_w, whole)
            else:
                for r in range(begin, words_end):
                    whole = (whole ^ part_R[r]) * FNV
                if kept_w != w:
                    for k in range(like_end - w):
                        word_W[kept_w + k] = word_W[w + k]
                kept_w += like_end - w
            end += size * (keep != ALL)
        begin, w = words_end, like_end
    if keep != ALL:
        left, right = stripped(out, to, end, classes)
        if left > to:
            copied(out, to, out, left, right - left)
        end = to + right - left
    return end, kept_w, went, whole
