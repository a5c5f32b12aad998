"""Text and code that every Python carries: the language reference and the standard library's sources.

Enters: the running interpreter's own library. Leaves: a Dataset of text (reference topics, source files
in pieces) or of pairs (a function without its docstring -> the docstring's first line). The split is by
module, decided before anything is read: sha256 of the name mod 10 is 0 for test, 1 for validation, so
no source of a test module is ever training text. Another version of Python gives other data.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from volant.core import Dataset, Run, Sample
from volant.core.errors import DataError
from volant.core.sample import Source, sample_id, split_of
from volant.stages.collect._functions import pairs

LICENCE = "PSF-2.0"
# Tests, programs and copies of other modules: they say nothing that is not said better elsewhere.
_SKIPPED = {
    "test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "ensurepip",
    "pydoc_data", "encodings", "__pycache__", "__phello__", "_pyrepl", "distutils", "_pydecimal", "_pyio",
    "_strptime", "this", "antigravity", "lib-dynload", "_sysconfigdata", "_pydatetime", "_pylong",
}  # fmt: skip


def python_sources(
    run: Run,
    *,
    what: Literal["text", "pairs"] = "text",
    modules: Annotated[int, Field(ge=0)] = 0,
    piece_chars: Annotated[int, Field(ge=200)] = 4000,
    max_chars: Annotated[int, Field(ge=40)] = 1200,
    max_megabytes: Annotated[float, Field(gt=0)] = 6.0,
) -> Dataset:
    """Gather the standard library's text or its (function, docstring) pairs.

    Args:
        what: `text` for pre-training, `pairs` for the task of writing a docstring.
        modules: most training modules read, chosen by the hash of their names; 0 reads all. Fewer is faster and
            learns less. Validation and test modules are always read, so that the measure stays the same.
        piece_chars: longest piece of text in characters, cut at blank lines; a leak costs one piece.
        max_chars: longest function in characters (`pairs`); longer ones are left out.
        max_megabytes: most training text gathered, in million characters; bounds the time of all later steps.

    Returns:
        A Dataset split by module.

    Raises:
        DataError: this Python carries no sources.
    """
    from volant.stages.collect._arrival import arrive

    found = _sources(Path(ast.__file__).parent)
    ranked = sorted(found, key=_rank)
    trained = [module for module in ranked if split_of(module) == "train"][: modules or None]
    chosen = [module for module in ranked if split_of(module) != "train" or module in set(trained)]
    if not chosen:
        raise DataError(
            "this Python carries no library sources.",
            where=str(what),
            fix="Install them (Debian: apt install libpython3-stdlib).",
        )

    def samples() -> Iterator[Sample]:
        left = max_megabytes * 1e6
        for sample in _all(run, {module: found[module] for module in chosen}, what, piece_chars, max_chars):
            if sample.split == "train":
                # Guarded text is never cut: what is not there cannot guard.
                left -= len(sample.text)
                if left < 0:
                    continue
            yield sample
        if left < 0:
            run.say(f"training text stops at {max_megabytes:g} million characters (max_megabytes)")

    return arrive(run, samples())


def _all(run: Run, files: dict[str, Path], what: str, piece_chars: int, max_chars: int) -> Iterator[Sample]:
    if what == "text":
        yield from _reference(piece_chars)
    with run.progress("reading Python's library", len(files), "modules") as bar:
        for module, file in files.items():
            run.check_stop()
            bar.advance(1)
            text = file.read_text(encoding="utf-8")
            yield from _pieces(module, text, piece_chars) if what == "text" else _pairs(module, text, max_chars)


def _rank(module: str) -> str:
    return sample_id(module)


def _sources(library: Path) -> dict[str, Path]:
    """Dotted module name to file, without tests, programs and copies."""
    files: list[Path] = []
    for parent, folders, names in os.walk(library):
        # Pruned while walking: site-packages may hold a hundred thousand files.
        folders[:] = sorted(set(folders) - _SKIPPED)
        files += [Path(parent) / name for name in sorted(names) if name.endswith(".py")]
    found: dict[str, Path] = {}
    for file in files:
        parts = file.relative_to(library).with_suffix("").parts
        if parts[0] not in sys.stdlib_module_names or _SKIPPED & set(parts) or parts[0].startswith("_sysconfigdata"):
            continue
        try:
            file.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def _reference(piece_chars: int) -> Iterator[Sample]:
    """The language reference, one group a topic."""
    from pydoc_data.topics import topics

    for topic in sorted(topics):
        yield from _pieces(f"pydoc_data.topics.{topic}", topics[topic], piece_chars)


def _pieces(module: str, text: str, piece_chars: int) -> Iterator[Sample]:
    from volant.modalities.text import cut

    for number, piece in enumerate(cut(text, piece_chars)):
        yield Sample(
            id=sample_id("text", piece), shape="text", content=piece, source=_source(f"{module}#{number}"),
            group=module, split=split_of(module),
        )  # fmt: skip


def _pairs(module: str, text: str, max_chars: int) -> Iterator[Sample]:
    """(function without docstring, first line of the docstring) of every function that has a telling one."""
    return pairs(text, max_chars, group=module, source=lambda line: _source(f"{module}:{line}"))


def _source(place: str) -> Source:
    return Source(uri=f"python:{place}", licence=LICENCE, consent="not-personal")
