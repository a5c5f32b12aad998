"""Unicode repair: text that was decoded wrongly, control characters, line ends, composed characters.

In go texts; out come the same with mojibake undone (`schÃ¶n` is `schön`), terminal escapes, NUL and other control
characters taken out, lone surrogates mended, line ends as one line feed, and characters in their composed form (NFC).
Quotes, ligatures, wide letters and HTML entities stay as their authors wrote them. By `ftfy` (Speer 2019).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

VERSION = "unicode-1"
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

    return ftfy.fix_text(text, _config())


def repaired_all(texts: pa.StringArray) -> tuple[pa.StringArray, pa.BooleanArray]:
    """Many texts, mended, and which of them changed; nulls stay nulls.

    Args:
        texts: of type `string` or `large_string`.
    """
    suspect = pc.fill_null(pc.match_substring_regex(texts, _SUSPECT), False)
    mended = pa.array([repaired(text) for text in texts.filter(suspect).to_pylist()], texts.type)
    after = pc.replace_with_mask(texts, suspect, mended)
    return after, pc.fill_null(pc.not_equal(after, texts), False)


@lru_cache(maxsize=1)
def _config() -> Any:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False, fix_latin_ligatures=False, fix_character_width=False, uncurl_quotes=False,
        max_decode_length=1 << 40, explain=False,
    )  # fmt: skip
