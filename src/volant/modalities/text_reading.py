"""One text read once, in a compiled loop: its words, its rows, and where its lines end.

In goes a text as UTF-8 bytes; into the arrays of a `Desk` come the words that rules count (what white space divides),
the words that likeness stands on, the rows of `str.splitlines`, each with what is known of it, and the line feeds.
What is made of rows, lines and runs of words is in `text_c4` and `text_repeats`: they look at the bytes no more than
they must. Letters, digits and underscores of ASCII pass through a loop of their own.

Legend: R words that rules count, W words of likeness, L lines, T rows.
"""

from __future__ import annotations

from threading import local
from typing import NamedTuple

import numpy as np

from volant.modalities.compiled import compiled, inlined
from volant.modalities.text_scan import (
    ALNUM,
    BREAK,
    LETTER,
    NEWLINE,
    QUOTE,
    SPACE,
    TERMINAL,
    WORD,
    Bytes,
    Classes,
    Counts,
    Hashes,
    byte,
    character,
    mix,
    octet,
    span_hash,
)
from volant.modalities.text_words import (
    CASED,
    CHARACTERS,
    ELLIPSES,
    FNV,
    FNV_BASE,
    HASHES,
    LETTER_WORDS,
    LONE,
    NULS,
    ONE,
    PLAIN,
    PLUS,
    SMALL,
    STOP_WORDS_SEEN,
    SYMBOL_WORDS,
    WORD_CHARACTERS,
    WORDS,
    ZERO,
    Lengths,
    Lower,
    stop_word,
)

LEFT, RIGHT, WORDS_END, LIKE_END, MARKS, SENTENCES = range(6)
"""Columns of a row: where it begins and ends without white space, where its words end among those of both kinds."""
LONG, BRACKET, CURLY = 64, 128, 32
"""Marks of a row: it has a word of more than `LONGEST_WORD` characters, a `[`, a `{`."""
LONGEST_WORD = 1000

_WIDE = 0x3000
_BLANK, _NEL, _LS, _PS = np.uint8(32), np.uint8(0x85), np.uint8(0xA8), np.uint8(0xA9)  # last bytes of breaks
_CR, _ROUND, _CLOSE, _OPEN, _BRACE, _DOT, _SHARP, _ELLIPSIS = 13, 41, 93, 91, 123, 46, 35, 0x2026


class Desk(NamedTuple):
    """Room for what is found of one text.

    Attributes:
        word_R, length_R, part_R: hash and characters of each word that rules count, and its hash to likeness.
        row_T6: the rows.
        feed_L: where the line feeds are.
        copy: a row without its marks of citation.
        run_R, at_A, times, before, where, ends, met: of runs of words, see `text_repeats.runs_into`.
        keys, marks: a table of what was seen, see `text_scan.number_of`.
        turn: the next turn of that table that is free, [1].
    """

    word_R: Hashes
    length_R: Lengths
    part_R: Hashes
    row_T6: Counts
    feed_L: Counts
    copy: Bytes
    run_R: Lengths
    at_A: Lengths
    times: Lengths
    before: Lengths
    where: Lengths
    ends: Counts
    met: Bytes
    keys: Hashes
    marks: Counts
    turn: Counts


_LARGEST = 1 << 22  # bytes of the longest text of which a desk is held for the next texts
_TURNS = 1 << 30
_HELD = local()


def desk_for(data: Bytes, begin_N: Counts) -> Desk:
    """A desk on which each of the texts has room: this thread's last one, where that is large enough.

    What no text needs of it is never touched.
    """
    need_3 = np.ones(3, np.int64)
    _room(data, begin_N, need_3)
    longest, most, slots = need_3.tolist()
    held: Desk | None = getattr(_HELD, "desk", None)
    if held and len(held.copy) >= longest and len(held.feed_L) >= most and held.turn[0] < _TURNS:
        return held
    words = longest // 2 + 1
    desk = Desk(
        np.empty(words, np.uint64), np.empty(words, np.int32), np.empty(words, np.uint64),
        np.empty((most, 6), np.int64), np.empty(most, np.int64), np.empty(longest, np.uint8),
        np.empty(words, np.int32), np.empty(words, np.int32), np.empty(words, np.int32), np.empty(words, np.int32),
        np.empty(words, np.int32), np.empty(words + 1, np.int64), np.empty(words, np.uint8),
        np.empty(slots, np.uint64), np.zeros(slots, np.int64), np.ones(1, np.int64),
    )  # fmt: skip
    if longest <= _LARGEST:
        _HELD.desk = desk
    return desk


@inlined
def slots_for(words: int, feeds: int) -> int:
    """Slots of the table of what was seen of a text of so many words and line feeds; never fewer for more of them."""
    slots = 16
    while slots < 2 * max(words, feeds + 2):
        slots *= 2
    return slots


@compiled
def _room(data: Bytes, begin_N: Counts, need_3: Counts) -> None:
    """The bytes of the longest text, the most that may be breaks of rows in one, and slots for any of them."""
    for i in range(len(begin_N) - 1):
        breaks = 1
        for k in range(begin_N[i + 1] - begin_N[i]):
            value = octet(data, begin_N[i] + k)
            breaks += (value < _BLANK) | (value == _NEL) | (value == _LS) | (value == _PS)
        need_3[0], need_3[1] = max(need_3[0], begin_N[i + 1] - begin_N[i]), max(need_3[1], breaks)
    need_3[2] = slots_for(need_3[0] // 2 + 1, need_3[1])


@compiled
def read_into(
    data: Bytes, first: int, last: int, classes: Classes, lower: Lower, desk: Desk, word_W: Hashes, w: int,
    row_F: Counts,
) -> tuple[int, int, int]:  # fmt: skip
    """Read a text; how many words for rules, line feeds and rows it has. Words of likeness go to `word_W[w:]`."""
    word_R, length_R, part_R, row_T6, feed_L = desk.word_R, desk.length_R, desk.part_R, desk.row_T6, desk.feed_L
    at, code, row_begin = first, 0, first
    r = feeds = rows = 0
    word, power, part = ZERO, ONE, FNV_BASE  # of the word of likeness, and of what white space divides
    start, shape, before, spare = -1, 0, 0, 0  # of that: where it begins, its classes, bytes that begin no character
    left, right, marks, sentences = -1, -1, 0, 0  # of the row
    said = ended = wide = False
    dot, dots, extra = -1, 0, 0
    while True:
        if ended and at < last and PLAIN[byte(data, at)]:
            if wide and (said or shape & ALNUM):
                sentences, said, before, shape = sentences + 1, False, before | shape, 0
            ended = wide = False
        begin = at
        while at < last:
            code = byte(data, at)
            kind = int(PLAIN[code])
            if kind == 0:
                break
            shape |= kind
            word += SMALL[code] * power
            power *= PLUS
            at += 1
        if start < 0 and at > begin:
            start = begin
        after, kind = at, SPACE
        if at == last:
            kind |= BREAK * (at > row_begin)
        else:
            after = at + 1
            if code >= 0x80:
                code, after = character(data, at, last)
            kind = int(classes[code])
        if power != ONE and (not kind & WORD or code >= LONE):
            word_W[w] = mix(word)
            part = (part ^ word_W[w]) * FNV
            w, word, power = w + 1, ZERO, ONE
        if not kind & SPACE:
            if start < 0:
                start = at
            spare += after - at - 1
            if kind & TERMINAL:
                ended, wide = True, code >= _WIDE
            elif ended and not (kind & QUOTE or code in (_ROUND, _CLOSE)):
                if wide and (said or shape & ALNUM):
                    sentences, said, before, shape = sentences + 1, False, before | shape, 0
                ended = wide = False
            shape |= kind
            low = np.uint64(lower[code]) if code < CASED else np.uint64(code)
            if not kind & WORD:
                part = (part ^ (low + ONE)) * FNV
                if code == _DOT:
                    dots = dots + 1 if dot == at else 1
                    dot = after
                    if dots == 3:
                        row_F[ELLIPSES] += 1
                        dots = 0
                elif code == _OPEN:
                    marks |= BRACKET
                elif code == _BRACE:
                    marks |= CURLY
                else:
                    row_F[HASHES] += code == _SHARP
                    row_F[ELLIPSES] += code == _ELLIPSIS
                    row_F[NULS] += code == 0
            elif code >= LONE:
                word_W[w] = mix(low + ONE)
                part = (part ^ word_W[w]) * FNV
                w += 1
            else:
                word += (low + ONE) * power
                power *= PLUS
            at = after
            continue
        if start >= 0:
            size = at - start - spare
            hashed = span_hash(data, start, at)
            word_R[r], length_R[r], part_R[r] = hashed, size, part
            r += 1
            now = said or shape & ALNUM > 0
            sentences += ended and now
            said = now and not ended
            shape |= before
            row_F[LETTER_WORDS] += shape & LETTER > 0
            row_F[WORD_CHARACTERS] += size * (shape & ALNUM > 0)
            row_F[SYMBOL_WORDS] += shape & ALNUM == 0
            row_F[STOP_WORDS_SEEN] |= stop_word(hashed)
            if size > LONGEST_WORD:
                marks |= LONG
            left, right = start if left < 0 else left, at
            extra += spare
            start, shape, before, spare, part, ended, wide = -1, 0, 0, 0, FNV_BASE, False, False
        if kind & BREAK:
            if code == NEWLINE and at < last:
                feed_L[feeds] = at
                feeds += 1
            if not (code == _CR and after < last and byte(data, after) == NEWLINE):
                row_T6[rows, LEFT], row_T6[rows, RIGHT], row_T6[rows, WORDS_END] = left, right, r
                row_T6[rows, LIKE_END], row_T6[rows, MARKS], row_T6[rows, SENTENCES] = w, marks, sentences + said
                rows, row_begin = rows + 1, after
                left, right, marks, sentences, said = -1, -1, 0, 0, False
        if at == last:
            break
        extra += after - at - 1
        at = after
    row_F[WORDS], row_F[CHARACTERS] = r, last - first - extra
    return r, feeds, rows
