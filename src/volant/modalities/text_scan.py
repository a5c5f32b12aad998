"""What every loop over UTF-8 bytes needs: the next character, stripping, hashing, and a table of what was seen.

In go bytes of a buffer and the tables of `text_characters`. These functions are compiled into the loops that call
them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.modalities.compiled import compiled, emitted, inlined

Bytes = NDArray[np.uint8]
Classes = NDArray[np.uint8]
Hashes = NDArray[np.uint64]
Counts = NDArray[np.int64]

LETTER, ALNUM, WORD, SPACE, BREAK, TERMINAL, QUOTE, BULLET = 1, 2, 4, 8, 16, 32, 64, 128
NEWLINE = 10
_FEEDS, _LOWEST, _HIGHEST = (np.uint64(byte * 0x0101010101010101) for byte in (NEWLINE, 0x01, 0x80))
_PLUS = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)
_S16, _S27, _S29, _S30, _S31 = np.uint64(16), np.uint64(27), np.uint64(29), np.uint64(30), np.uint64(31)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@emitted
def byte(typing: Any, data: Any, at: Any) -> Any:
    """The byte at a place that is known to lie inside; numba would look for one that counts from the end."""
    from numba.core import types

    def built(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = builder.gep(context.make_array(data)(context, builder, given[0]).data, [given[1]])
        return builder.zext(builder.load(place), context.get_value_type(types.int64))

    return types.int64(data, types.int64), built


@emitted
def octet(typing: Any, data: Any, at: Any) -> Any:
    """As `byte`, as the type that lets the compiler look at many at once."""
    from numba.core import types

    def built(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.load(builder.gep(context.make_array(data)(context, builder, given[0]).data, [given[1]]))

    return types.uint8(data, types.int64), built


@emitted
def eight(typing: Any, data: Any, at: Any) -> Any:
    """The eight bytes from a place on as one number."""
    from numba.core import types

    def built(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        place = builder.gep(context.make_array(data)(context, builder, given[0]).data, [given[1]])
        number = context.get_value_type(types.uint64)
        loaded = builder.load(builder.bitcast(place, number.as_pointer()))
        loaded.align = 1
        return loaded

    return types.uint64(data, types.int64), built


@emitted
def copied(typing: Any, out: Any, to: Any, data: Any, at: Any, count: Any) -> Any:
    """Write `count` bytes of `data[at:]` to `out[to:]`."""
    from numba.core import cgutils, types

    def built(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        target = builder.gep(context.make_array(out)(context, builder, given[0]).data, [given[1]])
        source = builder.gep(context.make_array(data)(context, builder, given[2]).data, [given[3]])
        cgutils.raw_memmove(builder, target, source, given[4], 1)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.none(out, types.int64, data, types.int64, types.int64), built


@inlined
def mix(x: np.uint64) -> np.uint64:
    """SplitMix64's finaliser, as `store.mixing.mixed`."""
    x = (x ^ (x >> _S30)) * _M1
    x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


@inlined
def character(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """The code point that begins at `at`, and where the next one does; broken UTF-8 gives U+FFFD, byte by byte."""
    first = int(data[at])
    if first < 0x80:
        return first, at + 1
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if first < 0xC0 or at + size > end:
        return 0xFFFD, at + 1
    code = first & (0x7F >> size)
    for k in range(1, size):
        code = code << 6 | int(data[at + k]) & 0x3F
    return min(code, 0x10FFFF), at + size


@compiled
def stripped(data: Bytes, first: int, last: int, classes: Classes) -> tuple[int, int]:
    """The span without the white space at its ends, as `str.strip`."""
    while first < last:
        code, after = character(data, first, last)
        if not classes[code] & SPACE:
            break
        first = after
    while last > first:
        at = last_character(data, first, last)
        if not classes[character(data, at, last)[0]] & SPACE:
            break
        last = at
    return first, last


@inlined
def last_character(data: Bytes, first: int, last: int) -> int:
    """Where the last character of a span that is not empty begins."""
    at = last - 1
    while at > first and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@compiled
def ends_sentence(data: Bytes, first: int, last: int, classes: Classes) -> bool:
    """Whether a span that is not empty ends with terminal punctuation or a closing quote."""
    code, _ = character(data, last_character(data, first, last), last)
    return bool(classes[code] & (TERMINAL | QUOTE))


@inlined
def rest_of(data: Bytes, at: int, count: int) -> np.uint64:
    """Up to seven bytes as one number."""
    if at + 8 <= len(data):
        return np.uint64(eight(data, at)) & ((_ONE << np.uint64(8 * count)) - _ONE)
    word = np.uint64(0)
    for k in range(count):
        word |= np.uint64(data[at + k]) << np.uint64(8 * k)
    return word


@inlined
def span_hash(data: Bytes, first: int, last: int) -> np.uint64:
    """A hash of bytes, eight at a time."""
    state = np.uint64(last - first) * _PLUS
    at = first
    while at + 8 <= last:
        state = (state ^ eight(data, at)) * _M1
        state ^= state >> _S29
        at += 8
    return mix((state ^ rest_of(data, at, last - at)) * _M1)


@inlined
def feed_in(data: Bytes, first: int, last: int) -> int:
    """Where the first line feed of the bytes is; `last` where none is. Eight bytes are looked at at a time."""
    at = first
    while at + 8 <= last:
        away = eight(data, at) ^ _FEEDS  # a byte of zeros where a line feed is
        if (away - _LOWEST) & ~away & _HIGHEST:
            break
        at += 8
    while at < last and byte(data, at) != NEWLINE:
        at += 1
    return at


@inlined
def characters_in(data: Bytes, first: int, last: int) -> int:
    """How many characters the bytes are."""
    count = 0
    for at in range(first, last):
        count += data[at] & 0xC0 != 0x80
    return count


@inlined
def number_of(keys: Hashes, marks: Counts, mask: int, turn: int, key: np.uint64, new: int) -> int:
    """The number under which this turn keeps the key; `new`, where the key was not there, and now is.

    The table serves turn after turn without being cleared: an entry counts if it was made in this one.
    """
    slot = np.int64(key >> _S16) & mask
    while marks[slot] >> 32 == turn:
        if keys[slot] == key:
            return int(marks[slot] & 0xFFFFFFFF)
        slot = (slot + 1) & mask
    keys[slot] = key
    marks[slot] = turn << 32 | new
    return new
