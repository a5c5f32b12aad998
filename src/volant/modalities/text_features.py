"""What there is to know of texts before a rule decides: one column a feature, from one pass over the bytes.

In goes an Arrow array of strings; out come the features as columns, in its order, and the hashes of the words, from
which signatures and runs of words are made. Rules are applied to the columns (`text_rules`), so that a threshold can
change without the text being read again. All features are defined for every text; where a share has nothing to be a
share of, it is 0.

The features, with the rule sets that use them. Characters are Unicode code points; *words* are those of the setting
`words`, *symbol words* hold no letter and no digit; *lines* end at line feeds, *rows* wherever `str.splitlines`
breaks; a *full* line is one that is not only white space; *again* is what was there before in the text.

| feature | of | what it is |
|---|---|---|
| `characters`, `words`, `nuls` | | counts |
| `spoken_words`, `mean_word_length` | Gopher quality | words without symbol words, and their mean characters |
| `hashes_per_word`, `ellipses_per_word` | Gopher quality | `#`; `...` and its character |
| `bullet_rows`, `ellipsis_rows` | Gopher quality | share of rows that begin with a bullet, end with an ellipsis |
| `letter_words` | Gopher quality | share of words that hold a letter |
| `stop_words` | Gopher quality | how many of `the be to of and that have with` occur |
| `lines_again`, `paragraphs_again` | Gopher repetition | share of them |
| `line_characters_again`, `paragraph_characters_again` | Gopher repetition | share of characters in them |
| `top_2` to `top_4` | Gopher repetition | share of characters in the commonest run of so many words |
| `again_5` to `again_10` | Gopher repetition | share of characters in repeated runs of so many words |
| `c4_sentences`, `c4_rows` | C4 | sentences in the rows that stay, and how many rows do |
| `c4_lorem`, `c4_curly` | C4 | such rows that hold `lorem ipsum`, or `{` |
| `loose_sentences` to `loose_curly` | C4 | the same where a row needs no terminal punctuation |
| `terminal_lines`, `short_lines` | FineWeb | share of full lines with terminal punctuation, of at most 30 characters |
| `full_characters_again` | FineWeb | share of characters (no line feeds) in full lines again |
| `newlines_per_word` | FineWeb | line feeds |

FineWeb's four are also counted of what C4 leaves of a text, see `columns_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from volant.modalities.text_characters import tables
from volant.modalities.words import Words
from volant.store.arrow_values import strings

VERSION = 2
WordKind = Literal["whitespace-1", "letters-1"]
Rows = Literal["all", "c4", "c4_loose"]
Feature = NDArray[np.float64] | NDArray[np.int64]
_COUNTS = ("characters", "words", "nuls", "c4_rows", "c4_sentences", "c4_lorem", "c4_curly",
           "loose_rows", "loose_sentences", "loose_lorem", "loose_curly")  # fmt: skip
_SHARES = {
    "mean_word_length": ("word_characters", "spoken_words"),
    "hashes_per_word": ("hashes", "words"),
    "ellipses_per_word": ("ellipses", "words"),
    "bullet_rows": ("bullet_rows", "rows"),
    "ellipsis_rows": ("ellipsis_rows", "rows"),
    "letter_words": ("letter_words", "words"),
    "lines_again": ("lines_again", "lines"),
    "paragraphs_again": ("paragraphs_again", "paragraphs"),
    "line_characters_again": ("line_characters_again", "characters"),
    "paragraph_characters_again": ("paragraph_characters_again", "characters"),
    **{f"top_{n}": (f"top_{n}", "characters") for n in (2, 3, 4)},
    **{f"again_{n}": (f"again_{n}", "characters") for n in range(5, 11)},
    "terminal_lines": ("terminal_lines", "full_lines"),
    "short_lines": ("short_lines", "full_lines"),
    "full_characters_again": ("full_characters_again", "characters_in_lines"),
    "newlines_per_word": ("newlines", "words"),
}
_OF_LINES = ("terminal_lines", "short_lines", "full_characters_again", "newlines_per_word")


@dataclass(frozen=True)
class Likeness:
    """What likeness of texts is judged by.

    Attributes:
        words: hashes of the words (`letters-1`, lower-cased) of each text.
        whole_N: a hash of each text that case and white space do not change, uint64 [N].
    """

    words: Words
    whole_N: NDArray[np.uint64]


@dataclass(frozen=True)
class Reading:
    """What one pass over texts finds.

    Attributes:
        figure_NF: what was counted of each.
        kept: the texts with only the rows that stay (those of `trimmed`); None where all stay.
        went_N: how many rows went of each.
        likeness: of what stays.
    """

    figure_NF: NDArray[np.int64]
    kept: pa.LargeStringArray | None
    went_N: NDArray[np.int64]
    likeness: Likeness

    @property
    def features(self) -> dict[str, Feature]:
        """Columns by name, as `features` gives them."""
        return columns_of(self.figure_NF)


def features(texts: pa.LargeStringArray, words: WordKind = "whitespace-1") -> dict[str, Feature]:
    """The features of each text, by name, each [N]: int64 for counts, float64 for shares and means.

    Args:
        texts: a null counts as an empty text.
        words: what a word is to the rules; see `text_words`.
    """
    return read(texts, words=words).features


def read(texts: pa.LargeStringArray, *, rows: Rows = "all", words: WordKind = "whitespace-1") -> Reading:
    """Features, the text of the rows that stay, and what its likeness is judged by, from one pass over the bytes.

    Args:
        texts: a null counts as an empty text.
        rows: which stay: `all`, those that C4 keeps (`c4`), or those that it keeps for FineWeb (`c4_loose`).
        words: what a word is to the rules; see `text_words`.
    """
    from volant.modalities import text_kernel

    keep = ("all", "c4", "c4_loose").index(rows)
    found = text_kernel.read(*buffer_of(texts), *tables(), words == "letters-1", keep)
    kept = None
    if rows != "all":
        buffers = [None, pa.py_buffer(found.out_N), pa.py_buffer(found.out)]
        kept = pa.Array.from_buffers(pa.large_string(), len(texts), buffers)
    like = Likeness(Words(found.word_W, found.word_N), found.whole_N)
    return Reading(found.figure_NF, kept, found.went_N, like)


def columns_of(figure_NF: NDArray[np.int64], *, left: bool = False) -> dict[str, Feature]:
    """The features of texts of which this was counted; shares and means are made of counts here.

    Args:
        left: whether FineWeb's features are of what `read` with other rows than `all` keeps.
    """
    from volant.modalities.text_kernel import FIGURES

    counted = {name: figure_NF[:, at] for at, name in enumerate(FIGURES)}
    counted["spoken_words"] = counted["words"] - counted["symbol_words"]
    counted["characters_in_lines"] = counted["characters"] - counted["newlines"]
    found: dict[str, Feature] = {name: np.ascontiguousarray(counted[name]) for name in (*_COUNTS, "spoken_words")}
    found["stop_words"] = np.bitwise_count(counted["stop_words_seen"]).astype(np.int64)
    for name, pair in _SHARES.items():
        part_N, whole_N = (counted[f"left_{n}" if left and name in _OF_LINES else n] for n in pair)
        found[name] = np.where(whole_N > 0, part_N / np.maximum(whole_N, 1), 0.0)
    return found


def likeness(texts: pa.LargeStringArray) -> Likeness:
    """The word hashes of each text, and a hash of each whole one."""
    from volant.modalities import text_kernel

    word_W, begin_N, whole_N = text_kernel.likeness(*buffer_of(texts), *tables())
    return Likeness(Words(word_W, begin_N), whole_N)


def word_hashes(texts: Sequence[str]) -> Words:
    """The hashes of the likeness words of texts; half a surrogate pair counts as a question mark."""
    try:
        array = strings(texts, pa.large_string())
    except UnicodeEncodeError:
        array = strings((text.encode("utf-8", "replace").decode() for text in texts), pa.large_string())
    return likeness(array).words


def trimmed(texts: pa.LargeStringArray, *, punctuation: bool = True) -> tuple[pa.LargeStringArray, NDArray[np.int64]]:
    """The texts with only the rows that C4 keeps, marks of citation taken out, and how many rows went of each.

    Args:
        punctuation: whether a row needs terminal punctuation to stay (FineWeb asks for none).
    """
    found = read(texts, rows="c4" if punctuation else "c4_loose")
    return found.kept, found.went_N


def buffer_of(texts: pa.LargeStringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The bytes of the texts and where each begins, without a copy."""
    if texts.null_count:
        texts = texts.fill_null("")
    _, offsets, data = texts.buffers()
    begin_N = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not len(texts):
        begin_N = np.zeros(1, np.int64)
    return np.frombuffer(data or b"", np.uint8), begin_N
