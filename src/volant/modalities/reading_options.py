"""Options of reading: what is asked of every modality's before it reads a file.

Enters: the options that a user gave to a gathering step. Leaves: nothing, or the error that names the wrong one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from volant.core.errors import SettingError, did_you_mean

OF_TEXT = ("piece_chars", "plain", "whole")
"""What gathering gives to every modality; those without documents pass over it."""


def check_options(options: Mapping[str, Any], known: Collection[str], what: str) -> None:
    """Refuse names that nobody knows, what is true or false and says neither, and encodings that there are not.

    Args:
        known: the modality's options.
        what: has them, for messages: `a table`.

    Raises:
        SettingError: one is wrong; its `where` is the option's name.
    """
    for name, value in options.items():
        if name not in known and name not in OF_TEXT:
            raise SettingError(f"{what} has no option {name!r}.", where=name, fix=did_you_mean(name, known))
        if name in ("plain", "whole") and value is not None and not isinstance(value, bool):
            raise SettingError(f"`{name}` is true or false, not {value!r}.", where=name, fix=f"Write {name}: true.")
        if name in ("encoding", "group") and not isinstance(value or "", str):
            raise SettingError(f"`{name}` is a text, not {value!r}.", where=name, fix=f"Write {name}: '{value}'.")
        if name == "fields" and not isinstance(value or {}, Mapping):
            raise SettingError(f"`{name}` is no mapping.", where=name, fix="Write {prompt: question}.")
    check_count(options, "piece_chars", 0)
    try:
        "a".encode(options.get("encoding") or "utf-8")
    except (LookupError, UnicodeError) as error:
        what, fix = f"there is no encoding {options['encoding']!r}.", "Empty is UTF-8; others: latin-1, cp1252, utf-16."
        raise SettingError(what, where="encoding", fix=fix) from error


def check_count(options: Mapping[str, Any], name: str, least: int, most: int = 2**63) -> None:
    """Refuse an option that is no whole number within its bounds, where it is given.

    Raises:
        SettingError: it is none.
    """
    value = options.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        fix = f"Take {least:,} to {most:,}." if most < 2**63 else f"Take {least:,} or more."
        raise SettingError(f"`{name}` cannot be {value!r}.", where=name, fix=fix)
