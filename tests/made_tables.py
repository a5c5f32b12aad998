"""A made-up table of visits with every kind of column, missing values, a sum and an order of dates."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np

from volant.core.artifact import file_sha256
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.core.sample import Sample, Source
from volant.modalities.table import modality

SOURCE = Source(uri="made:", licence="CC0-1.0")
CONSTRAINTS = ["age between 18 and 90", "drugs + care == total", "start <= end", "unique(id)"]


def visits(n: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        start = datetime.date(2020, 1, 1) + datetime.timedelta(days=int(rng.integers(0, 700)))
        drugs, care = round(float(rng.gamma(2, 50)), 2), round(float(rng.gamma(3, 80)), 2)
        rows.append(
            {
                "id": f"p{number:05d}",
                "age": int(rng.integers(18, 91)),
                "weight": round(float(rng.normal(75, 12)), 1) if rng.random() > 0.1 else None,
                "city": str(rng.choice(["Köln", "New York", "Rome, Italy", 'the "Hague"'], p=[0.5, 0.3, 0.15, 0.05])),
                "smoker": str(rng.choice(["yes", "no"])) if rng.random() > 0.05 else None,
                "start": start.isoformat(),
                "end": (start + datetime.timedelta(days=int(rng.integers(0, 30)))).isoformat(),
                "drugs": drugs,
                "care": care,
                "total": round(drugs + care, 2),
            }
        )
    return rows


def outside(file: Path) -> OutsideFile:
    return OutsideFile(file, file.name, file.stat().st_size, file_sha256(file))


def found(file: Path, content: bytes | str | None = None, **options: Any) -> list[Sample | Refusal]:
    """What the modality finds in a file, which is written first where content is given."""
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(modality.load(outside(file), SOURCE, **options))


def kept(found: list[Sample | Refusal]) -> list[Sample]:
    """The samples; a refusal fails the test."""
    assert not [item for item in found if isinstance(item, Refusal)]
    return [item for item in found if isinstance(item, Sample)]


def refused(found: list[Sample | Refusal]) -> list[Refusal]:
    return [item for item in found if isinstance(item, Refusal)]
