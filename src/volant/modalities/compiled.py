"""Loops over words and hashes as machine code: one typed door to numba's compiler.

In goes a function of arrays and numbers; out comes the same function, compiled at its first call and kept
beside its file (or in the user's cache), so that the next process starts at once. Such functions live in files
of their own, which are imported where they are called: importing numba takes a third of a second.

What is kept on disk is loaded without the tables that only a compiler needs: numba reads them all before it opens its
cache (0.4 CPU seconds a process), and reads them by itself where it has to compile after all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


class _Kept(FunctionCache):
    """What numba keeps of a function, opened with nothing but the memory management that machine code calls.

    Numba looks at the function's own file alone; here what was kept is void as soon as any file of loops changed, for
    they are compiled into one another.
    """

    def __init__(self, function: Any) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file._source_stamp = _stamp()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


@lru_cache(maxsize=1)
def _stamp() -> tuple[tuple[str, int, int], ...]:
    """Names, times and sizes of the files that hold compiled loops."""
    files = [f for f in sorted(Path(__file__).parent.glob("*.py")) if b"modalities.compiled import" in f.read_bytes()]
    return tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files)


def compiled(function: F) -> F:
    """Compile a function; what cannot be kept on disk (no folder to write in) is compiled in every process."""
    return _kept(njit(nogil=True)(function), function)


def inlined(function: F) -> F:
    """As `compiled`, for a few steps of a loop: they become a part of every function that calls them."""
    return _kept(njit(nogil=True, forceinline=True)(function), function)


def emitted(function: Callable[..., Any]) -> Any:
    """A step of a loop that says itself which instructions it is."""
    return intrinsic(function)


def _kept(made: Any, function: F) -> F:
    with suppress(RuntimeError):
        made._cache = _Kept(function)
    return cast(F, made)
