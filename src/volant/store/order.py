"""Which record is drawn at which step: a pure function of the seed and the step, with no state to keep.

Enters: how many records there are and a seed. Leaves: for any step (or an array of steps) the record that is drawn
there. A reader that was killed asks for the same steps again and gets the same records; two readers that take every
other step share the work; nothing is shuffled in memory. Beside it stands the arithmetic of shares that mixing needs.

A pass is a permutation of the records, computed number by number: a balanced Feistel network of six rounds over
the next power of four, walked until it falls inside (cycle walking). Sources: Luby and Rackoff, "How to construct
pseudorandom permutations" (1988); Black and Rogaway, "Ciphers with arbitrary finite domains" (2002), for cycle
walking; the round function is the finaliser of splitmix64 (Steele, Lea and Flood, 2014). It is meant to be even,
not secret.

Shape legend: N steps asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from volant.store.mixing import mixed

Numbers = npt.NDArray[np.int64]
_Words = npt.NDArray[np.uint64]
ROUNDS = 6
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def sub_seed(*words: int) -> int:
    """A seed of its own for a part of the work, from whole numbers; 63 bits."""
    state = 0
    for word in words:
        state = int(mixed(np.array([(state + word + _GOLDEN) & _MASK], dtype=np.uint64))[0])
    return state >> 1


def _keys(seed: int) -> _Words:
    return mixed(np.array([(seed + (i + 1) * _GOLDEN) & _MASK for i in range(ROUNDS)], dtype=np.uint64))


@dataclass(frozen=True)
class Order:
    """An endless order of `count` records: pass after pass, each a permutation of its own."""

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        assert self.count >= 1, self.count

    def at(self, steps: npt.ArrayLike) -> Numbers:
        """The records (0 to `count - 1`) that are drawn at those steps (from 0), int64 [N]."""
        asked = np.atleast_1d(np.asarray(steps, dtype=np.int64))
        assert asked.size == 0 or asked.min() >= 0, asked
        passes, places = np.divmod(asked, self.count)
        drawn = np.empty_like(asked)
        for number in np.unique(passes):
            here = passes == number
            drawn[here] = self._permuted(places[here], _keys(sub_seed(self.seed, int(number))))
        return drawn

    def _permuted(self, places: Numbers, keys: _Words) -> Numbers:
        # Halves of at least three bits: over fewer a network reaches some permutations more often than others.
        half = max(3, -(-max(1, (self.count - 1).bit_length()) // 2))
        found = self._network(places.astype(np.uint64), keys, half)
        outside = np.flatnonzero(found >= self.count)
        while outside.size:
            found[outside] = self._network(found[outside], keys, half)
            outside = outside[found[outside] >= self.count]
        return found.astype(np.int64)

    @staticmethod
    def _network(words: _Words, keys: _Words, half: int) -> _Words:
        bits, low = np.uint64(half), np.uint64((1 << half) - 1)
        left, right = words >> bits, words & low
        for key in keys:
            left, right = right, left ^ (mixed((right + key) * np.uint64(_GOLDEN)) & low)
        return (left << bits) | right


def shares(
    sizes: Mapping[str, float], weights: Mapping[str, float] | None = None, temperature: float = 1.0
) -> dict[str, float]:
    """The share of each part: its weight, or its size to the power of 1 / temperature, so that they add up to 1.

    A temperature of 1 keeps the parts as large as they are, a higher one makes them more alike (Devlin et al.,
    multilingual BERT, 2018; Arivazhagan et al., "Massively multilingual neural machine translation in the wild", 2019).
    """
    raw = dict(weights) if weights else {name: size ** (1 / temperature) for name, size in sizes.items()}
    total = sum(raw.values())
    return {name: raw.get(name, 0.0) / total for name in sizes}


def takes(wanted: Sequence[float], most: Sequence[float]) -> list[int]:
    """Whole numbers near `wanted`, none above `most`; what a full part cannot take the others get, by their shares.

    Args:
        wanted: how many records each part should give; they add up to the size of the mixture.
        most: how many it can give at most.

    Returns:
        They add up to the size, or to all that there is where that is less. Rounded by largest remainder.
    """
    room = [int(m + 1e-9) if w > 0 else 0 for m, w in zip(most, wanted, strict=True)]
    size = min(round(sum(wanted)), sum(room))
    found = [0.0] * len(wanted)
    free = [i for i, w in enumerate(wanted) if w > 0]
    while free:
        left = size - sum(found[i] for i in range(len(wanted)) if i not in free)
        total = sum(wanted[i] for i in free)
        due = {i: wanted[i] / total * left for i in free}  # divided first: `left / total` of a tiny part overflows
        full = [i for i in free if due[i] >= room[i]]
        for i in free:
            found[i] = room[i] if i in full else due[i]
        if not full:
            break
        free = [i for i in free if i not in full]
    whole = [int(f + 1e-9) for f in found]
    by_rest = sorted(range(len(wanted)), key=lambda i: (whole[i] - found[i], i))
    for i in [i for i in by_rest if whole[i] < room[i]][: size - sum(whole)]:
        whole[i] += 1
    return whole
