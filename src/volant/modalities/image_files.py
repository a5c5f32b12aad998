"""Image files of every usual kind, one by one, so that one bad file costs one image.

In goes a file of a snapshot; out come samples or Refusals, in order:

| file                         | images                                                                     |
|------------------------------|----------------------------------------------------------------------------|
| png, jpg, jpeg, webp         | one; its caption is found as `image_captions` says                         |
| npy, npz                     | those of the array `images`, with `labels`                                 |
| csv, tsv, jsonl, json        | those that its column `file_name` names, in its own folder or below it     |
| zip                          | those that its `metadata.jsonl` or `.csv` lists; else all that are in it   |
| tar, tgz, tar.gz             | all that are in it, in its order, with the texts of their keys (WebDataset) |
| txt                          | none where it is the caption of an image beside it                         |

What the memory can hold is judged by headers and directories, before anything is decoded or unpacked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from volant.core.errors import SettingError, did_you_mean
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.core.sample import Sample, Source
from volant.modalities import text_files
from volant.modalities.image_arrays import array_images
from volant.modalities.image_captions import CAPTIONS, ENDINGS, METADATA, caption_of, inside, row_caption
from volant.modalities.image_pixels import MAX_BYTES, MAX_PIXELS, MOST_PIXELS, BadImage, decoded, image_sample
from volant.modalities.image_tar import TARS, tar_images
from volant.modalities.reading_options import check_count, check_options
from volant.modalities.zip_archive import Archive, BadFile

LISTS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
ARRAYS = (".npy", ".npz")
_MAX_LIST = 256_000_000


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        captions: one of `CAPTIONS`.
        max_pixels: of one image.
        fields: `file_name`, `text`, `label`, `images`, `labels` to the files' own names of them.
        group: a column or array whose value keeps images in one split.
        encoding: of CSV and JSON.
    """

    captions: str = "auto"
    max_pixels: int = MAX_PIXELS
    fields: dict[str, str] = field(default_factory=dict)
    group: str = ""
    encoding: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Reading:
        """The options of `load`; what is for documents of text is passed over.

        Raises:
            SettingError: there is no such option, `captions` is none of the known words, or `max_pixels` is out of
                its bounds.
        """
        check_options(options, cls.__dataclass_fields__, "an image")
        check_count(options, "max_pixels", 1, MOST_PIXELS)
        captions = str(options.get("captions") or "auto")
        if captions not in CAPTIONS:
            what = f"captions cannot be {captions!r}."
            raise SettingError(what, where="captions", fix=did_you_mean(captions, CAPTIONS))
        fields = {str(k): str(v) for k, v in (options.get("fields") or {}).items()}
        return cls(
            captions,
            options.get("max_pixels") or MAX_PIXELS,
            fields,
            str(options.get("group") or ""),
            str(options.get("encoding") or ""),
        )


def load(file: OutsideFile, source: Source, reading: Reading) -> Iterator[Sample | Refusal]:
    """Every image of a file, or why it cannot be used."""
    suffix = Path(file.name).suffix.lower()
    if file.bytes == 0:
        yield Refusal(file.name, "the file is empty")
    elif suffix in ENDINGS:
        yield _one(file, file.name, source, reading)
    elif suffix in ARRAYS:
        yield from _arrays(file, source, reading)
    elif suffix in LISTS:
        yield from _list(file, source, reading)
    elif suffix == ".zip":
        yield from _zip(file, source, reading)
    elif file.name.lower().endswith(TARS):
        yield from _tar(file, source, reading)
    elif suffix != ".txt" or not any(file.path.with_suffix(e).is_file() for e in ENDINGS):
        known = (*ENDINGS, *ARRAYS, *LISTS, ".zip", *TARS)
        yield Refusal(
            file.name, f"no images are read from {suffix or 'a nameless ending'}. {did_you_mean(suffix, known)}"
        )


def _one(
    file: OutsideFile, place: str, source: Source, reading: Reading, row: dict[str, Any] | None = None
) -> Sample | Refusal:
    """An image file; `row` is what a metadata file says of it."""
    try:
        if file.bytes > MAX_BYTES:
            raise BadImage(f"has {file.bytes:,} bytes; an image may have {MAX_BYTES:,}")
        condition = _condition(file, reading, row)
        array = decoded(file.path.read_bytes(), max_pixels=reading.max_pixels)
        return image_sample(array, _at(source, place), condition, group=_group(row, reading))
    except BadImage as reason:
        return Refusal(place, str(reason))
    except OSError as error:
        return Refusal(place, f"cannot be read: {error.strerror or error}")


def _condition(file: OutsideFile, reading: Reading, row: dict[str, Any] | None) -> str | None:
    """By the row where there is one, unless a rule was asked for."""
    if row is not None and reading.captions in ("auto", "none"):
        return row_caption(row, reading.fields) if reading.captions == "auto" else None
    return caption_of(file, reading.captions, reading.fields)


def _group(row: dict[str, Any] | None, reading: Reading) -> str:
    if not reading.group or row is None:
        return ""
    if row.get(reading.group) in (None, ""):
        raise BadImage(f"has no value in the group field {reading.group!r}")
    return str(row[reading.group])


def _arrays(file: OutsideFile, source: Source, reading: Reading) -> Iterator[Sample | Refusal]:
    for found in array_images(file, max_pixels=reading.max_pixels, fields=reading.fields, group=reading.group):
        if isinstance(found, Refusal):
            yield found
            continue
        place, array, beside = found
        condition = None if reading.captions == "none" else beside.get("label")
        try:
            yield image_sample(array, _at(source, place), condition, group=beside.get("group", ""))
        except BadImage as reason:
            yield Refusal(place, str(reason))


def _list(file: OutsideFile, source: Source, reading: Reading) -> Iterator[Sample | Refusal]:
    """The images that a metadata file names (the convention of Hugging Face's `imagefolder`)."""
    if file.bytes > _MAX_LIST and not file.name.lower().endswith((".jsonl", ".ndjson")):
        yield Refusal(file.name, f"has {file.bytes:,} bytes; a list may have {_MAX_LIST:,}. Use JSONL")
        return
    for found in text_files.records(file, encoding=reading.encoding):
        if isinstance(found, Refusal):
            yield found
            continue
        place, row = found[:2]
        try:
            name = row.get(reading.fields.get("file_name", "file_name"))
            path = inside(file.path.parent, name)
        except BadImage as reason:
            yield Refusal(place, str(reason))
            continue
        named = str(PurePosixPath(file.name).parent / str(name))
        yield _one(OutsideFile(path, named, path.stat().st_size, ""), place, source, reading, row)


def _zip(file: OutsideFile, source: Source, reading: Reading) -> Iterator[Sample | Refusal]:
    try:
        with Archive(file.path) as archive:
            rows = list(_zip_rows(archive, file, reading))
            if not rows:
                yield Refusal(file.name, f"the archive holds no image ({', '.join(ENDINGS)})")
            for found in rows:
                yield found if isinstance(found, Refusal) else _member(archive, file, found, source, reading)
    except BadFile as reason:
        yield Refusal(file.name, f"the archive {reason}")


def _zip_rows(archive: Archive, file: OutsideFile, reading: Reading) -> Iterator[dict[str, Any] | Refusal]:
    """What the archive's metadata lists; else each image with the folder that it lies in as its class."""
    name = next((name for name in METADATA if name in archive.members), "")
    if not name:
        images = sorted(n for n in archive.members if PurePosixPath(n).suffix.lower() in ENDINGS)
        folders = {PurePosixPath(n).parent.name for n in images}
        for image in images:
            label = PurePosixPath(image).parent.name if len(folders) > 1 else None
            yield {reading.fields.get("file_name", "file_name"): image, reading.fields.get("text", "text"): label}
        return
    data = archive.read(name, MAX_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        listed = OutsideFile(path, f"{file.name}/{name}", len(data), "")
        for found in text_files.records(listed, encoding=reading.encoding):
            yield found if isinstance(found, Refusal) else found[1]


def _member(
    archive: Archive, file: OutsideFile, row: dict[str, Any], source: Source, reading: Reading
) -> Sample | Refusal:
    name = str(row.get(reading.fields.get("file_name", "file_name")))
    place = f"{file.name}/{name[:200]}"
    try:
        if name not in archive.members:
            raise BadImage("is not in the archive that lists it")
        condition = None if reading.captions == "none" else row_caption(row, reading.fields)
        array = decoded(archive.read(name, MAX_BYTES), max_pixels=reading.max_pixels)
        return image_sample(array, _at(source, place), condition, group=_group(row, reading))
    except BadFile as reason:
        return Refusal(place, str(reason))


def _tar(file: OutsideFile, source: Source, reading: Reading) -> Iterator[Sample | Refusal]:
    try:
        for found in tar_images(file, reading.captions, reading.fields):
            if isinstance(found, Refusal):
                yield found
                continue
            place, raw, condition, row, date = found
            try:
                array = decoded(raw, max_pixels=reading.max_pixels)
                own = _at(source, place)
                own = own.model_copy(update={"collected_at": own.collected_at or date})
                yield image_sample(array, own, condition, group=_group(row, reading))
            except BadImage as reason:
                yield Refusal(place, str(reason))
    except BadFile as reason:
        yield Refusal(file.name, f"the archive {reason}")


def _at(source: Source, place: str) -> Source:
    return source.model_copy(update={"uri": f"{source.uri}{place}"})
