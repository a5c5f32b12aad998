"""Spaces: what a codec turns examples into and a family learns; and one encoded example of each.

Which architectures fit a modality follows from the spaces that both name; nobody lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True)
class Tokens:
    """Sequences of up to `length` integers below `vocab`."""

    vocab: int
    length: int
    type: Literal["tokens"] = "tokens"


@dataclass(frozen=True)
class Grid:
    """Arrays of `channels` x `dims`, values in [-1, 1].

    Attributes:
        conditions: how many different condition ids there are (classes, or hashed words of captions); 0 for none.
        condition_length: ids that one condition has at most: 1 for a class, more for a caption.
    """

    channels: int
    dims: tuple[int, ...]
    conditions: int = 0
    condition_length: int = 1
    type: Literal["grid"] = "grid"


@dataclass(frozen=True)
class Column:
    """One column of a `Mixed` space, as its values are encoded (float64, NaN is missing).

    Attributes:
        kind: `numeric` and `integer` stay as they are, `date` is days since 1970, `categorical` an index.
        categories: how many values a categorical column has; 0 for the others.
        low, high: smallest and largest encoded value.
        missing: whether a value may be missing.
    """

    kind: Literal["numeric", "integer", "categorical", "date"]
    categories: int = 0
    low: float = 0.0
    high: float = 0.0
    missing: bool = False


@dataclass(frozen=True)
class Mixed:
    """Rows of a table: one float64 a column, in the order of `columns`."""

    columns: Mapping[str, Column]
    type: Literal["mixed"] = "mixed"


Space: TypeAlias = Tokens | Grid | Mixed


def space_json(space: Space) -> dict[str, Any]:
    """The space as `volant.json` holds it."""
    return asdict(space)


def space_from(body: Mapping[str, Any]) -> Space:
    """The space that `space_json` wrote."""
    rest = {name: value for name, value in body.items() if name != "type"}
    if body["type"] == "tokens":
        return Tokens(**rest)
    if body["type"] == "grid":
        return Grid(**{**rest, "dims": tuple(rest["dims"])})
    return Mixed({name: Column(**column) for name, column in rest["columns"].items()})


@dataclass(frozen=True)
class Encoded:
    """One encoded example: token ids, and which of them the loss counts (same length; True = answer)."""

    ids: list[int]
    mask: list[bool]


@dataclass(frozen=True)
class Example:
    """One encoded example of a grid or mixed space.

    Attributes:
        values: float array [channels, *dims], or [columns].
        condition: ids below the space's `conditions`; empty for none.
    """

    values: Any
    condition: tuple[int, ...] = ()
