"""A function of an object file, put into memory without LLVM: to import that takes longer than many loops run.

In goes what LLVM makes of a loop for Linux on x86-64: sections that lie in one piece of memory, with places in them
that take addresses of 64 bits, which is all that code of any size needs. Out comes the address of the function. Of
what is made otherwise nothing comes out, and LLVM is asked.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from functools import lru_cache
from typing import Any, NamedTuple

_OBJECT = (b"\x7fELF\x02\x01\x01", 1, 62)  # 64 bits, the low byte first; to be linked; for x86-64
_SYMBOLS, _PLACES, _ZEROS = 2, 4, 8  # kinds of sections
_WRITTEN, _IN_MEMORY = 1, 2  # flags of a section
_ADDRESS = 1  # kind of a place: the address itself, 64 bits
_HELD: list[mmap.mmap] = []


class _Section(NamedTuple):
    """What the file says of a section: where it lies in the file, and of which others it speaks."""

    name: int
    kind: int
    flags: int
    address: int
    at: int
    size: int
    link: int
    info: int
    even: int
    each: int

    def rows(self, size: int) -> range:
        """Where the rows of a table begin."""
        return range(self.at, self.at + self.size, size)


def address_of(name: str, code: bytes) -> int | None:
    """The address of a function of an object file, which lies in memory from now on; None if it is of another kind."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return None
    if (code[:7], *struct.unpack_from("<HH", code, 16)) != _OBJECT:
        return None
    table, count = *struct.unpack_from("<Q", code, 40), *struct.unpack_from("<H", code, 60)
    sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", code, table + 64 * at)) for at in range(count)]
    if any(own.flags & _WRITTEN and own.flags & _IN_MEMORY and own.size for own in sections):
        return None  # memory that runs is not written to
    begins, size = list[int](), 0
    for own in sections:
        size += -size % max(1, own.even)
        begins.append(size)
        size += own.size if own.flags & _IN_MEMORY else 0
    memory = mmap.mmap(-1, max(1, size))
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    known: dict[str, int | None] = {}
    symbols: list[int | None] = []
    for begin, own in zip(begins, sections, strict=True):
        if own.flags & _IN_MEMORY and own.kind != _ZEROS:
            memory[begin : begin + own.size] = code[own.at : own.at + own.size]
        for at in own.rows(24) if own.kind == _SYMBOLS else ():
            said, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", code, at)
            said += sections[own.link].at
            title = code[said : code.index(b"\0", said)].decode()
            lies: int | None = _outside(title) if title and not section else 0
            if section:  # a symbol of no section of this file has no place here
                lies = first + begins[section] + value if section < count else None
            symbols.append(lies)
            known[title] = lies
    for own in sections:
        for at in own.rows(24) if own.kind == _PLACES else ():
            offset, what, added = struct.unpack_from("<QQq", code, at)
            lies = symbols[what >> 32]
            if what & 0xFFFFFFFF != _ADDRESS or lies is None or not sections[own.info].flags & _IN_MEMORY:
                return None
            struct.pack_into("<Q", memory, begins[own.info] + offset, lies + added)
    if _system().mprotect(ctypes.c_void_p(first), ctypes.c_size_t(len(memory)), mmap.PROT_READ | mmap.PROT_EXEC):
        return None  # a system that lets no process make code
    _HELD.append(memory)
    return known.get(name)


@lru_cache(maxsize=1)
def _system() -> Any:
    """The C library."""
    return ctypes.CDLL(None)


def _outside(name: str) -> int | None:
    """The address of a function of the C library; None if it has none of that name."""
    found = getattr(_system(), name, None)
    return ctypes.cast(found, ctypes.c_void_p).value if found else None
