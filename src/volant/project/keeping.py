"""Keeps the store sound and small: verify, collect garbage, push to another place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from volant.project.looking import fresh_artifacts
from volant.store.lineage import ancestors
from volant.store.record_index import index_of

if TYPE_CHECKING:
    from volant.project.project import Project


@dataclass(frozen=True)
class Freed:
    """What a collection removed: digests of artifacts, their bytes, and the bytes of findings (`store.findings`)."""

    digests: list[str]
    bytes: int
    findings: int = 0


def verify(project: Project, names: Sequence[str] = ()) -> dict[str, list[str]]:
    """Re-hash artifacts (all by default); returns what is wrong, by digest. Empty is good."""
    digests = [project.artifact(name).digest for name in names] or project.store.digests()
    found = {digest: project.store.verify(digest) for digest in digests}
    return {digest: problems for digest, problems in found.items() if problems}


def needed(project: Project) -> set[str]:
    """Digests that must stay: aliases, every promotion's model, each step's newest run, and their ancestors.

    Promotions are pinned for good, so that a rollback always finds its model and its evidence.
    """
    roots: set[str] = set()
    for row in project.records.aliases():
        roots.add(row.digest)
        for promotion in project.records.promotions(row.name):
            roots |= {promotion.digest, promotion.previous or ""}
            roots |= set(promotion.evidence.get("extensions", []))
            roots |= set(promotion.evidence.get("reports", {}).values())
    newest: dict[str, str] = {}
    for run in project.records.runs(status="done"):
        newest.setdefault(run.step, run.artifact)
    roots |= set(newest.values())
    # A rejected candidate's run may be a step's newest one; what is fresh for the file stays too.
    if project.spec:
        roots |= {artifact.digest for artifact in fresh_artifacts(project).values()}
    keep = set(roots)
    for digest in roots - {""}:
        keep |= {edge.parent for edge in ancestors(project.records, digest)}
    return keep - {""}


def collect_garbage(project: Project, *, dry: bool = False) -> Freed:
    """Remove artifacts that no alias, promotion, newest run or their lineage needs, and what was found of them.

    Of an artifact that stays, the findings of older code and other settings go.

    Args:
        dry: only say what would go.
    """
    keep = needed(project)
    gone = [digest for digest in project.store.digests() if digest not in keep]
    sizes = 0
    index = index_of(project.store.root)
    for digest in gone:
        if not dry:
            index.remove(digest)
        card = project.store.get(digest).card
        sizes += project.store.delete(digest) if not dry else (card.size_bytes if card else 0)
    project.store.sweep()
    return Freed(gone, sizes, project.findings.collect(keep, dry=dry))


def push(project: Project, url: str, names: Sequence[str] = ()) -> list[str]:
    """Copy artifacts and their lineage to another place (any fsspec URL); returns the digests."""
    roots = [project.artifact(name).digest for name in names] or sorted(needed(project))
    digests = set(roots)
    for digest in roots:
        digests |= {edge.parent for edge in ancestors(project.records, digest)}
    there = [digest for digest in sorted(digests) if project.store.has(digest)]
    project.store.push(url, there)
    return there
