"""What each character is to the rules on text: letter, part of a word, white space, end of a line or of a sentence.

In goes nothing; out come two tables over code points, made once from Python's own Unicode data (20 ms), so that the
compiled loops agree with `str` by construction.

* Letters, digits, white space, lower case: `str.isalpha`, `isalnum`, `isspace`, `lower`, character by character. So
  a capital sigma is a plain sigma also at the end of a word, and a dotted capital I loses its dot.
* Lines: where `str.splitlines` breaks.
* Ends of sentences: the Unicode property Sentence_Terminal (Unicode 17), and quotation marks that may follow one.
* Bullets: the hyphen and the round and square ones.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LETTER, ALNUM, WORD, SPACE, BREAK, TERMINAL, QUOTE, BULLET = (1 << bit for bit in range(8))
"""Bits of a character's class. WORD: letters, digits and the underscore. BREAK: `str.splitlines` breaks there."""

CASED = 0x20000
"""No character from here on has a case."""
_SPOKEN = 0x34000  # nor is one from here on a letter, a digit or white space

QUOTES = "\"'\u201d\u2019\xbb\u203a\u300d\u300f"
BULLETS = "-\u2022\u2023\u2043\u25e6\u25cf\u25aa"
BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_TERMINALS = """
21 2e 3f 589 61d-61f 6d4 700-702 7f9 837 839 83d-83e 964-965 104a-104b 1362 1367-1368 166e 1735-1736 17d4-17d5 1803
1809 1944-1945 1aa8-1aab 1b4e-1b4f 1b5a-1b5b 1b5e-1b5f 1b7d-1b7f 1c3b-1c3c 1c7e-1c7f 2024 203c-203d 2047-2049
2cf9-2cfb 2e2e 2e3c 2e53-2e54 2e60-2e61 3002 a4ff a60e-a60f a6f3 a6f7 a876-a877 a8ce-a8cf a92f a9c8-a9c9 aa5d-aa5f
aaf0-aaf1 abeb fe12 fe15-fe16 fe52 fe56-fe57 ff01 ff0e ff1f ff61 10a56-10a57 10f55-10f59 10f86-10f89 11047-11048
110be-110c1 11141-11143 111c5-111c6 111cd 111de-111df 11238-11239 1123b-1123c 112a9 113d4-113d5 1144b-1144c 115c2-115c3
115c9-115d7 11641-11642 1173c-1173e 11944 11946 11a42-11a43 11a9b-11a9c 11c41-11c42 11ef7-11ef8 11f43-11f44 16a6e-16a6f
16af5 16b37-16b38 16b44 16d6e-16d6f 16e98 1bc9f 1da88
"""


def terminals() -> str:
    """All characters that end a sentence."""
    found = ""
    for part in _TERMINALS.split():
        first, _, last = part.partition("-")
        found += "".join(map(chr, range(int(first, 16), int(last or first, 16) + 1)))
    return found


@lru_cache(maxsize=1)
def tables() -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The class of every code point [0x110000], and the lower case of those below `CASED`."""
    characters = np.arange(_SPOKEN, dtype=np.uint32).view("U1")
    classes = np.zeros(0x110000, np.uint8)
    for bit, holds in ((LETTER, np.strings.isalpha), (ALNUM, np.strings.isalnum), (SPACE, np.strings.isspace)):
        classes[:_SPOKEN][holds(characters)] |= bit
    classes[classes & ALNUM > 0] |= WORD
    for bit, listed in ((WORD, "_"), (BREAK, BREAKS), (TERMINAL, terminals()), (QUOTE, QUOTES), (BULLET, BULLETS)):
        classes[[ord(character) for character in listed]] |= bit
    lower = np.arange(CASED, dtype=np.int32)
    large = np.strings.isupper(characters[:CASED]) | np.strings.istitle(characters[:CASED])
    lower[large] = np.strings.lower(characters[:CASED][large]).view(np.int32)
    return classes, lower
