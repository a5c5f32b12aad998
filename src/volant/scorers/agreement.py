"""How far two judges agree beyond chance: Cohen's kappa with its interval.

Two lists of choices about the same things enter, a Score leaves. Source: Cohen, "A coefficient of agreement for nominal
scales" (1960); the interval is the bootstrap's over the things judged, because the formula for large samples is too
narrow for the few dozen ratings that a small team has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from volant.core.errors import DataError
from volant.core.score import Score

_RESAMPLES = 2000


def kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa: 1 is perfect, 0 what chance gives; 1.0 where both judges only ever say one and the same thing.

    Raises:
        DataError: the lists are empty or of different lengths.
    """
    if not first or len(first) != len(second):
        raise DataError(f"{len(first)} and {len(second)} choices cannot be compared.", fix="Judge the same things.")
    kinds = sorted({*first, *second})
    a, b = (np.array([kinds.index(choice) for choice in side]) for side in (first, second))
    return _kappa(a, b, len(kinds))


def kappa_score(first: Sequence[str], second: Sequence[str], *, seed: int, note: str = "") -> Score:
    """`judge_kappa` with its 95 % interval."""
    value = kappa(first, second)
    kinds = sorted({*first, *second})
    a, b = (np.array([kinds.index(choice) for choice in side]) for side in (first, second))
    rng = np.random.default_rng(seed)
    again = rng.integers(0, len(a), (_RESAMPLES, len(a)))
    found = np.array([_kappa(a[row], b[row], len(kinds)) for row in again])
    low, high = np.quantile(found, [0.025, 0.975])
    return Score(
        name="judge_kappa", value=value, low=min(float(low), value), high=max(float(high), value), n=len(a), unit="1",
        direction="higher", note=note,
    )  # fmt: skip


def _kappa(a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], kinds: int) -> float:
    seen = float((a == b).mean())
    shares = [np.bincount(side, minlength=kinds) / len(side) for side in (a, b)]
    chance = float((shares[0] * shares[1]).sum())
    return 1.0 if chance >= 1.0 else (seen - chance) / (1 - chance)
