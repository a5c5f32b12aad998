"""Where Arrow takes its memory from while many tables of one size come and go.

Arrow's own allocator gives memory back to the system at once, which has to clear each page before it comes again: an
eighth of the CPU time of a pass over texts. The C library's keeps what was let go for the next table. Nor does Python
look for cycles among the rows as often as it does else: there are none, and looking takes a fortieth.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_SELDOM = 200_000  # new objects between two looks for cycles


@contextmanager
def reused_memory() -> Iterator[None]:
    """Tables that are made meanwhile lie in the C library's memory, those that exist stay where they are, and cycles
    are looked for seldom."""
    import pyarrow as pa

    before, often = pa.default_memory_pool(), gc.get_threshold()
    pa.set_memory_pool(pa.system_memory_pool())
    gc.set_threshold(_SELDOM, *often[1:])
    try:
        yield
    finally:
        pa.set_memory_pool(before)
        gc.set_threshold(*often)
