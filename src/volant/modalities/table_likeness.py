"""How alike rows are: signatures for near duplicates, and hashed features that need no fit.

In go rows; out come 128 numbers of which equal ones / 128 is the share of columns that two rows have in common
(numbers to two figures), or a float32 vector of 256 in which a shift of any column shows.

Legend: N rows, F features.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.modalities.table_kinds import text_of
from volant.modalities.table_rules import days_of

LENGTH = 128
FEATURES = 256
# Buckets of a number's magnitude for each doubling, and days of a date's: the coarse ones move with the mean, the
# fine ones with the shape.
_PER_OCTAVE = (1, 6)
_DAYS = (730.5, 91.3)


def fingerprint(row: Mapping[str, Any]) -> list[int]:
    """The signature of a row: column `j % columns` at entry j; with more columns than entries several share one."""
    names = list(row)
    if not names:
        return [0] * LENGTH
    entries = [_hash(f"{name}\x1f{_near(row[name])}") >> 32 for name in names]
    if len(entries) <= LENGTH:
        return [entries[j % len(entries)] for j in range(LENGTH)]
    return [_hash(repr(entries[j::LENGTH])) >> 32 for j in range(LENGTH)]


def _near(value: Any) -> str:
    """A number to two figures; everything else as it is."""
    return f"{value:.1e}" if type(value) in (int, float) else repr(value)


def features(rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float32]:
    """Hashed columns as float32 [N, F]; a row has length 1 at most.

    A text is one slot with a sign, both told by a hash of column and value. A number lies between two slots of
    its magnitude (`asinh`) and is shared out between them, so that a small shift is a small step; it does so on a
    coarse and on a fine scale. So does a date, by its days. A missing value has a slot too.
    """
    matrix_NF = np.zeros((len(rows), FEATURES), np.float32)
    for row, vector_F in zip(rows, matrix_NF, strict=True):
        scale = 1 / math.sqrt(max(1, len(row)))
        for name, value in row.items():
            for place, weight in _places(value):
                slot, sign = _slot(name, place)
                vector_F[slot] += sign * weight * scale
    return matrix_NF


def _places(value: Any) -> list[tuple[str, float]]:
    if type(value) in (int, float):
        octaves = math.asinh(value) / math.log(2)
        scales = [octaves * buckets for buckets in _PER_OCTAVE]
    elif isinstance(value, str) and value[:4].isdigit() and (days := days_of(value)) is not None:
        scales = [days / width for width in _DAYS]
    else:
        return [("missing" if value is None else f"={text_of(value)}", 1.0)]
    found = []
    for scale, at in enumerate(scales):
        low = math.floor(at)
        found += [
            (f"{scale}#{low}", (1 - (at - low)) / math.sqrt(2)),
            (f"{scale}#{low + 1}", (at - low) / math.sqrt(2)),
        ]
    return found


@lru_cache(maxsize=262_144)
def _slot(name: str, place: str) -> tuple[int, float]:
    told = _hash(f"{name}\x1f{place}")
    return told % FEATURES, 1.0 if told >> 63 else -1.0


@lru_cache(maxsize=262_144)
def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
