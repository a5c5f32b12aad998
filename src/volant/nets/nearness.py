"""The weights that a training starts from: its reference, and where it is pulled back to.

What enters: a network before it is trained. What leaves: the same network, for a moment with the weights of the
start (so that no second network stays in memory), or part of the way back to them. Weights between those before and
after a tuning keep most of what it taught and lose less of what was there (Wortsman et al. 2022, "Robust fine-tuning
of zero-shot models"); so what was learnt too far is not thrown away whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from volant.core.run import Run

SHARES = (0.75, 0.5, 0.25, 0.0)


class Moved(Protocol):
    """A figure that says how far from the start a network is."""

    @property
    def shift(self) -> float:
        """The distance."""


M = TypeVar("M", bound=Moved)
Check = Callable[[Callable[[str], bool]], object]
"""Looks at a network as it would be kept; what it is given takes, for a reason, part of the way back (`Start.back`)."""


class Start:
    """A copy of a network's weights.

    Args:
        net: as it is now.
    """

    def __init__(self, net: Any) -> None:
        self._weights = {name: p.detach().clone() for name, p in net.named_parameters() if p.requires_grad}
        self._reached = 1.0  # the share of the way from the start at which the weights stand

    @contextmanager
    def standing(self, net: Any) -> Iterator[None]:
        """The network with the weights of the start, without gradients; they are exchanged and not copied."""
        self._exchange(net)
        try:
            with torch.no_grad():
                yield
        finally:
            self._exchange(net)

    def _exchange(self, net: Any) -> None:
        for name, parameter in net.named_parameters():
            if name in self._weights:
                self._weights[name], parameter.data = parameter.data, self._weights[name]

    @torch.no_grad()
    def pull(self, net: Any, share: float) -> None:
        """Move the weights back to `share` of the whole way from the start; below what they were at before."""
        for name, weight in net.named_parameters():
            if name in self._weights:
                weight.copy_(self._weights[name] + (weight - self._weights[name]) * (share / self._reached))
        self._reached = share

    def within(self, run: Run, net: Any, judge: Callable[[], M], bound: float, check: Check = lambda _: None) -> M:
        """Pull the weights back on the line to the start until they are near enough; the last judgement.

        Args:
            run: hears what is done.
            net: in place.
            judge: how the network stands now.
            bound: the largest shift.
            check: looks at what is near enough, and may have it pulled back further.
        """
        judged = judge()
        while judged.shift > bound and self.back(
            run, net, f"{judged.shift:.1f} nats from the reference, bound {bound:g}"
        ):
            judged = judge()
        reached = self._reached
        check(lambda why: self.back(run, net, why))
        return judged if self._reached == reached else judge()

    def back(self, run: Run, net: Any, why: str) -> bool:
        """Pull the weights to the next of `SHARES` and say why; False where they are the start's already."""
        share = next((s for s in SHARES if s < self._reached), None)
        if share is None:
            return False
        run.say(f"{why}: going back to {share:g} of the way")
        self.pull(net, share)
        return True
