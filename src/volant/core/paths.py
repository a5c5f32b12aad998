"""The one resolver for file names that come from outside: nothing leaves the project unasked."""

from __future__ import annotations

import fnmatch
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
            PathError: the name holds a NUL byte, links lead in a circle, or the path lies outside of root and allowed.
        """
        if "\0" in str(name):
            raise PathError("a file name holds a NUL byte", where=repr(str(name)), fix="Remove it.")
        path = _real(self.root / Path(name).expanduser())
        if path is None:
            raise PathError("a link leads in a circle", where=str(name), fix="Remove it, or let it lead to a file.")
        if not self._allows(path):
            raise PathError(
                f"{path} lies outside of the project {self.root}",
                where=str(name),
                fix=f"Copy it into the project, or allow it: VOLANT_ALLOW={path if path.is_dir() else path.parent}",
            )
        return path

    def glob(self, pattern: str) -> list[Path]:
        """The plain files that match, sorted; directories are left out, links are checked where they lead.

        Raises:
            PathError: one of them lies outside of root and allowed.
        """
        found, leaving = self.sorted_out(pattern)
        for name in leaving:
            self.resolve(name)
        return found

    def sorted_out(self, pattern: str) -> tuple[list[Path], list[str]]:
        """The plain files that match, sorted, and the names of links that lead nowhere or out of root and allowed.

        `**` goes into no folder twice, and into none that lies outside; names with a dot at their beginning are
        passed over where the pattern names none.
        """
        asked = self.root / Path(pattern).expanduser()
        if "**" in asked.parts:
            at = asked.parts.index("**")
            starts = globbing.glob(str(Path(*asked.parts[:at])))  # noqa: PTH207 (absolute patterns)
            names = [name for start in sorted(starts) for name in self._below(Path(start), asked.parts[at:], set())]
        else:
            names = [Path(name) for name in globbing.glob(str(asked))]  # noqa: PTH207
        inside: set[Path] = set()
        leaving: list[str] = []
        for name in names:
            path = _real(name)
            if path is None or not self._allows(path) or not path.exists():
                leaving.append(name.relative_to(self.root).as_posix() if name.is_relative_to(self.root) else str(name))
            elif path.is_file():
                inside.add(path)
        return sorted(inside), sorted(leaving)

    def _below(self, folder: Path, pattern: tuple[str, ...], seen: set[Path]) -> list[Path]:
        """The files below a folder that match, and what leads out of the tree there."""
        if not folder.is_dir() or folder.resolve() in seen:
            return []
        seen.add(folder.resolve())
        found: list[Path] = []
        todo = [folder]
        hidden = any(part.startswith(".") for part in pattern)
        while todo:
            for entry in sorted(todo.pop().iterdir()):
                if entry.name.startswith(".") and not hidden:
                    continue
                real = _real(entry) if entry.is_symlink() else entry
                if real is None or not entry.is_dir() or not self._allows(real):
                    if entry.is_dir() or _matches(entry.relative_to(folder).parts, pattern):
                        found.append(entry)
                elif real not in seen:
                    seen.add(real)
                    todo.append(entry)
        return found

    def _allows(self, path: Path) -> bool:
        return any(path.is_relative_to(base) for base in (self.root, *self.allowed))


def _real(path: Path) -> Path | None:
    """The path with symbolic links followed; None where they lead in a circle."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # which of the two, or neither, is a matter of Python's version
        return None


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a pattern; `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(parts)
        return any(_matches(parts[at:], pattern[1:]) for at in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
