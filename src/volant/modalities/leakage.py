"""The leakage gate: no training text shares a run of 13 words with a validation or test text.

In go the guarded texts (validation and test) and the training texts; out comes, for each training
text that shares a run with them, how many it shares and the words of the first one, as evidence.
Texts of fewer than 13 words count as one run: they must not be equal as a whole.
13 words is GPT-3's rule; NeMo and datatrove use 13 and 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from volant.modalities.words import ngrams, plain_words, words_of

RUN = 13


@dataclass(frozen=True)
class Leak:
    """One training text that shares runs with guarded ones.

    Attributes:
        guarded: index of one guarded text that holds the run in `words`.
        runs: how many of the training text's runs are guarded.
        words: the shared words, lower-cased.
    """

    guarded: int
    runs: int
    words: str


def leaks(train: Sequence[str], guarded: Sequence[str], run: int = RUN) -> dict[int, Leak]:
    """Index of each leaking training text to its evidence."""
    guard, holder = ngrams(words_of(guarded), run)
    grams, owner = ngrams(words_of(train), run)
    if not len(guard) or not len(grams):
        return {}
    unique, first = np.unique(guard, return_index=True)
    place = np.searchsorted(unique, grams)
    place[place == len(unique)] = 0
    hits = np.flatnonzero(unique[place] == grams)
    begin = np.searchsorted(owner, np.arange(len(train) + 1))
    found: dict[int, Leak] = {}
    for hit in hits:
        text = int(owner[hit])
        if text not in found:
            source = int(holder[first[place[hit]]])
            at = int(hit - begin[text])
            found[text] = Leak(source, 1, " ".join(plain_words(train[text])[at : at + run]))
        else:
            found[text] = Leak(found[text].guarded, found[text].runs + 1, found[text].words)
    return found
