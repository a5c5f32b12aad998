"""Small worlds for contract tests: made-up tasks, and artifacts put into the store of a test's project.

Samples or artifacts from elsewhere enter a project; sealed artifacts leave, the same digest wherever
they are made. A method's `arguments` builder is then two lines; what is expensive (a trained model) is
made once and put into each project.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from volant.core.artifact import CARD, Artifact, Dataset
from volant.core.sample import Sample, Split

if TYPE_CHECKING:
    from volant.project import Project

A = TypeVar("A", bound=Artifact)
_MODALITIES = {"media": "image", "row": "table"}


def tasks(n: int = 60, *, seed: int = 0) -> list[Sample]:
    """`n` made-up tasks with answers; of ten, eight are for training, one each for validation and test."""
    from volant.scorers.ladders import references

    splits: tuple[Split, ...] = ("train",) * 8 + ("validation", "test")
    made = references(n, seed)
    return [s.model_copy(update={"split": splits[i % 10], "group": s.id}) for i, s in enumerate(made)]


def dataset(project: Project, samples: Iterable[Sample]) -> Dataset:
    """The samples as a sealed Dataset in the project's store."""
    from volant.store.dataset import writer

    kept = list(samples)
    place = project.store.scratch("world")
    with writer(place, modality=_MODALITIES.get(kept[0].shape if kept else "", "text")) as out:
        out.write_all(kept)
    return project.store.seal(Dataset, place, licences=sorted({s.source.licence for s in kept}))


def put(project: Project, made: A) -> A:
    """A copy of an artifact (sealed or not) in the project's store, with its card where it has one."""
    place = project.store.scratch("world")
    shutil.copytree(made.path, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CARD))
    known: dict[str, Any] = made.card.model_dump() if made.card else {}
    for own in ("kind", "digest", "files"):
        known.pop(own, None)
    return project.store.seal(type(made), place, **known)
