"""How far several raters agree beyond chance, where not everybody rates everything: Krippendorff's alpha.

Ratings enter, one list a thing rated; alpha leaves, with its interval. 1 is perfect agreement, 0 what chance gives,
below 0 worse than chance. Krippendorff asks for 0.8 before conclusions are drawn, and takes 0.667 for tentative ones.
Source: Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), by coincidences; things with fewer than two
ratings say nothing of agreement and are left out. The interval is the bootstrap's over the things rated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.score import Score

Level = Literal["nominal", "ordinal", "interval"]
Floats = npt.NDArray[np.float64]
_RESAMPLES = 1000


def alpha(units: Sequence[Sequence[str]], level: Level = "nominal") -> float:
    """Krippendorff's alpha; 1.0 where everybody only ever says one and the same thing.

    Args:
        units: the ratings of each thing, in any order, without the missing ones.
        level: `nominal` for classes; `ordinal` and `interval` for values that are numbers, of which the first only
            takes the order and the second the distance.

    Raises:
        DataError: nothing was rated twice, or a value is no number where numbers are needed.
        SettingError: there is no such level.
    """
    table, values = _table(units, level)
    return _alpha(table, values, level)


def alpha_score(units: Sequence[Sequence[str]], level: Level = "nominal", *, seed: int = 0, note: str = "") -> Score:
    """`label_alpha` with its 95 % interval; n is the number of things rated twice or more."""
    table, values = _table(units, level)
    value = _alpha(table, values, level)
    rng = np.random.default_rng(seed)
    again = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), _RESAMPLES)
    found = [_alpha(table, values, level, weights) for weights in again.astype(np.float64)]
    low, high = (float(q) for q in np.quantile(found, [0.025, 0.975]))
    return Score(
        name="label_alpha", value=value, low=min(low, value), high=max(high, value), n=len(table), unit="1",
        direction="higher", note=note,
    )  # fmt: skip


def _table(units: Sequence[Sequence[str]], level: Level) -> tuple[Floats, Floats]:
    """How often each thing was given each value, float [things, values], and the values as numbers."""
    if level not in get_args(Level):
        raise SettingError(f"there is no level {level!r}.", where="level", fix=did_you_mean(level, get_args(Level)))
    paired = [Counter(unit) for unit in units if len(unit) > 1]
    if not paired:
        raise DataError("nothing was rated by two people.", where="alpha", fix="Let a second person rate some of it.")
    names = sorted({value for unit in paired for value in unit})
    numbers = np.arange(len(names), dtype=np.float64)
    if level != "nominal":
        numbers = np.array([_number(name, level) for name in names])
        order = np.argsort(numbers, kind="stable")
        names, numbers = [names[i] for i in order], numbers[order]
    return np.array([[unit[name] for name in names] for unit in paired], np.float64), numbers


def _alpha(table: Floats, values: Floats, level: Level, weights: Floats | None = None) -> float:
    raters = table.sum(1)
    share = (1.0 if weights is None else weights) / (raters - 1)
    # Coincidences: each ordered pair of ratings of one thing, weighted so that a thing counts once a rating.
    seen = table.T @ (table * share[:, None])
    seen[np.diag_indices(len(values))] -= (table * share[:, None]).sum(0)
    totals = seen.sum(1)
    apart = _distances(totals, values, level)
    chance = float(totals @ apart @ totals)
    return 1.0 if chance <= 0 else 1.0 - (float(totals.sum()) - 1) * float((seen * apart).sum()) / chance


def _distances(totals: Floats, values: Floats, level: Level) -> Floats:
    """The squared difference between each two values."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.asarray((values[:, None] - values[None, :]) ** 2)
    places = np.cumsum(totals) - totals / 2  # ratings up to the middle of each value
    return np.asarray((places[:, None] - places[None, :]) ** 2)


def _number(name: str, level: Level) -> float:
    try:
        value = float(name)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        fix = "Use `nominal` for classes, or number them in their order."
        raise DataError(f"{name!r} is no number, as {level} agreement needs.", where="alpha", fix=fix)
    return value
