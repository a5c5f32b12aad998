"""A measured number: never a bare float, always with interval, count, unit and direction."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Direction = Literal["higher", "lower"]


class Score(BaseModel):
    """One measured figure.

    Attributes:
        name: the metric, in snake case (`relevance`, `bits_per_byte`).
        value: the point estimate, in `unit`.
        low, high: the 95 % interval around it; equal to `value` where the figure is exact.
        n: how many examples it rests on; at least 1 (n = 0 is an error, not a NaN).
        unit: `1` for a plain ratio; else `bits`, `ms`, `tokens/s`, ...
        direction: whether higher or lower is better.
        of: whose figure it is where a report holds several (`model`, `baseline:ngram`).
        note: what a reader must know to read it, in a few words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    value: float
    low: float
    high: float
    n: int
    unit: str = "1"
    direction: Direction = "higher"
    of: str = "model"
    note: str = ""

    @model_validator(mode="after")
    def _finite(self) -> Score:
        if self.n < 1:
            raise ValueError(f"score {self.name!r} rests on no example (n={self.n})")
        if not all(math.isfinite(x) for x in (self.value, self.low, self.high)):
            raise ValueError(f"score {self.name!r} is not finite")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"score {self.name!r}: interval [{self.low}, {self.high}] misses {self.value}")
        return self

    @classmethod
    def exact(
        cls, name: str, value: float, *, n: int = 1, unit: str = "1", direction: Direction = "higher", note: str = ""
    ) -> Score:
        """A figure without sampling error (a count, a size, a single measurement)."""
        return cls(name=name, value=value, low=value, high=value, n=n, unit=unit, direction=direction, note=note)

    @staticmethod
    def of_model(scores: Iterable[Score], name: str) -> Score | None:
        """The model's own figure of that name among these; None where it was not measured."""
        return next((score for score in scores if score.name == name and score.of == "model"), None)

    def better_than(self, other: Score) -> bool:
        """Whether the point estimate is on the better side; says nothing of significance."""
        return self.value > other.value if self.direction == "higher" else self.value < other.value

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        span = f" [{self.low:.3g}, {self.high:.3g}]" if self.low != self.high else ""
        return f"{self.name} {self.value:.4g}{unit}{span}"
