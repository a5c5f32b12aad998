"""Rows of a table that repeat others, where a repetition is a copy and not how often something occurs.

Enters: a Dataset of rows. Leaves: the same rows; of those that share a key, are equal, differ in one column only or by
little in their numbers, the first stays, test and validation before training rows, and each other one names it in its
drop. `collect.clean` leaves equal rows alone, because two people may well be alike: say here which columns tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Run, Sample, Score
from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.sample import SPLITS
from volant.stages.collect._data_page import data_page


def distinct(
    run: Run,
    data: Dataset,
    *,
    key: list[str] | None = None,
    ignore: list[str] | None = None,
    differ: Annotated[int, Field(ge=0, le=1)] = 0,
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> Dataset:
    """Drop rows that repeat an earlier one.

    Args:
        data: rows of a table.
        key: columns that name what a row is about; of rows with the same ones the first stays.
        ignore: columns that say nothing about likeness, such as a running number or a time of entry.
        differ: 1 drops rows that differ from one that stays in a single column too, as after a correction.
        tolerance: share (0 to 1) of a column's range by which two numbers may differ and still count as equal, as
            after rounding; 0 asks for equal ones.

    Returns:
        A Dataset of the same splits; what was dropped names the row that stays.

    Raises:
        DataError: there are no rows.
        SettingError: a column is not there, or none is left to compare.
    """
    from volant.store.dataset import dropped, rows, writer

    right = {split: place for place, split in enumerate(reversed(SPLITS))}
    found = [run.remembered(sample) for sample in rows(data)]
    samples = sorted((s for s in found if s.shape == "row" and not s.drop), key=lambda s: right[s.split])
    if not samples:
        raise DataError("there are no rows of a table.", where=run.step, fix="Give a Dataset of modality `table`.")
    columns = _columns(samples)
    _check_names(run, columns, [*(key or []), *(ignore or [])])
    with run.progress("rows", 3, "passes") as bar:
        _same_key(samples, columns, key or [])
        bar.advance(1)
        run.check_stop()
        compared = {name: values for name, values in columns.items() if name not in (ignore or [])}
        if not compared:
            raise SettingError("every column is ignored.", where=run.step, fix="Leave some to compare.")
        _alike(samples, compared, differ, tolerance)
        bar.advance(2)
        run.check_stop()
    _report(run, samples)
    with writer(run.out, modality=run.modality) as out:
        out.write_all(found)
        out.write_all(dropped(data))
    made = Dataset(run.out)
    data_page(run, made)
    return made


def _columns(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    from volant.modalities.table_rows import row_of

    table = [row_of(sample) for sample in samples]
    names = dict.fromkeys(name for row in table for name in row)
    return {name: [row.get(name) for row in table] for name in names}


def _check_names(run: Run, columns: dict[str, list[Any]], asked: Sequence[str]) -> None:
    for name in asked:
        if name not in columns:
            raise SettingError(f"the rows have no column {name!r}.", where=run.step, fix=did_you_mean(name, columns))


def _same_key(samples: Sequence[Sample], columns: dict[str, list[Any]], key: Sequence[str]) -> None:
    first: dict[tuple[str, ...], int] = {}
    for at, sample in enumerate(samples) if key else ():
        values = [columns[name][at] for name in key]
        if any(value is None for value in values):
            continue  # what is missing is like nothing
        earlier = first.setdefault(tuple(map(repr, values)), at)
        if earlier != at:
            said = ", ".join(f"{name} {str(value)[:40]}" for name, value in zip(key, values, strict=True))
            sample.drop = f"same_key: 2 rows of {said} (of {samples[earlier].id}) against 1"


def _alike(samples: Sequence[Sample], columns: dict[str, list[Any]], differ: int, tolerance: float) -> None:
    import numpy as np

    from volant.modalities.row_likeness import Rows

    many = len(columns)
    open_ones = [at for at, sample in enumerate(samples) if not sample.drop]
    rows = Rows({name: [values[at] for at in open_ones] for name, values in columns.items()}, tolerance)
    for alike in rows.equal():
        one, other = samples[open_ones[alike.later]], samples[open_ones[alike.earlier]]
        one.drop = f"equal_row: {many} of {many} columns equal (of {other.id}) against {many}"
    if not (differ or tolerance):
        return
    left = np.array([place for place, at in enumerate(open_ones) if not samples[at].drop], np.int64)
    for alike in rows.near(left, differ):
        later, earlier = open_ones[alike.later], open_ones[alike.earlier]
        if samples[later].drop or samples[earlier].drop:
            continue  # likeness to what stays counts, not a chain of small steps
        said = ", ".join(f"{n} {str(columns[n][later])[:40]} for {str(columns[n][earlier])[:40]}" for n in alike.differ)
        what = f"{many - len(alike.differ)} of {many} columns equal (of {samples[earlier].id})"
        samples[later].drop = f"near_row: {what}{', ' + said if said else ''} against {many - differ}"


def _report(run: Run, samples: Sequence[Sample]) -> None:
    rules = Counter(sample.drop.split(":")[0] for sample in samples if sample.drop)
    kept = Counter(sample.split for sample in samples if not sample.drop)
    drops = ", ".join(f"{count:,} {rule}" for rule, count in sorted(rules.items())) or "none"
    run.say(f"kept {kept.total():,} of {len(samples):,} rows; dropped: {drops}")
    run.score(Score.exact("kept_share", kept.total() / len(samples), n=len(samples)))
    for rule in ("same_key", "equal_row", "near_row"):
        run.score(Score.exact(f"dropped_{rule}", rules[rule], n=len(samples), unit="records", direction="lower"))
