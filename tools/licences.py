"""Checks the licence of every package that Volant needs, installed as it is here, against an allow list.

Enters: the metadata of the installed packages. Leaves: a table, and exit code 1 for a licence that is
forbidden or that nobody has looked at. Lint runs it, so a new dependency is looked at before it lands.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement

ALLOWED = {
    "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MIT", "MIT-0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "0BSD",
    "ISC", "PSF-2.0", "Python-2.0", "CNRI-Python", "MPL-2.0", "Zlib", "Unlicense", "CC0-1.0", "BSL-1.0", "HPND",
    "MIT-CMU",
}  # fmt: skip
FORBIDDEN = re.compile(r"\b(A?GPL|BUSL|SSPL|Elastic|Commons Clause|Proprietary|CC-BY-NC)", re.IGNORECASE)
CERTIFIED = {
    "psycopg": "LGPL-3.0: an extra, imported by name at run time and never linked or changed",
    "psycopg-binary": "LGPL-3.0: as psycopg; its shared libraries stay replaceable files of their own",
    "tld": "MPL-1.1, the one of its three licences that we take; used unchanged, by way of trafilatura",
    "mlcroissant": "Apache-2.0 by the licence file of its repository; its metadata state none. Tests only",
}
WORDS = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache-2": "Apache-2.0",
    "apache license": "Apache-2.0", "apache 2.0 license": "Apache-2.0", "apache software license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "mit license": "MIT", "the mit license": "MIT",
    "bsd license": "BSD", "bsd 3-clause license": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause", "new bsd license": "BSD-3-Clause", "bsd-3-clause license": "BSD-3-Clause",
    "modified bsd license": "BSD-3-Clause", "dual license": "BSD", "python software foundation license": "PSF-2.0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "psf": "PSF-2.0", "isc license (iscl)": "ISC",
    "bsd 2-clause license": "BSD-2-Clause", "zlib license": "Zlib",
}  # fmt: skip
IGNORED = re.compile(r"^nvidia-|^triton$|^cuda-")
"""NVIDIA's run time comes with torch's CUDA build, by the user's choice of index; Volant never ships it."""


def closure(root: str, extras: frozenset[str]) -> dict[str, importlib.metadata.Distribution]:
    """Every installed distribution that `root` with its extras needs, by normalised name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    todo: list[tuple[str, frozenset[str]]] = [(root, extras)]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in done:
            continue
        done.add((name, wanted))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[_normal(name)] = distribution
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                todo.append((_normal(requirement.name), frozenset(requirement.extras)))
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def stated(distribution: importlib.metadata.Distribution) -> str:
    """What the package says of its licence: the SPDX expression, else the classifiers, else the first line."""
    data = distribution.metadata
    if data.get("License-Expression"):
        return str(data["License-Expression"])
    classes = [c.split(" :: ")[-1] for c in data.get_all("Classifier") or () if c.startswith("License ::")]
    classes = [c for c in classes if c not in ("OSI Approved", "DFSG approved")]
    if classes:
        return " AND ".join(classes)
    text = str(data.get("License") or "").strip()
    return text.split("\n")[0][:80]


def parts(text: str) -> Iterator[list[str]]:
    """The licences of an expression: every yielded group needs one allowed member (`OR` gives a choice)."""
    for group in re.split(r"\s+AND\s+|\s*;\s*|\s*,\s+(?!version)", text):
        options = (option.strip() for option in re.split(r"\s+OR\s+|\s*/\s*", group))
        yield [
            WORDS.get(option.lower()) or WORDS.get(bare(option).lower(), bare(option)) for option in options if option
        ]


def bare(option: str) -> str:
    """An SPDX term without the brackets that grouped it."""
    return option.strip("() ")


def verdict(name: str, text: str) -> str:
    """`ok`, `certified`, or what is wrong."""
    if name in CERTIFIED:
        return "certified"
    if not text:
        return "UNKNOWN: no licence stated"
    for options in parts(text):
        if any(option in ALLOWED for option in options):
            continue
        return (
            "FORBIDDEN" if FORBIDDEN.search(" ".join(options)) else "UNKNOWN: look at it and extend tools/licences.py"
        )
    return "ok"


def main() -> int:
    """Print the table; returns the exit code."""
    packages = closure("volant", frozenset({"postgres", "s3", "dev"}))
    rows = []
    for name, distribution in sorted(packages.items()):
        if name != "volant" and not IGNORED.search(name):
            text = stated(distribution)
            rows.append((name, distribution.version, text, verdict(name, text)))
    bad = [row for row in rows if row[3] not in ("ok", "certified")]
    for row in rows if "--all" in sys.argv else bad:
        print(f"{row[0]:<24} {row[1]:<14} {row[2]:<48} {row[3]}")
    print(f"{len(rows)} packages, {len(bad)} licences to look at.")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
