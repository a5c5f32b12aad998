"""`volant.yaml` in, a checked `Spec` out; every complaint names the line.

The reader is stricter than YAML: duplicate keys, anchors, tags and deep nesting are refused,
`1e-4` is a number (YAML 1.1 reads a string), `no` is a word (YAML 1.1 reads a boolean), and dates
and sexagesimals stay the strings they look like.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from volant.core.errors import SpecError, did_you_mean
from volant.core.spec import Goal, Loop, Promote, Searched, Spec

MOST_BYTES = 1_000_000
MOST_DEPTH = 20

_INT = re.compile(r"^[-+]?(0|[1-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}

Lines = dict[tuple[str, ...], int]


def scalar(text: str) -> Any:
    """An unquoted YAML 1.2 scalar as a value: null, boolean, integer, finite number, else the string."""
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize()):
        return _WORDS[text.lower()]
    if _INT.match(text):
        return int(text.replace("_", ""))
    if _FLOAT.match(text):
        return float(text.replace("_", ""))
    return text


def parse_value(text: str) -> Any:
    """One value as `--set step.name=VALUE` gives it: a scalar, or a flow list or map.

    Raises:
        SpecError: the text is no YAML.
    """
    return _parse(text, "--set")[0]


def _parse(text: str, file: str) -> tuple[Any, Lines]:
    if len(text) > MOST_BYTES:
        raise SpecError(f"the file is larger than {MOST_BYTES:,} characters.", where=file, fix="Put data into files.")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            place = f"{file}:{event.start_mark.line + 1 if event.start_mark else 1}"
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise SpecError("anchors and aliases are not used here.", where=place, fix="Write the value out.")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_DEPTH:
                raise SpecError(f"nested deeper than {MOST_DEPTH} levels.", where=place, fix="Flatten it.")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark else file
        raise SpecError(f"this is no YAML: {error.problem}.", where=place, fix="Check indent and quotes.") from error
    except yaml.YAMLError as error:
        raise SpecError(f"this is no YAML: {error}.", where=file, fix="Save it as plain UTF-8 text.") from error
    lines: Lines = {}
    return (None if node is None else _build(node, (), lines, file)), lines


def _build(node: yaml.Node, path: tuple[str, ...], lines: Lines, file: str) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if isinstance(node, yaml.ScalarNode):
        if node.tag not in _PLAIN_TAGS:
            raise SpecError(f"the tag {node.tag!r} is not used here.", where=f"{file}:{line}", fix="Remove it.")
        return scalar(node.value) if node.style is None else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*path, str(i)), lines, file) for i, child in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode)
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        place = f"{file}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise SpecError("a key has to be a word.", where=place, fix="Write `name: value`.")
        key = key_node.value
        if key in found:
            first = lines[(*path, key)]
            raise SpecError(f"{key!r} stands twice (first in line {first}).", where=place, fix="Remove one of them.")
        lines[(*path, key)] = key_node.start_mark.line + 1
        found[key] = _build(value_node, (*path, key), lines, file)
    return found


_PLAIN_TAGS = {f"tag:yaml.org,2002:{word}" for word in ("str", "int", "float", "bool", "null", "timestamp", "value")}


def load_spec(path: Path, *, shown: str = "") -> Spec:
    """Read a project file.

    Args:
        path: the file.
        shown: the name used in messages; the file's own name by default.

    Raises:
        SpecError: it is missing, no YAML, or of another shape; with line and mend.
    """
    file = shown or path.name
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError("there is no project file.", where=str(path), fix="Run `volant init`, or name one.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the project file: {error}.", where=file, fix="Save it as UTF-8.") from error
    value, lines = _parse(text, file)
    if not isinstance(value, dict):
        raise SpecError("the project file holds no keys.", where=file, fix="Start with `volant: 1` and `name: ...`.")
    try:
        spec = Spec.model_validate(value)
    except ValidationError as error:
        raise _spec_error(error, lines, file) from error
    return spec.model_copy(update={"file": file, "lines": lines})


_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): Spec,
    ("goal",): Goal,
    ("loop",): Loop,
    ("loop", "promote"): Promote,
}


def _spec_error(error: ValidationError, lines: Lines, file: str) -> SpecError:
    first = error.errors()[0]
    path = tuple(str(part) for part in first["loc"])
    line = next((lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines), 1)
    name = ".".join(path)
    fix = "See docs/project-file.md."
    if first["type"] == "missing":
        what = f"{name!r} is missing."
        fix = f"Add `{path[-1]}:`."
    elif first["type"] == "extra_forbidden":
        what = f"there is no key {name!r}."
        model = _MODELS.get(path[:-1]) or (Searched if path[2:3] == ("search",) else None)
        known = [f.alias or n for n, f in model.model_fields.items() if not f.exclude] if model else []
        fix = did_you_mean(path[-1], known)
    else:
        what = f"{name!r} cannot be {first['input']!r}: {first['msg'].removeprefix('Value error, ')}."
    return SpecError(what, where=f"{file}:{line}", fix=fix)
