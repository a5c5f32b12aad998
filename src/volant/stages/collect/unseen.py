"""What earlier data do not have yet: a new version of a source, or new shards, held against what was cleaned before.

Enters: a cleaned Dataset of new records, and earlier ones. Leaves: the new records; each that repeats an earlier one
names it in its drop. The earlier texts are not read: `clean` keeps sketches of all records that it compared, 128 bytes
each, and only where two may be alike are these texts read again, so that their exact similarity decides as in `clean`.
Train on the earlier data and on what stays here, and it is what cleaning all of it at once would have kept, for the
first to come stays. Three things it cannot do: take an earlier record back because the new one is for a test (the new
one goes), because a new one joins two earlier ones (both stay), or because it holds words that a new test asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Dataset, Run, Sample, Score
from volant.stages.collect._data_page import data_page
from volant.stages.collect._guard import EvaluationSet, evaluation_set, look, noted, report, told

if TYPE_CHECKING:
    from volant.modalities.sketch_columns import Sketches


def unseen(
    run: Run,
    data: Dataset,
    earlier: Dataset,
    *more: Dataset,
    near: Annotated[float, Field(gt=0.3, le=1)] | None = None,
) -> Dataset:
    """Drop what repeats a record of earlier datasets, and training records that hold one of their held-out ones.

    Args:
        data: new records, as `collect.clean` leaves them.
        earlier: what was cleaned before, with the same settings; it adds no record of its own.
        more: further earlier ones, such as what this method kept of the update before.
        near: similarity (0.3 to 1) from which a record repeats an earlier one, as in `collect.clean`. Nothing takes
            what suits the modality.

    Returns:
        A Dataset of the same splits, with sketches of its own for the next update.

    Raises:
        ArtifactError: a shard is damaged.
    """
    from volant.modalities import open_modality
    from volant.modalities.minhash import NEAR

    modality = open_modality(run.modality)
    bar_at = float(getattr(modality, "near", NEAR)) if near is None else near
    with run.progress("comparing records", 4, "passes") as bar:
        before = [(one, _sketches(run, one, modality)) for one in (earlier, *more)]
        new = _without(_sketches(run, data, modality), run.forgotten)
        bar.advance(1)
        drops, equal_N = _equal(before, new)
        bar.advance(1)
        run.check_stop()
        drops |= _near(run, before, (data, new), equal_N, bar_at)
        bar.advance(1)
        sets = _held_out(earlier, more)
        _write(run, data, drops, sets, new.taken((~equal_N).nonzero()[0]))
        bar.advance(1)
    made = Dataset(run.out)
    data_page(run, made)
    return made


def _sketches(run: Run, data: Dataset, modality: Any) -> Sketches:
    """The sketches that lie beside a dataset; made of its records where there are none."""
    from volant.modalities.sketch_columns import joined, kept, sketched
    from volant.store.dataset import tables

    found = kept(data.path)
    if found is not None:
        return found
    made = []
    for table in tables(data):
        run.check_stop()
        made.append(sketched(table, modality))
    if made:
        name = data.card.step if data.card and data.card.step else "a dataset"
        run.say(f"{name} has no sketches beside it: all its records were read")
    return joined(made)


def _without(sketches: Sketches, ids: Collection[str]) -> Sketches:
    """The sketches less those of records that were to be forgotten."""
    import numpy as np

    if not ids:
        return sketches
    stays = [at for at, id in enumerate(sketches.ids.to_pylist()) if id not in ids]
    return sketches.taken(np.array(stays, np.int64))


def _equal(before: Sequence[tuple[Dataset, Sketches]], new: Sketches) -> tuple[dict[str, str], Any]:
    """Why each new record goes that an earlier one is equal to, by its id; and which these are."""
    import numpy as np

    key = np.dtype([("a", "<u8"), ("b", "<u8")])
    own = np.ascontiguousarray(new.key_N2).view(key).ravel()
    equal_N, drops = np.zeros(len(new), bool), {}
    for _, sketches in before:
        theirs = np.ascontiguousarray(sketches.key_N2).view(key).ravel()
        if not len(theirs) or not len(own):
            continue
        order = np.argsort(theirs, kind="stable")
        place = np.minimum(np.searchsorted(theirs, own, sorter=order), len(theirs) - 1)
        hit_N = (theirs[order[place]] == own) & ~equal_N
        for at in np.flatnonzero(hit_N).tolist():
            first = sketches.ids[int(order[place[at]])].as_py()
            drops[new.ids[at].as_py()] = f"exact_duplicate: 1.00 (of {first}) against 1.00"
        equal_N |= hit_N
    return drops, equal_N


def _near(
    run: Run, before: Sequence[tuple[Dataset, Sketches]], new: tuple[Dataset, Sketches], equal_N: Any, near: float
) -> dict[str, str]:
    """Why each new record goes that belongs to the cluster of an earlier one, by its id."""
    from volant.modalities.record_columns import FEEDBACK, MEDIA, TEXT

    drops: dict[str, str] = {}
    sources = [*before, new]
    for kind in (TEXT, MEDIA):
        for feedback in (False, True):
            numbers = [
                _compared(sketches, (sketches.kind_N == kind) & ((sketches.right_N == FEEDBACK) == feedback))
                for _, sketches in sources
            ]
            numbers[-1] = numbers[-1][~equal_N[numbers[-1]]]
            if len(numbers[-1]) and any(map(len, numbers[:-1])):
                drops |= _clustered(run, sources, numbers, near, texts=kind == TEXT)
    return drops


def _compared(sketches: Sketches, among: Any) -> Any:
    """Numbers of those records that have something to compare, in the order of their right to stay."""
    import numpy as np

    numbers = np.flatnonzero(among & (sketches.mark_NP != 255).any(axis=1))
    _, first = np.unique(sketches.key_N2[numbers], axis=0, return_index=True)  # data never cleaned may repeat a text
    numbers = numbers[np.sort(first)]
    return numbers[np.argsort(sketches.right_N[numbers], kind="stable")]


def _clustered(
    run: Run, sources: Sequence[tuple[Dataset, Sketches]], numbers: Sequence[Any], near: float, texts: bool
) -> dict[str, str]:
    import numpy as np

    from volant.modalities.duplicates import near_clusters
    from volant.stages.collect._reread import Texts

    begin = np.concatenate([[0], np.cumsum([len(own) for own in numbers])])
    mark_NP = np.concatenate([s.mark_NP[own] for (_, s), own in zip(sources, numbers, strict=True)])
    ids = [i for (_, s), own in zip(sources, numbers, strict=True) for i in s.ids.take(own).to_pylist()]
    again = Texts(run, [data for data, _ in sources], ids, begin)
    since = int(begin[-2])
    found = near_clusters(mark_NP, near, again.shingles if texts else None, work=run.work / "alike", since=since)
    if texts:
        run.say(f"{again.read:,} of {since:,} earlier texts were read again, to be compared word by word")
    return {
        ids[later]: f"near_duplicate: {share:.2f} (of {ids[other]}) against {near:.2f}"
        for later, (other, share) in found.repeats().items()
        if later >= since and found.first_N[later] < since
    }


def _held_out(earlier: Dataset, more: Sequence[Dataset]) -> list[EvaluationSet]:
    """The validation and test records of the earlier datasets, for the leakage gate; those without text as well."""
    from volant.core.sample import Split
    from volant.store.dataset import tables

    found = []
    held_out: tuple[Split, ...] = ("validation", "test")
    for number, data in enumerate((earlier, *more)):
        name = data.card.step if data.card and data.card.step else f"earlier-{number + 1}"
        there = [split for split in held_out if any((data.path / "data").glob(f"{split}-*.parquet"))]
        found.append(evaluation_set(name, (table for split in there for table in tables(data, split))))
    return found


def _write(run: Run, data: Dataset, drops: dict[str, str], sets: Sequence[EvaluationSet], sketches: Sketches) -> None:
    """Write all records, each with what drops it, and the sketches of those that were compared."""
    from volant.modalities.sketch_columns import keep
    from volant.store.dataset import dropped_tables, tables, writer

    rules: Counter[str] = Counter()
    kept = 0
    with writer(run.out, modality=run.modality) as out:
        for table in tables(data):
            run.check_stop()
            table, gone = _remembered(run, table)
            out.write_all(gone)
            table = _dropping(table, drops, sets)
            why = table["drop"].to_pylist()
            rules.update(drop.split(":")[0] for drop in why if drop)
            kept += why.count("")
            out.write_table(table)
        for table in dropped_tables(data):
            out.write_table(table)
    keep(run.out, [sketches])
    report(run, sets)
    total = kept + rules.total()
    told = ", ".join(f"{count:,} {rule}" for rule, count in rules.most_common()) or "none"
    run.say(f"{kept:,} of {total:,} records are new; dropped: {told}")
    run.score(Score.exact("kept_share", kept / max(1, total), n=max(1, total)))
    for rule, count in sorted(rules.items()):
        run.score(Score.exact(f"dropped_{rule}", count, n=total, unit="records", direction="lower"))


def _remembered(run: Run, table: Any) -> tuple[Any, list[Sample]]:
    """The rows without those that were to be forgotten, and what is left of these."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from volant.store.dataset import from_table

    if not run.forgotten:
        return table, []
    gone = pc.is_in(table["id"], pa.array(sorted(run.forgotten)))
    return table.filter(pc.invert(gone)), [run.remembered(sample) for sample in from_table(table.filter(gone))]


def _dropping(table: Any, drops: dict[str, str], sets: Sequence[EvaluationSet]) -> Any:
    """The rows with what drops them: likeness, or what a training text shares with a held-out one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from volant.modalities.record_columns import contents
    from volant.modalities.text_arrays import text_array

    ids = table["id"].to_pylist()
    why = [drops.get(id, "") for id in ids]
    training = np.asarray(pc.equal(table["split"], "train")) & ~contents(table)
    places = [at for at in np.flatnonzero(training).tolist() if not why[at]]
    if places and any(one.ids for one in sets):
        found = look(sets, text_array(table.take(pa.array(places))))
        noted(sets, [ids[place] for place in places], found)
        for at, drop in told(sets, found).items():
            why[places[at]] = drop
    column = table.schema.get_field_index("drop")
    return table.set_column(column, table.schema.field(column), pa.array(why, pa.string()))
