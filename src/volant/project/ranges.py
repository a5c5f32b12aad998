"""What `volant tune` may choose from, checked against the method before anything runs.

Enters: the `search` of a step in the project file and the step's method. Leaves: `Choice`s, of which each is known to
be a setting that takes both ends of its range, or each of its values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from volant.core.errors import SettingError, SpecError, did_you_mean
from volant.core.method import Method
from volant.core.spec import Searched, Spec
from volant.project.nested import value_at, with_value

DIGITS = 4
"""Significant digits of a number that is tried: a rate of 0.0003173 is read and written more easily than all 17."""


@dataclass(frozen=True)
class Choice:
    """One setting and what it may be.

    Attributes:
        name: of the setting, or of one inside it (`size.width`).
        values: of a choice between values; empty for a range.
        low, high: of a range, both included.
        log: equal factors are equally likely.
        step: distance between neighbours; 0 for any number between.
        whole: only integers.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0.0
    whole: bool = False

    def neat(self, value: float) -> float | int:
        """A number of the range with a few significant digits, as it is tried, shown and written."""
        if self.whole:
            return round(value)
        digits = DIGITS - 1 - math.floor(math.log10(abs(value))) if value else 0
        return min(max(float(round(value, digits)), self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Whether the value is one that could be chosen."""
        if self.values:
            return value in self.values
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.whole and value % 1):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-8

    def same(self, value: Any) -> Any:
        """The one of the values that it is, as it is written: `1` where a setting of floats has made 1.0 of it."""
        return next(v for v in self.values if v == value)

    def as_json(self) -> dict[str, Any]:
        """What makes two choices the same."""
        if self.values:
            return {"any": list(self.values)}
        low, high, step = float(self.low), float(self.high), float(self.step)
        return {"range": [low, high], "log": self.log, "step": step, "whole": self.whole}

    def __str__(self) -> str:
        if self.values:
            return f"{self.name}: one of {', '.join(map(str, self.values))}"
        return f"{self.name}: {self.low:g} to {self.high:g}{', by factors' if self.log else ''}"


def choices(spec: Spec, name: str, method: Method, arguments: Mapping[str, Any]) -> tuple[Choice, ...]:
    """The choices of a step.

    Args:
        spec: the project file, for the lines of messages.
        name: the step's.
        method: the step's.
        arguments: what stands beside `search`, inputs as step names.

    Raises:
        SpecError: a name is no setting, or is something outside.
        SettingError: the method does not take an end of a range, or one of the values.
    """
    found = []
    searched = spec.steps[name].search
    for setting, said in searched.items():
        place = spec.where("steps", name, "search", setting)
        head = setting.partition(".")[0]
        if head == "seed" or head not in method.fields or head in method.outside or not all(setting.split(".")):
            what = f"{setting!r} is no setting of {method.name} that can be searched."
            known = [n for n in method.fields if n not in method.outside]
            raise SpecError(what, where=place, fix=did_you_mean(setting, known))
        if outer := next((other for other in searched if setting.startswith(f"{other}.")), ""):
            what = f"{setting!r} is inside {outer!r}, which is searched as well."
            raise SpecError(what, where=place, fix="Search one of them.")
        for value in said.any or said.range or ():
            _takes(method, arguments, setting, _plain(value), place)
        found.append(_choice(method, arguments, setting, said, place))
    return tuple(found)


def _choice(method: Method, arguments: Mapping[str, Any], setting: str, said: Searched, place: str) -> Choice:
    if said.range is None:
        return Choice(setting, values=said.any)
    low, high = said.range
    try:
        _takes(method, arguments, setting, low + (high - low) / math.pi, place)
        # Inside a mapping that takes anything the way it is written tells; one of floats makes floats of all.
        whole = "." in setting and all(
            isinstance(v, int)
            for v in (low, high, said.step, value_at(_takes(method, arguments, setting, low, place), setting))
        )
    except SettingError:
        whole = True  # it refuses a number between two that it takes
    if whole and any(v % 1 for v in (low, high, said.step)):
        raise SpecError(f"{setting!r} takes whole numbers.", where=place, fix="Write the range in whole numbers.")
    return Choice(setting, low=low, high=high, log=said.log, step=said.step, whole=whole)


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _takes(method: Method, arguments: Mapping[str, Any], setting: str, value: Any, place: str) -> Mapping[str, Any]:
    """The settings with that value."""
    arguments = with_value(arguments, setting, value, where=place)
    return method.bind(arguments, where=place, places={setting.partition(".")[0]: place}).settings
