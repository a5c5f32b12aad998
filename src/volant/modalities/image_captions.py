"""Where an image's caption or class comes from when the file says nothing: names and files beside it.

In goes the file with one of the words of `CAPTIONS`; out comes the text, or nothing.

| word      | the caption is                                                                              |
|-----------|---------------------------------------------------------------------------------------------|
| `folder`  | the name of the folder that it lies in: `cats/0001.png` is `cats`                           |
| `name`    | what stands before the number in its name: `7_0001.png` is `7`                              |
| `sidecar` | the text of the `.txt` file of the same name beside it                                      |
| `none`    | nothing                                                                                     |
| `auto`    | the sidecar, or the row of a `metadata.csv` or `.jsonl` beside it; else the folder's name   |
|           | where folders with images lie side by side; else the name's beginning; else nothing         |
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from volant.core.errors import PathError
from volant.core.outside import OutsideFile
from volant.core.paths import Resolver
from volant.core.protocols import Refusal
from volant.modalities import text_files
from volant.modalities.image_pixels import MAX_CAPTION, BadImage

CAPTIONS = ("auto", "folder", "name", "sidecar", "none")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
METADATA = ("metadata.csv", "metadata.jsonl")
_NUMBERED = re.compile(r"(.+)[_.]\d+")
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "images", "img", "imgs", "data"}
_TEXTS = ("text", "label", "caption", "prompt", "class")
_LISTED = 10_000  # entries of a folder that are looked at


def caption_of(file: OutsideFile, captions: str, fields: dict[str, str]) -> str | None:
    """The caption of an image file by one of the rules of `CAPTIONS`.

    Raises:
        BadImage: the rule was asked for and gives none, or the sidecar is no text.
    """
    if captions == "none":
        return None
    if captions == "sidecar" or captions == "auto":
        found = _sidecar(file)
        if found is None and captions == "sidecar":
            raise BadImage(f"has no caption beside it: {Path(file.name).with_suffix('.txt').name} is not there")
        if found is not None:
            return found
    name = Path(file.name)
    prefix = _NUMBERED.fullmatch(name.stem)
    if captions == "folder":
        if not name.parent.name:
            raise BadImage("lies in no folder whose name could be its class")
        return name.parent.name
    if captions == "name":
        if prefix is None:
            raise BadImage("has a name without a class before a number, as `7_0001.png` has")
        return prefix[1]
    listed = _listed(file, fields)
    if listed is not None:
        return listed or None
    if name.parent.name and name.parent.name.lower() not in _SPLITS and _has_siblings(file.path.parent):
        return name.parent.name
    return prefix[1] if prefix else None


def row_caption(row: dict[str, Any], fields: dict[str, str]) -> str | None:
    """The caption or class in a row of a metadata file: its `text`, else its `label`.

    Raises:
        BadImage: the value is neither text nor number.
    """
    names = [fields[name] for name in ("text", "label") if name in fields] or _TEXTS
    for name in names:
        value = row.get(name)
        if value is None or value == "":
            continue
        if not isinstance(value, str | int | float):
            raise BadImage(f"has a {name} that is no text: {type(value).__name__}")
        return str(value)
    return None


def inside(folder: Path, name: Any) -> Path:
    """The file that a metadata file or a caption rule names, links followed: only within its own folder.

    Raises:
        BadImage: it is no name, leaves the folder, or is not there.
    """
    if not isinstance(name, str) or not name.strip():
        raise BadImage("has no `file_name`; name the column with `fields: {file_name: ...}`")
    try:
        path = Resolver(folder.resolve()).resolve(name)
    except (PathError, OSError, RuntimeError, ValueError):
        raise BadImage(f"names {name[:200]!r}, which lies outside of its folder") from None
    if not path.is_file():
        raise BadImage(f"names {name[:200]!r}, which is not there")
    return path


def _sidecar(file: OutsideFile) -> str | None:
    name = file.path.with_suffix(".txt").name
    if not (file.path.parent / name).is_file():
        return None
    path = inside(file.path.parent, name)
    if path.stat().st_size > 4 * MAX_CAPTION:
        raise BadImage(
            f"has a caption of {path.stat().st_size:,} bytes in {name}; at most {4 * MAX_CAPTION:,} are read"
        )
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise BadImage(f"has a caption in {name} that is no UTF-8") from None


def _listed(file: OutsideFile, fields: dict[str, str]) -> str | None:
    """What a metadata file beside an image says of it; "" where it lists it without a caption."""
    for name in METADATA:
        path = file.path.parent / name
        if path.is_file():
            about = path.stat()
            rows = _rows(str(path), about.st_mtime_ns, about.st_size, tuple(sorted(fields.items())))
            if file.path.name in rows:
                return rows[file.path.name]
    return None


@lru_cache(maxsize=4)
def _rows(path: str, mtime_ns: int, size: int, fields: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Caption by file name; the arguments after the path only tell one state of the file from another."""
    found: dict[str, str] = {}
    names = dict(fields)
    for item in text_files.records(OutsideFile(Path(path), Path(path).name, size, "")):
        if isinstance(item, Refusal):
            continue
        try:
            found[str(item[1].get(names.get("file_name", "file_name")))] = row_caption(item[1], names) or ""
        except BadImage:
            continue
    return found


def _has_siblings(folder: Path) -> bool:
    """Whether another folder with images lies beside it: then the names of folders tell classes apart."""
    return _with_images(str(folder.parent), folder.parent.stat().st_mtime_ns) > 1


@lru_cache(maxsize=64)
def _with_images(place: str, mtime_ns: int) -> int:
    folders = [f for f in islice(Path(place).iterdir(), _LISTED) if f.is_dir() and not f.name.startswith(".")]
    return sum(any(f.suffix.lower() in ENDINGS for f in islice(folder.iterdir(), _LISTED)) for folder in folders)
