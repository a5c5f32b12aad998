"""How to learn: families of networks, the training loop, checkpoints, and the one adapter to TRL.

What enters: a codec's space and encoded examples. What leaves: weights in the ecosystem's own files.
A family is one module with an instance named `family`; `open_family` finds it by the module's name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import pkgutil
from pathlib import Path
from typing import Any

from volant.core.errors import ArtifactError, did_you_mean

# bitsandbytes, which peft imports where it is installed, tells users of a processor about a kernel that is not fetched.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def open_family(name: str) -> Any:
    """The family of that name: a module of `volant.nets`, or an entry point of group `volant.families`.

    Raises:
        ArtifactError: there is none; the message names the nearest one.
    """
    if name in {m.name for m in pkgutil.iter_modules(__path__)}:
        found = getattr(importlib.import_module(f"volant.nets.{name}"), "family", None)
        if found is not None:
            return found
    points = {p.name: p for p in importlib.metadata.entry_points(group="volant.families")}
    if name in points:
        return points[name].load()
    raise ArtifactError(f"there is no family {name!r}.", fix=did_you_mean(name, [*_built_in(), *points]))


def _built_in() -> list[str]:
    """The modules that hold a family, told by their text: importing them all would take seconds."""
    files = sorted(Path(__path__[0]).glob("*.py"))
    return [file.stem for file in files if "\nfamily = " in file.read_text(encoding="utf-8")]
