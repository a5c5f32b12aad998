"""A method's settings in words, read from its signature; the help and `docs/methods.md` are made of it.

Enters: a `Method`. Leaves: one row per input and setting: name, type, default, what it does.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from volant.core.method import Method
from volant.core.outside import Outside

_SIGNS = {annotated_types.Ge: ">=", annotated_types.Gt: ">", annotated_types.Le: "<=", annotated_types.Lt: "<"}


@dataclass(frozen=True)
class Row:
    """One parameter.

    Attributes:
        default: as Python writes it; `required` where there is none.
    """

    name: str
    type: str
    default: str
    doc: str


def rows(method: Method) -> list[Row]:
    """Inputs first, then settings, in the order of the signature."""
    docs = method.setting_docs
    found = []
    for entry in method.inputs:
        kind = f"{entry.kind.kind}, any number" if entry.many else entry.kind.kind
        default = "none" if entry.optional else "required"
        found.append(Row(entry.name, kind, default, docs.get(entry.name, "")))
    for name, (hint, info) in method.fields.items():
        default = "required" if info.is_required() else repr(info.default)
        found.append(Row(name, type_words(hint), default, docs.get(name, info.description or "")))
    return found


def type_words(hint: Any) -> str:
    """A type as a reader says it.

    >>> type_words(Literal["a", "b"]), type_words(int | None), type_words(list[str])
    ("'a' | 'b'", 'int | None', 'list[str]')
    """
    if get_origin(hint) is Annotated:
        base, *extras = get_args(hint)
        for extra in extras:
            if isinstance(extra, Outside):
                return f"{extra.kind} (outside)"
        bounds = [bound for extra in extras for bound in _bounds(extra)]
        return " ".join([type_words(base), *bounds])
    if get_origin(hint) is Literal:
        return " | ".join(repr(value) for value in get_args(hint))
    if get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(type_words(part) for part in get_args(hint))
    if hint is type(None):
        return "None"
    return inspect.formatannotation(hint).replace("typing.", "")


def _bounds(extra: Any) -> Iterator[str]:
    parts = extra.metadata if isinstance(extra, FieldInfo) else [extra]
    for part in parts:
        for kind, sign in _SIGNS.items():
            if isinstance(part, kind):
                yield f"{sign} {getattr(part, kind.__name__.lower()):g}"
