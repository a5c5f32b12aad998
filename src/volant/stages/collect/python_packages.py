"""Text, code and functions of the Python packages that are installed here, as far as their licences are permissive.

Enters: the packages of the running interpreter. Leaves: a Dataset of text (sources and documentation in pieces) or of
pairs (a function without its docstring -> the docstring's first line), each record under its package's licence, and
`manifest.json`: each package with version, licence, split, files, bytes and digest, and each one that was left out with
its reason. The split is by package (sha256 of its name mod 10 is 0 for test, 1 for validation), so that there are whole
packages of which a model has seen nothing. Other versions of the packages give other data: pin them.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Run, Sample
from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.sample import Source, sample_id, split_of

OWN = "volant"
# Tests, copies of other packages, and what a program wrote.
_SKIPPED = re.compile(
    r"(^|/)(tests?|testing|_?vendor(ed|ing)?|_?extern(al|als)?|third_party|packaged_modules|_distutils|backports?|"
    r"__pycache__|[^/]*_pb2(_grpc)?\.py|[^/]*dummy_[^/]*_objects\.py|test_[^/]*\.py|[^/]*_test\.py|conftest\.py)(/|$)"
)
_DOCUMENTS = (".rst", ".md")


@dataclass
class _Package:
    """One installed package, and what is read of it."""

    name: str
    version: str
    licence: str
    files: dict[str, Path] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def python_packages(
    run: Run,
    *,
    what: Literal["text", "pairs"] = "text",
    packages: list[str] | None = None,
    leave_out: list[str] | None = None,
    package_megabytes: Annotated[float, Field(gt=0)] = 2.0,
    file_kilobytes: Annotated[int, Field(ge=1)] = 200,
    piece_chars: Annotated[int, Field(ge=200)] = 4000,
    max_chars: Annotated[int, Field(ge=40)] = 1200,
) -> Dataset:
    """Gather the installed packages' text or their (function, docstring) pairs.

    Tests, vendored copies and generated files are passed over.

    Args:
        what: `text` for pre-training (sources, documentation, each package's own description), `pairs` for the task of
            writing a docstring.
        packages: names of the packages; empty reads all that are installed. Those whose licence is not permissive
            (MIT, BSD, Apache, PSF and their like) are left out, and that is said.
        leave_out: names of packages that are not read: tables of data in the form of code, copies of the library.
        package_megabytes: most that is gathered of one package, in million characters, files chosen by the hash of
            their names; keeps a large package from drowning the others.
        file_kilobytes: largest file that is read, in thousand bytes; larger ones are mostly tables.
        piece_chars: longest piece of text in characters, cut at blank lines; a leak costs one piece.
        max_chars: longest function in characters (`pairs`); longer ones are left out.

    Returns:
        A Dataset split by package.

    Raises:
        SettingError: a package is named that is not installed.
        DataError: no package comes under a permissive licence.
    """
    from volant.stages.collect._arrival import arrive

    found, refused = _installed(packages or [], leave_out or [])
    if not found:
        raise DataError("no package here comes under a permissive licence.", where=run.step, fix="Install some.")
    for name, reason in sorted(refused.items()):
        run.say(f"{name} was left out: {reason}")
    manifest: dict[str, Any] = {}

    def samples() -> Iterator[Sample]:
        with run.progress("reading packages", len(found), "packages") as bar:
            for package in found:
                run.check_stop()
                bar.advance(1)
                _read(package, what, round(package_megabytes * 1e6), file_kilobytes * 1000)
                counts: Counter[str] = Counter()
                for sample in _records(package, what, piece_chars, max_chars):
                    counts[sample.shape] += 1
                    yield sample
                manifest[package.name] = _entry(package, counts.total())
                package.texts.clear()

    made = arrive(run, samples())
    python = ".".join(map(str, sys.version_info[:3]))
    body = {"what": what, "python": python, "packages": manifest, "left_out": dict(sorted(refused.items()))}
    (run.out / "manifest.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return made


def _installed(wanted: list[str], unwanted: list[str]) -> tuple[list[_Package], dict[str, str]]:
    """The packages that may be read, by name, and why the others are not."""
    from importlib.metadata import distributions

    from volant.stages.collect._licence_stated import permissive, stated

    every = {_normal(str(d.metadata["Name"])): d for d in distributions() if d.metadata["Name"]}
    for name in (*wanted, *unwanted):
        if _normal(name) not in every and name in wanted:
            raise SettingError(f"no package {name!r} is installed.", fix=did_you_mean(name, every))
    left_out = {_normal(name) for name in unwanted} | {OWN}
    found: list[_Package] = []
    refused: dict[str, str] = {}
    for name in sorted({_normal(n) for n in wanted} or every):
        licence = stated(every[name])
        if name in left_out:
            refused[name] = "by name"
        elif not permissive(licence):
            refused[name] = f"its licence is {licence or 'not stated'}"
        else:
            found.append(_Package(name, every[name].version, licence, _files(every[name])))
    return found, refused


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _files(package: Distribution) -> dict[str, Path]:
    """Sources and documents by their name in the package, in the order of the names' hashes."""
    names: dict[str, Path] = {}
    for file in package.files or ():
        name = file.as_posix()
        described = name.endswith(".dist-info/METADATA")
        if name.startswith("..") or _SKIPPED.search(name) or (".dist-info/" in name and not described):
            continue
        if described or name.endswith((".py", *_DOCUMENTS)):
            names[name] = Path(str(package.locate_file(file)))
    return dict(sorted(names.items(), key=lambda item: sample_id(item[0])))


def _read(package: _Package, what: str, most: int, largest: int) -> None:
    """Put the texts of the files that are used into the package."""
    left = most
    for name, path in package.files.items():
        if what == "pairs" and not name.endswith(".py"):
            continue
        try:
            if path.stat().st_size > largest:
                continue
            text = path.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        # Pairs are few in a megabyte; the cap on them is that of the whole package's text.
        if len(text) > left:
            continue
        left -= len(text)
        package.texts[name] = text


def _records(package: _Package, what: str, piece_chars: int, max_chars: int) -> Iterator[Sample]:
    from volant.modalities.text import cut
    from volant.stages.collect._functions import pairs

    def source(place: str) -> Source:
        uri = f"pypi:{package.name}@{package.version}:{place}"
        return Source(uri=uri, licence=package.licence, consent="not-personal")

    for name, text in package.texts.items():
        if what == "pairs":
            try:
                yield from pairs(text, max_chars, group=package.name, source=lambda at, n=name: source(f"{n}:{at}"))  # type: ignore[misc]
            except (SyntaxError, ValueError, RecursionError):
                continue  # a template, or of another version of Python
            continue
        body = text.partition("\n\n")[2] if name.endswith("/METADATA") else text
        for number, piece in enumerate(cut(body, piece_chars)):
            yield Sample(
                id=sample_id("text", piece), shape="text", content=piece, source=source(f"{name}#{number}"),
                group=package.name, split=split_of(package.name),
            )  # fmt: skip


def _entry(package: _Package, records: int) -> dict[str, Any]:
    """What the manifest says of a package: the digest is a sha256 over each file's own with its name."""
    own = sorted(f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in package.texts.items())
    return {
        "version": package.version, "licence": package.licence, "split": split_of(package.name),
        "files": len(own), "characters": sum(map(len, package.texts.values())), "records": records,
        "sha256": hashlib.sha256("".join(own).encode()).hexdigest(),
    }  # fmt: skip
