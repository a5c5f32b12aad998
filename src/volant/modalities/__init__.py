"""What an example is: how to read, check, encode, compare, show and hand out each kind of content.

A modality is a module here with an instance named `modality`; `open_modality("text")` finds it by
name, so nobody keeps a list. Outside ones come from the entry-point group `volant.modalities`.
No torch below this folder: arrays are numpy's.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from functools import lru_cache
from typing import cast

from volant.core.errors import SettingError, did_you_mean
from volant.core.protocols import Modality


@lru_cache(maxsize=32)
def open_modality(name: str) -> Modality:
    """The modality of that name: a module of this folder, or an entry point of `volant.modalities`.

    Raises:
        SettingError: there is none; the message names the nearest one.
    """
    if name.isidentifier() and any(m.name == name for m in pkgutil.iter_modules(__path__)):
        found = getattr(importlib.import_module(f"{__name__}.{name}"), "modality", None)
        if found is not None:
            return cast(Modality, found)
    points = {point.name: point for point in importlib.metadata.entry_points(group="volant.modalities")}
    if name in points:
        return cast(Modality, points[name].load())
    raise SettingError(
        f"there is no modality {name!r}.", where="goal.modality", fix=did_you_mean(name, [*_built_in(), *points])
    )


def _built_in() -> list[str]:
    modules = [m.name for m in pkgutil.iter_modules(__path__)]
    return [m for m in modules if hasattr(importlib.import_module(f"{__name__}.{m}"), "modality")]
