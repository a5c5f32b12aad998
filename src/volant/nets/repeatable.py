"""Trainings that come to the same bits each time: draws that leave no trace, and sums in one order on a GPU.

There the sums of attention's and of embeddings' gradients come in whatever order the hardware takes them, unless torch
is told to keep one. What enters: a device. What leaves: that setting for the length of a `with`, or, where an
operation has no such form, the setting to do without it.

Written after torch's documentation ("Reproducibility"), and not yet run on a GPU; `bench/gpu.py` tries it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """As long as it lasts operations on a GPU keep one order; what torch raises of others, `given_up` takes."""
    if device != "cuda":
        yield
        return
    # cuBLAS keeps one order with a workspace of this form; torch refuses its products without.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # all memory is written before it is read; to fill it takes time
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = filled


def aside(device: str) -> AbstractContextManager[Any]:
    """Random numbers drawn meanwhile are none of a training's: its own go on as if there had been none."""
    return torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else [])


def given_up(error: Exception) -> bool:
    """Whether the error says that an operation has no such form; from then on, those that have none do without."""
    if not isinstance(error, RuntimeError) or "deterministic" not in str(error):
        return False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return True
