"""The text of many samples as one Arrow array, without making samples of them.

In go rows of a dataset's schema (`store.dataset.tables`); out comes what `Sample.text` says of each, as
`large_string`: the content of a text, the turns of a chat, prompt and answers of the rest, line by line. Texts of plain
shape are passed on as they are; only chats are parsed, one by one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

from volant.core.sample import CHAT_SHAPES, TEXT_FIELDS
from volant.store import arrow_functions as pc
from volant.store.arrow_values import one, strings, whole

COLUMNS = ("shape", *TEXT_FIELDS)
"""What has to be read for it."""


def text_array(table: pa.Table) -> pa.LargeStringArray:
    """All text of each row in reading order, as `Sample.text` gives it."""
    if pc.all(pc.equal(table["shape"], one("text")), min_count=0).as_py() and not _other(table):
        return text_column(table["content"])
    joined, none = text_column(table["condition"]), one("", pa.large_string())
    for name in TEXT_FIELDS[1:]:
        field = text_column(table[name])
        field = _with_chats(table, field, CHAT_SHAPES) if name == "content" else field
        both = pc.binary_join_element_wise(joined, field, one("\n", pa.large_string()))
        joined = pc.if_else(pc.equal(joined, none), field, pc.if_else(pc.equal(field, none), joined, both))
    return joined


def answer_array(table: pa.Table) -> pa.LargeStringArray:
    """What a model would learn to say: the target, or the assistant's turns; the whole text of a plain one."""
    answers = pc.if_else(pc.equal(table["shape"], one("text")), table["content"], table["target"])
    return _with_chats(table, text_column(answers), ("messages",), "assistant")


def _other(table: pa.Table) -> bool:
    return any(table[name].null_count < table.num_rows for name in TEXT_FIELDS if name != "content")


def _with_chats(
    table: pa.Table, texts: pa.LargeStringArray, shapes: Sequence[str], role: str = ""
) -> pa.LargeStringArray:
    """The texts, and in place of those of chats, which are of these shapes, what their turns say."""
    chats = pc.and_(pc.is_in(table["shape"], strings(shapes)), pc.is_valid(table["content"]))
    if not pc.any(chats, min_count=0).as_py():
        return texts
    said = [_said(content, role) for content in pc.filter(table["content"], chats).to_pylist()]
    return pc.replace_with_mask(texts, chats.combine_chunks(), strings(said, pa.large_string()))


def _said(content: str | None, role: str) -> str:
    """The turns of a chat, of one role or of all; nothing of one that cannot be read, which a check refuses."""
    try:
        turns = json.loads(content or "[]")
        return "\n".join(str(turn.get("content", "")) for turn in turns if not role or turn.get("role") == role)
    except (ValueError, AttributeError, TypeError):
        return ""


def text_column(column: pa.ChunkedArray) -> pa.LargeStringArray:
    """A column of text in one piece; nothing is an empty text."""
    return whole(pc.cast(pc.fill_null(column, one("", column.type)), pa.large_string()))
