"""The words of a text, in compiled loops: those that rules count, and those that likeness stands on.

In goes a text as UTF-8 bytes; out come 64-bit hashes of its words with their lengths, and what is counted of them
(`WORD_FIGURES`). Equal hashes are taken for equal words. What a word is to the rules is a setting:

* `whitespace-1`: what `str.split` gives, marks of punctuation and all: read by `text_reading` along with all else;
* `letters-1`: runs of letters, digits and underscores (`\\w+`), each character from U+3000 on by itself.

Likeness always stands on `letters-1`, lower-cased. Legend: R rule words and W likeness words of all texts, F figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled, inlined
from volant.modalities.text_scan import (
    ALNUM,
    LETTER,
    SPACE,
    WORD,
    Bytes,
    Classes,
    Counts,
    Hashes,
    byte,
    character,
    mix,
    span_hash,
)

Lower = NDArray[np.int32]
Lengths = NDArray[np.int32]

WORD_FIGURES = (
    "characters", "words", "symbol_words", "letter_words", "word_characters", "stop_words_seen", "hashes", "ellipses",
    "nuls",
)  # fmt: skip
(
    CHARACTERS, WORDS, SYMBOL_WORDS, LETTER_WORDS, WORD_CHARACTERS, STOP_WORDS_SEEN, HASHES, ELLIPSES, NULS,
) = range(len(WORD_FIGURES))  # fmt: skip
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
CASED = 0x20000
LONE = 0x3000  # scripts from here on are written without blanks: each character is a word
ZERO, ONE, PLUS = np.uint64(0), np.uint64(1), np.uint64(0x9E3779B97F4A7C15)
FNV, FNV_BASE = np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)

PLAIN = np.array(
    [(chr(b).isalpha() * LETTER | chr(b).isalnum() * ALNUM | WORD) * (b < 128 and (chr(b).isalnum() or b == 95))
     for b in range(256)],
    np.uint8,
)  # fmt: skip
"""The class of each byte that is a letter, a digit or the underscore of ASCII; 0 of any other."""
SMALL = np.array([(ord(chr(b).lower()) if b < 128 else b) + 1 for b in range(256)], np.uint64)
"""What each such byte adds to the hash of a lower-cased word."""

_M64 = 2**64 - 1


def _hash_of(word: str) -> int:
    """What `span_hash` gives of a word of at most eight bytes."""
    x = (len(word) * int(PLUS) ^ int.from_bytes(word.encode(), "little")) & _M64
    x = x * 0xBF58476D1CE4E5B9 & _M64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _M64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _M64
    return x ^ x >> 31


_BITS = next(bits for bits in range(4, 12) if len({_hash_of(word) >> 64 - bits for word in STOP_WORDS}) == 8)
_TOP = np.uint64(64 - _BITS)
_STOP_AT, _STOP_BIT = np.zeros(1 << _BITS, np.uint64), np.zeros(1 << _BITS, np.int64)
for _k, _word in enumerate(STOP_WORDS):
    _STOP_AT[_hash_of(_word) >> 64 - _BITS], _STOP_BIT[_hash_of(_word) >> 64 - _BITS] = _hash_of(_word), 1 << _k


@inlined
def stop_word(hashed: np.uint64) -> int:
    """The bit of a stop word, by its place in `STOP_WORDS`; 0 for any other word."""
    slot = np.int64(hashed >> _TOP)
    return int(_STOP_BIT[slot] * (_STOP_AT[slot] == hashed))


@compiled
def likeness_into(
    data: Bytes, first: int, last: int, classes: Classes, lower: Lower, word_W: Hashes, w: int, whole: np.uint64
) -> tuple[int, np.uint64]:
    """The lower-cased words of a span, from `word_W[w]` on; where the next one's begin, and a hash of all so far.

    The hash of the whole is the same for texts that differ in case and white space only: that of what white space
    divides, each part by its words and the other characters, in order.
    """
    word, power, part = ZERO, ONE, FNV_BASE
    at, code = first, 0
    while True:
        while at < last:
            code = byte(data, at)
            if PLAIN[code] == 0:
                break
            word += SMALL[code] * power
            power *= PLUS
            at += 1
        after, kind = at, SPACE
        if at < last:
            code, after = character(data, at, last)
            kind = int(classes[code])
        if kind & WORD and code < LONE:
            word += (np.uint64(lower[code]) + ONE) * power
            power *= PLUS
            at = after
            continue
        if power != ONE:
            word_W[w] = mix(word)
            part = (part ^ word_W[w]) * FNV
            w, word, power = w + 1, ZERO, ONE
        if kind & SPACE:
            if part != FNV_BASE:
                whole, part = (whole ^ part) * FNV, FNV_BASE
            if at == last:
                return w, whole
        else:
            low = np.uint64(lower[code]) if code < CASED else np.uint64(code)
            if kind & WORD:
                word_W[w] = mix(low + ONE)
                part = (part ^ word_W[w]) * FNV
                w += 1
            else:
                part = (part ^ (low + ONE)) * FNV
        at = after


@compiled
def letter_words_into(
    data: Bytes, first: int, last: int, classes: Classes, word_R: Hashes, length_R: Lengths, row_F: Counts
) -> int:
    """The words of `letters-1`, and what is counted of them in place of those of `whitespace-1`; how many."""
    row_F[WORDS : STOP_WORDS_SEEN + 1] = 0
    shape = length = r = begin = 0
    at = first
    while at < last:
        code, after = character(data, at, last)
        kind = int(classes[code])
        lone = kind & WORD and code >= LONE
        if length and (lone or not kind & WORD):
            r = word_ends(data, begin, at, shape, length, word_R, length_R, r, row_F)
            length = 0
        if kind & WORD:
            begin, shape = (begin, shape) if length else (at, 0)
            shape, length = shape | kind, length + 1
        if lone:
            r = word_ends(data, begin, after, shape, length, word_R, length_R, r, row_F)
            length = 0
        at = after
    if length:
        r = word_ends(data, begin, last, shape, length, word_R, length_R, r, row_F)
    return r


@compiled
def word_ends(
    data: Bytes, first: int, last: int, shape: int, length: int,
    word_R: Hashes, length_R: Lengths, r: int, row_F: Counts,
) -> int:  # fmt: skip
    """Keep one word; `shape` is the union of its characters' classes."""
    word_R[r], length_R[r] = span_hash(data, first, last), length
    row_F[WORDS] += 1
    row_F[LETTER_WORDS] += shape & LETTER > 0
    if shape & ALNUM:
        row_F[WORD_CHARACTERS] += length
    else:
        row_F[SYMBOL_WORDS] += 1
    row_F[STOP_WORDS_SEEN] |= stop_word(word_R[r])
    return r + 1
