"""Unicode repair: text that was decoded wrongly, control characters, line ends, composed characters.

In go texts; out come the same with mojibake undone (`schÃ¶n` is `schön`), terminal escapes, NUL and other control
characters taken out, lone surrogates mended, line ends as one line feed, and characters in their composed form (NFC).
Quotes, ligatures, wide letters and HTML entities stay as their authors wrote them. By `ftfy` (Speer 2019).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

VERSION = "unicode-1"
_LAST = 0x1F000
# Printable ASCII, tabs and line feeds have nothing to mend.
_SUSPECT = r"[^\t\n\x20-\x7e]"


def repaired(text: str) -> str:
    """The text, mended.

    >>> repaired("schÃ¶n\\r\\n")
    'schön\\n'
    """
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    import ftfy

    return _composed(ftfy.fix_text(text, _config()))


def repaired_all(texts: pa.StringArray) -> tuple[pa.StringArray, pa.BooleanArray]:
    """Many texts, mended, and which of them changed; nulls stay nulls.

    Args:
        texts: of type `string` or `large_string`.
    """
    suspect = pc.fill_null(pc.match_substring_regex(texts, _SUSPECT), False)
    mended = pa.array([repaired(text) for text in texts.filter(suspect).to_pylist()], texts.type)
    after = pc.replace_with_mask(texts, suspect, mended)
    return after, pc.fill_null(pc.not_equal(after, texts), False)


def _composed(text: str) -> str:
    """The text in NFC; runs of more than 30 marks on one letter stay as they are.

    Ordering such a run takes time with the square of its length, hours for a megabyte. No language has them: 30 is the
    bound of the Stream-Safe Text Format (UAX #15, section 13).
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if np.count_nonzero(_marks()[np.minimum(codes, _LAST)]) <= 30:
        return unicodedata.normalize("NFC", text)
    parts = _piled().split(text)
    return "".join(part if at % 2 else unicodedata.normalize("NFC", part) for at, part in enumerate(parts))


@lru_cache(maxsize=1)
def _marks() -> NDArray[np.bool_]:
    """By code point, whether it is a mark that is ordered among others; of all from `_LAST` on none is."""
    return np.array([unicodedata.combining(chr(code)) > 0 for code in range(_LAST + 1)])


@lru_cache(maxsize=1)
def _piled() -> re.Pattern[str]:
    edges = np.flatnonzero(np.diff(_marks())).tolist()
    spans = (f"{chr(first + 1)}-{chr(last)}" for first, last in zip(edges[::2], edges[1::2], strict=True))
    return re.compile(f"([{''.join(spans)}]{{31,}})")


@lru_cache(maxsize=1)
def _config() -> Any:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False, fix_latin_ligatures=False, fix_character_width=False, uncurl_quotes=False,
        max_decode_length=1 << 40, explain=False, normalization=None,
    )  # fmt: skip
