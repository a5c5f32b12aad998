"""The leakage gate: what in a training text stands in a guarded one, and where.

In go guarded items (test and validation records, benchmarks) and the texts to be trained on; out comes for each
text that leaks which item it shares words with, the longest run of them, and how much of the item it holds.

Two rules, both over runs of whole words that stand in the same order on both sides:

* **13 words in a row** (GPT-3's rule, also NeMo's), whatever the item's length;
* **a common run of 8 words or more**, where such runs cover 15 % of the item's part (its question, its answer).
  It finds an item of which every tenth word was changed, where a run of 13 often does not survive.

A run has to tell something: three different words of three letters at least that are no numbers and no words of
programming (a sign of a script without spaces counts as a third of a word). Without this the 8-word rule takes
`for i in range(n): for j in range(i + 1, n)`, "one, two, three ..." and rows of digits for leaks: 0.6 % of the standard
library's files share 8 words with HumanEval, none with it (`bench/leakage.py`). Whatever covers four fifths of an item
leaks, telling or not, and so does a part (its question, its answer) where that is 13 words or more. Runs that stand in
more than 5 % of a set's items (and in more than 10 items) are its template, such as a system prompt, and count for
nothing.

Items of fewer than 8 words in all leak only where a training text equals them as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.core.sample import CHAT_SHAPES, Sample
from volant.modalities.text_features import word_hashes
from volant.modalities.words import Words, narrowed, plain_words

RUN = 13
WIDTH = 8
SHARE = 0.15
MOST = 0.8
_TELLING = 9  # three words of three points each
# Chosen by what the gate wrongly took from the standard library and the packages; checked on another set's items.
_TELLS_NOTHING = frozenset(
    re.findall(
        r"\w+",
        """zero one two three four five six seven eight nine ten eleven twelve twenty hundred thousand
        first second third and break class continue def elif else enumerate except false float for
        from import int isinstance len list none not null print range return self set str sum true try while with""",
    )
)
_TEMPLATE_ITEMS, _TEMPLATE_SHARE = 10, 0.05
_PLACES = 32  # of one run that are looked at: a phrase of many items is attributed to the first ones


@dataclass(frozen=True)
class Leak:
    """One text that shares words with one guarded item.

    Attributes:
        text: index of the text.
        guarded: index of the item.
        longest: words of the longest common run.
        share: of the item's part (0 to 1) that common runs cover.
        at: where the run begins in the text, in words.
        guarded_at: where it begins in the item's part, in words.
    """

    text: int
    guarded: int
    longest: int
    share: float
    at: int
    guarded_at: int

    def words(self, text: str) -> str:
        """The shared words, lower-cased, out of the text that leaks."""
        return " ".join(plain_words(text, self.at, self.at + self.longest))


def parts_of(sample: Sample) -> list[str]:
    """What of a sample is guarded, each part for itself: prompts and answers of eight words or more, else all of it.

    A system prompt is part of no item.
    """
    parts = [str(turn.get("content", "")) for turn in sample.turns if turn.get("role") != "system"]
    content = None if sample.shape in CHAT_SHAPES else sample.content
    parts += [part for part in (sample.condition, content, sample.target, sample.rejected) if part]
    long = [part for part in parts if len(part) >= 2 * WIDTH - 1 and len(plain_words(part)) >= WIDTH]
    return long or ["\n".join(parts)]


class Guard:
    """An index of guarded items, against which texts are held."""

    def __init__(self, items: Sequence[Sequence[str]]) -> None:
        """Read the items.

        Args:
            items: the parts of each, as `parts_of` gives them.
        """
        self.items = len(items)
        self.item_P = np.array([i for i, parts in enumerate(items) for _ in parts], np.int64)
        texts = [part for parts in items for part in parts]
        self.words = narrowed(word_hashes(texts))
        self._points = _points_of(texts, self.words)
        # One part of several has to be of 13 words where only its being whole tells: many programs hold a short one.
        lone_P = np.bincount(self.item_P, minlength=self.items)[self.item_P] == 1
        words_P = np.diff(self.words.begin_N)
        self._least_P = np.maximum(np.ceil(MOST * words_P), np.where(lone_P, 0, RUN)).astype(np.int64)
        self.templates = 0
        self._short = {
            self.words.of(p).tobytes(): p for p, n in enumerate(np.diff(self.words.begin_N)) if 0 < n < WIDTH
        }

    def scan(self, words: Words) -> list[Leak]:
        """What leaks among texts, by text and item; an item that leaks by several parts stands for its longest."""
        from volant.modalities import leak_scan

        words = narrowed(words)
        hits = leak_scan.hits_of(words.hash_W, words.begin_N, *self._index)
        hits = hits[np.lexsort((hits[:, 2], hits[:, 3] - hits[:, 2], hits[:, 1], hits[:, 0]))]
        begin_P = self.words.begin_N
        stretches = leak_scan.stretches_of(hits, self.words.hash_W, self._points, begin_P, _TELLING)
        stretches = stretches[np.lexsort((stretches[:, 3], stretches[:, 1], stretches[:, 0]))]
        words_P = np.diff(begin_P)
        best: dict[tuple[int, int], Leak] = {}
        verdicts = leak_scan.verdicts_of(stretches, words_P, self._least_P, RUN, SHARE).tolist()
        for text, part, at, guarded_at, longest, covered in (*verdicts, *self._equal(words)):
            item = int(self.item_P[part])
            leak = Leak(text, item, longest, covered / int(words_P[part]), at, guarded_at)
            if (text, item) not in best or best[text, item].longest < longest:
                best[text, item] = leak
        return [best[key] for key in sorted(best)]

    def _equal(self, words: Words) -> Iterator[tuple[int, int, int, int, int, int]]:
        """Texts of few words that equal a guarded one."""
        lengths = np.diff(words.begin_N)
        for text in np.flatnonzero((lengths > 0) & (lengths < WIDTH)) if self._short else ():
            part = self._short.get(words.of(int(text)).tobytes())
            if part is not None:
                yield int(text), part, 0, 0, int(lengths[text]), int(lengths[text])

    @cached_property
    def _index(self) -> tuple[NDArray[Any], ...]:
        """Different runs [K], their hash table [S], where each stands [Q], and a bit for each [B]."""
        from volant.modalities.leak_scan import seen_of, table_of
        from volant.modalities.sketch import shingles

        gram_G, edge_P = shingles(self.words.hash_W, self.words.begin_N, WIDTH)
        part_G = np.repeat(np.arange(len(self.item_P)), np.diff(edge_P))
        place_G = np.arange(len(gram_G)) - edge_P[part_G]
        whole = np.diff(self.words.begin_N)[part_G] >= WIDTH
        order = np.flatnonzero(whole)[np.argsort(gram_G[whole], kind="stable")]
        gram_G, part_G, place_G = gram_G[order], part_G[order], place_G[order]
        new = np.concatenate([[True], gram_G[1:] != gram_G[:-1]]) if len(gram_G) else np.zeros(0, bool)
        run_G = np.cumsum(new) - 1
        item_G = self.item_P[part_G]
        another = new | np.concatenate([[True], item_G[1:] != item_G[:-1]])[: len(item_G)]
        items_K = np.bincount(run_G[another])
        template_K = items_K > max(_TEMPLATE_ITEMS, _TEMPLATE_SHARE * self.items)
        self.templates = int(template_K.sum())
        rank_G = np.arange(len(gram_G)) - np.flatnonzero(new)[run_G] if len(gram_G) else run_G
        kept = ~template_K[run_G] & (rank_G < _PLACES)
        gram_G, part_G, place_G, new = gram_G[kept], part_G[kept], place_G[kept], new[kept]
        gram_K = gram_G[new]
        edge_K = np.append(np.flatnonzero(new), len(gram_G)).astype(np.int64)
        slots = 1 << max(4, (2 * len(gram_K)).bit_length())
        places = (place_G.astype(np.int64), part_G.astype(np.int64))
        return gram_K, table_of(gram_K, slots), edge_K, *places, seen_of(gram_K)


def _points_of(texts: Sequence[str], words: Words) -> NDArray[np.uint8]:
    """How much each word tells: 3 for one of three letters, 1 for a sign of a script without spaces, else 0."""
    point_W = np.full(len(words.hash_W), 3, np.uint8)
    for i, text in enumerate(texts):
        shown = plain_words(text)
        own = slice(int(words.begin_N[i]), int(words.begin_N[i + 1]))
        if len(shown) == own.stop - own.start:  # else a rare sign is counted otherwise, and every word tells
            point_W[own] = [_points(word) for word in shown]
    return point_W


@lru_cache(maxsize=1 << 14)
def _points(word: str) -> int:
    if len(word) >= 3 and not word[0].isdigit():
        return 0 if word in _TELLS_NOTHING else 3
    return 0 if word.isascii() else 1


def leaks(train: Sequence[str], guarded: Sequence[str]) -> dict[int, Leak]:
    """Index of each leaking training text to its longest run; the guarded texts are one part each."""
    found: dict[int, Leak] = {}
    for leak in Guard([[text] for text in guarded]).scan(word_hashes(train)):
        if leak.text not in found or found[leak.text].longest < leak.longest:
            found[leak.text] = leak
    return found
