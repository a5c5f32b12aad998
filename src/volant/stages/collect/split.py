"""Deal a Dataset anew into train, validation and test: whole units, by hash or by time.

Enters: a Dataset, and an earlier deal of it if there is one. Leaves: the same records with other splits. A unit is
what belongs together: the records of a group (a module, an author, a prompt) with all that are near duplicates of
one of them. So nothing that is alike stands on both sides. Feedback stays in train.

The split of a unit is a hash of what is in it: other records, files or orders do not move it. When more data come, a
unit is dealt as before unless a new record joins it; then another hash may be its smallest, and without `earlier` it
may move. With `earlier` every record stays where it was; where a new one joins units of several splits, all go to
the side that was seen most (train before validation before test), which is said and counted. Where units are so few
that a split is empty, one is dealt to it by hand, which is said too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from volant.core import Dataset, Run, Sample, Score
from volant.core.errors import SettingError
from volant.core.sample import Split
from volant.stages.collect._deal import Sides, as_before, by_hash, by_time, filled, hashed, require_three
from volant.stages.collect._units import Records, belongs, units_of


def split(
    run: Run,
    data: Dataset,
    *,
    earlier: Dataset | None = None,
    by: Literal["hash", "time"] = "hash",
    column: str = "group",
    time: str = "collected_at",
    near: Annotated[float, Field(gt=0.3, le=1)] | None = None,
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    test: Annotated[float, Field(gt=0, lt=1)] = 0.1,
    validation_from: str = "",
    test_from: str = "",
    salt: str = "",
) -> Dataset:
    """Split whole units: groups, joined with what is a near duplicate. Run `clean` after it for its leakage gate.

    Args:
        earlier: a Dataset dealt before; what it holds keeps its split, and draws with it what joins it now.
        by: `hash` deals units by chance; `time` gives the latest units to test, those before them to validation.
        column: what groups records: `group`, `source` (the file), `condition`, `labels.NAME`, `attrs.NAME` or
            `columns.NAME` of a row.
        time: what says when a record came: `collected_at`, `attrs.NAME` or `columns.NAME`, as an ISO date or time. A
            unit is as old as its oldest record.
        near: similarity (0.3 to 1) from which two records belong together: of text the exact Jaccard similarity of
            5-word shingles, of images the share of the perceptual hash, of rows the share of equal columns. Nothing
            takes what suits the modality: 0.65 for text (up to 3 % of its words changed), 0.9 for images, 1 for rows.
        validation: share (0 to 1) for choosing between models: of the units by hash, of the records by time.
        test: share (0 to 1) for the final comparison; sealed to all stages but evaluate.
        validation_from: with `time`, the date on which validation begins; empty takes the share.
        test_from: with `time`, the date on which test begins; empty takes the share, which moves as data come.
        salt: any text; another one deals other units. A change makes old comparisons void.

    Returns:
        The same records, split anew; `attrs.cluster` names one record of those that are alike.

    Raises:
        SettingError: the shares leave nothing to train on, or no record has such a column.
        DataError: fewer than three units, a record without a time, or a split that no unit falls into.
    """
    from volant.stages.collect._arrival import arrive

    if validation + test >= 1:
        raise SettingError(f"validation {validation} and test {test} leave nothing to train on.", fix="Lower them.")
    with run.progress("looking for what belongs together", 1, "datasets") as bar:
        found = units_of(run, data, column=column, near=near, time=time if by == "time" else "")
        bar.advance(1)
    require_three(run, found)
    fixed = as_before(run, found, earlier) if earlier else {}
    if by == "time":
        sides = by_time(run, found, (validation, test), (validation_from, test_from), time) | fixed
    else:
        sides = filled(run, found, hashed(found, validation, test, salt) | fixed, fixed, salt)
    _report(run, found)
    return arrive(run, _dealt(data, found, sides, lambda group: by_hash(group, validation, test, salt)))


def _dealt(data: Dataset, found: Records, sides: Sides, alone: Callable[[str], Split]) -> Iterator[Sample]:
    """The records with their splits; `alone` deals a dropped record whose group has no other."""
    from volant.store.dataset import dropped, rows

    unit_of_group: dict[str, Split] = {}
    clusters = found.clusters
    number = 0
    for sample in rows(data):
        if not belongs(sample):
            yield sample.model_copy(update={"split": "train"})
            continue
        side = sides[int(found.first_N[number])]
        unit_of_group[sample.group] = side
        name = clusters.get(int(found.cluster_N[number]))
        attrs = {**sample.attrs, "cluster": name} if name else sample.attrs
        yield sample.model_copy(update={"split": side, "attrs": attrs})
        number += 1
    for sample in dropped(data):
        side = unit_of_group.get(sample.group) or alone(sample.group)
        yield sample.model_copy(update={"split": side if belongs(sample) else "train"})


def _report(run: Run, found: Records) -> None:
    """How many records are alike, and how large the largest unit is."""
    count = len(found.names)
    alike = sum(1 for number in found.cluster_N.tolist() if number in found.clusters)
    largest = max(map(len, found.units.values()))
    run.say(f"{count:,} records in {len(found.units):,} units; {alike:,} are alike; the largest unit holds {largest:,}")
    run.score(Score.exact("alike_share", alike / count, n=count))
    run.score(Score.exact("largest_unit", largest / count, n=count, direction="lower"))
