"""Settings inside a setting by one name: `size.width` is `width` in the mapping that `size` takes.

Enters: the arguments of a step and such a name. Leaves: the value, or the arguments with another one; what was given
stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def value_at(arguments: Mapping[str, Any], name: str) -> Any:
    """The value of that name; None where there is none.

    >>> value_at({"size": {"width": 64}}, "size.width"), value_at({"size": None}, "size.width")
    (64, None)
    """
    head, dot, rest = name.partition(".")
    found = arguments.get(head)
    if not dot:
        return found
    return value_at(found, rest) if isinstance(found, Mapping) else None


def with_value(arguments: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The arguments with that value; mappings on the way are copied, or made.

    >>> with_value({"size": {"width": 64}, "steps": 5}, "size.depth", 4)
    {'size': {'width': 64, 'depth': 4}, 'steps': 5}
    """
    head, dot, rest = name.partition(".")
    if not dot:
        return {**arguments, head: value}
    inner = arguments.get(head)
    return {**arguments, head: with_value(inner if isinstance(inner, Mapping) else {}, rest, value)}
