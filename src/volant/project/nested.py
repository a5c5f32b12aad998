"""Settings inside a setting by one name: `size.width` is `width` in the mapping that `size` takes.

Enters: the arguments of a step and such a name. Leaves: the value, or the arguments with another one; what was given
stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volant.core.errors import SettingError


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


def with_value(arguments: Mapping[str, Any], name: str, value: Any, *, where: str = "") -> dict[str, Any]:
    """The arguments with that value; mappings on the way are copied, or made where there is nothing.

    Args:
        arguments: of a step.
        name: parts between dots; all but the last are mappings.
        value: to put there.
        where: for the message.

    Raises:
        SettingError: what stands there is no mapping.

    >>> with_value({"size": {"width": 64}, "steps": 5}, "size.depth", 4)
    {'size': {'width': 64, 'depth': 4}, 'steps': 5}
    """
    head, dot, rest = name.partition(".")
    if not dot:
        return {**arguments, head: value}
    inner = {} if arguments.get(head) is None else arguments[head]
    if not isinstance(inner, Mapping):
        what = f"{head!r} is {inner!r}, so that there is no {rest!r} inside it."
        raise SettingError(what, where=where, fix=f"Write {head!r} as a mapping, or leave it out.")
    return {**arguments, head: with_value(inner, rest, value, where=where)}
