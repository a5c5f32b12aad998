"""Rows over HTTP: the body of `/v1/rows` and what it becomes.

In goes a checked body; out come the condition, the family's controls and how many rows, and back from
samples the answer. Pure but for the time in `created`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from volant.core.errors import DataError
from volant.core.protocols import Route
from volant.core.sample import Sample, Source, sample_id
from volant.modalities.table_constraints import parse
from volant.modalities.table_delivered import csv_of
from volant.modalities.table_rows import content_of, row_of

PATH = "/v1/rows"
MOST_ROWS = 1000
_FEEDBACK = Source(uri="feedback:", licence="LicenseRef-feedback", consent="given", origin="feedback")


class RowsBody(BaseModel):
    """What is asked for.

    Attributes:
        where: a condition that every row meets, as in `income > 50K and age < 30`; empty for any row.
        n: how many rows.
        format: `json` gives objects, `csv` one text with a header.
        temperature: where the model's family has it; lower is closer to what is frequent.
        user: of the caller, for the records.
    """

    model_config = ConfigDict(extra="forbid")

    where: str = Field(default="", max_length=500)
    n: int = Field(default=1, ge=1, le=MOST_ROWS)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    temperature: float | None = Field(default=None, ge=0, le=5, allow_inf_nan=False)
    format: Literal["json", "csv"] = "json"
    model: str | None = Field(default=None, max_length=256)
    user: str | None = Field(default=None, max_length=64)


def asked(body: RowsBody) -> tuple[str, dict[str, Any], int]:
    """The condition, the controls and the number of rows."""
    return body.where, {} if body.temperature is None else {"temperature": body.temperature}, body.n


def answer(samples: Sequence[Sample], body: RowsBody) -> dict[str, Any]:
    """The rows, their columns, and what share of the draws was kept (constraints and condition)."""
    rows = [row_of(sample) for sample in samples]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    tries = sum(int(sample.attrs.get("tries", 1)) for sample in samples)
    return {
        "created": int(time.time()),
        "columns": columns,
        "data": csv_of(rows, columns) if body.format == "csv" else rows,
        "tries": tries,
        "acceptance": round(len(samples) / tries, 6) if tries else None,
    }


def taught(body: Mapping[str, Any], said: Mapping[str, Any]) -> list[Sample]:
    """Recorded rows as samples, with what was asked for; none of a CSV answer or of what is no row."""
    where, data = str(body.get("where") or ""), said.get("data")
    try:
        if where:
            parse(where)
    except DataError:
        return []
    rows = [row for row in data if isinstance(row, dict) and row] if isinstance(data, list) else []
    found = []
    for row in rows[:MOST_ROWS]:
        try:
            content = content_of(row)
        except (ValueError, TypeError):
            continue
        id = sample_id(content, where)
        found.append(Sample(id=id, shape="row", content=content, condition=where or None, source=_FEEDBACK))
    return found


ROUTE = Route(body=RowsBody, asked=asked, answer=answer, example={"where": "", "n": 1}, taught=taught)
