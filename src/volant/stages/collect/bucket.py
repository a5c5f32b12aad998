"""What lies below an address of a store of objects as a Dataset: an S3 prefix, or any file system that fsspec opens.

Enters: an address. Leaves: a Dataset in the order of the objects' names, and `objects.json`, which says of each its
size and sha256. Objects are fetched one by one into the step's scratch directory; after a kill those that are there
and have not changed are not fetched again. Keys come from the environment (`AWS_ACCESS_KEY_ID`), never from a
setting. What changes in the bucket later does not make the step stale; `--refresh` looks again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from volant.core import Dataset, Run
from volant.core.errors import DataError, MachineError, SettingError

if TYPE_CHECKING:
    from volant.core.sample import Source
    from volant.stages.collect._reading import Arriving
    from volant.store.remote import Listed

_SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")


def bucket(
    run: Run,
    *,
    address: str,
    licence: str,
    consent: Literal["not-personal", "given", "contract", "public", "withheld"] = "not-personal",
    collected_at: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = "",
    only: list[str] | None = None,
    fields: dict[str, str] | None = None,
    group: str = "",
    encoding: str = "",
    piece_chars: Annotated[int, Field(ge=0)] = 8000,
    reading: dict[str, Any] | None = None,
    refuse_above: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Dataset:
    """Gather the objects below a prefix.

    Args:
        address: where they lie (`s3://bucket/prefix`, `gs://`, `az://`), or a directory relative to the project.
        licence: SPDX name of the terms that all of them come under (`CC-BY-4.0`, `LicenseRef-own`); one that
            forbids goal.use is refused.
        consent: whether the people in the data agreed: not-personal, given, contract or public; `withheld` is refused.
        collected_at: day on which they were gathered (`2026-11-24`); empty takes what a file says of itself.
        only: names below the address to take (`*.jsonl`, `2024/*`; `*` also matches `/`); empty takes all.
        fields: your names of the known fields, as in {prompt: question, completion: answer}.
        group: a field whose value keeps records in one split (an author, a patient); empty groups by prompt.
        encoding: of the files; empty means UTF-8, or what a byte-order mark says. A wrong one refuses records.
        piece_chars: documents are cut into pieces of at most that many characters at blank lines; 0 keeps them whole.
        reading: further options of the modality's reader, as for `files`; captions that lie beside images are not seen
            (take `captions: folder` or `name`, or archives).
        refuse_above: share of bad records (0 to 1) beyond which the step fails instead of going on without them.

    Returns:
        A Dataset with a split on every record.

    Raises:
        LicenceError: the licence is unknown or forbids the use.
        SettingError: the address is none that is read from.
        DataError: nothing lies there, or nothing usable.
        MachineError: the disk has no room for the objects.
        RemoteError: the address does not answer.
        MissingPackage: the address needs a package that is not installed.
    """
    from volant.stages.collect._arrival import arrive, terms
    from volant.stages.collect._reading import FEW, asked, read
    from volant.store.remote import listing

    place, shown = _place(run, address)
    source = terms(run, f"{shown}/", licence, consent, collected_at, where=shown)
    objects = [one for one in listing(place) if asked(one.name, only)]
    if not objects:
        raise DataError("nothing lies there.", where=shown, fix="Check the address, `only`, and your rights.")
    total = sum(one.bytes for one in objects)
    _room(run, total, shown)
    options = {"fields": fields or {}, "group": group, "encoding": encoding, "piece_chars": piece_chars}
    found = read(
        run, _files(run, place, objects, source), options | (reading or {}), total=total,
        few=len(objects) < FEW and piece_chars > 0,
    )  # fmt: skip
    return arrive(run, found, refuse_above=refuse_above, where=shown)


def _place(run: Run, address: str) -> tuple[str, str]:
    """Where fsspec looks, and what records call it.

    Raises:
        SettingError: it is chained, holds a key, or is of a kind that is not read from.
        PathError: it is a directory outside of the project.
    """
    scheme, _, rest = address.partition("://") if "://" in address else ("", "", address)
    fix = "Write s3://bucket/prefix, or a directory of the project; keys come from the environment."
    if "::" in address or "@" in rest.partition("/")[0] or "?" in address:
        raise SettingError("the address holds more than a place.", where="address", fix=fix)
    if scheme and scheme not in _SCHEMES:
        raise SettingError(f"{scheme}:// is not read from.", where="address", fix=fix)
    if scheme:
        return address.rstrip("/"), address.rstrip("/")
    return str(run.resolver.resolve(address)), f"bucket:{address.rstrip('/')}"


def _room(run: Run, total: int, where: str) -> None:
    import shutil

    free = shutil.disk_usage(run.work).free
    if total > free:
        what = f"its objects have {total / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB free."
        raise MachineError(what, where=where, fix="Take a part of them with `only`, or make room.")


def _files(run: Run, place: str, objects: Sequence[Listed], source: Source) -> Iterator[tuple[Arriving, Source]]:
    """The objects as files under names of ours, fetched where they are not there yet; what they were is written."""
    import json

    from volant.core.artifact import file_sha256
    from volant.core.outside import OutsideFile
    from volant.core.protocols import Refusal
    from volant.core.sample import sample_id
    from volant.store.remote import fetch

    folder = run.work / "objects"
    folder.mkdir(exist_ok=True)
    told = []
    for one in objects:
        run.check_stop()
        file = folder / sample_id(one.name, str(one.bytes), one.version)
        if not file.is_file():
            fetch(place, one, file)
        size = file.stat().st_size
        if size != one.bytes:
            file.unlink()
            reason = f"changed while it was fetched: {size:,} of {one.bytes:,} bytes"
            yield Refusal(f"{source.uri}{one.name}", reason), source
            continue
        digest = file_sha256(file)
        told.append({"name": one.name, "bytes": size, "sha256": digest})
        yield OutsideFile(file, one.name, size, digest), source
    (run.out / "objects.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
