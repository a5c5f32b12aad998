"""Where Arrow takes its memory from while many tables of one size come and go.

Arrow's own allocator gives memory back to the system at once, which has to clear each page before it comes again: an
eighth of the CPU time of a pass over texts. The C library's keeps what was let go for the next table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reused_memory() -> Iterator[None]:
    """Tables that are made meanwhile lie in the C library's memory; those that exist stay where they are."""
    import pyarrow as pa

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
