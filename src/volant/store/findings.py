"""What methods found of artifacts, beside them: `.volant/findings/<digest of the artifact>/<kind>-<key>/`.

Enters: an artifact's digest, a kind of findings, and what else they depend on. Leaves: a folder that outlives the
step, so that the next step with other settings looks there before it reads the artifact again. It is no payload and may
be lost at any moment: whoever reads there checks what it reads, and finds again what is missing or damaged. Nothing is
fsynced.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from volant.store.disk import tree_bytes


class Findings:
    """The findings of a store.

    Args:
        root: the directory that holds them; made with the first one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, digest: str, kind: str, about: str) -> Path:
        """The folder for what was found of an artifact by a code and settings that `about` tells apart."""
        home = self.root / digest / f"{kind}-{sha256(about.encode()).hexdigest()[:24]}"
        home.mkdir(parents=True, exist_ok=True)
        os.utime(home)  # the one that was asked for last is the one that stays
        return home

    def collect(self, keep: Collection[str], *, dry: bool = False) -> int:
        """Remove those of other artifacts than these, and of these all but the last of each kind; returns the bytes.

        A run that uses a finding has links of its own to the files, so nothing goes away under it.
        """
        freed = 0
        for home in _folders(self.root):
            found = _folders(home)
            last = {folder.name.rsplit("-", 1)[0]: folder for folder in found}.values()
            for folder in [folder for folder in found if folder not in last] if home.name in keep else [home]:
                freed += tree_bytes(folder)
                if not dry:
                    shutil.rmtree(folder, ignore_errors=True)
        return freed


def _folders(root: Path) -> list[Path]:
    """The folders in one, the one that was asked for last at the end; whatever else lies there is not ours."""
    times: dict[Path, int] = {}
    with suppress(FileNotFoundError):
        for folder in root.iterdir():
            with suppress(FileNotFoundError):
                if folder.is_dir():
                    times[folder] = folder.stat().st_mtime_ns
    return sorted(times, key=times.__getitem__)
