"""Notices a training that goes wrong: no number any more, or a loss that jumped and stays up; and what is to blame.

What enters: the loss and the gradient's norm of each step, before the weights are touched. What
leaves: an empty string, or the reason to go back to the last good checkpoint. A jump has to last
`patience` steps, since one odd batch is no divergence; a NaN counts at once. With the weights of that checkpoint
`odd` tells broken batches, which are skipped, from a rate that was too high.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev
from typing import Any

_ENOUGH = 8  # good losses, from which on their spread is known


class Guard:
    """Keeps the recent good losses and compares each new one with them.

    While it knows fewer than eight of them it does not know their spread yet: then half as much again as the highest
    one is a jump.

    Args:
        window: how many good losses count as recent.
        sigmas: how many standard deviations above their mean is a jump.
        least: the smallest rise in nats that can be one, so that a flat curve does not cry wolf.
        patience: how many steps in a row make it a divergence.
        ceiling: what the loss is at most before anything was learnt, where that is known: of text, the logarithm of
            the vocabulary's size. It stands for the losses before the first one.
    """

    def __init__(
        self, *, window: int = 32, sigmas: float = 6.0, least: float = 1.0, patience: int = 3,
        ceiling: float = math.inf,
    ) -> None:  # fmt: skip
        self._recent: deque[float] = deque(maxlen=window)
        self._sigmas, self._least, self._patience, self._ceiling = sigmas, least, patience, ceiling
        self.high = 0

    @property
    def calm(self) -> bool:
        """Whether the last step was a good one; checkpoints are made only then."""
        return self.high == 0

    @property
    def young(self) -> bool:
        """Whether it does not know the spread of the losses yet."""
        return len(self._recent) < _ENOUGH

    @property
    def usual(self) -> float:
        """About what the loss was; the highest of few."""
        return max(self._recent, default=self._ceiling) if self.young else fmean(self._recent)

    @property
    def bar(self) -> float:
        """What a loss has to be above to be a jump."""
        spread = 0.5 * abs(self.usual) if self.young else self._sigmas * pstdev(self._recent)
        return self.usual + max(self._least, spread)

    def check(self, loss: float, norm: float, *, known: bool = False) -> str:
        """The reason to go back, or an empty string.

        Args:
            loss, norm: of the step.
            known: a high loss is no jump here, since the data are like that.
        """
        if not math.isfinite(loss):
            self.high = 1
            return f"the loss is {loss}"
        if not math.isfinite(norm):
            self.high = 1
            return f"the gradient's norm is {norm}"
        if loss > self.bar and not known:
            self.high += 1
            if self.high >= self._patience:
                return f"the loss jumped from about {self.usual:.2f} to {loss:.2f} and stayed up"
            return ""
        self.high = 0
        self._recent.append(loss)
        return ""

    def facts(self) -> dict[str, Any]:
        """The state as JSON; floats survive it exactly."""
        return {"recent": list(self._recent), "high": self.high}

    def load(self, facts: dict[str, Any]) -> None:
        """Put a state from `facts` back."""
        self._recent.clear()
        self._recent.extend(float(x) for x in facts["recent"])
        self.high = int(facts["high"])


def odd(steps: Sequence[int], of: Callable[[int], tuple[float, float]], ceiling: float) -> bool:
    """Whether the batches of some steps are to blame: with good weights they go wrong as well, and those before not.

    Args:
        steps: one after the other, at which training went wrong.
        of: loss and gradient's norm of a step's batch, with good weights.
        ceiling: as `Guard`'s.
    """
    found = [of(step) for step in steps]
    if any(not math.isfinite(value) for pair in found for value in pair):
        return True
    beside = Guard(ceiling=ceiling)
    for step in range(max(0, steps[0] - _ENOUGH + 1), steps[0]):
        beside.check(*of(step), known=True)
    return all(loss > beside.bar for loss, _ in found)
