"""Where the project is: the nearest folder upwards that holds `volant.yaml` or `.volant`.

Enters: the current directory. Leaves: an opened `Project`. Importing the project is left to the
moment a command needs it, so that `volant --help` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from volant.core.artifact import Artifact
from volant.core.errors import ArtifactError, SpecError
from volant.core.run import Watcher

if TYPE_CHECKING:
    from volant.project import Project

FILE = "volant.yaml"
A = TypeVar("A", bound=Artifact)


def root(start: Path | None = None) -> Path:
    """The project's directory.

    Raises:
        SpecError: neither this directory nor one above it is a project.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file() or (folder / ".volant").is_dir():
            return folder
    raise SpecError(
        f"no {FILE} here or in a folder above.",
        where=str(here),
        fix="Make a project with `volant init --template finetune`, or name one: `volant -C <folder> ...`.",
    )


def project(watcher: Watcher | None = None, *, device: str = "", threads: int = 0, processes: int = 0) -> Project:
    """The project of the current directory, opened."""
    from volant.project import Project

    return Project(root(), watcher=watcher, device=device, threads=threads, processes=processes)


def artifact(opened: Project, name: str, kind: type[A]) -> A:
    """The artifact called `name` (alias, step or digest), which has to be of a kind.

    Raises:
        ArtifactError: there is none of that name, or it is of another kind.
    """
    found = opened.artifact(name)
    if not isinstance(found, kind):
        raise ArtifactError(
            f"{name!r} is a {found.kind}; a {kind.kind} is needed here.", fix="`volant status` lists what there is."
        )
    return found


def newest(opened: Project, kind: type[A], *, prefer: str = "") -> A:
    """The artifact behind the alias `prefer`, else what the last step of the file that makes this kind made last.

    Raises:
        ArtifactError: nothing of this kind was made yet.
    """
    from volant.core.method import method_named

    if prefer and opened.records.alias(prefer) is not None:
        return artifact(opened, prefer, kind)
    steps = opened.spec.steps if opened.spec else {}
    for name in reversed(steps):
        if method_named(steps[name].use).returns is kind and opened.records.runs(step=name, status="done", limit=1):
            return artifact(opened, name, kind)
    raise ArtifactError(f"no {kind.kind} was made here yet.", fix="Run `volant run` first.")
