"""Encoded images as arrays and back, with nothing decoded before its size is known.

In go the bytes of a PNG, JPEG or WebP file from anywhere; out comes an array, or the reason why not. An
array is what the rest of Volant calls an image: uint8, one channel where all are grey, else three. What a
file says besides its pixels (EXIF with the place, comments, colour profiles) is not kept: its orientation
is applied, transparency is laid on white. The bytes of a sample are always a PNG that we wrote.

Legend: H height, W width, C channels (1 grey, 3 RGB).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from volant.core.errors import DataError
from volant.core.sample import Sample, Source, sample_id, split_of
from volant.modalities.text_shapes import text_problem
from volant.modalities.zip_archive import BadFile

Pixels = NDArray[np.uint8]

MAX_PIXELS = 1 << 24
MOST_PIXELS = 1 << 26  # that anybody can set; 200 MB while it is decoded
MAX_BYTES = 64_000_000
MAX_CAPTION = 4_000
FORMATS = ("PNG", "JPEG", "WEBP")
# A progressive JPEG has about ten; thousands of them, of a few bytes each, make the decoder pass as often.
_MAX_SCANS = 100
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_ORIENTATION = 0x0112


class BadImage(BadFile):
    """Why an image is not usable; becomes a Refusal."""


def decoded(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The bytes of an image file as uint8 [H, W, C].

    Raises:
        BadImage: it is of another format, too large, animated, of an odd mode, or broken.
    """
    if len(data) > MAX_BYTES:
        raise BadImage(f"has {len(data):,} bytes; an image may have {MAX_BYTES:,}")
    if data[8:12] == b"WEBP" and len(data) >= 30:  # its decoder takes memory for the canvas when it opens
        _bounded(*_webp_size(data), max_pixels)
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > _MAX_SCANS:
        raise BadImage(f"is a JPEG of {data.count(bytes([0xFF, 0xDA])):,} scans; at most {_MAX_SCANS} are read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own bound is ours to hold; odd metadata is not kept anyway
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _bounded(image.width, image.height, max_pixels)
                # A phone's JPEG may carry a second picture (MPO) for the screen's brightness; the first one counts.
                if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                    raise BadImage(f"is animated ({getattr(image, 'n_frames', 0)} frames); give its frames one by one")
                return array_of(image)
        except BadImage:
            raise
        except UnidentifiedImageError:
            raise BadImage(f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from None
        except Image.DecompressionBombError:
            raise BadImage(f"has more than twice {Image.MAX_IMAGE_PIXELS:,} pixels; {_most(max_pixels)}") from None
        except Exception as error:  # a decoder can raise anything; none of it is our bug
            said = str(error).strip().split("\n")[0] or type(error).__name__
            raise BadImage(f"cannot be decoded: {said}") from error


def array_of(image: Image.Image) -> Pixels:
    """An opened image as uint8 [H, W, C]: turned as its EXIF says, on white where it is transparent.

    Raises:
        BadImage: its mode is none that eight bits a channel can hold.
    """
    if image.mode not in _MODES:
        raise BadImage(f"has the mode {image.mode}; save it as grey or RGB with 8 bits a channel")
    image.load()
    turn = _TURNS.get(_orientation(image))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    elif image.mode in ("1", "P"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    return grey_or_rgb(np.asarray(image.transpose(turn) if turn is not None else image))


def grey_or_rgb(array: Pixels) -> Pixels:
    """uint8 [H, W] or [H, W, 1 or 3] as [H, W, C]; one channel where three say the same."""
    if array.ndim == 2:
        return array[:, :, None]
    if array.shape[2] == 3 and np.array_equal(array[..., 0], array[..., 1]) and np.array_equal(
        array[..., 0], array[..., 2]
    ):  # fmt: skip
        return array[..., :1]
    return array


def png(array: Pixels, text: Mapping[str, str] | None = None) -> bytes:
    """An array as a PNG file.

    Args:
        array: uint8 [H, W], [H, W, 1] or [H, W, 3].
        text: goes into text chunks, by keyword (Latin letters, at most 79); none by default.

    Raises:
        DataError: the array is no image.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    file = io.BytesIO()
    pillow(array).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def pillow(array: Pixels) -> Image.Image:
    """An array as Pillow's image.

    Raises:
        DataError: the array is no image.
    """
    array = np.asarray(array)
    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if flat.dtype != np.uint8 or not (flat.ndim == 2 or (flat.ndim == 3 and flat.shape[2] == 3)) or not flat.size:
        what = f"an array of {array.dtype} {list(array.shape)} is no image."
        raise DataError(what, fix="Give uint8 [height, width] or [height, width, 1 or 3].")
    return Image.fromarray(np.ascontiguousarray(flat))


def pixels(sample: Sample) -> Pixels:
    """The image of a sample as uint8 [H, W, C].

    Raises:
        DataError: the sample holds none.
    """
    try:
        return decoded(sample.media or b"", max_pixels=MOST_PIXELS)
    except BadImage as reason:
        fix = "Load it with `collect.files`, which refuses such images."
        raise DataError(f"the image {reason}.", where=sample.id, fix=fix) from reason


def image_sample(
    array: Pixels, source: Source, condition: str | None = None, *, group: str = "", attrs: Mapping[str, Any] = {}
) -> Sample:
    """An array [H, W, C] as a sample of shape `media`, its split set by the hash of its group.

    Its id comes from the pixels and not from the PNG's bytes, which depend on the compressor. Without a group
    the same picture is always in the same split, whatever its caption.

    Raises:
        BadImage: the condition is unusable.
    """
    height, width, channels = array.shape
    condition = (condition or "").strip() or None
    problem = caption_problem(condition)
    if problem:
        raise BadImage(f"has a caption that {problem}")
    media = png(array)
    if len(media) > MAX_BYTES:
        raise BadImage(f"has {len(media):,} bytes as a PNG; an image may have {MAX_BYTES:,}")
    shape, raw = f"{height}x{width}x{channels}", array.tobytes()
    group = group or sample_id(shape, raw)
    sizes = {"width": width, "height": height, "channels": channels}
    return Sample(
        id=sample_id(shape, raw, condition or ""), shape="media", source=source, media=media, condition=condition,
        group=group, split=split_of(group), attrs={**attrs, **sizes},
    )  # fmt: skip


def caption_problem(condition: str | None) -> str:
    """What makes a caption unusable, or nothing."""
    if condition is None:
        return ""
    if len(condition) > MAX_CAPTION:
        return f"has {len(condition):,} characters; at most {MAX_CAPTION:,} are read"
    return text_problem(condition)


def size_in(sample: Sample) -> tuple[int, int, int]:
    """Height, width and channels of a sample: what its attributes say, else what its pixels are."""
    known = [sample.attrs.get(name) for name in ("height", "width", "channels")]
    if all(isinstance(n, int) and n > 0 for n in known):
        height, width, channels = known
        return int(height), int(width), int(channels)  # type: ignore[arg-type]
    height, width, channels = pixels(sample).shape
    return height, width, channels


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is the part of a file that is most often broken, and the least missed
        return 1


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP file from its header (RFC 9649, sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _bounded(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage(f"has {width * height:,} pixels ({width:,} x {height:,}); {_most(max_pixels)}")


def _most(max_pixels: int) -> str:
    return f"at most {max_pixels:,} are read (`max_pixels`)"
