"""The files of a git repository at one commit as a Dataset: sources of programs, documentation, data kept beside them.

Enters: a directory or a web address, and the full name of a commit, so that the same call gives the same bytes for
ever. Leaves: a Dataset, one group a file, each record with the licence of the repository's licence file, or with
what the file says of itself (`SPDX-License-Identifier`), dated by the commit. Nothing of the repository runs: it is
read without a working tree. Links, submodules and pointers to large files are refused and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Run
from volant.core.errors import LicenceError

if TYPE_CHECKING:
    from volant.core.sample import Source
    from volant.stages.collect._reading import Arriving
    from volant.stages.collect._repository import Blobs, Entry

_POINTER = b"version https://git-lfs.github.com/spec/v1"


def git(
    run: Run,
    *,
    repository: str,
    commit: str,
    licence: str = "",
    consent: Literal["not-personal", "given", "contract", "public", "withheld"] = "public",
    collected_at: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = "",
    only: list[str] | None = None,
    whole: bool = True,
    piece_chars: Annotated[int, Field(ge=0)] = 8000,
    max_megabytes: Annotated[float, Field(gt=0, le=256)] = 2.0,
    reading: dict[str, Any] | None = None,
    refuse_above: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Dataset:
    """Gather what a commit of a git repository tracks.

    Args:
        repository: a directory, relative to the project, or a web address, which is fetched (public ones only).
        commit: its full name of 40 or 64 digits; for a branch or tag the error says which commit it is now.
        licence: SPDX name of its terms; empty takes its licence file where that is plainly one licence. A file's own
            `SPDX-License-Identifier` goes before both; terms that forbid goal.use are refused.
        consent: whether the people in the data agreed: not-personal, given, contract or public; `withheld` is refused.
        collected_at: day on which it was gathered (`2026-11-24`); empty takes the day of the commit.
        only: names of files to take (`docs/*.md`, `*.py`; `*` also matches `/`); empty takes all.
        whole: every text file is one document, whatever its ending; false reads each by its ending as `files` does.
        piece_chars: documents are cut into pieces of at most that many characters at blank lines; 0 keeps them whole.
        max_megabytes: larger files are refused one by one, before they are read.
        reading: further options of the modality's reader (`captions: folder`, `fields`, `encoding`).
        refuse_above: share of bad records (0 to 1) beyond which the step fails instead of going on without them.

    Returns:
        A Dataset with a split on every record.

    Raises:
        LicenceError: the licence is unknown, not plain, or forbids the use.
        SettingError: the address or the commit is none.
        DataError: there is no such repository or commit, or nothing usable in it.
        RemoteError: the web address does not answer.
        MissingPackage: git is not installed.
    """
    from volant.stages.collect._arrival import arrive, terms
    from volant.stages.collect._reading import FEW, asked, read
    from volant.stages.collect._repository import opened

    store = opened(run, repository, commit)
    entries = store.tree(commit)
    with store.opened() as blobs:
        known, day = _licence(run, licence, blobs, entries, store.name), collected_at or store.date(commit)
        source = terms(run, f"git:{store.name}@{commit[:12]}/", known, consent, day, where=store.name)
        chosen = [entry for entry in entries if asked(entry.name, only)]
        options = {"piece_chars": piece_chars, "plain": True, "whole": whole} | (reading or {})
        found = read(
            run, _files(run, blobs, chosen, source, max_megabytes * 1e6), options,
            total=sum(entry.bytes for entry in chosen), few=len(chosen) < FEW and piece_chars > 0,
        )  # fmt: skip
        return arrive(run, found, refuse_above=refuse_above, where=store.name)


def _licence(run: Run, stated: str, blobs: Blobs, entries: list[Entry], where: str) -> str:
    """The licence that was stated, else the one of the licence files at the root.

    Raises:
        LicenceError: none is stated, and the files are none or not plain.
    """
    from volant.modalities.licence_text import NAMES, licence_of

    files = [e for e in entries if NAMES.match(e.name) and e.mode.startswith("100") and e.bytes < 1_000_000]
    found = {e.name: licence_of(blobs.bytes_of(e).decode("utf-8", "replace")) for e in files}
    plain = sorted({name for name in found.values() if name})
    if stated:
        if len(plain) == 1 and stated.strip().lower() != plain[0].lower():
            run.say(f"you state {stated}; its {', '.join(found)} reads like {plain[0]}")
        return stated
    shown = ", ".join(found) or "no licence file"
    if len(plain) != 1 or not all(found.values()):
        what = f"it is not plain which licence it has ({shown}: {' and '.join(plain) or 'none that is known'})."
        raise LicenceError(what, where=where, fix="Read its terms and set `licence`.")
    run.say(f"licence: {plain[0]}, by {shown}")
    return plain[0]


def _files(
    run: Run, blobs: Blobs, entries: list[Entry], source: Source, most: float
) -> Iterator[tuple[Arriving, Source]]:
    """The files one by one, each on disk under a name of ours while it is read; what is no text is passed over."""
    import hashlib

    from volant.core.outside import OutsideFile
    from volant.core.protocols import Refusal

    place = run.work / "file"
    passed = 0
    for entry in entries:
        run.check_stop()
        reason = _unreadable(entry, most)
        raw = b"" if reason else blobs.bytes_of(entry)
        if raw.startswith(_POINTER):
            reason = "is a pointer to a large file, which is not fetched"
        if reason:
            yield Refusal(f"{source.uri}{entry.name}", reason), source
        elif not raw.strip() or (run.modality == "text" and b"\0" in raw[:8000] and not _opened_as(entry.name)):
            passed += 1  # empty, or binary by git's own rule
        else:
            place.write_bytes(raw)
            about = OutsideFile(place, entry.name, len(raw), hashlib.sha256(raw).hexdigest())
            try:
                own = _own_licence(raw) or source.licence
            except LicenceError as error:
                yield Refusal(f"{source.uri}{entry.name}", f"states no known licence: {error.what}"), source
                continue
            yield about, source.model_copy(update={"licence": own})
    place.unlink(missing_ok=True)
    if passed:
        run.say(f"{passed:,} files are empty or no text and were passed over")


def _unreadable(entry: Entry, most: float) -> str:
    if entry.mode == "160000":
        return "is a submodule, which is not fetched; gather it as a repository of its own"
    if not entry.mode.startswith("100"):
        return "is a link, which is not followed"
    return f"has {entry.bytes:,} bytes; at most {most:,.0f} are read (max_megabytes)" if entry.bytes > most else ""


def _opened_as(name: str) -> bool:
    """Whether a binary file is of a kind that text is read from."""
    return name.lower().endswith((".pdf", ".docx", ".parquet", ".gz", ".bz2", ".zst", ".zip", ".tar", ".tgz", ".warc"))


def _own_licence(raw: bytes) -> str:
    """What a file says of its own licence; empty where it says nothing.

    Raises:
        LicenceError: SPDX does not know it.
    """
    from volant.modalities.licence import canonical
    from volant.modalities.licence_text import HEADER, stated_licence

    stated = stated_licence(raw[: 2 * HEADER].decode("utf-8", "ignore"))
    return canonical(stated) if stated else ""
