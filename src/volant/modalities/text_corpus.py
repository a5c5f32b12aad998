"""What a text is beside all the others of its corpus: rules that published sets lack, since they look at one text only.

In go the texts of a corpus, some at a time; out comes what the whole of it says (`Corpus`), and by that, of each text,
what is left without what others have too, and how surprising its characters are.

**Shared lines.** Menus, notices of cookies and heads of licences stand around one text as around the next. A line that
stands in more than so many records goes from the beginnings and ends of all but the first of them; lines inside a text
stay, for headings and code repeat too. A text of which that would take more than half stays whole and is dropped: a
page of nothing else, or one of many copies. CCNet (Wenzek et al. 2020) takes out paragraphs, C4 spans of three
sentences that were seen before; both take them out of the middle as well.

**Surprise.** Bits a character under a model of three kinds of characters (letters in any case, a digit, white space,
each mark of ASCII; other letters and other marks) that is counted from the corpus itself: what was misread, encoded,
shuffled or mis-encoded is surprising wherever most of the corpus is not. So are a language and a notation of which the
corpus holds next to nothing: a text whose language is known, and is not one that the corpus is in, is not judged
(`languages`); nor are letters of other scripts. A programming language has to be a part of the corpus.

Legend: N texts, S shared lines, T runs of three kinds of characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from unicodedata import unidata_version

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from volant.modalities.text_characters import tables
from volant.modalities.text_features import buffer_of

VERSION = 1
HELD = 0.05
"""Share of the texts that a language needs to be one of the corpus."""
SAMPLED = 64
"""Texts of a part whose language is looked at."""
_PRIOR = 8.0  # how many runs the shorter run speaks for


@dataclass(frozen=True)
class Corpus:
    """What the whole says.

    Attributes:
        shared_S: rising hashes of lines in more than so many texts.
        first_S: the number of the first text of each, in which it stays.
        bits_T: what each run of three kinds tells by its last.
        spoken: the languages that it is in.
        shared: share of a text's bytes in shared lines at its ends above which it is dropped.
        surprise: bits a character above which a text is noise.
    """

    shared_S: NDArray[np.uint64]
    first_S: NDArray[np.int64]
    bits_T: NDArray[np.float32]
    spoken: frozenset[str]
    shared: float
    surprise: float

    @property
    def digest(self) -> str:
        """Of all of it."""
        about = (versions(), sorted(self.spoken), self.shared, self.surprise)
        said = blake2b(repr(about).encode(), digest_size=16)
        for array in (self.shared_S, self.first_S, self.bits_T):
            said.update(np.ascontiguousarray(array).tobytes())
        return said.hexdigest()


def versions() -> tuple[int, str, str]:
    """Of what is found: by these rules, of Unicode's kinds of characters, and of the model that knows languages."""
    from volant.modalities import language

    return VERSION, unidata_version, language.version()


def triples(texts: pa.LargeStringArray) -> NDArray[np.int64]:
    """How often each run of three kinds of characters occurs [T]."""
    from volant.modalities.text_corpus_kernel import KINDS, triples_into

    count_T = np.zeros(KINDS**3, np.int64)
    triples_into(*buffer_of(texts), tables()[0], count_T)
    return count_T


def bits(count_T: NDArray[np.int64]) -> NDArray[np.float32]:
    """The bits of the last kind of each run, given the two before; runs never seen fall back on shorter ones."""
    from volant.modalities.text_corpus_kernel import KINDS

    count_ABC = count_T.reshape(KINDS, KINDS, KINDS).astype(np.float64)
    count_BC = count_ABC.sum(0)
    count_C = count_BC.sum(0)
    share_C = (count_C + 1) / (count_C.sum() + KINDS)
    share_BC = (count_BC + _PRIOR * share_C) / (count_BC.sum(1, keepdims=True) + _PRIOR)
    share_ABC = (count_ABC + _PRIOR * share_BC) / (count_ABC.sum(2, keepdims=True) + _PRIOR)
    return np.asarray(-np.log2(share_ABC), np.float32).reshape(-1)


def line_hashes(texts: pa.LargeStringArray) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The different lines of each text that are not blank, as rising hashes, and the place of the text of each."""
    from volant.modalities.text_corpus_kernel import lines

    hash_L, edge_N = lines(*buffer_of(texts))
    place_L = np.repeat(np.arange(len(texts)), np.diff(edge_N))
    order = np.lexsort((place_L, hash_L))
    hash_L, place_L = hash_L[order], place_L[order]
    new_L = np.ones(len(order), bool)
    new_L[1:] = (hash_L[1:] != hash_L[:-1]) | (place_L[1:] != place_L[:-1])
    return hash_L[new_L], place_L[new_L]


def own_spans(
    texts: pa.LargeStringArray, number_N: NDArray[np.int64], corpus: Corpus
) -> tuple[NDArray[np.float64], list[str], NDArray[np.int64]]:
    """The share of each text in shared lines at its ends [N]; those that are trimmed for it, and how many lines go.

    Args:
        number_N: of each text, rising; the one in which a line stays keeps it.
    """
    from volant.modalities.text_corpus_kernel import inner

    data, begin_N = buffer_of(texts)
    from_N, to_N, went_N = inner(data, begin_N, number_N, corpus.shared_S, corpus.first_S)
    share_N = 1 - (to_N - from_N) / np.maximum(np.diff(begin_N), 1)
    trims = np.flatnonzero((went_N > 0) & (share_N <= corpus.shared))
    left = [bytes(data[from_N[at] : to_N[at]]).decode() for at in trims.tolist()]
    went_N[share_N > corpus.shared] = 0
    return share_N, left, went_N


def surprise(texts: pa.LargeStringArray, corpus: Corpus) -> NDArray[np.float64]:
    """Bits a character of each text; 0 of one that is too short, in another script, or in a language of its own."""
    from volant.modalities.language import SURE, languages
    from volant.modalities.text_corpus_kernel import surprises

    found_N = surprises(*buffer_of(texts), tables()[0], corpus.bits_T)
    above = np.flatnonzero(found_N > corpus.surprise)
    if len(above):
        codes, sure = languages(texts.take(pa.array(above)))
        own = [code not in corpus.spoken for code in codes.to_pylist()]
        found_N[above[np.array(own) & (np.asarray(sure) > SURE)]] = 0.0
    return found_N


def languages_of(texts: pa.LargeStringArray) -> Counter[str]:
    """The languages of some of the texts, as far as they are known for sure."""
    from volant.modalities.language import SURE, languages

    step = max(1, len(texts) // SAMPLED)
    codes, sure = languages(texts.take(pa.array(np.arange(0, len(texts), step))))
    return Counter(code for code, p in zip(codes.to_pylist(), sure.to_pylist(), strict=True) if p > SURE)


def spoken(counted: Counter[str]) -> frozenset[str]:
    """The languages that a corpus is in."""
    return frozenset(code for code, count in counted.items() if count >= HELD * counted.total())


def shared_lines(parts: Sequence[NDArray[np.uint64]], most: int) -> NDArray[np.uint64]:
    """Lines in more than `most` texts, rising.

    Args:
        parts: rising hashes of the different lines of each text; they may lie on disk.
    """
    found: list[NDArray[np.uint64]] = []
    for top in range(_PIECES):
        low, high = np.uint64(top << _SHIFT), np.uint64(((top + 1) << _SHIFT) - 1)
        own = [hash_L[np.searchsorted(hash_L, low) : np.searchsorted(hash_L, high, side="right")] for hash_L in parts]
        hash_U, times_U = np.unique(np.concatenate([np.zeros(0, np.uint64), *own]), return_counts=True)
        found.append(hash_U[times_U > most])
    return np.concatenate(found)


def lower_first(
    first_S: NDArray[np.int64], shared_S: NDArray[np.uint64], hash_L: NDArray[np.uint64], rank_L: NDArray[np.int64]
) -> None:
    """Take the lowest rank of a text that has each shared line into account, of one part's lines."""
    at_L, held_L = looked_up(shared_S, hash_L)
    np.minimum.at(first_S, at_L[held_L], rank_L[held_L])


def looked_up(shared_S: NDArray[np.uint64], hash_L: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of each line its place among the shared ones, and whether it is one of them."""
    at_L = np.minimum(np.searchsorted(shared_S, hash_L), max(len(shared_S) - 1, 0))
    return at_L, shared_S[at_L] == hash_L if len(shared_S) else np.zeros(len(hash_L), bool)


_PIECES, _SHIFT = 16, 60
