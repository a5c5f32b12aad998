"""Rows of a dataset's schema by their columns: which are plain texts, which are equal, and rows with another text.

In go Arrow tables of the schema; out come columns, keys and tables. No Sample is made of a plain text; of other shapes
only of the rows that change. Legend: N rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b, sha256
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from volant.core.sample import CONTENT_SHAPES, TEXT_FIELDS, Origin
from volant.modalities.text_arrays import text_column
from volant.modalities.text_features import Likeness, likeness
from volant.store import arrow_functions as pc
from volant.store.arrow_values import numbers, one, strings, values
from volant.store.mixing import mixed

CHANGED = ("id", "content", "parents", "attrs")
"""The columns of a plain text that change with what it says."""
TEST, VALIDATION, TRAIN, FEEDBACK = range(4)
"""The right of a record to stay beside one that is alike; the lowest has the most."""
TEXT, MEDIA, ROW = range(3)
_SHAPES = ("text", "completion", "messages", "preference")
Places = NDArray[np.int64]


def plain_texts(table: pa.Table) -> NDArray[np.bool_]:
    """Which rows [N] hold one text and nothing else."""
    found = pc.equal(table["shape"], one("text"))
    for name in ("condition", "target", "rejected"):
        if table[name].null_count < table.num_rows:
            found = pc.and_(found, pc.is_null(table[name]))
    return values(found)


def of_origin(table: pa.Table, origin: Origin) -> NDArray[np.bool_]:
    """Which rows [N] came from there."""
    return values(pc.equal(pc.struct_field(table["source"], "origin"), one(origin)))


def contents(table: pa.Table) -> NDArray[np.bool_]:
    """Which rows [N] are made whole, and are no text: pictures and rows of tables."""
    return values(pc.is_in(table["shape"], strings(CONTENT_SHAPES)))


def at(array: Any, places: Places) -> Any:
    """What stands at these rising places; the array itself where that is all of it."""
    return array if len(places) == len(array) else pc.take(array, numbers(places))


def put_rows(table: pa.Table, places: Places, rows: pa.Table) -> pa.Table:
    """The table with other rows at these places."""
    if not len(places):
        return table
    if len(places) == table.num_rows:
        return rows
    order = np.arange(table.num_rows)
    order[places] = table.num_rows + np.arange(len(places))
    return pc.take(pa.concat_tables([table, rows]).combine_chunks(), numbers(order))


def put_texts(
    table: pa.Table, places: Places, texts: pa.LargeStringArray, attrs: Sequence[Mapping[str, Any]]
) -> pa.Table:
    """Plain texts replaced: each a new record with a new id, the old one as its parent, and these further attrs."""
    return put_columns(table, places, new_columns(table, places, texts, attrs)) if len(places) else table


def new_columns(
    table: pa.Table, places: Places, texts: pa.LargeStringArray, attrs: Sequence[Mapping[str, Any]]
) -> pa.Table:
    """What changes of the plain texts at these places when they say something else: the columns of `CHANGED`."""
    rows = pc.take(table.select(["id", "parents", "attrs"]), numbers(places)).combine_chunks()
    known = [_more(before, more) for before, more in zip(rows["attrs"].to_pylist(), attrs, strict=True)]
    fields = {name: table.schema.field(name) for name in CHANGED}
    fresh = {
        "id": strings(_names(texts), fields["id"].type),
        "content": pc.cast(texts, fields["content"].type),
        "parents": pc.cast(_with_own(rows["parents"], rows["id"]), fields["parents"].type),
        "attrs": strings(known, fields["attrs"].type),
    }
    return pa.table(list(fresh.values()), schema=pa.schema(list(fields.values())))


def _with_own(parents: pa.ChunkedArray, ids: pa.ChunkedArray) -> pa.ListArray:
    """The lists of parents, each with the record's own id at its end."""
    before_N = values(pc.list_value_length(parents))
    edge_N = np.concatenate([[0], np.cumsum(before_N + 1)])
    held = pc.list_flatten(parents.combine_chunks())
    own_N = np.arange(len(ids)) + len(held)
    order = np.empty(edge_N[-1], np.int64)
    order[edge_N[1:] - 1] = own_N
    first = np.ones(len(order), bool)
    first[edge_N[1:] - 1] = False
    order[first] = np.arange(len(held))
    both = pa.concat_arrays([held, ids.combine_chunks()])
    return pa.ListArray.from_arrays(numbers(edge_N.astype(np.int32)), pc.take(both, numbers(order)))


def put_columns(table: pa.Table, places: Places, columns: pa.Table) -> pa.Table:
    """The table with other values at these places in some of its columns."""
    if not len(places):
        return table
    mask = np.zeros(table.num_rows, bool)
    mask[places] = True
    for name in columns.column_names:
        number = table.schema.get_field_index(name)
        column = columns[name]
        if len(places) < table.num_rows:
            column = _mixed(table[name].combine_chunks(), mask, column.combine_chunks())
        table = table.set_column(number, table.schema.field(number), column)
    return table


def _mixed(before: pa.Array, mask: NDArray[np.bool_], after: pa.Array) -> pa.Array:
    """The values of one array, and at the places of a mask those of another one."""
    if not pa.types.is_list(before.type):
        return pc.replace_with_mask(before, numbers(mask), after)
    order = np.arange(len(before))
    order[mask] = len(before) + np.arange(len(after))
    return pc.take(pa.concat_arrays([before, after]), numbers(order))


def _names(texts: pa.LargeStringArray) -> list[str]:
    """The `sample_id` of each as a plain text, without making a string of it; its parts are hashed as one."""
    ends = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1].tolist()
    data = memoryview(texts.buffers()[2] or b"")
    none = (0).to_bytes(8, "little")
    head = (4).to_bytes(8, "little") + b"text" + none
    return [
        sha256(b"".join((head, (last - first).to_bytes(8, "little"), data[first:last], none, none))).hexdigest()[:20]
        for first, last in pairwise(ends)
    ]


def _more(attrs: str, more: Mapping[str, Any]) -> str:
    if attrs == "{}" and len(more) == 1:
        ((name, only),) = more.items()
        if type(only) is int:
            return f'{{"{name}": {only}}}'
    known = {**json.loads(attrs), **more} if attrs != "{}" else more
    return json.dumps(known, ensure_ascii=False, sort_keys=True, allow_nan=False)


def rights(table: pa.Table) -> NDArray[np.uint8]:
    """The right of each row to stay: `TEST`, `VALIDATION`, `TRAIN` or `FEEDBACK`."""
    split = values(pc.index_in(table["split"], strings(["test", "validation", "train"])))
    return np.where(of_origin(table, "feedback"), FEEDBACK, split).astype(np.uint8)


def kinds(table: pa.Table) -> NDArray[np.uint8]:
    """What each row is compared as: `TEXT`, `MEDIA` or `ROW`."""
    media_N, row_N = (values(pc.equal(table["shape"], one(name))) for name in ("media", "row"))
    return np.where(media_N, MEDIA, np.where(row_N, ROW, TEXT)).astype(np.uint8)


def equal_keys(table: pa.Table) -> NDArray[np.uint64]:
    """Two hashes [N, 2] of each row; rows whose both are equal say the same.

    Texts do if they differ in case and white space only, field by field; pictures if their bytes are the same; rows of
    a table only if they have one id: equal ones are how often something occurs.
    """
    shapes = values(pc.fill_null(pc.index_in(table["shape"], strings(_SHAPES)), one(-1, pa.int32())))
    key_N2 = np.stack([mixed(shapes.astype(np.uint64) + np.uint64(k + 1)) for k in range(2)], axis=1)
    for number, name in enumerate(TEXT_FIELDS):
        if table[name].null_count < table.num_rows:
            texts = text_column(table[name])
            key_N2 += _text_keys(texts, likeness(texts), number)
    for place in np.flatnonzero(contents(table)).tolist():
        kind = table["shape"][place].as_py()
        said = table["id"][place].as_py().encode() if kind == "row" else table["media"][place].as_py() or b""
        key_N2[place] = np.frombuffer(blake2b(said, digest_size=16, person=kind.encode()).digest(), np.uint64)
    return key_N2


def plain_keys(texts: pa.LargeStringArray, found: Likeness) -> NDArray[np.uint64]:
    """As `equal_keys`, of plain texts whose likeness is known."""
    shape_2 = mixed(np.array([_SHAPES.index("text") + 1, _SHAPES.index("text") + 2], np.uint64))
    return _text_keys(texts, found, TEXT_FIELDS.index("content")) + shape_2


def _text_keys(texts: pa.LargeStringArray, found: Likeness, field: int) -> NDArray[np.uint64]:
    """A hash of all characters and one of all words; an empty text gives zeros, as one that is not there."""
    from volant.modalities.sketch import word_sums

    words_N = word_sums(found.words.hash_W, found.words.begin_N) * np.uint64(3)
    salt = np.uint64(0x1E3779B97F4A7C15 * (field + 1))
    key_N2 = np.stack([mixed(found.whole_N ^ salt), mixed(words_N + salt)], axis=1)
    key_N2[values(pc.equal(texts, one("", texts.type)))] = 0
    return key_N2
