"""How fast a training goes, and what it is measured against: the most that this machine computes, and its memory.

What enters: a device, threads, and the kind of number, or a training. What leaves: flop/s of large matrix products,
measured once a process, bytes, and a clock's figures.
"""

from __future__ import annotations

import math
import time
from functools import lru_cache
from typing import Any

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


def flops_a_token(net: Any) -> float:
    """Arithmetic of one step for each token: 2 for each weight forwards, 2 for what its input is due, 2 for itself.

    A frozen weight needs no gradient of its own. Attention's own products are left out, as is usual (Kaplan et al.
    2020, "Scaling laws", section 2.1; Chowdhery et al. 2022, "PaLM", appendix B).

    Args:
        net: as it trains; of weights in 4 bits, two to a byte, it counts what they stand for.
    """
    total = 0.0
    for weight in net.parameters():
        packed = getattr(weight, "quant_state", None)
        count = weight.numel() if packed is None else math.prod(packed.shape)
        total += (6.0 if weight.requires_grad else 4.0) * count
    return total


class Clock:
    """Speed, share of the machine's peak and memory: for the bar and the records, never for the artifact."""

    def __init__(self, step: int, steps: int) -> None:
        self._start, self._first, self._steps, self._tokens = time.monotonic(), step, steps, -1
        self._flops = self._peak = self._memory = 0.0

    def fields(self, training: Any) -> dict[str, float | str]:
        """What the bar shows."""
        if training.tokens < self._tokens:
            self._tokens = -1  # training went back: speed is counted anew
        if self._tokens < 0:
            self._tokens, self._first = training.tokens, training.step
            if training.unit == "tokens":
                self._flops = flops_a_token(training.net)
                self._peak = peak_flops(training.run.device, training.run.threads, training.bf16)
                self._peak *= training.team.size
            self._start = time.monotonic()
            return {}
        spent = max(1e-6, time.monotonic() - self._start)
        done = max(1, training.step - self._first)
        left = round(spent / done * (self._steps - training.step))
        shown: dict[str, float | str] = {
            f"{training.unit}_s": round(self._speed(training)), "norm": training.norm, "rate": f"{training.rate:.2g}",
        }  # fmt: skip
        if self._peak:
            shown["peak"] = f"{self._flops * self._speed(training) / self._peak:.0%}"
        if not self._memory or training.step % 25 == 0:  # as often as it is kept: small networks take many steps
            self._memory = memory_bytes(training.run.device)
        shown["memory"] = f"{self._memory / 2**30:.1f} GiB"
        return {**shown, "left": f"{left // 60}:{left % 60:02d}"}

    def points(self, training: Any) -> list[tuple[str, float, int]]:
        """What the records keep beside the loss."""
        if self._tokens < 0 or training.step == self._first:
            return []
        speed = self._speed(training)
        found = {f"{training.unit}_per_second": speed, "memory_bytes": self._memory}
        if self._peak:
            found["peak_share"] = self._flops * speed / self._peak
        return [(name, value, training.step) for name, value in found.items()]

    def _speed(self, training: Any) -> float:
        return float(training.tokens - self._tokens) / max(1e-6, time.monotonic() - self._start)
