"""Notices a training that goes wrong: no number any more, or a loss that jumped and stays up.

What enters: the loss and the gradient's norm of each step, before the weights are touched. What
leaves: an empty string, or the reason to go back to the last good checkpoint. A jump has to last
`patience` steps, since one odd batch is no divergence; a NaN counts at once.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, pstdev
from typing import Any


class Guard:
    """Keeps the recent good losses and compares each new one with them.

    Args:
        window: how many good losses count as recent.
        sigmas: how many standard deviations above their mean is a jump.
        least: the smallest rise in nats that can be one, so that a flat curve does not cry wolf.
        patience: how many steps in a row make it a divergence.
    """

    def __init__(self, *, window: int = 32, sigmas: float = 6.0, least: float = 1.0, patience: int = 3) -> None:
        self._recent: deque[float] = deque(maxlen=window)
        self._sigmas, self._least, self._patience = sigmas, least, patience
        self._high = 0

    @property
    def calm(self) -> bool:
        """Whether the last step was a good one; checkpoints are made only then."""
        return self._high == 0

    def check(self, loss: float, norm: float) -> str:
        """The reason to go back, or an empty string."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            return f"the gradient's norm is {norm}"
        if len(self._recent) >= 8:
            mean = fmean(self._recent)
            bar = mean + max(self._least, self._sigmas * pstdev(self._recent))
            if loss > bar:
                self._high += 1
                if self._high >= self._patience:
                    return f"the loss jumped from about {mean:.2f} to {loss:.2f} and stayed up"
                return ""
        self._high = 0
        self._recent.append(loss)
        return ""

    def facts(self) -> dict[str, Any]:
        """The state as JSON; floats survive it exactly."""
        return {"recent": list(self._recent), "high": self._high}

    def load(self, facts: dict[str, Any]) -> None:
        """Put a state from `facts` back."""
        self._recent.clear()
        self._recent.extend(float(x) for x in facts["recent"])
        self._high = int(facts["high"])
