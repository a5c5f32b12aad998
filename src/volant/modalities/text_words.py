"""The words of a text, in compiled loops: those that rules count, and those that likeness stands on.

In goes a text as UTF-8 bytes; out come 64-bit hashes of its words with their lengths, and what is counted of them
(`WORD_FIGURES`). Equal hashes are taken for equal words. What a word is to the rules is a setting:

* `whitespace-1`: what `str.split` gives, marks of punctuation and all;
* `letters-1`: runs of letters, digits and underscores (`\\w+`), each character from U+3000 on by itself.

Likeness always stands on `letters-1`, lower-cased. Legend: R rule words and W likeness words of all texts, F figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled
from volant.modalities.text_scan import ALNUM, LETTER, SPACE, WORD, Bytes, Classes, Counts, Hashes, character, mix

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
_CASED = 0x20000
_LONE = 0x3000  # scripts from here on are written without blanks: each character is a word
_ONE, _PLUS, _S16 = np.uint64(1), np.uint64(0x9E3779B97F4A7C15), np.uint64(16)
_FNV, _FNV_BASE = np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)
_SHARP, _DOT, _ELLIPSIS, _BLANK = 35, 46, 0x2026, np.uint64(32)


def _packed(word: str) -> np.uint64:
    value = 0
    for letter in word:
        value = value << 16 | ord(letter)
    return np.uint64(value)


_STOP_WORDS = np.array([_packed(word) for word in STOP_WORDS], np.uint64)


@compiled
def likeness_into(
    data: Bytes, first: int, last: int, classes: Classes, lower: Lower, word_W: Hashes, w: int
) -> tuple[int, np.uint64]:
    """The lower-cased words of one text, from `word_W[w]` on; where the next text's begin, and a hash of the whole.

    The hash of the whole is the same for texts that differ in case and white space only.
    """
    whole = _FNV_BASE
    word, power = np.uint64(0), _ONE
    gap, at = False, first
    while at < last:
        code, at = character(data, at, last)
        kind = int(classes[code])
        low = np.uint64(lower[code]) if code < _CASED else np.uint64(code)
        if kind & SPACE:
            gap = True
        else:
            if gap and whole != _FNV_BASE:
                whole = (whole ^ _BLANK) * _FNV
            whole, gap = (whole ^ low) * _FNV, False
        lone = kind & WORD and code >= _LONE
        if power != _ONE and (lone or not kind & WORD):
            word_W[w] = mix(word)
            w, word, power = w + 1, np.uint64(0), _ONE
        if lone:
            word_W[w] = mix(low + _ONE)
            w += 1
        elif kind & WORD:
            word += (low + _ONE) * power
            power *= _PLUS
    if power != _ONE:
        word_W[w] = mix(word)
        w += 1
    return w, mix(whole)


@compiled
def words_into(
    data: Bytes, first: int, last: int, classes: Classes, letters: bool,
    word_R: Hashes, length_R: Lengths, r: int, row_F: Counts,
) -> int:  # fmt: skip
    """The words that rules count, from `word_R[r]` on, and what is counted of them; where the next text's begin."""
    word, packed, shape, length = _FNV_BASE, np.uint64(0), 0, 0
    seen = dots = 0
    at = first
    while at < last:
        code, at = character(data, at, last)
        kind = int(classes[code])
        seen += 1
        lone = letters and kind & WORD and code >= _LONE
        inside = kind & WORD > 0 if letters else not kind & SPACE
        if length and (lone or not inside):
            r = word_ends(word, packed, shape, length, word_R, length_R, r, row_F)
            length = 0
        if inside:
            if length == 0:
                word, packed, shape = _FNV_BASE, np.uint64(0), 0
            word = (word ^ np.uint64(code)) * _FNV
            packed = packed << _S16 | np.uint64(code if 0 < code < 0x10000 else 0xFFFF)
            shape, length = shape | kind, length + 1
        if lone:
            r = word_ends(word, packed, shape, length, word_R, length_R, r, row_F)
            length = 0
        dots = dots + 1 if code == _DOT else 0
        if dots == 3 or code == _ELLIPSIS:
            row_F[ELLIPSES] += 1
            dots = 0
        row_F[HASHES] += code == _SHARP
        row_F[NULS] += code == 0
    if length:
        r = word_ends(word, packed, shape, length, word_R, length_R, r, row_F)
    row_F[CHARACTERS] = seen
    return r


@compiled
def word_ends(
    word: np.uint64, packed: np.uint64, shape: int, length: int,
    word_R: Hashes, length_R: Lengths, r: int, row_F: Counts,
) -> int:  # fmt: skip
    """Keep one word; `shape` is the union of its characters' classes."""
    word_R[r] = mix(word)
    row_F[WORDS] += 1
    length_R[r] = length
    row_F[LETTER_WORDS] += shape & LETTER > 0
    if shape & ALNUM:
        row_F[WORD_CHARACTERS] += length
    else:
        row_F[SYMBOL_WORDS] += 1
    if length <= 4:
        for k in range(len(_STOP_WORDS)):
            if packed == _STOP_WORDS[k]:
                row_F[STOP_WORDS_SEEN] |= 1 << k
    return r + 1
