"""Many request times as few figures: percentiles, errors by cause, an hourly history.

Enters: rows with `at, status, error, milliseconds, first_token_ms, prompt_tokens, completion_tokens`.
Leaves: a dictionary for status pages and reports. Percentiles are the nearest rank, so each is a time
that some client really waited.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 by nearest rank; empty for no values.

    >>> percentiles([1.0, 2.0, 3.0, 4.0])
    {'p50': 2.0, 'p95': 4.0, 'p99': 4.0}
    """
    ranked = sorted(values)
    if not ranked:
        return {}
    return {f"p{p}": ranked[math.ceil(p / 100 * len(ranked)) - 1] for p in (50, 95, 99)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all rows, and under `history` those of each hour, oldest first."""
    ordered = sorted(rows, key=lambda row: str(row["at"]))
    hours = [
        {"hour": hour, **_figures(list(group))} for hour, group in groupby(ordered, key=lambda row: str(row["at"])[:13])
    ]
    causes = Counter(str(row["error"] or row["status"]) for row in rows if _failed(row))
    return {**_figures(ordered), "errors_by_cause": dict(sorted(causes.items())), "history": hours}


def _failed(row: dict[str, Any]) -> bool:
    return bool(row["error"]) or int(row["status"]) >= 400


def _figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    answered = [row for row in rows if not _failed(row)]  # a fast refusal must not make the service look fast
    return {
        "requests": len(rows),
        "errors": len(rows) - len(answered),
        "milliseconds": percentiles([row["milliseconds"] for row in answered]),
        "first_token_ms": percentiles([r["first_token_ms"] for r in answered if r["first_token_ms"] is not None]),
        "prompt_tokens": sum(row["prompt_tokens"] for row in rows),
        "completion_tokens": sum(row["completion_tokens"] for row in rows),
    }
