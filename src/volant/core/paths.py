"""The one resolver for file names that come from outside: nothing leaves the project unasked."""

from __future__ import annotations

import glob as globbing
import os
from dataclasses import dataclass
from pathlib import Path

from volant.core.errors import PathError


@dataclass(frozen=True)
class Resolver:
    """Resolves names against the project's root and refuses what leaves it.

    Args:
        root: the project's directory, absolute and resolved.
        allowed: further directories that the user opened with `VOLANT_ALLOW=/models:/data`.
    """

    root: Path
    allowed: tuple[Path, ...] = ()

    @classmethod
    def for_project(cls, root: Path) -> Resolver:
        """The resolver of a project, with the directories of `VOLANT_ALLOW`."""
        extra = os.environ.get("VOLANT_ALLOW", "")
        allowed = tuple(Path(part).resolve() for part in extra.split(os.pathsep) if part)
        return cls(root.resolve(), allowed)

    def resolve(self, name: str | Path) -> Path:
        """The absolute path of `name`, symbolic links followed; it need not exist.

        Raises:
            PathError: the name holds a NUL byte, or the path lies outside of root and allowed.
        """
        if "\0" in str(name):
            raise PathError("a file name holds a NUL byte", where=repr(str(name)), fix="Remove it.")
        path = (self.root / Path(name).expanduser()).resolve()
        if not any(path.is_relative_to(base) for base in (self.root, *self.allowed)):
            raise PathError(
                f"{path} lies outside of the project {self.root}",
                where=str(name),
                fix=f"Copy it into the project, or allow it: VOLANT_ALLOW={path if path.is_dir() else path.parent}",
            )
        return path

    def glob(self, pattern: str) -> list[Path]:
        """The plain files that match, sorted; directories are left out, links are checked where they lead."""
        found = globbing.glob(str(self.root / Path(pattern).expanduser()), recursive=True)  # noqa: PTH207 (absolute patterns)
        return sorted({self.resolve(name) for name in found if Path(name).is_file()})
