"""Uniform and normal numbers that depend on an example's own seed alone, made for all examples at once.

What enters: one seed an example. What leaves: as many numbers for each as are asked for. A generator object
for each of 100,000 rows would take longer than the drawing, so the numbers come from SplitMix64 (Steele, Lea
and Flood 2014, "Fast splittable pseudorandom number generators"), whose n-th output is a pure function of the
seed and n; the seed itself is mixed first, so that neighbouring seeds share nothing.

Shape legend: B examples, N numbers of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from volant.core.errors import SettingError
from volant.store.mixing import mixed

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]


def seeds_of(seed: int, count: int, seeds: Sequence[int] | None = None) -> U64:
    """One seed for each of `count` examples: `seeds` where they are given, else made of `seed` and the place."""
    if seeds is not None:
        assert len(seeds) == count, "one seed for each example"
        return np.array([int(s) % 2**64 for s in seeds], dtype=np.uint64).reshape(count)
    start = mixed(np.array([seed % 2**64], dtype=np.uint64) + _GAMMA)
    return mixed(start + (np.arange(count, dtype=np.uint64) + np.uint64(1)) * _GAMMA)


def uniforms(seeds_B: U64, count: int, *, skip: int = 0) -> F64:
    """Numbers in [0, 1), [B, N]; a row depends on its seed alone, and its first numbers not on `count`.

    Args:
        seeds_B: one an example.
        count: numbers of each.
        skip: numbers of each that were drawn before.
    """
    start_B1 = mixed(seeds_B + _GAMMA)[:, None]
    steps_N = (np.arange(skip, skip + count, dtype=np.uint64) + np.uint64(1)) * _GAMMA
    found: F64 = (mixed(start_B1 + steps_N) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found


def normals(seeds_B: U64, count: int, *, skip: int = 0) -> F64:
    """Standard normal numbers [B, N], by the inverse of the normal distribution; arguments as `uniforms`."""
    from scipy.special import ndtri

    found: F64 = ndtri(np.clip(uniforms(seeds_B, count, skip=skip), 2.0**-54, None))
    return found


class Draws:
    """One stream of float32 tensors a row, drawn one after the other.

    Args:
        count: rows.
        seed: of all rows, where `seeds` is None.
        seeds: one a row.

    Raises:
        SettingError: there are more or fewer seeds than rows.
    """

    def __init__(self, count: int, *, seed: int, seeds: Sequence[int] | None = None) -> None:
        if seeds is not None and len(seeds) != count:
            raise SettingError(f"there are {len(seeds)} seeds for {count} rows", where="seeds", fix="Give one a row.")
        self._seeds_B, self._drawn = seeds_of(seed, count, seeds), 0

    def normal(self, width: int) -> torch.Tensor:
        """Standard normal noise [B, width]."""
        return self._next(normals, width)

    def uniform(self, width: int) -> torch.Tensor:
        """Uniform noise in [0, 1), [B, width]."""
        # Rounding to float32 can reach 1, which is outside of the interval.
        return self._next(uniforms, width).clamp(max=1 - 2.0**-24)

    def _next(self, made: Callable[..., F64], width: int) -> torch.Tensor:
        found = made(self._seeds_B, width, skip=self._drawn)
        self._drawn += width
        return torch.from_numpy(found.astype(np.float32))


def reseeded(seed: int, attempt: int) -> int:
    """The seed of an example's n-th try, below 2**63; the first is its own."""
    if not attempt:
        return seed % 2**63
    return int(seeds_of(seed, attempt)[-1] >> np.uint64(1))
