"""How values look: numbers, tables, JSON, one readable line for an error.

Enters: values. Leaves: text on standard output (errors on standard error). A program that reads
gets JSON and nothing else; a person gets a table that fits the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from volant.core.errors import VolantError


def console() -> Console:
    """A console on the standard output of this moment (tests replace it); a pipe has no width to wrap at."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 10_000)


def say(text: str) -> None:
    """One line for a person."""
    print(text)


def fail(error: VolantError) -> None:
    """One readable message on standard error."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))


def plain(value: Any) -> Any:
    """A value as JSON knows it: models, dataclasses, paths and sets taken apart."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def as_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """A table of plain text; a column whose name ends with `#` is right-aligned."""
    out = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2), show_header=any(columns))
    for name in columns:
        out.add_column(name.removesuffix("#"), justify="right" if name.endswith("#") else "left", overflow="fold")
    for row in rows:
        out.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))  # a str would be read as markup
    console().print(out)


def amount(value: float) -> str:
    """A figure with at most four significant digits.

    >>> amount(0.123456), amount(12345.6), amount(3)
    ('0.1235', '12,346', '3')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def size(n_bytes: float) -> str:
    """Bytes for people.

    >>> size(2048), size(3.5e9)
    ('2.0 KB', '3.5 GB')
    """
    value = float(n_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
