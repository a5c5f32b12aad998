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
from volant.modalities.text_scan import (
    ALNUM,
    BULLET,
    QUOTE,
    SPACE,
    TERMINAL,
    Bytes,
    Classes,
    Counts,
    character,
    ends_sentence,
    stripped,
)

LONGEST_WORD, FEWEST_WORDS = 1000, 3
LOREM, SCRIPT, POLICY = 1, 2, 4
REACHED, ENDED, CURLY = 8, 16, 32  # the line came as far as the search; it ends like a sentence; it holds a {
ROW_FIGURES = (
    "rows", "bullet_rows", "ellipsis_rows", "c4_rows", "c4_sentences", "c4_lorem", "c4_curly", "loose_rows",
    "loose_sentences", "loose_lorem", "loose_curly",
)  # fmt: skip
ROWS, BULLET_ROWS, ELLIPSIS_ROWS, C4_ROWS, LOOSE_ROWS = 0, 1, 2, 3, 7
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
_CITATIONS = (b"[edit]", b"[citation needed]")
_OPEN, _CLOSE, _ROUND, _CURLY, _DOT = 91, 93, 41, 123, 46
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
def ellipsis_ends(data: Bytes, first: int, last: int) -> bool:
    """Whether the bytes end with `...` or the character for it."""
    if last - first < 3:
        return False
    a, b, c = data[last - 3], data[last - 2], data[last - 1]
    return bool((a == _DOT and b == _DOT and c == _DOT) or (a == 0xE2 and b == 0x80 and c == 0xA6))


@compiled
def judged(data: Bytes, first: int, last: int, classes: Classes, out: Bytes, to: int) -> tuple[int, int, int]:
    """Judge one stripped line: its bits, how many sentences it holds, where its copy in `out[to:]` ends."""
    words = length = 0
    at = first
    while at < last:
        code, at = character(data, at, last)
        if classes[code] & SPACE:
            length = 0
            continue
        words += length == 0
        length += 1
        if length > LONGEST_WORD:
            return 0, 0, to
    if words < FEWEST_WORDS:
        return 0, 0, to
    end = without_citations(data, first, last, out, to)
    bits = REACHED | phrases_in(out, to, end)
    for k in range(to, end):
        if out[k] == _CURLY:
            bits |= CURLY
    if end > to and ends_sentence(out, to, end, classes) and not ellipsis_ends(out, to, end):
        bits |= ENDED
    return bits, sentences_in(out, to, end, classes), end


@compiled
def row_ends(data: Bytes, at: int, last: int) -> int:
    """Where the next line begins if the current one ends at `at`; `at` where it does not. As `str.splitlines`."""
    byte = data[at]
    if byte < 10 or 30 < byte < 0xC2 or byte > 0xE2:
        return at
    if byte == 13 and at + 1 < last and data[at + 1] == 10:
        return at + 2
    if byte <= 13 or 28 <= byte <= 30:
        return at + 1
    if byte == 0xC2 and at + 1 < last and data[at + 1] == 0x85:
        return at + 2
    if byte == 0xE2 and at + 2 < last and data[at + 1] == 0x80 and 0xA8 <= data[at + 2] <= 0xA9:
        return at + 3
    return at


@compiled
def rows_into(data: Bytes, first: int, last: int, classes: Classes, out: Bytes, row_F: Counts) -> None:
    """What is counted of the lines of one text, in the order of `ROW_FIGURES`."""
    begin = at = first
    while begin < last:
        after = at
        while at < last:
            after = row_ends(data, at, last)
            if after > at:
                break
            at += 1
        row_F[ROWS] += 1
        left, right = stripped(data, begin, at, classes)
        begin = at = max(after, at)
        if left == right:
            continue
        row_F[BULLET_ROWS] += classes[character(data, left, right)[0]] & BULLET > 0
        row_F[ELLIPSIS_ROWS] += ellipsis_ends(data, left, right)
        bits, sentences, _ = judged(data, left, right, classes, out, 0)
        for loose in range(2):
            if bits & REACHED and (loose or bits & ENDED):
                place = LOOSE_ROWS if loose else C4_ROWS
                kept = not bits & (SCRIPT | POLICY)
                row_F[place] += kept
                row_F[place + 1] += sentences * kept
                row_F[place + 2] += bits & LOREM > 0
                row_F[place + 3] += bits & CURLY > 0 and not bits & SCRIPT


@compiled
def trimmed(data: Bytes, first: int, last: int, classes: Classes, loose: bool, out: Bytes, to: int) -> tuple[int, int]:
    """Write the lines that stay to `out[to:]`, with line feeds between; where they end, and how many went."""
    begin = at = first
    end, went = to, 0
    while begin < last:
        after = at
        while at < last:
            after = row_ends(data, at, last)
            if after > at:
                break
            at += 1
        left, right = stripped(data, begin, at, classes)
        begin = at = max(after, at)
        bits, _, copied = judged(data, left, right, classes, out, end + (end > to))
        if bits & REACHED and (loose or bits & ENDED) and not bits & (SCRIPT | POLICY):
            if end > to:
                out[end] = 10
            end = copied
        else:
            went += 1
    left, right = stripped(out, to, end, classes)
    for k in range(right - left):
        out[to + k] = out[left + k]
    return to + right - left, went
