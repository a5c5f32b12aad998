"""Images in tar files, in WebDataset's form: neighbours of one key are an image and what is said of it.

In goes a file; out come the bytes of each image with its caption, in the order of the archive. `0001.png`, `0001.txt`
and `0001.json` share the key `0001` (all before the first dot); the caption is the text, else that of the JSON, else
the class (`0001.cls`). A tar is read as a stream and never unpacked to disk.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.modalities.image_captions import ENDINGS, row_caption
from volant.modalities.image_pixels import MAX_BYTES, MAX_CAPTION, BadImage
from volant.modalities.text_archives import tar_members, unpacked
from volant.modalities.text_entry import Entry, whole
from volant.modalities.zip_archive import BadFile, first_line

TARS = (".tar", ".tgz", ".tar.gz")
_TEXTS = ("txt", "text", "caption")
_SAID = 1 << 20  # bytes of one JSON


class TarImage(NamedTuple):
    """An image of a tar: its place, its bytes, its caption, what its JSON says, the ISO date of the file."""

    place: str
    raw: bytes
    caption: str | None
    row: dict[str, Any]
    date: str


def tar_images(file: OutsideFile, captions: str, fields: dict[str, str]) -> Iterator[TarImage | Refusal]:
    """Every image of a tar, or why it cannot be used.

    Args:
        captions: one of `image_captions.CAPTIONS`.
        fields: `text` and `label` to the JSON's own names of them.

    Raises:
        BadFile: the archive is damaged, cut off, or a bomb.
    """
    entry = Entry(file.name, lambda: cast(BinaryIO, file.path.open("rb")), file.bytes, path=file.path)
    passed: Counter[str] = Counter()
    held: list[tuple[str, Entry, bytes]] = []
    key = ""
    for member in tar_members(unpacked(entry) if entry.suffix != ".tar" else entry):
        if isinstance(member, Refusal):
            yield member
            continue
        name = PurePosixPath(member.name)
        stem, _, kind = name.name.partition(".")
        mine, kind = f"{name.parent}/{stem}", kind.lower()
        if held and mine != key:
            yield from _group(held, captions, fields)
            held = []
        key = mine
        image = f".{kind}".endswith(ENDINGS)
        if not image and kind not in (*_TEXTS, "json", "cls"):
            passed[name.suffix[:12] or "no ending"] += 1
            continue
        try:
            held.append((kind, member, whole(member, MAX_BYTES if image else _SAID)))
        except BadFile as reason:
            yield Refusal(member.name, str(reason))
    yield from _group(held, captions, fields)
    if passed:
        told = ", ".join(f"{count:,} {kind}" for kind, count in passed.most_common(6))
        yield Refusal(file.name, f"files in it that are not read: {told}")


def _group(held: list[tuple[str, Entry, bytes]], captions: str, fields: dict[str, str]) -> Iterator[TarImage | Refusal]:
    """The images of one key with what is said of them."""
    said = {kind: raw for kind, _, raw in held if not f".{kind}".endswith(ENDINGS)}
    for kind, entry, raw in held:
        if kind in said:
            continue
        try:
            row = _row(said.get("json"))
            yield TarImage(entry.name, raw, _caption(entry.name, captions, said, row, fields), row, entry.collected_at)
        except BadImage as reason:
            yield Refusal(entry.name, str(reason))
    if held and all(kind in said for kind, _, _ in held):
        yield Refusal(held[0][1].name, "says something of an image that is not there")


def _row(raw: bytes | None) -> dict[str, Any]:
    try:
        told = json.loads(raw) if raw is not None else {}
    except (ValueError, RecursionError) as error:
        raise BadImage(f"has a JSON beside it that cannot be read: {first_line(error)}") from error
    return told if isinstance(told, dict) else {}


def _caption(
    name: str, captions: str, said: dict[str, bytes], row: dict[str, Any], fields: dict[str, str]
) -> str | None:
    path = PurePosixPath(name)
    if captions == "none":
        return None
    if captions == "folder":
        return path.parent.name
    if captions == "name":
        prefix = re.fullmatch(r"(.+)[_.]\d+", path.stem)
        if prefix is None:
            raise BadImage("has a name without a class before a number, as `7_0001.png` has")
        return prefix[1]
    text = next((said[kind] for kind in (*_TEXTS, "cls") if kind in said), None)
    if captions == "sidecar" and text is None:
        raise BadImage("has no caption beside it")
    if text is None or ("cls" in said and text is said["cls"] and row_caption(row, fields)):
        return row_caption(row, fields)
    if len(text) > 4 * MAX_CAPTION:
        raise BadImage(f"has a caption of {len(text):,} bytes; at most {4 * MAX_CAPTION:,} are read")
    try:
        return text.decode("utf-8-sig").strip() or None
    except UnicodeDecodeError:
        raise BadImage("has a caption beside it that is no UTF-8") from None
