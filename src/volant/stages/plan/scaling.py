"""What a transformer of N weights comes to after D tokens: the law of `scaling.json`, as `bench/scaling.py` fits it.

Enters: weights and tokens. Leaves: the expected loss in bits per byte with its 90 % interval.

    loss(N, D) = E + A / N^alpha + B / D^beta        Hoffmann et al. 2022; Kaplan et al. 2020 found the powers

It holds for English text and Python source, and a tokenizer and a context like those it was fitted with; other data
have another E. What lies outside of the fitted sizes and budgets is told by `inside`; see docs/scaling.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_WIDTH = 1.645  # standard deviations on each side hold 90 % of a bell curve


@dataclass(frozen=True)
class Expected:
    """A loss that is expected, in bits per byte.

    Attributes:
        low, high: the ends of a 90 % interval: of the fit's uncertainty, and of the scatter around it.
        inside: whether size and budget lie within those that were fitted.
    """

    bits: float
    low: float
    high: float
    inside: bool

    def __str__(self) -> str:
        return f"{self.bits:.2f} ({self.low:.2f} to {self.high:.2f}){'' if self.inside else ', beyond what was fitted'}"


def loss(law: Sequence[float], parameters: float, tokens: float) -> float:
    """The law itself; `law` is (E, A, alpha, B, beta)."""
    floor, a, alpha, b, beta = law
    return float(floor + a / parameters**alpha + b / tokens**beta)


def expected(parameters: float, tokens: float, fit: Mapping[str, Any] | None = None) -> Expected:
    """The expected loss of a network of so many weights after so many tokens.

    Args:
        fit: in place of the file's.
    """
    fit = fit or fitted()
    bits = loss(fit["law"], parameters, tokens)
    others = [math.log(loss(law, parameters, tokens) / bits) for law in fit["resampled"]]
    spread = _WIDTH * math.hypot(math.sqrt(sum(x * x for x in others) / len(others)), fit["scatter"])
    (least, most), (few, many) = fit["parameters"], fit["tokens"]
    inside = least <= parameters <= most and few <= tokens <= many
    return Expected(bits, bits * math.exp(-spread), bits * math.exp(spread), inside)


@lru_cache(maxsize=1)
def fitted() -> dict[str, Any]:
    """The fit that comes with Volant."""
    body: dict[str, Any] = json.loads(Path(__file__).with_name("scaling.json").read_text(encoding="utf-8"))
    return body
