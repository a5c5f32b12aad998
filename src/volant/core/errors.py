"""Every error that a user can cause, as one tree.

    VolantError                 exit code 2: what, where, and how to mend it
    |- SpecError                the project file: a line, a name, a type
    |- SettingError             a method's setting or input
    |- DataError                a data file, a record, an empty or too small dataset
    |- LicenceError             a licence that forbids the planned use
    |- ArtifactError            a missing, half-written or altered artifact
    |- PathError                a path that leaves the project
    |- MissingPackage           an optional package that is not installed
    |- MachineError             not enough memory, disk, or no such device
    |- GateRefused              a promotion or a release that a gate holds back
    |- RemoteError              a remote service that does not answer as it should
    `- Interrupted              Ctrl-C after a checkpoint; exit code 130

Users get these; a broken invariant of our own gets an `assert`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VolantError(Exception):
    """What went wrong, where, and how to mend it.

    Args:
        what: one sentence without a full stop at its start or a line break in it.
        where: file and line, step, or setting; empty where there is no place.
        fix: what the user can do now; empty only where `what` already says it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        if not self.fix:
            return head
        return f"{head}{'' if head.endswith(('.', '!', '?', ':', ';')) else '.'} {self.fix}"

    def at(self, where: str) -> VolantError:
        """The same error with a place put before the one it names already."""
        place = f"{where} {self.where}".strip() if self.where != where else where
        return type(self)(self.what, where=place, fix=self.fix)


class SpecError(VolantError):
    """The project file is wrong: a line, a name, a type."""


class SettingError(VolantError):
    """A method was given a setting or an input that it does not take."""


class DataError(VolantError):
    """A data file or a dataset cannot be used as it is."""


class LicenceError(VolantError):
    """A licence forbids the use that the plan states."""


class ArtifactError(VolantError):
    """An artifact is missing, incomplete, or not what its digest says."""


class PathError(VolantError):
    """A path leaves the project and was not allowed to."""


class MissingPackage(VolantError):
    """An optional package is needed and not installed."""


class MachineError(VolantError):
    """The machine has too little memory or disk, or lacks the device."""


class GateRefused(VolantError):
    """A gate holds back a promotion, a conversion or a release."""


class RemoteError(VolantError):
    """A remote service failed or answered in another shape than agreed."""


class Interrupted(VolantError):
    """The user asked to stop; a checkpoint was made first."""

    exit_code = 130


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean 'rank'?` for a near miss, else the sorted list of what is known.

    >>> did_you_mean("rnak", ["rank", "lr"])
    "Did you mean 'rank'?"
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known: {', '.join(names)}." if names else "None are known here."
