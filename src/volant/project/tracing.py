"""From a record to everything that was made of it, and from an artifact back to its records' sources.

Enters: record ids, or an artifact. Leaves: where the records lie (kept, or dropped and by which rule), their
source and licence, what they were made from and what was made from them, and the models, reports and
endpoints that saw them. Where a record lies is looked up in an index (`store/record_index.py`), what was
made of a dataset in the edges of runs; the two are joined here, so that a model below a dataset counts as
touched only if the record was still in what it read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from volant.core.artifact import Card, Dataset
from volant.core.errors import DataError
from volant.core.method import method_named
from volant.project.execute import SEES_TEST
from volant.store.lineage import Edge, ancestors, descendants
from volant.store.record_index import Held, RecordIndex, index_of
from volant.store.records import RunRow

if TYPE_CHECKING:
    from volant.project.project import Project

MOST = 100_000  # records that one trace follows; a longer one says that it was cut
How = Literal["holds", "dropped", "learnt", "measured", "made"]


@dataclass(frozen=True)
class Touched:
    """An artifact that a record reached.

    Attributes:
        how: `holds` or `dropped` it (datasets); may have `learnt` from it (train split) or was `measured` on it
            (validation, test); was `made` of something that did.
        records: which of the asked or derived ids it read; empty where it read none itself.
        gone: it is in the records of runs, but no longer in the store.
    """

    digest: str
    kind: str
    step: str
    method: str
    how: How
    records: list[str] = field(default_factory=list)
    gone: bool = False


@dataclass(frozen=True)
class Trace:
    """What is known of some records.

    Attributes:
        asked: the ids that were asked for.
        held: each row that carries one of them.
        above: rows of what they were made from; `below`: rows of what was made from them.
        touched: datasets first, then what was made of them, in the order of making.
        cut: more records than `MOST` hang together; what is shown is not all.
    """

    asked: list[str]
    held: list[Held]
    above: list[Held]
    below: list[Held]
    touched: list[Touched]
    cut: bool = False


@dataclass(frozen=True)
class Origin:
    """What an artifact goes back to, as it entered the project: a dataset, or a base model.

    Attributes:
        licences, origins: kept records by licence and by origin.
        settings: what it was gathered with (the files, the hub's name).
    """

    digest: str
    kind: str
    step: str
    method: str
    kept: int
    licences: dict[str, int]
    origins: dict[str, int]
    settings: dict[str, Any]
    gone: bool = False


def datasets(project: Project) -> list[Dataset]:
    """Every stored dataset."""
    home = project.store.artifacts
    found = [digest for digest in project.store.digests() if (home / digest / "dataset.json").is_file()]
    return [a for a in map(project.store.get, found) if isinstance(a, Dataset)]


def trace(project: Project, records: Sequence[str]) -> Trace:
    """Everything that is known of some records.

    Raises:
        DataError: no dataset here holds one of them.
    """
    index, all_data = index_of(project.store.root), datasets(project)
    asked = list(dict.fromkeys(records))
    held = [row for data in all_data for row in index.find(data, asked)]
    missing = sorted(set(asked) - {row.id for row in held})
    if missing:
        what = f"no dataset here holds the record {missing[0]!r}" + (f" ({len(missing)} unknown)" * (len(missing) > 1))
        raise DataError(f"{what}.", fix="Ids stand in the column `id` of a dataset; `volant verify` says what is lost.")
    above, cut_above = _above(index, all_data, held)
    below, cut_below = _below(index, all_data, asked)
    touched = _touched(project, [*held, *below])
    return Trace(asked, held, above, below, touched, cut_above or cut_below)


def _above(index: RecordIndex, all_data: Sequence[Dataset], held: Iterable[Held]) -> tuple[list[Held], bool]:
    seen: set[str] = set()
    found: list[Held] = []
    todo = {parent for row in held for parent in row.parents}
    while todo and len(seen) < MOST:
        rows = [row for data in all_data for row in index.find(data, todo)]
        seen |= todo
        found += rows
        todo = {parent for row in rows for parent in row.parents} - seen
    return found, bool(todo)


def _below(index: RecordIndex, all_data: Sequence[Dataset], ids: Iterable[str]) -> tuple[list[Held], bool]:
    todo = set(ids)
    seen = set(todo)
    found: dict[tuple[str, str], Held] = {}
    while todo and len(seen) < MOST:
        rows = [row for data in all_data for row in index.find(data, todo, children=True)]
        found |= {(row.dataset, row.id): row for row in rows}
        todo = {row.id for row in rows} - seen
        seen |= todo
    return list(found.values()), bool(todo)


def _touched(project: Project, rows: Sequence[Held]) -> list[Touched]:
    """The datasets that hold the rows, and what was made of them while they were kept."""
    by_data: dict[str, list[Held]] = {}
    for row in rows:
        by_data.setdefault(row.dataset, []).append(row)
    walk = _Walk(project, by_data)
    for digest in by_data:
        walk.follow(digest)
    return walk.ordered()


class _Walk:
    """Follows the edges of runs from the datasets that hold the rows."""

    def __init__(self, project: Project, by_data: dict[str, list[Held]]) -> None:
        self.project, self.by_data = project, by_data
        self.found: dict[str, Touched] = {}
        self.edges: dict[str, set[Edge]] = {}
        for digest in by_data:
            for edge in descendants(project.records, digest):
                self.edges.setdefault(edge.parent, set()).add(edge)

    def follow(self, digest: str) -> None:
        """Add a dataset that holds rows, and what it reached."""
        kept = [row for row in self.by_data[digest] if not row.drop]
        self._add(digest, "holds" if kept else "dropped", self.by_data[digest])
        for edge in sorted(self.edges.get(digest, ())):
            kind, _, method = _named(self.project, edge)
            stage = method.partition(".")[0]
            seen = [row for row in kept if row.split != "test" or stage in SEES_TEST]
            if kind == "Dataset":
                continue  # what it took over of the rows, or made of them, is known from its own index
            if seen:
                trained = stage not in SEES_TEST and any(row.split == "train" for row in seen)
                self._reach(edge, "learnt" if trained else "measured", seen)

    def _reach(self, edge: Edge, how: How, rows: Sequence[Held]) -> None:
        known = self.found.get(edge.child)
        if known and not (how == "learnt" and known.how in ("measured", "made")):
            return
        kind, step, method = _named(self.project, edge)
        gone = not self.project.store.has(edge.child)
        ids = sorted({row.id for row in rows})
        self.found[edge.child] = Touched(edge.child, kind, step, method, how, ids, gone)
        for further in sorted(self.edges.get(edge.child, ())):
            self._reach(further, "made", [])

    def _add(self, digest: str, how: How, rows: Sequence[Held]) -> None:
        card = _card(self.project, digest)
        self.found[digest] = Touched(digest, "Dataset", card.step, card.method, how, sorted({r.id for r in rows}))

    def ordered(self) -> list[Touched]:
        """Datasets first; within each part the order of making."""
        when = {run.artifact: at for at, run in enumerate(reversed(self.project.records.runs(status="done")))}
        return sorted(self.found.values(), key=lambda t: (t.kind != "Dataset", when.get(t.digest, -1), t.digest))


def _card(project: Project, digest: str) -> Card:
    card = project.store.get(digest).card
    assert card is not None, "a stored artifact has its card"
    return card


def _named(project: Project, edge: Edge) -> tuple[str, str, str]:
    """Kind, step and method of what an edge made, from the run: the artifact itself may be gone."""
    if project.store.has(edge.child):
        card = _card(project, edge.child)
        return card.kind, card.step, card.method
    run = project.records.run(edge.run)
    return method_named(run.method).returns.kind, run.step, run.method


def origins(project: Project, name: str) -> list[Origin]:
    """What an artifact goes back to: the datasets as they entered the project, and base models; the largest first."""
    digest = project.artifact(name).digest
    above = ancestors(project.records, digest)
    roots = sorted({edge.parent for edge in above} - {edge.child for edge in above}) or [digest]
    runs = {run.artifact: run for run in project.records.runs(status="done")}
    return sorted((_origin(project, root, runs.get(root)) for root in roots), key=lambda o: (-o.kept, o.step, o.digest))


def _origin(project: Project, digest: str, run: RunRow | None) -> Origin:
    if not project.store.has(digest):
        step, method, settings = (run.step, run.method, run.settings) if run else ("", "", {})
        return Origin(digest, "", step, method, 0, {}, {}, settings, gone=True)
    artifact, card = project.store.get(digest), _card(project, digest)
    if not isinstance(artifact, Dataset):
        licences = dict.fromkeys(card.licences, 0)
        return Origin(digest, card.kind, card.step, card.method, 0, licences, {}, card.settings)
    about = artifact.about
    kept = sum(about["splits"].values())
    return Origin(digest, card.kind, card.step, card.method, kept, about["licences"], about["origins"], card.settings)
