"""What a training is measured against: the most that this machine computes, and how much memory is in use.

What enters: a device, threads, and the kind of number. What leaves: flop/s of large matrix products, measured once a
process, and bytes.
"""

from __future__ import annotations

import time
from functools import lru_cache

import torch

_SIDE, _ROUNDS = 512, 8


@lru_cache(maxsize=8)
def peak_flops(device: str, threads: int, bf16: bool) -> float:
    """The best of a few products of square matrices, in flop/s; takes some hundredths of a second, once.

    Args:
        device: where.
        threads: how many compute; torch is already set to them.
        bf16: whether in bfloat16.
    """
    side = _SIDE if device == "cpu" else 8 * _SIDE
    a = torch.ones(side, side, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        a @ a
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2.0 * side**3 / best


def memory_bytes(device: str) -> float:
    """Memory in use: the process's, or what is allocated on the accelerator."""
    import psutil

    if device == "cuda":
        return float(torch.cuda.memory_allocated())
    return float(psutil.Process().memory_info().rss)
