"""Loops over words and hashes as machine code: one typed door to numba's compiler.

In goes a function of arrays and numbers; out comes the same function, compiled at its first call and kept
beside its file (or in the user's cache), so that the next process starts at once. Such functions live in files
of their own, which are imported where they are called: importing numba takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function; what cannot be kept on disk (no folder to write in) is compiled in every process."""
    try:
        return cast(F, njit(cache=True, nogil=True)(function))
    except RuntimeError:
        return cast(F, njit(nogil=True)(function))
