"""Poisoned files for modalities: each has to end in a refusal, while the good records beside it are kept.

Good samples enter; they are delivered, spoilt byte by byte in the ways that files on disks and in the
wild are, and read back. No exception but `DataError` may escape, and nothing unusable may pass `check`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from volant.core.artifact import file_sha256
from volant.core.errors import DataError
from volant.core.outside import OutsideFile
from volant.core.protocols import Modality, Refusal
from volant.core.sample import Sample, Source
from volant.testing.expecting import expect, outcome, same

_SOURCE = Source(uri="contract:", licence="CC0-1.0")
Found = list[Sample | Refusal] | DataError
Poisons = Mapping[str, tuple[str, bytes]]
"""What a file is, to the ending that it lies under and its content."""


def check_poison(
    modality: Modality,
    samples: Sequence[Sample],
    *,
    folder: Path,
    forms: Mapping[str, str],
    lines: tuple[str, str],
    huge_bytes: int,
    poisons: Poisons | None = None,
) -> None:
    """Spoil each form, and single lines of the form that has one record a line; then the modality's own poisons."""
    rng = random.Random(0)
    junk = rng.randbytes(4000)
    endings = [*forms.values(), *([lines[1]] if lines[0] else [])]
    for ending in endings:
        spoilt = {
            "an empty file": b"",
            "nothing but white space": b" \n\n\t\n",
            "binary junk": junk,
            "nothing but NUL bytes": bytes(3000),
            "Latin-1 where UTF-8 is expected": "caf\xe9 cr\xe8me, na\xefve \xa3".encode("latin-1") * 20,
        }
        for said, content in spoilt.items():
            _expect_refused(modality, _read(modality, folder / f"poison{ending}", content, said), said, ending)
    for form, ending in forms.items():
        whole = modality.deliver(samples, form)
        for said, content in (
            ("cut in half", whole[: len(whole) // 2]),
            ("with junk in it", whole[:40] + junk + whole[40:]),
        ):
            _read(modality, folder / f"spoilt{ending}", content, f"a {form} file {said}")
    for number, (said, (ending, content)) in enumerate((poisons or {}).items()):
        found = _read(modality, folder / f"own{number}{ending}", content, said)
        _expect_refused(modality, found, said, ending)
    if lines[0]:
        _check_lines(modality, samples, folder / f"lines{lines[1]}", lines[0], huge_bytes)


def _read(modality: Modality, file: Path, content: bytes, said: str) -> Found:
    """What `load` finds, or the `DataError` that it raises; never another error."""
    file.write_bytes(content)
    about = OutsideFile(file, file.name, len(content), file_sha256(file))
    found = outcome(
        lambda: list(modality.load(about, _SOURCE)), f"{modality.name} has to refuse {said} ({file.suffix})"
    )
    expect(isinstance(found, list | DataError), f"{modality.name} answers {said} with {type(found).__name__}")
    if isinstance(found, list):
        for refused in (r for r in found if isinstance(r, Refusal)):
            expect(
                refused.reason and file.name in refused.where, f"{modality.name} does not say what is wrong: {refused}"
            )
    return found  # type: ignore[return-value]


def _usable(modality: Modality, found: Found) -> list[Sample]:
    return [] if isinstance(found, DataError) else [s for s in found if isinstance(s, Sample) and not modality.check(s)]


def _expect_refused(modality: Modality, found: Found, said: str, ending: str) -> None:
    expect(not _usable(modality, found), f"{modality.name} takes {said} ({ending}) for good samples")
    expect(found, f"{modality.name} passes over {said} ({ending}) without a word")


def _check_lines(modality: Modality, samples: Sequence[Sample], file: Path, form: str, huge_bytes: int) -> None:
    """One spoilt line costs one line."""
    good = modality.deliver(samples, form).rstrip(b"\n").split(b"\n")
    same(len(good), len(samples), f"{modality.name}: {form} has to hold one record a line")
    at = len(good) // 2
    poisons = {
        "a broken line": good[at][: len(good[at]) // 2],
        "a line of junk": b"\xff\xfe\x00\x9f" * 30,
        "a line that is no record": b"[1, 2, 3]",
        "a line of null": b"null",
        "an empty record": b"{}",
        "a deeply nested line": b"[" * 100_000,
        f"a line of {huge_bytes:,} bytes": b'{"text": "' + b"a" * huge_bytes + b'"}',
    }
    for said, bad in poisons.items():
        content = b"\n".join([*good[:at], bad, *good[at:]]) + b"\n"
        found = _read(modality, file, content, said)
        kept = [s.text for s in _usable(modality, found) if len(s.text) < 100_000]
        same(kept, [s.text for s in samples], f"{modality.name}: beside {said} the good records have to stay")
        assert isinstance(found, list)
        refused = [r for r in found if isinstance(r, Refusal)]
        expect(refused or "bytes" in said, f"{modality.name} passes over {said} without a word")
        if refused:
            expect(str(at + 1) in refused[0].where, f"{modality.name} names {refused[0].where} for line {at + 1}")
