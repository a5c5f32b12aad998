"""A value against a JSON Schema: the part of the language that asks for structured output needs.

A schema and a value enter, problems in words leave. A keyword that is not supported is an error, never
ignored: a check that silently checks less is worse than none. No `pattern` (a schema may come from a
request, and a regular expression from outside can hang a server), no `$ref`, so nothing can loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from volant.core.errors import DataError, did_you_mean

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
_SIZES = {
    "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
}  # fmt: skip
_SHAPES: dict[type | tuple[type, ...], tuple[str, set[str]]] = {
    Mapping: ("a mapping", {"properties"}),
    list: ("a list", {"enum", "required", "anyOf", "allOf", "oneOf"}),
    (int, float): ("a number", _SIZES),
}
_NOTES = {"title", "description", "default", "examples", "$schema", "$id", "$comment"}
_CHECKS = {
    "type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems",
    "uniqueItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "anyOf", "allOf", "oneOf", "not",
}  # fmt: skip


def problems(value: Any, schema: Mapping[str, Any] | bool, at: str = "$") -> list[str]:
    """What in `value` does not fit `schema`; empty when it fits.

    Raises:
        DataError: the schema is none, or uses a keyword or a type that is not supported.
    """
    if isinstance(schema, bool):
        return [] if schema else [f"{at}: nothing is allowed here"]
    _check(schema)
    found = _type(value, schema, at)
    if found:
        return found
    if "enum" in schema and not any(_same(value, option) for option in schema["enum"]):
        found.append(f"{at}: {value!r} is none of {schema['enum']!r}")
    if "const" in schema and not _same(value, schema["const"]):
        found.append(f"{at}: {value!r} is not {schema['const']!r}")
    if isinstance(value, dict):
        found += _object(value, schema, at)
    elif isinstance(value, list):
        found += _array(value, schema, at)
    elif isinstance(value, str):
        found += _bounds(len(value), schema, at, "characters", "minLength", "maxLength")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found += _bounds(value, schema, at, "", "minimum", "maximum")
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            found.append(f"{at}: {value} is not above {schema['exclusiveMinimum']}")
        if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
            found.append(f"{at}: {value} is not below {schema['exclusiveMaximum']}")
    return found + _combined(value, schema, at)


def _check(schema: Any) -> None:
    if not isinstance(schema, Mapping):
        raise DataError(
            f"{schema!r} is no JSON Schema.", fix='Write a mapping, as {"type": "object"}, or true or false.'
        )
    for keyword in schema:
        if keyword not in _CHECKS | _NOTES:
            fix = did_you_mean(str(keyword), _CHECKS)
            raise DataError(f"JSON Schema keyword {keyword!r} is not supported.", fix=fix)
    for shape, (called, keywords) in _SHAPES.items():
        for keyword in sorted(keywords & schema.keys()):
            if not isinstance(schema[keyword], shape):
                raise DataError(f"JSON Schema keyword {keyword!r} takes {called}, not {schema[keyword]!r}.")
    for keyword in ("type", "required"):
        named = schema.get(keyword, [])
        if not all(isinstance(name, str) for name in (named if isinstance(named, list) else [named])):
            raise DataError(f"JSON Schema keyword {keyword!r} takes names, not {named!r}.")


def _type(value: Any, schema: Mapping[str, Any], at: str) -> list[str]:
    wanted = schema.get("type")
    if wanted is None:
        return []
    names = wanted if isinstance(wanted, list) else [wanted]
    for name in names:
        if name not in _TYPES:
            raise DataError(f"JSON Schema type {name!r} does not exist.", fix=did_you_mean(str(name), _TYPES))
    if any(_is(value, name) for name in names):
        return []
    return [f"{at}: {type(value).__name__} where {' or '.join(names)} was asked for"]


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _same(left: Any, right: Any) -> bool:
    """Equality in which True is not 1."""
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _object(value: dict[str, Any], schema: Mapping[str, Any], at: str) -> list[str]:
    known = schema.get("properties", {})
    found = [f"{at}: {name!r} is missing" for name in schema.get("required", []) if name not in value]
    for name, item in value.items():
        if name in known:
            found += problems(item, known[name], f"{at}.{name}")
        elif schema.get("additionalProperties", True) is False:
            found.append(f"{at}: {name!r} is not allowed")
        else:
            found += problems(item, schema.get("additionalProperties", True), f"{at}.{name}")
    return found


def _array(value: list[Any], schema: Mapping[str, Any], at: str) -> list[str]:
    found = _bounds(len(value), schema, at, "items", "minItems", "maxItems")
    if schema.get("uniqueItems") and any(_same(a, b) for i, a in enumerate(value) for b in value[:i]):
        found.append(f"{at}: an item occurs twice")
    for i, item in enumerate(value):
        found += problems(item, schema.get("items", True), f"{at}[{i}]")
    return found


def _bounds(size: float, schema: Mapping[str, Any], at: str, what: str, least: str, most: str) -> list[str]:
    shown = f"{size} {what}".rstrip()
    found = []
    if least in schema and size < schema[least]:
        found.append(f"{at}: {shown}, at least {schema[least]} asked for")
    if most in schema and size > schema[most]:
        found.append(f"{at}: {shown}, at most {schema[most]} asked for")
    return found


def _combined(value: Any, schema: Mapping[str, Any], at: str) -> list[str]:
    found = [problem for part in schema.get("allOf", []) for problem in problems(value, part, at)]
    for keyword in ("anyOf", "oneOf"):
        options = schema.get(keyword)
        if options is not None:
            fitting = sum(not problems(value, option, at) for option in options)
            if fitting == 0 or (keyword == "oneOf" and fitting > 1):
                found.append(f"{at}: fits {fitting} of {len(options)} {keyword} options")
    if "not" in schema and not problems(value, schema["not"], at):
        found.append(f"{at}: fits what it must not")
    return found
