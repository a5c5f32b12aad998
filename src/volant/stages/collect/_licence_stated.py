"""What an installed package says of its licence, as SPDX, and whether it is permissive.

Enters: a distribution's metadata. Leaves: an SPDX expression; empty where nothing certain is stated.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution

PERMISSIVE = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC",
        "LicenseRef-BSD", "LLVM-exception", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
    }
)  # fmt: skip
"""Terms that ask for no more than a notice. `LicenseRef-BSD`: BSD by its classifier, which does not say which one."""
_SAID = (
    (re.compile(r"apache", re.IGNORECASE), "Apache-2.0"),
    (re.compile(r"\bmit\b|\bmit license", re.IGNORECASE), "MIT"),
    (re.compile(r"bsd.?3|3.clause|modified bsd|new bsd", re.IGNORECASE), "BSD-3-Clause"),
    (re.compile(r"bsd.?2|2.clause", re.IGNORECASE), "BSD-2-Clause"),
    (re.compile(r"\bbsd\b", re.IGNORECASE), "LicenseRef-BSD"),
    (re.compile(r"\bpsf|python software foundation", re.IGNORECASE), "PSF-2.0"),
    (re.compile(r"\bisc\b", re.IGNORECASE), "ISC"),
    (re.compile(r"zlib", re.IGNORECASE), "Zlib"),
)
_OTHER = re.compile(r"\b[AL]?GPL|general public|\bMPL|mozilla|proprietary|non.?commercial|busl|sspl", re.IGNORECASE)


def stated(package: Distribution) -> str:
    """The SPDX expression; else the classifiers', all of which bind; else the first line's.

    Licences that are no plain permissive ones come back as they are written, so that a refusal can name them.
    """
    data = package.metadata
    expression = data.get_all("License-Expression")
    if expression:
        return str(expression[0])
    classes = [c.split(" :: ")[-1] for c in data.get_all("Classifier") or () if c.startswith("License :: OSI Approved")]
    classes = [c for c in classes if c != "OSI Approved"] or [
        str((data.get_all("License") or [""])[0]).strip().split("\n")[0]
    ]
    return " AND ".join(sorted({_spdx(text) for text in classes if text}))


def permissive(expression: str) -> bool:
    """Whether every part asks for no more than a notice; of an `OR` one has to."""
    if not expression:
        return False
    groups = re.split(r"\s+AND\s+", expression.replace("(", " ").replace(")", " "))
    return all(any(_plain(option) for option in re.split(r"\s+OR\s+", group)) for group in groups)


def _plain(option: str) -> bool:
    return all(name in PERMISSIVE for name in option.split() if name != "WITH")


def _spdx(text: str) -> str:
    if _OTHER.search(text):
        return text
    return next((name for said, name in _SAID if said.search(text)), text)
