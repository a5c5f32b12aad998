"""What every method does that gathers files: each is read by the goal's modality, few documents are grouped finely.

In go files with the terms that each comes under; out come samples and refusals, in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from volant.core import Run, Sample
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.core.sample import Source, split_of

FEW = 10
"""With fewer documents a document is too coarse a group to split by: runs of eight pieces are, then."""

Arriving = OutsideFile | Refusal


def asked(name: str, only: Sequence[str] | None) -> bool:
    """Whether a name matches one of the patterns, of which `*` also matches `/`; without patterns every name does."""
    return not only or any(fnmatchcase(name, pattern) for pattern in only)


def read(
    run: Run,
    files: Iterable[tuple[Arriving, Source]],
    options: Mapping[str, Any],
    *,
    total: int,
    few: bool,
) -> Iterator[Sample | Refusal]:
    """The records of files, each with its own terms; a file that could not be had is a Refusal already.

    Args:
        files: one by one; each may be gone when the next is asked for.
        options: of the modality's reader.
        total: bytes of all of them, for the progress bar.
        few: whether there are fewer than `FEW`, so that pieces and not documents are dealt.
    """
    from volant.modalities import open_modality

    modality = open_modality(run.modality)
    getattr(modality, "check_reading", lambda _: None)(options)  # a modality from outside may have no such check
    with run.progress("reading files", total, "bytes") as bar:
        for file, source in files:
            if isinstance(file, Refusal):
                yield file
                continue
            for number, item in enumerate(modality.load(file, source, **options)):
                run.check_stop()
                if few and isinstance(item, Sample) and item.group == file.name:
                    block = f"{file.name}#{number // 8}"
                    item = item.model_copy(update={"group": block, "split": split_of(block)})
                yield item
            bar.advance(file.bytes)
