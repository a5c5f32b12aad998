"""Noise for families that sample whole examples: each row's own, or all rows' from one seed.

What enters: how many rows, and their seeds. What leaves: float32 tensors. With `seeds` a row's noise follows
from its own seed alone, whatever stands beside it; NumPy's seed sequence keeps neighbouring seeds apart.

Shape legend: N rows, K numbers a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from volant.core.errors import SettingError


class Draws:
    """One stream of noise a row.

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
        self._count = count
        self._own = None if seeds is None else [np.random.default_rng(int(s) % 2**64) for s in seeds]
        self._all = np.random.default_rng(int(seed) % 2**64)

    def normal(self, width: int) -> torch.Tensor:
        """Standard normal noise, float32 [N, K]."""
        if self._own is None:
            return torch.from_numpy(self._all.standard_normal((self._count, width), dtype=np.float32))
        rows = [own.standard_normal(width, dtype=np.float32) for own in self._own]
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, width)

    def uniform(self, width: int) -> torch.Tensor:
        """Uniform noise in [0, 1), float32 [N, K]."""
        if self._own is None:
            return torch.from_numpy(self._all.random((self._count, width), dtype=np.float32))
        rows = [own.random(width, dtype=np.float32) for own in self._own]
        return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, width)
