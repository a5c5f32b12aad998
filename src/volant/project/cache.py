"""Small JSON caches in `.volant/cache`: losing one costs time only, so they are not fsynced."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def read_cache(path: Path) -> dict[str, Any]:
    """What the cache holds; nothing where it is missing or broken."""
    try:
        known: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known


def write_cache(path: Path, known: dict[str, Any]) -> None:
    """Replace the cache in one step, so that a reader never meets half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(known))
    temporary.replace(path)
