"""Models that come with Volant: small bases, as files beside the code.

A name such as `volant/docstrings` enters, where another would name a model on the hub; its folder and files leave,
each checked against `base.json`, which lists their sha256. No network is asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from volant.core.errors import ArtifactError, SettingError, did_you_mean

PREFIX = "volant/"
FACTS = "base.json"


def is_shipped(name: str) -> bool:
    """Whether a name is one of ours."""
    return name.startswith(PREFIX)


def folder_of(name: str, *, where: str = "") -> Path:
    """The folder of a shipped model.

    Raises:
        SettingError: there is none of that name.
    """
    root = Path(str(files("volant") / "bases"))
    known = {PREFIX + file.parent.name: file.parent for file in root.glob(f"*/{FACTS}")}
    if name not in known:
        fix = did_you_mean(name, known)
        raise SettingError(f"no model {name!r} comes with Volant.", where=where, fix=fix)
    return known[name]


def check(folder: Path, found: Mapping[str, str], *, where: str = "") -> None:
    """Hold the sha256 of each file against the list that was written when the model was made.

    Raises:
        ArtifactError: a file is missing or another one.
    """
    wanted: dict[str, str] = json.loads((folder / FACTS).read_text(encoding="utf-8"))["files"]
    for name, digest in sorted(wanted.items()):
        if found.get(name) != digest:
            what = f"{name} of the model that comes with Volant is {'damaged' if name in found else 'missing'}."
            raise ArtifactError(what, where=where, fix="Install Volant again.")
