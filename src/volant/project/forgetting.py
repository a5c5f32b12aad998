"""What must be made anew when records are to be forgotten: who holds them, who learnt from them, in which order.

Enters: record ids. Leaves: the artifacts and aliases that they reached, the steps of the project file to run
again with the seconds that they took last time, and what keeps old copies alive. `apply` writes the ids into
`forgotten.jsonl`; the next `volant run` leaves the records out, and `volant gc` frees what nothing needs any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from volant.project.forgotten import add_forgotten
from volant.project.tracing import Touched, Trace, trace
from volant.store.record_index import Held

if TYPE_CHECKING:
    from volant.project.planning import Planned
    from volant.project.project import Project


@dataclass(frozen=True)
class Redo:
    """One step to run again. `seconds` is what its newest finished run took; None where none finished."""

    step: str
    method: str
    seconds: float | None
    why: str


@dataclass(frozen=True)
class Forgetting:
    """What forgetting some records means.

    Attributes:
        records: the ids to leave out: those asked for, and the records that they are another form of (a text
            before its personal data was masked).
        touched: the artifacts that they reached, as in `Trace`.
        aliases: names that point at one of them now (`champion`).
        steps: the steps of the project file to run again, in order.
        unplanned: touched artifacts that no step of the project file makes: they have to be made again by hand.
        pinned: touched artifacts that promotions keep for rollbacks, so that `volant gc` leaves them.
    """

    records: list[str]
    touched: list[Touched]
    aliases: list[str] = field(default_factory=list)
    steps: list[Redo] = field(default_factory=list)
    unplanned: list[str] = field(default_factory=list)
    pinned: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """What the steps took last time, together; steps that never finished count nothing."""
        return sum(step.seconds or 0.0 for step in self.steps)


def forget(project: Project, records: Sequence[str]) -> Forgetting:
    """What is affected when records are forgotten, and what to run again; changes nothing.

    Raises:
        DataError: no dataset here holds one of them.
    """
    found = trace(project, records)
    ids = _same_records(found)
    if len(ids) > len(found.asked):  # what they were masked from reaches further than they do
        found = trace(project, ids)
    # Of a record that was forgotten before, a dataset keeps the name alone.
    only_names = {(row.dataset, row.id) for row in found.held if row.drop.startswith("forgotten:")}
    touched = [
        one for one in found.touched
        if one.how != "dropped" or not all((one.digest, id) in only_names for id in one.records)
    ]  # fmt: skip
    planned = project.plan() if project.spec else []
    steps = _steps(project, planned, touched)
    there = {one.digest for one in touched if not one.gone}
    made_by = {step.name for step in planned}
    aliases, pinned = [], set()
    for row in project.records.aliases():
        aliases += [row.name] if row.digest in there else []
        for promotion in project.records.promotions(row.name):
            pinned |= {promotion.digest, promotion.previous or ""} & there
    unplanned = [one.digest for one in touched if one.digest in there and one.step not in made_by]
    return Forgetting(ids, touched, sorted(aliases), steps, unplanned, sorted(pinned))


def apply(project: Project, found: Forgetting, reason: str = "") -> list[str]:
    """Write the records into `forgotten.jsonl`; returns the ids that were not there yet."""
    new = add_forgotten(project.root, dict.fromkeys(found.records, reason))
    project.__dict__.pop("forgotten", None)
    return new


def _same_records(found: Trace) -> list[str]:
    """The asked ids, and those above them that come from the same place: the same record in another form."""
    above: dict[str, Held] = {row.id: row for row in found.above}
    ids = dict.fromkeys(found.asked)
    todo = list(found.held)
    while todo:
        row = todo.pop()
        for parent in row.parents:
            if parent in above and parent not in ids and above[parent].source.uri == row.source.uri:
                ids[parent] = None
                todo.append(above[parent])
    return list(ids)


def _steps(project: Project, planned: Sequence[Planned], touched: Sequence[Touched]) -> list[Redo]:
    """The steps that made something touched, those that read the list of forgotten records, and all behind them."""
    reached = {one.step: one.how for one in touched}
    said = {
        "holds": "holds it", "dropped": "keeps it among the dropped", "learnt": "learnt from it",
        "measured": "was measured on it", "made": "was made of what learnt from it",
    }  # fmt: skip
    changed: set[str] = set()
    again = []
    for step in planned:
        behind = next((name for name in step.needs if name in changed), "")
        why = said[reached[step.name]] if step.name in reached else f"follows {behind}" if behind else ""
        if why:
            changed.add(step.name)
        elif {"remembered", "forgotten"} & set(project.code.of(step.method).reads):
            why = "looks whether it has it"  # and makes the same bytes, so that what follows it stays fresh
        if why:
            runs = project.records.runs(step=step.name, status="done", limit=1)
            again.append(Redo(step.name, step.method.name, runs[0].seconds if runs else None, why))
    return again
