"""What a family can be asked with beside a condition: guidance, steps, temperature, within its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volant.core.errors import SettingError, did_you_mean


def check_controls(family: Any, controls: Mapping[str, Any]) -> None:
    """Check controls against those that the family offers, and their bounds.

    Raises:
        SettingError: the family has no such control, or the value is out of its bounds.
    """
    for name, value in controls.items():
        if name not in family.controls:
            what = f"{family.name} has no control {name!r}."
            raise SettingError(what, where="controls", fix=did_you_mean(name, family.controls))
        low, high = family.controls[name]
        if not low <= float(value) <= high:
            what = f"{name} {value} is out of bounds."
            raise SettingError(what, where="controls", fix=f"Take {low:g} to {high:g}.")
