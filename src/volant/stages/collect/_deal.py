"""Which split each unit goes to: by hash, by time, or as it was dealt before.

In go records with their units (`_units`); out comes a split a unit, by the number of the unit's first record.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from volant.core import Dataset, Run, Score
from volant.core.errors import DataError
from volant.core.sample import SPLITS, Split
from volant.stages.collect._units import Records

Sides = dict[int, Split]


def require_three(run: Run, found: Records) -> None:
    """Refuse what cannot be split.

    Raises:
        DataError: fewer than three units.
    """
    if len(found.units) < 3:
        count = len(found.names)
        what = f"{count} record{'s' if count != 1 else ''} in {len(found.units)} units cannot be split in three"
        raise DataError(
            f"{what}: what is of one group or alike stays together.", where=run.step,
            fix="Give records of at least three groups that are not alike (better: hundreds), or raise `near`.",
        )  # fmt: skip


def by_hash(group: str, validation: float, test: float, salt: str) -> Split:
    """The split of a group that stands alone."""
    point = int(_hash(salt, group)[:13], 16) / 16**13
    return "test" if point < test else "validation" if point < test + validation else "train"


def hashed(found: Records, validation: float, test: float, salt: str) -> Sides:
    """Each unit to the split of one of its groups: of the one whose other hash is the smallest, so chance is fair."""
    chosen = {
        unit: min({found.groups[n] for n in numbers}, key=lambda group: _hash(salt, "first", group))
        for unit, numbers in found.units.items()
    }
    return {unit: by_hash(group, validation, test, salt) for unit, group in chosen.items()}


def by_time(run: Run, found: Records, shares: tuple[float, float], begins: tuple[str, str], name: str) -> Sides:
    """The latest units to test, those before them to validation.

    Args:
        shares: of the records, for validation and for test.
        begins: dates on which they begin; an empty one is found by the share.
        name: what the times were read from.

    Raises:
        DataError: a record has no time, or the dates leave a split empty.
    """
    moment = {unit: min(_moment(found, n, name, run.step) for n in numbers) for unit, numbers in found.units.items()}
    latest = sorted(moment, key=lambda unit: moment[unit], reverse=True)
    total = sum(map(len, found.units.values()))
    test = _read(begins[1], "test_from", run.step) if begins[1] else _begin(found, latest, moment, shares[1] * total)
    wanted = sum(shares) * total
    validation = _read(begins[0], "validation_from", run.step) if begins[0] else _begin(found, latest, moment, wanted)
    run.say(f"validation from {validation.isoformat()}, test from {test.isoformat()}")
    sides: Sides = {
        unit: "test" if at >= test else "validation" if at >= validation else "train" for unit, at in moment.items()
    }
    empty = [split for split in SPLITS if split not in sides.values()]
    if empty:
        raise DataError(
            f"no unit falls into {' and '.join(empty)} (validation from {validation}, test from {test}).",
            where=run.step, fix="Give `validation_from` and `test_from` that part the records, or other shares.",
        )  # fmt: skip
    return sides


def as_before(run: Run, found: Records, earlier: Dataset) -> Sides:
    """The split of each unit that holds a record which was dealt before; of several, the side that was seen most."""
    from volant.store.dataset import rows

    before = {name: sample.split for sample in rows(earlier) for name in (sample.id, *sample.parents)}
    sides: Sides = {}
    torn = 0
    for unit, numbers in found.units.items():
        splits = {before[name] for n in numbers for name in found.names[n] if name in before}
        if splits:
            sides[unit] = min(splits, key=SPLITS.index)
            torn += len(splits) > 1
    run.say(f"{len(sides):,} of {len(found.units):,} units keep the split they had")
    if torn:
        run.say(f"{torn:,} units join records of several earlier splits; each is now where it was seen most")
    run.score(Score.exact("units_moved", torn, n=len(found.units), unit="units", direction="lower"))
    return sides


def filled(run: Run, found: Records, sides: Sides, fixed: Mapping[int, Split], salt: str) -> Sides:
    """The same with no split left empty, where units are few: one of the richest split, by hash, is dealt by hand."""
    sides = dict(sides)
    ranked = sorted(sides, key=lambda unit: _hash(salt, min(found.groups[n] for n in found.units[unit])))
    for split in SPLITS:
        if split in sides.values():
            continue
        counts = Counter(sides.values())
        free = [unit for unit in ranked if unit not in fixed and counts[sides[unit]] > 1] or ranked
        richest = max(free, key=lambda unit: counts[sides[unit]])
        sides[richest] = split
        run.say(f"no unit fell to {split}, so one was dealt by hand; with more data it goes where its hash says")
    return sides


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _moment(found: Records, number: int, name: str, where: str) -> datetime:
    told = found.times[number]
    if not told:
        what = f"record {found.names[number][0]} does not say when it came ({name} is empty)."
        raise DataError(what, where=where, fix="Name another column with `time`, or split by hash.")
    return _read(told, f"{name} of record {found.names[number][0]}", where)


def _read(told: str, name: str, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(told)
    except ValueError as error:
        what = f"{name} is {told!r}, no ISO date or time."
        raise DataError(what, where=where, fix="Write it as 2026-11-24, or 2026-11-24T09:30:00+00:00.") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _begin(found: Records, latest: list[int], moment: Mapping[int, datetime], wanted: float) -> datetime:
    """The moment from which on the latest units hold so many records."""
    held = 0
    for unit in latest:
        held += len(found.units[unit])
        if held >= wanted:
            return moment[unit]
    return moment[latest[-1]]
