"""Writes settings into a project file and leaves everything else as it stands: comments, order, blank lines.

Enters: the file's text, a step and values. Leaves: the text with those values in their places. What is written is read
again and compared, so that a file in an unforeseen style is refused and never garbled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from volant.core.errors import SpecError
from volant.project.nested import with_value
from volant.project.spec_file import load_spec, scalar

_WORD = re.compile(r"[A-Za-z0-9_./+-]+")


def shown(value: Any) -> str:
    """A value as the project file and `--set` take it.

    >>> shown(0.001), shown("cosine"), shown("1e3"), shown(["a"])
    ('0.001', 'cosine', '"1e3"', '["a"]')
    """
    if isinstance(value, str) and _WORD.fullmatch(value) and scalar(value) == value:
        return value
    return json.dumps(value)


def write_settings(path: Path, step: str, values: Mapping[str, Any]) -> None:
    """Put the values into the step of the project file, each in place of the one before or behind `use`.

    A name such as `size.width` is that of a value inside the mapping of `size`.

    Raises:
        SpecError: the file would not say what it should; it is left as it was.
    """
    before = path.read_text(encoding="utf-8")
    wanted = load_spec(path).model_dump()
    text = before
    for name, value in values.items():
        wanted["steps"][step] = with_value(wanted["steps"][step], name, value)
        node = _child(_child(yaml.compose(text, Loader=yaml.SafeLoader), "steps"), step)
        text = _with(text, node, name, shown(value))
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    try:
        if load_spec(fresh, shown=path.name).model_dump() != wanted:
            raise SpecError("the values do not fit into the file.", where=path.name, fix="Write them by hand.")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _with(text: str, node: Any, name: str, value: str) -> str:
    """The text with one value of a mapping set."""
    assert isinstance(node, yaml.MappingNode)
    inner = {key.value: old for key, old in node.value}
    head, dot, rest = name.partition(".")
    if dot and isinstance(inner.get(head), yaml.MappingNode) and inner[head].value:
        return _with(text, inner[head], rest, value)
    for part in reversed(rest.split(".") if dot else []):
        value = f"{{{part}: {value}}}"
    if head in inner:
        first, last = inner[head].start_mark.index, _end(inner[head])
        return text[:first] + (value if first < last else f" {value}") + text[last:]
    return _added(text, node, head, value)


def _added(text: str, node: Any, name: str, value: str) -> str:
    """The text with one more entry in a mapping: behind `use` in a step, before the first one in others."""
    first = node.value[0][0].start_mark
    use = next((old for key, old in node.value if key.value == "use"), None)
    if use is None:
        apart = ", " if node.flow_style else f"\n{' ' * first.column}"
        return f"{text[: first.index]}{name}: {value}{apart}{text[first.index :]}"
    if node.flow_style:
        at = use.end_mark.index
        return f"{text[:at]}, {name}: {value}{text[at:]}"
    line = text.find("\n", use.end_mark.index)
    at = len(text) if line < 0 else line
    return f"{text[:at]}\n{' ' * first.column}{name}: {value}{text[at:]}"


def _end(node: Any) -> int:
    """Where a value ends; a block's mark lies at the next token, behind comments that are not its own.

    Raises:
        SpecError: the value goes over several lines.
    """
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        return int(node.end_mark.index)
    raise SpecError("a value over several lines is not replaced.", where=str(node.start_mark.line + 1), fix="Edit it.")


def _child(node: Any, name: str) -> Any:
    return next(value for key, value in node.value if key.value == name)
