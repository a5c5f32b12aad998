"""The outside world, declared: setting types for what a method reads that is no artifact.

    def files(run: Run, *, glob: Files, licence: str) -> Dataset: ...

The caller passes a plain value (a glob, a name). Before the call the project resolves it into a
snapshot, whose digest enters the fingerprint; the method reads only that snapshot:
`run.snapshot("glob").files`. So an edited file makes its step stale, and a harvest is a pure function.

| type      | the caller passes                   | the snapshot holds                                   |
|-----------|-------------------------------------|------------------------------------------------------|
| `Files`   | a glob, or a list of them           | the matching files with size and sha256              |
| `Folder`  | a directory                         | every file in it, with size and sha256               |
| `Hub`     | a local directory, or a hub name    | the directory's files, or the name and its revision  |
| `Records` | a workload's name (`*`: all)        | a high-water mark of its requests and feedback       |
| `Ratings` | `*`: the project's; empty: none     | a high-water mark of people's ratings                |
| `Machine` | `here`                              | cores, memory, free disk, devices (not in the digest) |
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

OutsideKind = Literal["files", "folder", "hub", "records", "ratings", "machine"]


@dataclass(frozen=True)
class Outside:
    """Marks a setting as a name for something outside; carried in `Annotated`."""

    kind: OutsideKind


Files: TypeAlias = Annotated[str | list[str], Outside("files")]
Folder: TypeAlias = Annotated[str, Outside("folder")]
Hub: TypeAlias = Annotated[str, Outside("hub")]
Records: TypeAlias = Annotated[str, Outside("records")]
Ratings: TypeAlias = Annotated[str, Outside("ratings")]
Machine: TypeAlias = Annotated[str, Outside("machine")]


def storable(name: str) -> str:
    """A file's name as it can be stored and shown: bytes that are no UTF-8 are written out.

    >>> storable("caf\\udce9.txt")
    'caf\\\\udce9.txt'
    """
    return name.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class OutsideFile:
    """One file as it was when the snapshot was taken.

    Attributes:
        path: where to read it, absolute.
        name: its path relative to the project or to the folder asked for; this is what may be stored.
    """

    path: Path
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """What a method may know of the outside: files, or facts, and the digest of both.

    Attributes:
        facts: for `hub`: `{"name", "revision", "local"}`; for `records`: `{"workload", "requests",
            "feedback"}` (the highest ids); for `ratings`: `{"workload", "ratings"}`; for `machine`:
            `{"cores", "memory_bytes", ...}`. Of files `{"left_out"}`: names of links that lead out of the
            project and are not followed; absent where there is none.
    """

    kind: OutsideKind
    value: str | list[str]
    files: tuple[OutsideFile, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 over names, sizes, hashes and facts; constant for `machine`, which must not cause re-runs."""
        if self.kind == "machine":
            return hashlib.sha256(b"machine").hexdigest()
        listing = [[f.name, f.bytes, f.sha256] for f in self.files]
        payload = json.dumps([self.kind, self.value, listing, self.facts], sort_keys=True)
        return hashlib.sha256(payload.encode()).hexdigest()
