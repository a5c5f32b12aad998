"""What `clean` writes: every record, each with what drops it, after the training records were held against the gate.

In go judged rows and evaluation sets; out come the shards, and what was counted of the records for their page. A part
is looked at, told what drops it and counted by itself, by several threads where the run has them; what all of them
share (the files, the evidence, the sums) is added in the order of the parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from volant.core import Dataset, Run
from volant.stages.collect._clean_rows import Rows, in_order
from volant.stages.collect._counting import count_dropped, count_kept
from volant.stages.collect._facts import Facts, twins_in
from volant.stages.collect._guard import EvaluationSet, Shared, look_at, noted, told


@dataclass
class Out:
    """A part as it leaves.

    Attributes:
        ids, found: of the records that were held against the sets, and what they share with these.
        leaks: what drops rows for it, by place.
        tables: the kept rows, and the dropped ones; nothing where there is none.
        forgotten: rows that were to be forgotten; they are written last, and counted in none of the sums.
        kept, dropped: how many of each split, of each rule.
        facts: for the page; `gone` of what was dropped, by split.
    """

    ids: list[str]
    found: list[Shared]
    leaks: dict[int, str]
    tables: list[Any] = field(default_factory=list)
    forgotten: Any = None
    kept: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    facts: Facts = field(default_factory=lambda: Facts(""))
    gone: dict[str, Facts] = field(default_factory=dict)


def drop_leaks(run: Run, rows: Rows, sets: Sequence[EvaluationSet], training: Any) -> None:
    """Drop what of these training records the gate drops, before anything is written."""

    def looked(part: int) -> Out:
        return _looked(run, rows, part, sets, training)[0]

    parts = [part for part in range(len(rows.parts)) if len(rows.inside(part, training))]
    with run.progress("leakage gate", max(1, len(training)), "records") as bar:
        for part, out in zip(parts, in_order(run, looked, parts), strict=True):
            noted(sets, out.ids, out.found)
            rows.drop |= {int(rows.begin_P[part]) + at: drop for at, drop in out.leaks.items()}
            bar.advance(len(rows.inside(part, training)))


def write(
    run: Run, rows: Rows, sets: Sequence[EvaluationSet], inputs: Sequence[Dataset], training: Any
) -> tuple[Counter[str], Counter[str], Facts]:
    """Hold these training records against the sets, and write all records.

    Returns:
        How many were dropped by each rule and kept of each split, and what the page says of them.
    """
    from volant.store.arrow_memory import reused_memory
    from volant.store.dataset import dropped_tables, writer

    often = twins_in(rows.drop.values())
    dropped, kept, facts = Counter[str](), Counter[str](), Facts(run.modality, sought=set(often))
    gone: dict[str, Facts] = {}
    last: list[Any] = []

    def made(part: int) -> Out:
        out, table = _looked(run, rows, part, sets, training)
        _tell(rows, part, table, out)
        _count(out, often)
        return out

    with (
        writer(run.out, modality=run.modality, threads=run.threads) as files,
        run.progress("leakage gate and writing", len(rows), "records") as bar,
        reused_memory(),
    ):
        for part, out in enumerate(in_order(run, made, range(len(rows.parts)))):
            noted(sets, out.ids, out.found)
            dropped.update(out.dropped)
            kept.update(out.kept)
            facts.add(out.facts)
            _join(gone, out.gone)
            last += [out.forgotten] if out.forgotten else []
            for table in out.tables:
                files.write_table(table)
            bar.advance(rows.parts[part].rows)
        for table in [*last, *(table for one in inputs for table in dropped_tables(one))]:
            _join(gone, _counted(table))
            files.write_table(table)
    for _, own in sorted(gone.items()):  # in the order of the files, in which another look would count them
        facts.add(own)
    return dropped, kept, facts


def _looked(run: Run, rows: Rows, part: int, sets: Sequence[EvaluationSet], training: Any) -> tuple[Out, Any]:
    """What those of a part's rows that train share with the sets, and the rows."""
    from volant.modalities.text_arrays import text_array
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import numbers

    run.check_stop()
    table, places = rows.table(part), rows.inside(part, training)
    if not sets or not len(places):
        return Out([], [], {}), table

    def text_of(number: int) -> str:
        return str(text_array(table.slice(int(places[number]), 1))[0])

    found = look_at(sets, rows.words(part, places), text_of)
    ids = pc.take(table["id"], numbers(places)).to_pylist() if found else []
    return Out(ids, found, {int(places[at]): drop for at, drop in told(sets, found).items()}), table


def _tell(rows: Rows, part: int, table: Any, out: Out) -> None:
    """Write beside each row what drops it, and part the kept from the dropped."""
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import one, strings

    here = range(int(rows.begin_P[part]), int(rows.begin_P[part + 1]))
    drops = list(map(rows.drop.get, here, repeat("")))
    for at, drop in out.leaks.items():
        drops[at] = drop
    at = table.schema.get_field_index("drop")
    table = table.set_column(at, table.schema.field(at), strings(drops))
    if rows.forgotten and any(gone := [number in rows.forgotten for number in here]):
        out.forgotten = table.filter(gone)
        table = table.filter([not went for went in gone])
        drops = table["drop"].to_pylist()
    out.dropped.update(drop.split(":")[0] for drop in drops if drop)
    stays = pc.equal(table["drop"], one(""))
    for wanted in (stays, pc.invert(stays)):
        own = pc.filter(table, wanted)
        if own.num_rows:  # an empty slice would hold all texts of its table in memory
            out.tables.append(own)


def _count(out: Out, often: Sequence[str]) -> None:
    """Count the rows of a part for the sums and for the page."""
    for table in out.tables:
        if table["drop"][0].as_py():
            out.gone = _counted(table)
        else:
            out.kept.update(table["split"].to_pylist())
            count_kept(out.facts, table, often)


def _counted(table: Any) -> dict[str, Facts]:
    """What is counted of dropped rows, by split."""
    from volant.store import arrow_functions as pc
    from volant.store.arrow_values import one

    found = {}
    splits = pc.unique(table["split"]).to_pylist()
    for split in splits:
        found[split] = Facts("")
        count_dropped(
            found[split], pc.filter(table, pc.equal(table["split"], one(split))) if len(splits) > 1 else table
        )
    return found


def _join(gone: dict[str, Facts], later: dict[str, Facts]) -> None:
    for split, own in later.items():
        gone.setdefault(split, Facts("")).add(own)
