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

    Raises:
        SpecError: the file would not say what it should; it is left as it was.
    """
    before = path.read_text(encoding="utf-8")
    wanted = load_spec(path).model_dump()
    wanted["steps"][step].update(values)
    text = before
    for name, value in values.items():
        text = _with(text, step, name, shown(value))
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    try:
        if load_spec(fresh, shown=path.name).model_dump() != wanted:
            raise SpecError("the values do not fit into the file.", where=path.name, fix="Write them by hand.")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _with(text: str, step: str, name: str, value: str) -> str:
    """The text with one value set."""
    node = _child(_child(yaml.compose(text, Loader=yaml.SafeLoader), "steps"), step)
    assert isinstance(node, yaml.MappingNode)
    for key, old in node.value:
        if key.value == name:
            end = _end(old)
            return text[: old.start_mark.index] + value + text[end:]
    use = next(old for key, old in node.value if key.value == "use")
    if node.flow_style:
        at = use.end_mark.index
        return f"{text[:at]}, {name}: {value}{text[at:]}"
    line = text.find("\n", use.end_mark.index)
    at = len(text) if line < 0 else line
    indent = " " * next(key for key, _ in node.value).start_mark.column
    return f"{text[:at]}\n{indent}{name}: {value}{text[at:]}"


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
