"""Arrow's functions over columns, by their names in `pyarrow.compute`, which writes documentation for all 286 of them
when it is imported: 50 CPU milliseconds, and methods like `Table.filter` or `Array.cast` import it too.

In go columns, tables and scalars of Arrow, no plain values; out comes what `pyarrow.compute` makes of them. `filter`,
`take` and `cast` stand here, too, in place of those methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyarrow import _compute as arrow

_OPTIONS = {
    "all": arrow.ScalarAggregateOptions,
    "any": arrow.ScalarAggregateOptions,
    "dictionary_encode": arrow.DictionaryEncodeOptions,
    "index_in": arrow.SetLookupOptions,
    "is_in": arrow.SetLookupOptions,
    "match_substring": arrow.MatchSubstringOptions,
    "match_substring_regex": arrow.MatchSubstringOptions,
    "replace_substring_regex": arrow.ReplaceSubstringOptions,
    "split_pattern": arrow.SplitPatternOptions,
    "struct_field": arrow.StructFieldOptions,
}
"""What follows the columns in a call; functions that are not named here get none."""


def __getattr__(name: str) -> Callable[..., Any]:
    try:
        function = arrow.get_function({"and_": "and", "or_": "or"}.get(name, name))
    except KeyError:
        raise AttributeError(f"Arrow has no function {name!r}") from None
    columns = None if function.arity is Ellipsis else function.arity

    def call(*given: Any, **settings: Any) -> Any:
        own = given[columns:] if columns else ()
        options = _OPTIONS[name](*own, **settings) if own or settings else None
        return function.call(given[:columns], options)

    globals()[name] = call
    return call


def cast(column: Any, kind: pa.DataType) -> Any:
    """The same values as another type; what that cannot hold is an error."""
    return arrow.call_function("cast", [column], arrow.CastOptions.safe(kind))


def fill_null(column: Any, value: pa.Scalar) -> Any:
    """The column with a value of its type in place of nulls."""
    return arrow.call_function("coalesce", [column, value])
