"""Which groups of people a text speaks of, and which occupations stand beside which gender.

In go texts; out come which of them name which group, by short lists of neutral terms (`lists/groups.txt`, or one's
own), and in how many sentences an occupation stands with words for women or for men. A term list is a coarse measure:
it misses who is named otherwise and counts who is only mentioned. Axes follow HolisticBias (Smith et al. 2022); the
terms are our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from volant.core.errors import DataError
from volant.modalities.word_lists import LISTS, flagged, words

VERSION = 2  # of the terms that ship
Axes = Mapping[str, Mapping[str, Sequence[str]]]
Flags = NDArray[np.bool_]
_SENTENCE = r"[.!?]+[\s\"')\]]+|\n+"


@lru_cache(maxsize=1)
def groups() -> Axes:
    """The terms that ship, by axis and group."""
    return axes_of((LISTS / "groups.txt").read_text(encoding="utf-8"), "groups.txt")


@lru_cache(maxsize=1)
def occupations() -> tuple[str, ...]:
    """The occupations that ship."""
    return tuple(words((LISTS / "occupations.txt").read_text(encoding="utf-8"), "occupations.txt"))


def axes_of(text: str, where: str) -> Axes:
    """The axes of a list: lines of `axis | group | term, term`; remarks begin with `#`.

    Raises:
        DataError: a line is none of that form.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("|")]
        terms = [term.strip().lower() for term in parts[-1].split(",") if term.strip()]
        if len(parts) != 3 or not all(parts) or not terms:
            raise DataError(
                f"the line says {line[:60]!r}.", where=f"{where}:{number}", fix="Write `axis | group | term, term`."
            )
        found.setdefault(parts[0], {}).setdefault(parts[1], []).extend(terms)
    if not found:
        raise DataError("the list holds no group.", where=where, fix="Write `axis | group | term, term` a line.")
    return found


def read_axes(files: Iterable[tuple[str, Path]]) -> Axes:
    """The axes of several files together, each as (name, path).

    Raises:
        DataError: one cannot be read.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name, path in files:
        try:
            read = axes_of(path.read_text(encoding="utf-8-sig"), name)
        except UnicodeDecodeError as error:
            raise DataError(f"the list is no UTF-8: {error}.", where=name, fix="Save it as UTF-8.") from error
        for axis, named in read.items():
            for group, terms in named.items():
                found.setdefault(axis, {}).setdefault(group, []).extend(terms)
    return found


def mentions(texts: pa.StringArray, axes: Axes) -> dict[tuple[str, str], Flags]:
    """Which texts name each group, by (axis, group)."""
    lists = {(axis, group): terms for axis, named in axes.items() for group, terms in named.items()}
    names = {f"{axis}|{group}": (axis, group) for axis, group in lists}
    counts = flagged(texts, {name: lists[key] for name, key in names.items()})
    return {names[name]: np.asarray(found) > 0 for name, found in counts.items()}


class Together:
    """In how many sentences occupations stand with words for one gender alone.

    Attributes:
        sentences: how many there were.
        women, men: sentences with words for women and none for men, and the other way round.
        named: by occupation, (sentences, those with women alone, those with men alone).
    """

    def __init__(self, women: Sequence[str], men: Sequence[str], occupations: Sequence[str]) -> None:
        self.sentences = self.women = self.men = 0
        self.named = {name: np.zeros(3, np.int64) for name in occupations}
        self._gender = {"women": women, "men": men}
        self._lists = {name: [name, f"{name}s"] for name in occupations}
        self._any = {"any": [term for terms in self._lists.values() for term in terms]}

    def add(self, texts: pa.StringArray) -> None:
        """Count the sentences of further texts."""
        sentences = pc.split_pattern_regex(texts, _SENTENCE).flatten()
        sentences = sentences.filter(pc.match_substring_regex(sentences, r"\w"))
        gender = flagged(sentences, self._gender)
        women, men = (np.asarray(gender[name]) > 0 for name in ("women", "men"))
        alone_w, alone_m = women & ~men, men & ~women
        self.sentences += len(sentences)
        self.women += int(alone_w.sum())
        self.men += int(alone_m.sum())
        near = np.flatnonzero(np.asarray(flagged(sentences, self._any)["any"]))
        if not len(near):
            return
        few, alone_w, alone_m = sentences.take(pa.array(near)), alone_w[near], alone_m[near]
        for name, terms in self._lists.items():
            found = np.asarray(flagged(few, {name: terms})[name]) > 0
            self.named[name] += (int(found.sum()), int((found & alone_w).sum()), int((found & alone_m).sum()))


def removal(gone: Flags, named: Flags, others: Flags, z: float) -> tuple[float, float, float]:
    """How much oftener texts that name a group are taken away than others, with its interval.

    The ratio of two shares; a half is added to every count, so that none is 0. The interval comes from Wilson's of
    both shares (MOVER-R, Donner & Zou 2012), which sees that 20 of 400 against none is no chance; on a side where that
    one has no end, Katz's on the logarithm.

    Args:
        gone: which texts a rule took away.
        named, others: the group's texts, and those it is compared with.
        z: how many standard errors the interval is wide (1.96 for 95 %).
    """
    a, n, b, m = (float(found.sum()) for found in (gone & named, named, gone & others, others))
    ratio = ((a + 0.5) / (n + 1)) / ((b + 0.5) / (m + 1))
    far = float(np.exp(z * np.sqrt(1 / (a + 0.5) - 1 / (n + 1) + 1 / (b + 0.5) - 1 / (m + 1))))
    (l1, u1), (l2, u2), both = _wilson(a, n, z), _wilson(b, m, z), a / n * b / m
    less, more = u2 * (2 * b / m - u2), l2 * (2 * b / m - l2)
    low = (both - np.sqrt(max(both**2 - l1 * (2 * a / n - l1) * less, 0))) / less if a and less else ratio / far
    high = (both + np.sqrt(max(both**2 - u1 * (2 * a / n - u1) * more, 0))) / more if b and more else ratio * far
    return ratio, min(ratio, float(low)), max(ratio, float(high))


def log_odds(with_women: int, with_men: int, women: int, men: int, z: float) -> tuple[float, float, float]:
    """How much likelier an occupation stands with women than with men (natural logarithm of the odds ratio).

    A half is added to every count. The interval comes from Wilson's of the share of women with the occupation and
    without it (MOVER, Zou & Donner 2008); on a side where that one has no end, Woolf's.

    Args:
        with_women, with_men: its sentences with words for that gender alone.
        women, men: all sentences with words for that gender alone.
        z: how many standard errors the interval is wide.
    """
    cells = np.array([with_women, with_men, women - with_women, men - with_men], float)
    own, rest = (float(np.log((pair[0] + 0.5) / (pair[1] + 0.5))) for pair in (cells[:2], cells[2:]))
    (l1, u1), (l2, u2) = (_wilson_log_odds(pair[0], pair[1], z) for pair in (cells[:2], cells[2:]))
    value, far = own - rest, z * float(np.sqrt((1 / (cells + 0.5)).sum()))
    low, high = value - float(np.hypot(own - l1, u2 - rest)), value + float(np.hypot(u1 - own, rest - l2))
    return value, low if np.isfinite(low) else value - far, high if np.isfinite(high) else value + far


def _wilson(count: float, total: float, z: float) -> tuple[float, float]:
    """Wilson's interval (1927) of a share."""
    middle, room = count + z * z / 2, z * float(np.sqrt(count * (total - count) / total + z * z / 4))
    return max(0.0, (middle - room) / (total + z * z)), min(1.0, (middle + room) / (total + z * z))


def _wilson_log_odds(yes: float, no: float, z: float) -> tuple[float, float]:
    """The same on the scale of log odds; infinite where the share may be 0 or 1."""
    low, high = _wilson(yes, yes + no, z) if yes + no else (0.0, 1.0)
    return (
        float(np.log(low / (1 - low))) if low > 1e-12 else -float("inf"),
        float(np.log(high / (1 - high))) if high < 1 - 1e-12 else float("inf"),
    )


def pmi(both: int, one: int, other: int, total: int) -> float:
    """Pointwise mutual information in bits (Church & Hanks 1990); minus infinity where they never meet."""
    return float(np.log2(both * total / (one * other))) if both else float("-inf")
