"""The ladders for scorers of tables: three sets of rows with their references, best first.

    fidelity      real > half of the cells drawn evenly from their column's range > all of them, far beyond it
    memorisation  fresh > half copied > copied (from `training()`)
    diversity     real > half one row > all one row
    planted       no row > 10 % > 50 % of the rows break a constraint

The rows are visits to a made-up clinic: numbers, a skewed one, whole numbers, a date, categories, missing values,
and an outcome that hangs on the others. Real rows, references and training rows are draws of one process; only their
seeds differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np

from volant.core.errors import SettingError, did_you_mean
from volant.core.protocols import Output
from volant.core.sample import Sample, Source, sample_id

Rung = tuple[list[Output], list[Sample]]
Row = dict[str, Any]

TRAINING_SEED = 1_000_003
LEAST = 200  # figures of whole sets rank nothing reliably on fewer rows
WARDS = ("heart", "lungs", "bones", "eyes")
CONSTRAINTS = ("age >= 18", "paid + owed == bill", "arrived <= left")
_FIRST = date(2020, 1, 1)
_KINDS = {
    "age": "integer", "pressure": "numeric", "bill": "integer", "paid": "integer", "owed": "integer",
    "arrived": "date", "left": "date", "ward": "categorical", "smoker": "categorical", "back": "categorical",
}  # fmt: skip


def training(n: int = LEAST) -> list[Sample]:
    """At least `LEAST` rows that a scorer gets as `training`; those of `n` are the first of those of more."""
    return _samples(_visits(max(n, LEAST), TRAINING_SEED), "training")


def rungs(ladder: str, *, n: int = LEAST, seed: int = 0) -> tuple[Rung, Rung, Rung]:
    """The three rungs of a ladder, best first, of at least `LEAST` rows each.

    Raises:
        SettingError: there is no such ladder.
    """
    if ladder not in _LADDERS:
        raise SettingError(f"there is no ladder {ladder!r}.", fix=did_you_mean(ladder, _LADDERS))
    n = max(n, LEAST)
    references = _samples(_visits(n, 2 * seed), "references")
    fresh = _visits(n, 2 * seed + 1)
    made = _LADDERS[ladder](fresh, np.random.default_rng(seed))
    first, second, third = ((_outputs(rows), references) for rows in made)
    return first, second, third


def _visits(n: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [_visit(rng) for _ in range(n)]


def _visit(rng: np.random.Generator) -> Row:
    """One visit. How ill somebody is decides most of it, and is no column."""
    ill = rng.normal()
    smoker = bool(rng.random() < 1 / (1 + np.exp(-1.5 * ill)))
    bill = round(float(np.exp(5 + 0.9 * ill + 0.3 * rng.normal())))
    paid = int(rng.binomial(bill, 0.9 if ill < 0 else 0.4))
    pressure = round(110 + 12 * ill + 10 * smoker + 5 * float(rng.normal()), 1)
    arrived = _FIRST + timedelta(days=int(700 * rng.beta(1, 3)))
    return {
        "age": int(np.clip(round(50 + 14 * ill + 6 * rng.normal()), 18, 99)),
        "pressure": pressure if rng.random() > 0.08 else None,
        "bill": bill,
        "paid": paid,
        "owed": bill - paid,
        "arrived": arrived.isoformat(),
        "left": (arrived + timedelta(days=1 + int(rng.poisson(np.exp(0.5 + 0.7 * ill))))).isoformat(),
        "ward": WARDS[int(np.clip(round(0.8 - ill + 0.4 * rng.normal()), 0, 3))],
        "smoker": "yes" if smoker else "no",
        "back": "yes" if ill + 0.3 * rng.normal() > 0 else "no",
    }


def _samples(rows: Sequence[Row], name: str) -> list[Sample]:
    source = Source(uri=f"ladder:{name}", licence="CC0-1.0", origin="generated")
    declared = {"table": {"types": _KINDS, "constraints": list(CONSTRAINTS)}}
    contents = [json.dumps(row) for row in rows]
    return [
        Sample(id=sample_id(content, name, str(i)), shape="row", source=source, content=content, attrs=declared)
        for i, content in enumerate(contents)
    ]


def _outputs(rows: Sequence[Row]) -> list[Output]:
    return [Output("", sample=sample) for sample in _samples(rows, "outputs")]


def _fidelity(rows: list[Row], rng: np.random.Generator) -> list[list[Row]]:
    return [rows, _redrawn(rows, rng, share=0.5, moved=0.0), _redrawn(rows, rng, share=1.0, moved=2.0)]


def _redrawn(rows: list[Row], rng: np.random.Generator, *, share: float, moved: float) -> list[Row]:
    """Rows with a share of their cells drawn evenly from the column's values or range, whatever stands beside them."""
    made = [dict(row) for row in rows]
    for name, kind in _KINDS.items():
        known = [row[name] for row in rows if row[name] is not None]
        for row in made:
            if rng.random() < share:
                row[name] = _even(known, kind, rng, moved)
    return made


def _even(known: Sequence[Any], kind: str, rng: np.random.Generator, moved: float) -> Any:
    if kind == "categorical":
        values = sorted(set(known))
        return values[int(rng.integers(len(values)))]
    if kind == "date":
        days = [date.fromisoformat(value).toordinal() for value in known]
        return date.fromordinal(int(_between(days, rng, moved))).isoformat()
    drawn = _between(known, rng, moved)
    return round(drawn) if kind == "integer" else round(drawn, 1)


def _between(known: Sequence[float], rng: np.random.Generator, moved: float) -> float:
    low, high = min(known), max(known)
    return float(rng.uniform(low, high) + moved * (high - low))


def _memorisation(rows: list[Row], rng: np.random.Generator) -> list[list[Row]]:
    copied = _visits(len(rows), TRAINING_SEED)
    half = len(rows) // 2
    return [rows, copied[:half] + rows[half:], copied]


def _diversity(rows: list[Row], rng: np.random.Generator) -> list[list[Row]]:
    half = len(rows) // 2
    return [rows, rows[:1] * half + rows[half:], rows[:1] * len(rows)]


def _planted(rows: list[Row], rng: np.random.Generator) -> list[list[Row]]:
    return [_broken(rows, rng, share) for share in (0.0, 0.1, 0.5)]


def _broken(rows: list[Row], rng: np.random.Generator, share: float) -> list[Row]:
    """Rows of which a share breaks one of the constraints each, in turn."""
    hit = sorted(rng.choice(len(rows), round(share * len(rows)), replace=False).tolist())
    made = [dict(row) for row in rows]
    for turn, i in enumerate(hit):
        row = made[i]
        wrong = ({"age": 17}, {"owed": row["owed"] + 1}, {"arrived": row["left"], "left": row["arrived"]})
        row.update(wrong[turn % len(wrong)])
    return made


_LADDERS: dict[str, Callable[[list[Row], np.random.Generator], list[list[Row]]]] = {
    "fidelity": _fidelity,
    "memorisation": _memorisation,
    "diversity": _diversity,
    "planted": _planted,
}
