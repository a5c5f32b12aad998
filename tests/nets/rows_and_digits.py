"""Small data for families of images and rows: scikit-learn's digits, and a made table whose columns hang together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from volant.core.run import Run
from volant.core.spaces import Column, Example, Grid, Mixed

DIGITS = Grid(1, (8, 8), conditions=10)
TABLE = Mixed(
    {
        "kind": Column("categorical", categories=3),
        "code": Column("integer", low=0, high=2),
        "size": Column("numeric", low=-10, high=10),
        "gain": Column("integer", low=0, high=900, missing=True),
    }
)


def digits(count: int = 1797) -> list[Example]:
    found = load_digits()
    values = (found.images[:count] / 8 - 1).astype(np.float32)[:, None]
    return [Example(v, (int(c),)) for v, c in zip(values, found.target[:count], strict=True)]


def table(count: int = 800, seed: int = 0) -> np.ndarray:
    """`code` says the same as `kind`, `size` follows it, `gain` is mostly zero, and missing for kind 2."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, count).astype(float)
    size = 4 * (kind - 1) + rng.normal(0, 1, count)
    gain = np.where(rng.random(count) < 0.8, 0, rng.integers(100, 900, count)).astype(float)
    gain[(kind == 2) & (rng.random(count) < 0.5)] = np.nan
    return np.stack([kind, kind, size, gain], 1)


def rows(count: int = 800, seed: int = 0) -> list[Example]:
    return [Example(row) for row in table(count, seed)]


def run(folder: Path, seed: int = 0) -> Run:
    return Run(step="test", out=folder / "out", work=folder / "work", seed=seed)
