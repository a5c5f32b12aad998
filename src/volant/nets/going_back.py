"""What a training has learnt of where it went wrong, which outlives going back to a checkpoint.

What enters: why and at which steps it went wrong, and whether their batches are to blame (`guard.odd`). What leaves:
the rate to go on with, the steps that are left out or taken as they are, what is said of it, or the error that ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from volant.core.errors import DataError

_TIMES = 3  # with a lower rate to one checkpoint
_LOWEST = 2.0**-8  # of the rate that was asked for
_SKIPPED = 20  # of so many batches one may be skipped, and three in any case


@dataclass
class Backs:
    """How often training went back, and what it does otherwise since.

    Attributes:
        step, steps: the name of the step, for errors, and how many steps the training has.
        rate: times the rate that was asked for.
        times: how often it went back.
        to: the checkpoint of the last time, and how often to it with a lower rate.
        skipped: steps whose batches are broken.
        known: steps whose batches are harder than those before.
    """

    step: str
    steps: int
    rate: float = 1.0
    times: int = 0
    to: tuple[int, int] = (-1, 0)
    skipped: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """The state as JSON, for a checkpoint."""
        return {
            "rate": self.rate, "roll_backs": self.times, "back_to": self.to, "skipped": self.skipped,
            "known": self.known,
        }  # fmt: skip

    def load(self, facts: dict[str, Any]) -> None:
        """Put a state from `facts` back; for a run that carries on, not for going back."""
        self.rate, self.times, self.to = float(facts["rate"]), int(facts["roll_backs"]), tuple(facts["back_to"])
        self.skipped, self.known = list(facts["skipped"]), list(facts["known"])

    def last(self, step: int, many: int) -> list[int]:
        """The last so many steps up to this one that were learnt from."""
        return [one for one in range(step + 1) if one not in self.skipped][-many:]

    def went(self, why: str, steps: Sequence[int], blamed: str, *, young: bool, to: int, learnt: bool) -> str:
        """Go on otherwise: past batches that are broken, over those that are harder, or else with a lower rate.

        Args:
            why: it went wrong.
            steps: at which it did, one after the other.
            blamed: what `guard.odd` says of their batches.
            young: few losses were known by then, so that several odd batches may as well be what the data are like.
            to: the step of the checkpoint.
            learnt: whether any step gave a number.

        Returns:
            What is said of it.

        Raises:
            DataError: it went back too often, or too many batches are broken.
        """
        self.times += 1
        here, before = f"back to step {to}", self.to[1] if self.to[0] == to else 0
        self.to = (to, before)
        which = f"the batches of steps {steps[0]} to {steps[-1]} are" if len(steps) > 1 else "its batch is"
        hard = blamed == "harder" or (blamed == "broken" and young and len(steps) > 1)
        if hard and not set(steps) <= set(self.known):
            self.known = [*self.known, *steps]
            return f"step {steps[-1]}: {why}; {here}: {which} harder than those before, and taken as they are"
        if blamed == "broken":
            self.skipped = [*self.skipped, *steps]
            self._check_skipped(why, learnt)
            return f"step {steps[-1]}: {why}; {here}: {which} to blame, also with good weights, and skipped"
        self.rate, self.to = self.rate / 2, (to, before + 1)
        if before + 1 > _TIMES or self.rate < _LOWEST:
            what = f"training went wrong at step {steps[-1]}: {why}; {self.times - 1} times back did not help"
            raise DataError(what, where=self.step, fix="Lower `lr`, or look for broken samples in the data.")
        return f"step {steps[-1]}: {why}; {here} with {self.rate:g} times the rate"

    def _check_skipped(self, why: str, learnt: bool) -> None:
        if len(self.skipped) > max(3, self.steps // _SKIPPED):
            what = f"training went wrong at {len(self.skipped)} of {self.steps} steps, last: {why}."
            fix = "Their batches are to blame, also with good weights: look for broken samples in the data."
            if not learnt:
                fix = "No step gave a number: look for broken samples in the data, or take another base."
            raise DataError(what, where=self.step, fix=fix)
