"""Which licence a licence file is, where that is plain, and what a source file says of itself.

In goes the text of a `LICENSE` file; out comes an SPDX name, or nothing. A text is known by sentences that only its
licence has, and by its length: a text that is much longer than its licence adds terms of its own, and is left to a
person. Of the GPL's family the file tells the version but not whether later ones are meant; the stricter is said.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEADER = 4_000
"""Characters at the beginning of a file in which `SPDX-License-Identifier` is looked for."""

NAMES = re.compile(r"^(licen[cs]e|copying|unlicense|copyright)([._-].*)?$", re.IGNORECASE)
"""Names of licence files, at the root of a repository."""

# At the beginning of a comment; a text that speaks of such lines states nothing of itself.
_STATED = re.compile(r"^[ \t/*#;%<!.-]*(?:REM |dnl )?SPDX-License-Identifier:[ \t]*([A-Za-z0-9.+() -]+)", re.MULTILINE)
_WORD = re.compile(r"[a-z0-9.]+")
_MIT = "permission is hereby granted free of charge to any person obtaining a copy of this software and associated"
_KEEP = "the above copyright notice and this permission notice shall be included in all copies"
_BSD = "redistribution and use in source and binary forms with or without modification are permitted provided"
_BOTH = "redistributions in binary form must reproduce the above copyright notice"
_NAME = "used to endorse or promote products"
_ISC = "distribute this software for any purpose with or without fee is hereby granted"
_ISC_KEEP = "provided that the above copyright notice and this permission notice appear in all copies"
_APACHE = "licensed under the apache license version 2.0 the license you may not use this file except in compliance"
_FREE = "this is free and unencumbered software released into the public domain"


class _Rule(NamedTuple):
    """The sentences that a licence has and has not, and how many words it has with its notices."""

    name: str
    has: tuple[str, ...]
    lacks: tuple[str, ...]
    words: tuple[int, int]


def _cc(name: str, title: str, *lacks: str) -> _Rule:
    return _Rule(name, (title.replace("-", " "), "creative commons"), lacks, (1_000, 4_500))


_RULES = (
    _Rule("MIT", (_MIT, _KEEP), ("must be included", "advertising"), (140, 240)),
    _Rule("MIT-0", (_MIT,), (_KEEP, "subject to the following"), (100, 180)),
    _Rule("ISC", (_ISC, _ISC_KEEP), (), (90, 190)),
    _Rule("0BSD", (_ISC,), (_ISC_KEEP,), (80, 150)),
    _Rule("BSD-2-Clause", (_BSD, _BOTH), (_NAME, "advertising", "apache"), (160, 280)),
    _Rule("BSD-3-Clause", (_BSD, _BOTH, _NAME), ("advertising", "apache"), (190, 330)),
    _Rule("Apache-2.0", ("apache license version 2.0 january 2004", "grant of patent license"),
          ("llvm exceptions",), (1_350, 1_850)),
    _Rule("Apache-2.0", (_APACHE,), (), (60, 110)),
    _Rule("MPL-2.0", ("mozilla public license version 2.0", "incompatible with secondary"), (), (2_000, 3_000)),
    _Rule("AGPL-3.0-only", ("gnu affero general public license version 3",), (), (4_800, 6_200)),
    _Rule("LGPL-3.0-only", ("gnu lesser general public license version 3",), ("affero",), (1_000, 1_500)),
    _Rule("LGPL-2.1-only", ("gnu lesser general public license version 2.1",), (), (3_800, 4_900)),
    _Rule("GPL-3.0-only", ("gnu general public license version 3",), ("affero general public license version 3",),
          (4_900, 6_300)),
    _Rule("GPL-2.0-only", ("gnu general public license version 2 june 1991",), (), (2_500, 3_400)),
    _Rule("Unlicense", (_FREE,), (), (120, 320)),
    _Rule("CC0-1.0", ("cc0 1.0 universal", "waive"), (), (700, 1_500)),
    _Rule("BSL-1.0", ("boost software license version 1.0",), (), (180, 300)),
    _Rule("BUSL-1.1", ("business source license 1.1", "change date"), (), (300, 1_500)),
    _cc("CC-BY-NC-SA-4.0", "attribution-noncommercial-sharealike 4.0 international"),
    _cc("CC-BY-NC-ND-4.0", "attribution-noncommercial-noderivatives 4.0 international"),
    _cc("CC-BY-NC-4.0", "attribution-noncommercial 4.0 international"),
    _cc("CC-BY-ND-4.0", "attribution-noderivatives 4.0 international"),
    _cc("CC-BY-SA-4.0", "attribution-sharealike 4.0 international"),
    _cc("CC-BY-4.0", "attribution 4.0 international", "noncommercial 4.0"),
)  # fmt: skip


def licence_of(text: str) -> str:
    """The SPDX name of the licence that a text is; empty where that is not plain.

    >>> licence_of("All rights reserved.")
    ''
    """
    words = _WORD.findall(text.lower().replace("'", ""))
    said = " ".join(words)
    found = [rule.name for rule in _RULES if _fits(rule, said, len(words))]
    return found[0] if len(found) == 1 else ""


def stated_licence(text: str) -> str:
    """What a source file says of itself (`SPDX-License-Identifier: MIT`), as written; empty where it says nothing."""
    found = _STATED.search(text[:HEADER])
    return found[1].strip(" \t-") if found else ""


def _fits(rule: _Rule, said: str, words: int) -> bool:
    if not rule.words[0] <= words <= rule.words[1]:
        return False
    return all(part in said for part in rule.has) and not any(part in said for part in rule.lacks)
