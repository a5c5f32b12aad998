"""Personal data in text: found by pattern and check digits, replaced by names of what stood there.

In goes a text; out come the text with `<email>`, `<ip>`, `<phone>`, `<card>`, `<iban>`, `<national_id>` and `<secret>`
in place of what says who somebody is or opens a door, and how many of each. `personal_kinds` lists what is looked for.
Names of people need a model and are not found here (`personal_names`).

`counted` and `masked_all` do so for many texts: RE2 finds the few lines that have a sign of anything, and in these the
few kinds that may be there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from volant.modalities.personal_kinds import KINDS, SIGN, Kind
from volant.store import arrow_functions as pc
from volant.store.arrow_values import numbers, strings, values

VERSION = 3  # of what is found: another one masks other things
NAMES = tuple(dict.fromkeys(kind.name for kind in KINDS))
_OVER_LINES, _IN_LINES = ([kind for kind in KINDS if kind.lines == over] for over in (True, False))
# Numbers are set with blanks and hyphens at which no line may end; one character each, so that places stay.
_PLAIN = {**dict.fromkeys((0xA0, *range(0x2002, 0x200B), 0x202F, 0x205F, 0x3000), " "), 0x2010: "-", 0x2011: "-"}
_ODD = f"[{''.join(map(chr, _PLAIN))}]"
Found = tuple[int, int, str]
Ints: TypeAlias = NDArray[np.int64]
Counts: TypeAlias = dict[str, NDArray[np.int32]]


def masked(text: str) -> tuple[str, dict[str, int]]:
    """The text with personal data replaced, and how many of each kind were.

    >>> masked("Write to ann@firm.com, not to x@example.com.")
    ('Write to <email>, not to x@example.com.', {'email': 1})
    """
    text, long = _replaced(text, found_in(text, _OVER_LINES))
    text, short = _replaced(text, found_in(text, _IN_LINES))
    return text, dict(Counter(long) + Counter(short))


def found_in(text: str, kinds: Iterable[Kind] = KINDS) -> list[Found]:
    """Where personal data stands, as (start, end, kind) in order; of two that overlap the earlier kind."""
    found: list[Found] = []
    text = _plain(text)
    for kind in kinds:
        own: list[Found] = []
        group = "n" if "n" in kind.pattern.groupindex else 0
        for match in kind.pattern.finditer(text):
            start, size = match.start(group), kind.holds(match[group])
            if size and _free(start, start + size, found):
                own.append((start, start + size, kind.name))
        found = sorted([*found, *own]) if own else found
    return found


def _plain(text: str) -> str:
    """The text with blanks and hyphens that do not break a line as plain ones, each in its place."""
    return text if text.isascii() else text.translate(_PLAIN)


def _free(start: int, end: int, found: list[Found]) -> bool:
    """Whether nothing that was found, in order and apart from each other, lies between."""
    at = bisect_left(found, (start, start, ""))
    return (at == len(found) or found[at][0] >= end) and (at == 0 or found[at - 1][1] <= start)


def masked_all(texts: pa.StringArray) -> tuple[pa.StringArray, dict[str, pa.Array]]:
    """Many texts with personal data replaced, and how many of each kind every text holds, as int32 arrays.

    Args:
        texts: of type `string` or `large_string`; a null stays null.
    """
    counts = {name: np.zeros(len(texts), np.int32) for name in NAMES}
    near = _where(texts, SIGN)
    if len(near):
        changed, rows = _by_line(pc.take(texts, numbers(near)), near, counts)
        texts = _put(texts, rows, changed)
    return texts, {name: numbers(count_N) for name, count_N in counts.items()}


def counted(texts: pa.StringArray) -> dict[str, pa.Array]:
    """How many of each kind every text holds: int32 arrays by kind."""
    return masked_all(texts)[1]


def _by_line(texts: pa.Array, places: Ints, counts: Counts) -> tuple[pa.Array, Ints]:
    """The texts that change, masked, and where they stand; line by line, since few lines of a text hold anything.

    Args:
        texts: those that may hold something.
        places: where each of them stands among all texts.
        counts: by kind, one a text of all texts; added to here.
    """
    whole = _masked_parts(texts, _OVER_LINES, places, counts)
    lists = pc.split_pattern(whole, "\n")
    ends = values(lists.offsets)
    of_line = np.repeat(places, np.diff(ends))
    lines = pc.list_flatten(lists)
    masked_lines = _masked_parts(lines, _IN_LINES, of_line, counts)
    found = np.flatnonzero(np.add.reduce([counts[name][places] for name in NAMES]))
    after = pc.take(type(lists).from_arrays(lists.offsets, masked_lines), numbers(found))
    return strings(map("\n".join, after.to_pylist()), texts.type), places[found]


def _masked_parts(parts: pa.Array, kinds: Sequence[Kind], places: Ints, counts: Counts) -> pa.Array:
    """The parts of texts with those kinds masked; what is found is added to `counts` where the part stands."""
    near = _where(parts, SIGN)
    if not len(near):
        return parts
    few = pc.take(parts, numbers(near))
    odd = _where(few, _ODD)
    looked = _put(few, odd, strings(map(_plain, pc.take(few, numbers(odd)).to_pylist()), few.type))
    likely: dict[int, list[Kind]] = {}
    for kind in kinds:
        for row in _where(looked, kind.gate).tolist():
            likely.setdefault(row, []).append(kind)
    changed: dict[int, str] = {}
    for row in sorted(likely):
        text = few[row].as_py()
        found = found_in(text, likely[row])
        if found:
            at = int(near[row])
            changed[at], kinds_found = _replaced(text, found)
            for name, n in kinds_found.items():
                counts[name][places[at]] += n
    return _put(parts, list(changed), strings(changed.values(), parts.type))


def _put(texts: pa.Array, places: Ints | list[int], others: pa.Array) -> pa.Array:
    """The texts with others at these rising places."""
    if not len(places):
        return texts
    mask = np.zeros(len(texts), bool)
    mask[places] = True
    return pc.replace_with_mask(texts, numbers(mask), others)


def _where(texts: pa.Array, pattern: str) -> Ints:
    """Which texts hold the pattern; a null does not."""
    return values(pc.indices_nonzero(pc.match_substring_regex(texts, pattern))).astype(np.int64)


def _replaced(text: str, found: list[Found]) -> tuple[str, dict[str, int]]:
    counts: dict[str, int] = {}
    parts, done = [], 0
    for start, end, name in found:
        parts += [text[done:start], f"<{name}>"]
        done = end
        counts[name] = counts.get(name, 0) + 1
    return "".join([*parts, text[done:]]), counts
