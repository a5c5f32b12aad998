"""Words of many texts as 64-bit hashes in one numpy pass: what shingles, 13-grams and rules stand on.

In go texts; out comes one flat array of word hashes with the offsets of each text. A word is a run
of letters, digits and underscores, lower-cased; each character of a script without spaces (CJK,
emoji) is a word of its own. This definition decides what filters drop, so it has a version.

The hash of a word is a polynomial in its bytes. With prefix sums S of byte * B^position (mod 2^64)
it is (S[end] - S[start]) / B^start, so that no Python loop runs over words.

Legend: W words of all texts, N texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.store.mixing import mixed

VERSION = 1
Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]

_BASE = 0x9E3779B97F4A7C15 | 1
_LOWER = np.uint64(0xFFFFFFFF)
_CHUNK_BYTES = 4_000_000
_PLAIN = re.compile(r"[^\W\x00-\u2fff]|[^\W\u3000-\U0010ffff]+")
_PUNCTUATION = re.compile(r"[^\w\s]")


@dataclass(frozen=True)
class Words:
    """Word hashes of texts: those of text i are `hash_W[begin_N[i]:begin_N[i + 1]]`."""

    hash_W: Hashes
    begin_N: Offsets

    def __len__(self) -> int:
        return len(self.begin_N) - 1

    def of(self, text: int) -> Hashes:
        """The word hashes of one text."""
        return self.hash_W[self.begin_N[text] : self.begin_N[text + 1]]


def narrowed(words: Words) -> Words:
    """The lower half of each hash, which is what files keep: of a million words some hundred then share a hash with
    another one, and of runs of words next to none."""
    return Words(words.hash_W & _LOWER, words.begin_N)


def joined_words(parts: Sequence[tuple[Offsets, Words]], count: int) -> Words:
    """The words of `count` texts, each part of which stands for the texts at its places."""
    length_N = np.zeros(count, np.int64)
    for places, words in parts:
        length_N[places] = np.diff(words.begin_N)
    begin_N = np.concatenate([[0], np.cumsum(length_N)]).astype(np.int64)
    hash_W = np.empty(begin_N[-1], np.uint64)
    for places, words in parts:
        shift = np.repeat(begin_N[places] - words.begin_N[:-1], length_N[places])
        hash_W[np.arange(len(words.hash_W)) + shift] = words.hash_W
    return Words(hash_W, begin_N)


def picked(words: Words, wanted: Offsets) -> Words:
    """The words of the texts at these indices alone."""
    from volant.modalities.sketch import copy_runs

    first_N, last_N = words.begin_N[wanted], words.begin_N[wanted + 1]
    begin_N = np.concatenate([[0], np.cumsum(last_N - first_N)]).astype(np.int64)
    hash_W = np.empty(begin_N[-1], np.uint64)
    copy_runs(np.asarray(words.hash_W), first_N, last_N, hash_W)
    return Words(hash_W, begin_N)


def words_of(texts: Sequence[str]) -> Words:
    """Hash the words of all texts."""
    parts = [_hashed(chunk) for chunk in _chunks(texts)]
    if not parts:
        return Words(np.zeros(0, np.uint64), np.zeros(1, np.int64))
    counts = np.concatenate([counts for _, counts in parts])
    return Words(np.concatenate([h for h, _ in parts]), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def ngrams(words: Words, n: int) -> tuple[Hashes, NDArray[np.int64]]:
    """Hashes of all runs of `n` words, and the text each lies in; a shorter text gives one run of all its words."""
    total = len(words.hash_W)
    lengths = np.diff(words.begin_N)
    text_W = np.repeat(np.arange(len(words)), lengths)
    runs, owners = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    if total >= n:
        count = total - n + 1
        runs = np.full(count, n, np.uint64)
        for k in range(n):
            runs = mixed(runs * np.uint64(3) + words.hash_W[k : k + count])
        inside = text_W[:count] == text_W[n - 1 :]
        runs, owners = runs[inside], text_W[:count][inside]
    short = np.flatnonzero((lengths > 0) & (lengths < n))
    if len(short):
        whole = np.array([_whole(words.of(int(i))) for i in short], np.uint64)
        runs, owners = np.concatenate([runs, whole]), np.concatenate([owners, short])
        order = np.argsort(owners, kind="stable")
        runs, owners = runs[order], owners[order]
    return runs, owners


def _whole(hashes: Hashes) -> int:
    run = np.array([len(hashes)], np.uint64)
    for k in range(len(hashes)):
        run = mixed(run * np.uint64(3) + hashes[k : k + 1])
    return int(run[0])


def plain_words(text: str, first: int = 0, last: int | None = None) -> list[str]:
    """The words of a text as `words_of` counts them, or those from `first` to `last`; slow, for showing evidence."""
    if last is None:
        return _PLAIN.findall(text.lower())[first:]
    return [found[0] for found in islice(_PLAIN.finditer(text.lower()), first, last)]


def _chunks(texts: Sequence[str]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for text in texts:
        # Each text ends in a blank, so that no word runs over into the next one.
        lowered = text.lower() if text.isascii() else _PUNCTUATION.sub(" ", text.lower())
        data = lowered.encode("utf-8", "replace") + b" "
        if chunk and size + len(data) > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(data)
        size += len(data)
    if chunk:
        yield chunk


def _hashed(chunk: list[bytes]) -> tuple[Hashes, Offsets]:
    raw = np.frombuffer(b"".join(chunk), np.uint8)
    word, lone = _TABLE[raw] > 0, np.zeros(len(raw), bool)
    lead = raw >= 0xE3
    for step in range(3):
        lone[step:] |= lead[: len(raw) - step]
    lone[3:] |= raw[:-3] >= 0xF0
    before = np.concatenate([[False], word[:-1]])
    was_lone = np.concatenate([[False], lone[:-1]])
    start = np.flatnonzero(word & (~before | lead | (was_lone & ~lone)))
    opens = np.zeros(len(raw) + 1, bool)
    opens[start] = True
    after = np.concatenate([word[1:], [False]])
    end = np.flatnonzero(word & (~after | opens[1:])) + 1
    powers, inverses = _powers(1 << max(12, (len(raw) - 1).bit_length()))
    total = np.zeros(len(raw) + 1, np.uint64)
    np.cumsum((raw.astype(np.uint64) + np.uint64(1)) * powers[: len(raw)], out=total[1:])
    hashes = mixed((total[end] - total[start]) * inverses[start])
    edges = np.concatenate([[0], np.cumsum([len(data) for data in chunk])])
    return hashes, np.diff(np.searchsorted(start, edges)).astype(np.int64)


@lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """B^i and B^-i for i below `count`, by doubling."""
    tables = []
    for base in (_BASE, pow(_BASE, -1, 1 << 64)):
        table = np.ones(1, np.uint64)
        while len(table) < count:
            table = np.concatenate([table, table * np.uint64(pow(base, len(table), 1 << 64))])
        tables.append(table)
    return tables[0], tables[1]


def _word_bytes() -> NDArray[Any]:
    table = np.zeros(256, np.uint8)
    for byte in range(256):
        table[byte] = byte >= 0x80 or chr(byte).isalnum() or byte == ord("_")
    return table


_TABLE = _word_bytes()
