"""The same bytes again: a manifest says what they were made of, and rebuilding makes them anew and compares.

Enters: an artifact, or a manifest of one. Leaves: for each artifact on the way to it, parents first, whether the
method, called again with the recorded settings, seed, goal and outside, made the digest that is on the card. Nothing
is taken from the store but what the manifest does not list, and nothing of the records is changed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

import volant
from volant.core.artifact import KINDS, Artifact, Card, Dataset, payload_digest
from volant.core.errors import ArtifactError, DataError
from volant.core.method import method_named
from volant.core.outside import Snapshot
from volant.core.run import Run
from volant.core.spec import Goal
from volant.project.execute import SEES_TEST, runner_of

if TYPE_CHECKING:
    from volant.project.project import Project


@dataclass(frozen=True)
class Rebuilt:
    """One artifact made again. `differ` names the files that came out otherwise; empty: the same bytes."""

    step: str
    method: str
    digest: str
    made: str
    differ: list[str]

    @property
    def same(self) -> bool:
        """Whether every byte is what it was."""
        return self.made == self.digest


def cards_of(project: Project, digest: str) -> list[Card]:
    """The cards of an artifact and of all that it was made from, parents first.

    Raises:
        ArtifactError: one of them is gone.
    """
    found: dict[str, Card] = {}

    def add(one: str) -> None:
        if one in found:
            return
        card = project.store.get(one).card
        assert card is not None, "a stored artifact has its card"
        for parents in card.parents.values():
            for parent in parents:
                add(parent)
        found[one] = card

    add(digest)
    return list(found.values())


def manifest(project: Project, name: str) -> dict[str, Any]:
    """What it takes to make an artifact again: the card of each artifact on the way, with the rows of datasets.

    A manifest holds no time and no run, so the same artifact has the same one everywhere.
    """
    digest = project.artifact(name).digest
    listed = []
    for card in cards_of(project, digest):
        body = card.model_dump(mode="json", exclude={"created_at", "run", "scores"})
        artifact = project.store.get(card.digest)
        if isinstance(artifact, Dataset):
            body["rows"] = {**artifact.about["splits"], "dropped": artifact.about["dropped"]}
        listed.append(body)
    return {"volant": volant.__version__, "digest": digest, "artifacts": listed}


def read_manifest(file: Path) -> list[Card]:
    """The cards that a manifest file lists, parents first.

    Raises:
        DataError: it is no manifest.
    """
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        cards = [{k: v for k, v in card.items() if k != "rows"} for card in body["artifacts"]]
        return [Card.model_validate(card) for card in cards]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        first = str(error).split("\n", maxsplit=1)[0]
        raise DataError(
            f"it is no manifest: {first}.", where=str(file), fix="`volant card --out` writes one."
        ) from error


def rebuild(project: Project, cards: Sequence[Card], *, keep: bool = False) -> list[Rebuilt]:
    """Make artifacts again, parents first, and compare; stops behind the first one that differs.

    Args:
        keep: put what came out the same into the store, where it is not there yet.

    Raises:
        DataError: what was read outside is not what it was; the message names the files.
        ArtifactError: something was not made by a method, or a parent is neither listed nor stored.
    """
    made: dict[str, Artifact] = {}
    results = []
    scratch = project.store.scratch("rebuild")
    try:
        for card in cards:
            out = scratch / card.digest
            artifact = _made_again(project, card, made, out)
            digest, entries = payload_digest(artifact.path)
            then, now = ({entry.path: entry.sha256 for entry in files} for files in (card.files, entries))
            differ = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
            results.append(Rebuilt(card.step, card.method, card.digest, digest, differ))
            if differ:
                break
            made[card.digest] = KINDS[card.kind](out, card)
            if keep and not project.store.has(card.digest):
                made[card.digest] = _kept(project, card, out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return results


def _made_again(project: Project, card: Card, made: Mapping[str, Artifact], out: Path) -> Artifact:
    if not card.method:
        fix = "It was put into the store from outside; `volant push` and `pull` carry it."
        raise ArtifactError("no method made it.", where=card.step or card.digest[:12], fix=fix)
    method = method_named(card.method, where=card.step)
    inputs = {
        name: [made[d] if d in made else project.store.get(d) for d in digests]
        for name, digests in card.parents.items()
    }
    bound = method.bind({**card.settings, **inputs}, where=card.step)
    if method.stage not in SEES_TEST:
        bound.inputs.update(
            {n: [project.store.view(a) if isinstance(a, Dataset) else a for a in v] for n, v in bound.inputs.items()}
        )
    out.mkdir()
    work = out.with_name(f"{card.digest}-work")
    work.mkdir()
    goal = Goal.model_validate({**card.recipe.get("goal", {}), "modality": card.recipe.get("modality", "text")})
    run = Run(
        step=card.step, out=out, work=work, seed=card.seed, device=project.device, threads=project.threads,
        modality=goal.modality, goal=goal, resolver=project.resolver, watcher=project.watcher,
        records=project.records.reader(), outside=_outside(project, card), forgotten=project.forgotten,
        spec_steps=card.recipe.get("steps", []), stop=project.stop,
    )  # fmt: skip
    again: Artifact = runner_of(card.recipe.get("processes", 1)).submit(method.call, run, bound).result()
    return again


def _outside(project: Project, card: Card) -> dict[str, Snapshot]:
    """The snapshots that the method read, taken again: files must be what they were, records end at the same marks."""
    method = method_named(card.method)
    found = {}
    for name, was in card.recipe.get("outside", {}).items():
        kind, value = method.outside[name], card.settings[name]
        if kind in ("records", "ratings"):
            found[name] = Snapshot(kind, value, facts=was["facts"])
            continue
        now = project.snapshots.take(kind, value, where=f"{card.step}.{name}")
        if now.digest != was["digest"]:
            then = {entry[0]: entry[2] for entry in was["files"]}
            here = {file.name: file.sha256 for file in now.files}
            differ = sorted(f for f in {*then, *here} if then.get(f) != here.get(f)) or [str(value)]
            what = f"{len(differ)} of what {name!r} names changed since: {', '.join(differ[:3])}"
            raise DataError(f"{what}.", where=card.step, fix="Bring the files back that the manifest lists.")
        found[name] = now
    return found


def _kept(project: Project, card: Card, out: Path) -> Artifact:
    moved = project.store.scratch(card.step)
    moved.rmdir()
    out.rename(moved)
    fields = card.model_dump(exclude={"kind", "digest", "files", "created_at"})
    return project.store.seal(KINDS[card.kind], moved, **fields)
