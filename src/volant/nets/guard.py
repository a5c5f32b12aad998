"""Notices a training that goes wrong: no number any more, or a loss that jumped and stays up; and what is to blame.

What enters: the loss and the gradient's norm of each step, before the weights are touched. What
leaves: an empty string, or the reason to go back to the last good checkpoint. A jump has to last
`patience` steps, since one odd batch is no divergence; a NaN counts at once. With the weights of that checkpoint
`odd` tells batches that are broken or hard from a rate that was too high.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

from volant.core.errors import ArtifactError
from volant.nets.team import ALONE, Alone

_ENOUGH = 8  # good losses, from which on their spread is known
_LAST = 3  # of fewer, that say what is usual
_LEAST = 1.0  # nats
_SHARE = 0.5  # of what is usual, that a jump is above it by where nothing else is known
_SMALLEST = 0.05  # jump of a loss with a scale of its own


class Guard:
    """Keeps the recent good losses and compares each new one with them.

    What is usual is the mean of the last eight; their spread follows from how much neighbours differ, so that losses
    which fall fast hide no jump. While it knows fewer it does not know the spread yet: then half as much again as
    the highest of the last three is a jump.

    Args:
        window: how many good losses count as recent.
        sigmas: how many standard deviations above what is usual is a jump.
        least: the smallest rise in nats that can be one, so that a flat curve does not cry wolf. None where a loss has
            a scale of its own, such as an error of pixels: half of what is usual, and no more than a nat.
        patience: how many steps in a row make it a divergence.
        ceiling: what the loss is at most before anything was learnt, where that is known: of text, the logarithm of
            the vocabulary's size. It stands for the losses before the first one.
        what: is watched, for messages.
    """

    def __init__(
        self, *, window: int = 32, sigmas: float = 6.0, least: float | None = _LEAST, patience: int = 3,
        ceiling: float = math.inf, what: str = "the loss",
    ) -> None:  # fmt: skip
        self._recent: deque[float] = deque(maxlen=window)
        self._sigmas, self._patience = sigmas, patience
        self.least, self.ceiling = least, ceiling
        self.high, self._above, self._what = 0, 0.0, what

    @property
    def calm(self) -> bool:
        """Whether the last step was a good one; checkpoints are made only then."""
        return self.high == 0

    @property
    def young(self) -> bool:
        """Whether it does not know the spread of the losses yet."""
        return len(self._recent) < _ENOUGH

    @property
    def rise(self) -> float:
        """How far the last losses were above what is usual, on average; 0 where they were not."""
        return self._above / self.high if self.high else 0.0

    @property
    def usual(self) -> float:
        """About what the loss was; the highest of few."""
        if self.young:
            return max(list(self._recent)[-_LAST:], default=self.ceiling)
        return fmean(list(self._recent)[-_ENOUGH:])

    @property
    def bar(self) -> float:
        """What a loss has to be above to be a jump."""
        if self.young:
            return _far_above(self.usual, self.least)
        # A step from one loss to the next has twice the variance of a loss, and its mean is the slope.
        spread = pstdev(b - a for a, b in pairwise(self._recent)) / math.sqrt(2)
        return self.usual + max(_floor(self.usual, self.least), self._sigmas * spread)

    def check(self, loss: float, norm: float, *, known: bool = False) -> str:
        """The reason to go back, or an empty string.

        Args:
            loss, norm: of the step.
            known: a high loss is no jump here, since the data are like that.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.high, self._above = 1, 0.0
            return f"the gradient's norm is {norm}" if math.isfinite(loss) else f"{self._what} is {loss}"
        if loss > self.bar and not known:
            self.high, self._above = self.high + 1, self._above + loss - self.usual
            if self.high >= self._patience:
                return f"{self._what} jumped from about {self.usual:.2f} to {loss:.2f} and stayed up"
            return ""
        self.high, self._above = 0, 0.0
        self._recent.append(loss)
        return ""

    def facts(self) -> dict[str, Any]:
        """The state as JSON; floats survive it exactly."""
        return {"recent": list(self._recent), "high": self.high, "above": self._above}

    def load(self, facts: dict[str, Any]) -> None:
        """Put a state from `facts` back."""
        self._recent.clear()
        self._recent.extend(float(x) for x in facts["recent"])
        self.high, self._above = int(facts["high"]), float(facts["above"])


def odd(
    steps: Sequence[int], of: Callable[[int], tuple[float, float]], rise: float, ceiling: float,
    skipped: Collection[int] = (), least: float | None = _LEAST,
) -> str:  # fmt: skip
    """Whether batches made training go wrong at their steps: they did not (empty), or are `harder` or `broken`.

    With good weights a loss that is too high because of the batches is so again, beside the batches before them.

    Args:
        steps: one after the other, at which training went wrong.
        of: loss and gradient's norm of a step's batch, with good weights.
        rise: how far the losses were above what is usual; 0 where they were no numbers.
        ceiling, least: as `Guard`'s.
        skipped: steps whose batches say nothing of what is usual.
    """
    found = [of(step) for step in steps]
    if any(not math.isfinite(value) for pair in found for value in pair):
        return "broken"
    if not rise:
        return ""
    beside = [of(step)[0] for step in range(max(0, steps[0] - _ENOUGH), steps[0]) if step not in skipped]
    beside = [loss for loss in beside if math.isfinite(loss)] or [ceiling]
    if fmean(loss for loss, _ in found) - fmean(beside) < rise / 2:
        return ""
    return "broken" if all(loss > _far_above(max(beside), least) for loss, _ in found) else "harder"


def _far_above(usual: float, least: float | None) -> float:
    """What is above what is usual by half of it, and by `least` (see `Guard`)."""
    return usual + max(_floor(usual, least), _SHARE * abs(usual))


def _floor(usual: float, least: float | None) -> float:
    return min(_LEAST, max(_SMALLEST, _SHARE * abs(usual))) if least is None else least


def check_numbers(net: Any, *, where: str, together: Alone = ALONE) -> None:
    """Refuse a network whose weights are broken before training begins.

    Args:
        net: about to be trained.
        where: the step.
        together: processes that each hold a part of the weights; all of them have to ask.

    Raises:
        ArtifactError: some weight holds NaN or infinity.
    """
    weights = [(n, together.own(w)) for n, w in net.named_parameters() if w.is_floating_point()]
    broken = next((name for name, weight in weights if not bool(weight.isfinite().all())), "")
    if together.any(bool(broken)):
        which = repr(broken) if broken else "one in another process's part"
        what = f"the weights that training starts from are not all numbers: {which} holds NaN or infinity."
        raise ArtifactError(what, where=where, fix="Take another base; this one is damaged.")
