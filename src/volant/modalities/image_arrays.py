"""Images in NumPy's files, read one at a time and never unpickled.

In goes an `.npy` or `.npz` file; out come arrays with their labels, or Refusals. The header says how much
there is before anything is read, and what it says has to be what the file holds. The memory that it takes
is that of one image.

Legend: N images, H height, W width, C channels (1, 3, or 4 with transparency).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from volant.core.errors import did_you_mean
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.modalities.image_pixels import BadImage, Pixels, array_of, grey_or_rgb
from volant.modalities.zip_archive import BROKEN, MAX_UNPACKED, Archive, BadFile

_MAX_LABELS = 256_000_000
_HEADER = 10_000
Found = tuple[str, Pixels, dict[str, str]] | Refusal
"""Place in the file, image [H, W, C], and what stands beside it (`label`, `group`)."""


def array_images(file: OutsideFile, *, max_pixels: int, fields: dict[str, str], group: str = "") -> Iterator[Found]:
    """Every image of a NumPy file.

    Args:
        file: an `.npy` of images, or an `.npz` with the arrays `images` and, where there are classes or
            captions, `labels`.
        max_pixels: of one image.
        fields: the file's own names of `images` and `labels`.
        group: an array of the `.npz` whose values keep images in one split.
    """
    try:
        if file.name.lower().endswith(".npy"):
            with file.path.open("rb") as stream:
                yield from _images(file.name, stream, file.bytes, {}, max_pixels)
            return
        with Archive(file.path) as archive:
            images = _member(archive, fields.get("images", "images"), "")
            names = {"label": fields.get("labels", "labels"), "group": group}
            beside = {
                kind: _values(archive, _member(archive, name, kind))
                for kind, name in names.items()
                if name and (f"{name}.npy" in archive.members or kind == "group" or "labels" in fields)
            }
            with archive.stream(images) as stream:
                yield from _images(file.name, stream, archive.members[images].file_size, beside, max_pixels)
    except BadFile as reason:
        yield Refusal(file.name, str(reason))
    except BROKEN as error:
        yield Refusal(file.name, f"is damaged: {error}")


def _member(archive: Archive, name: str, kind: str) -> str:
    member = f"{name}.npy"
    if member not in archive.members:
        known = [m.removesuffix(".npy") for m in archive.members]
        setting = f"fields: {{{kind}s: ...}}" if kind == "label" else "fields: {images: ...}" if not kind else "group"
        raise BadImage(f"has no array {name!r}. {did_you_mean(name, known)} Name yours with `{setting}`")
    return member


def _images(
    place: str, stream: IO[bytes], size: int, beside: dict[str, NDArray[Any]], max_pixels: int
) -> Iterator[Found]:
    shape = _pictures(stream, size, max_pixels)
    count, (height, width) = shape[0], shape[1:3]
    for kind, values in beside.items():
        if values.shape not in ((count,), (count, 1)):
            raise BadImage(f"has {kind}s of the shape {list(values.shape)} for {count:,} images")
    each = math.prod(shape[1:])
    for index in range(count):
        raw = stream.read(each)
        if len(raw) < each:
            raise BadImage(f"ends in image {index:,} of {count:,}")
        array: Pixels = np.frombuffer(raw, np.uint8).reshape(height, width, *shape[3:])
        if shape[3:] == (4,):
            array = array_of(Image.fromarray(array))
        texts = {kind: _text(values[index]) for kind, values in beside.items()}
        yield f"{place}[{index}]", grey_or_rgb(array), texts
    stream.read(1)  # at its end an archive compares the checksum


def _pictures(stream: IO[bytes], size: int, max_pixels: int) -> tuple[int, ...]:
    """The shape [N, H, W] or [N, H, W, C] that the header promises, held against the size of the file."""
    shape, dtype = _header(stream, size)
    if dtype != np.uint8:
        raise BadImage(f"holds {dtype}; save images as uint8 from 0 (black) to 255")
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        raise BadImage(f"holds {list(shape)}, which is one colour image or {shape[0]} narrow ones; give [N, H, W, C]")
    if len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] not in (1, 3, 4)):
        raise BadImage(f"holds an array {list(shape)}; images are [N, H, W] or [N, H, W, C] with C of 1, 3 or 4")
    if not all(shape):
        raise BadImage(f"holds no image: {list(shape)}")
    if shape[1] * shape[2] > max_pixels:
        raise BadImage(f"has images of {shape[1] * shape[2]:,} pixels; at most {max_pixels:,} are read (`max_pixels`)")
    return shape


def _values(archive: Archive, member: str) -> NDArray[Any]:
    """A small array whole: integers or text."""
    size = archive.members[member].file_size
    if size > _MAX_LABELS:
        raise BadImage(f"has {size:,} bytes in {member}; at most {_MAX_LABELS:,} are read")
    with archive.stream(member) as stream:
        shape, dtype = _header(stream, size)
        if dtype.kind not in "iuUS":
            raise BadImage(f"holds {dtype} in {member}; labels are integers or text")
        return np.frombuffer(stream.read(size), dtype).reshape(shape)


def _header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of the array that follows; nothing of it is read.

    Raises:
        BadImage: it is none, needs unpickling, lies in Fortran's order, or is not as large as it says.
    """
    try:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise BadImage(f"is in version {version[0]}.{version[1]} of NumPy's format; 1.0 and 2.0 are read")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=_HEADER)
    except BadImage:
        raise
    except Exception as error:  # a broken header may be anything
        raise BadImage(
            f"is no array that can be read: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    if dtype.hasobject or dtype.itemsize == 0:
        raise BadImage(f"holds Python objects ({dtype}), which would have to be unpickled; save plain numbers or text")
    if fortran and len(shape) > 1:
        raise BadImage("lies in Fortran's order; save `numpy.ascontiguousarray(images)`")
    promised = math.prod(shape) * dtype.itemsize
    if min(shape, default=1) < 0 or promised > MAX_UNPACKED or size != stream.tell() + promised:
        raise BadImage(f"says that it holds {list(shape)} of {dtype}, which its {size:,} bytes do not")
    return shape, dtype


def _text(value: Any) -> str:
    value = value.item() if np.ndim(value) == 0 else value[0].item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
