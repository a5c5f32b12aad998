"""Resolves what a method's settings name outside into snapshots, before the call.

File hashes are kept in `.volant/cache/hashes.json` by size, mtime and inode, so that an unchanged
file is not read again; a changed one changes the snapshot's digest and makes its step stale.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from volant.core.artifact import file_sha256
from volant.core.errors import DataError
from volant.core.outside import OutsideFile, OutsideKind, Snapshot, storable
from volant.core.paths import Resolver
from volant.project.cache import read_cache, write_cache
from volant.store import shipped
from volant.store.records import Records

SKIPPED_FOLDERS = {".git", ".volant", "__pycache__", ".cache"}


class Hashes:
    """sha256 of files, remembered by size, mtime and inode."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._changed = False

    @cached_property
    def _known(self) -> dict[str, list[Any]]:
        return read_cache(self.cache)

    def sha256(self, path: Path) -> tuple[int, str]:
        """Size in bytes and sha256 of a file."""
        stat = path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known and known[:3] == mark:
            return stat.st_size, str(known[3])
        digest = file_sha256(path)
        self._known[str(path)] = [*mark, digest]
        self._changed = True
        return stat.st_size, digest

    def save(self) -> None:
        """Write the cache if it changed."""
        if self._changed:
            write_cache(self.cache, self._known)
            self._changed = False


class Snapshots:
    """Takes snapshots for one project. `records` is a call, so that a check alone opens no database."""

    def __init__(self, resolver: Resolver, hashes: Hashes, records: Callable[[], Records]) -> None:
        self.resolver, self.hashes, self.records = resolver, hashes, records

    def take(self, kind: OutsideKind, value: str | list[str], *, where: str = "") -> Snapshot:
        """The snapshot of one setting.

        Raises:
            DataError: nothing matches, or the folder does not exist.
            PathError: it lies outside of the project.
        """
        if kind == "files":
            return self._files([value] if isinstance(value, str) else value, value, where)
        if kind in ("records", "ratings"):
            # Only the marks of what the method reads: a served request must not make a step of ratings stale.
            told = ("workload", "ratings") if kind == "ratings" else ("workload", "requests", "feedback")
            marks = self.records().marks(str(value))
            return Snapshot(kind, value, facts={name: marks[name] for name in told})
        if kind == "machine":
            return Snapshot(kind, value, facts=machine_facts(self.resolver.root))
        name = str(value)
        if kind == "hub" and shipped.is_shipped(name):
            return self._shipped(name, where)
        if kind == "hub" and not self._is_folder(name):
            return Snapshot(kind, value, facts={"name": name, "local": False})
        folder = self.resolver.resolve(name)
        if not folder.is_dir():
            raise DataError(
                f"there is no folder {name!r}.", where=where, fix="Check the name; it is relative to the project."
            )
        entries = tuple(self._entry(path, path.relative_to(folder).as_posix()) for path in self._walk(folder))
        return Snapshot(kind, value, files=entries, facts={"name": folder.name, "local": True} if kind == "hub" else {})

    def _shipped(self, name: str, where: str) -> Snapshot:
        folder = shipped.folder_of(name, where=where)
        entries = tuple(self._entry(path, path.relative_to(folder).as_posix()) for path in sorted(folder.iterdir()))
        shipped.check(folder, {entry.name: entry.sha256 for entry in entries}, where=where)
        return Snapshot("hub", name, files=entries, facts={"name": folder.name, "local": True})

    def _is_folder(self, name: str) -> bool:
        """Whether a hub setting names a directory: by its look, or because one is there."""
        return name.startswith((".", "/", "~")) or (self.resolver.root / name).is_dir()

    def _files(self, patterns: list[str], value: str | list[str], where: str) -> Snapshot:
        found: dict[Path, str] = {}
        left: list[str] = []
        for pattern in patterns:
            if not pattern:
                continue
            matches, leaving = self.resolver.sorted_out(pattern)
            if leaving and not matches:
                self.resolver.resolve(leaving[0])  # says how to allow it
            left += leaving
            if not matches:
                raise DataError(
                    f"no file matches {pattern!r}.", where=where,
                    fix=f"It is looked up in {self.resolver.root}; check the name and its ending.",
                )  # fmt: skip
            for path in matches:
                base = next(b for b in (self.resolver.root, *self.resolver.allowed) if path.is_relative_to(b))
                found[path] = path.relative_to(base).as_posix()
        files = tuple(self._entry(path, name) for path, name in found.items())
        return Snapshot("files", value, files=files, facts=_left_out(left))

    def _walk(self, folder: Path) -> list[Path]:
        """The files of a folder; a link that leads out is an error, because libraries open the folder themselves."""
        found = []
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
            links = [name for name in folders if (Path(parent) / name).is_symlink()]  # never walked into
            found += [self.resolver.resolve(Path(parent) / name) for name in [*links, *sorted(names)]]
        return [path for path in found if path.is_file()]

    def _entry(self, path: Path, name: str) -> OutsideFile:
        size, digest = self.hashes.sha256(path)
        return OutsideFile(path=path, name=storable(name), bytes=size, sha256=digest)


def _left_out(names: list[str]) -> dict[str, Any]:
    """Links that lead nowhere or out of the project are not followed, and not silently."""
    return {"left_out": sorted(set(map(storable, names)))} if names else {}


def machine_facts(root: Path) -> dict[str, Any]:
    """Cores, memory, free disk and number formats of this machine; sizes in bytes."""
    import psutil

    memory = psutil.virtual_memory()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": int(memory.total),
        "memory_free_bytes": int(memory.available),
        "disk_free_bytes": int(shutil.disk_usage(root).free),
        "bf16": "avx512_bf16" in flags or "amx_bf16" in flags,
    }
