"""Poisoned image files, made here: bombs, broken and hostile ones, for `check_modality(poisons=...)`.

Nothing enters; what leaves says of each file what it is, with the ending that it lies under. Each is what
turned up in the wild in its kind: small on disk and huge in memory, cut off, or not what its name says.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from functools import lru_cache
from typing import Any

from volant.testing.poison import Poisons

BOMB_SIDE = 12_000


@lru_cache(maxsize=1)
def poisoned_images() -> Poisons:
    """What has to be refused by everything that reads images."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    jpeg, whole, webp = _saved(picture, "JPEG"), _saved(picture, "PNG"), _saved(picture, "WEBP")
    frames = [Image.fromarray(np.roll(noise, k, 0)) for k in (1, 2)]
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    return {
        "a PNG of 144 megapixels": (".png", png_bomb()),
        "a WebP that says it has 268 megapixels": (".webp", _webp_bomb(webp)),
        "a PNG cut off": (".png", whole[: len(whole) // 2]),
        "a JPEG cut off": (".jpg", jpeg[: len(jpeg) // 2]),
        "a WebP cut off": (".webp", webp[: len(webp) // 2]),
        "a PNG with a flipped byte": (".png", whole[:200] + bytes([whole[200] ^ 0xFF]) + whole[201:]),
        "an animated PNG": (".png", _saved(picture, "PNG", save_all=True, append_images=frames)),
        "an animated WebP": (".webp", _saved(picture, "WEBP", save_all=True, append_images=frames)),
        "a GIF under another name": (".png", _saved(picture.convert("P"), "GIF")),
        "a TIFF under another name": (".jpg", _saved(picture, "TIFF")),
        "a JPEG for print, in CMYK": (".jpg", _saved(picture.convert("CMYK"), "JPEG")),
        "a PNG of 16 bits a channel": (".png", _saved(Image.fromarray(noise[..., 0].astype(np.uint16) * 256), "PNG")),
        "a JPEG of thousands of scans": (".jpg", jpeg[:-2] + b"\xff\xda\x00\x02" * 5000 + jpeg[-2:]),
        "text under an image's name": (".png", b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 20),
        "an array of pickled objects": (".npy", pickled.getvalue()),
        "an archive of pickled objects": (".npz", _zipped({"images.npy": pickled.getvalue()})),
        "a zip bomb of arrays": (".npz", _zipped({"images.npy": npy((2_000, 200, 200)) + bytes(80_000_000)})),
        "a zip bomb of images": (".zip", _zipped({f"{k}.png": bytes(35_000_000) for k in range(2)})),
        "a tar bomb": (".tar.gz", gzip.compress(_tarred("a.png", bytes(80_000_000)), mtime=0)),
        "a tar cut off": (".tar", _tarred("a.png", whole)[:1000]),
        "a tar that leaves its folder": (".tar", _tarred("../a.png", whole)),
        "a tar with a link": (".tar", _tarred("a.png", kind=tarfile.SYMTYPE)),
        "a tar without an image": (".tar", _tarred("a.txt", b"words")),
        "an array that is larger than it is": (".npy", npy((1 << 20, 1 << 20, 1 << 20))),
        "an array of floats": (".npy", _array(np.zeros((4, 8, 8)))),
        "an array that is one colour picture": (".npy", _array(noise)),
        "an array without an image": (".npy", _array(np.zeros((0, 8, 8), np.uint8))),
        "an archive without images": (".npz", _zipped({"other.npy": _array(np.zeros((4, 8, 8), np.uint8))})),
        "a list that leaves its folder": (".jsonl", b'{"file_name": "../../../../etc/hostname", "text": "a"}\n'),
        "a list with an absolute name": (".csv", b"file_name,text\n/etc/hostname,a\n"),
        "a list without file names": (".csv", b"name,text\na.png,b\n"),
    }


def png_bomb(side: int = BOMB_SIDE) -> bytes:
    """A PNG of `side` x `side` black pixels, one bit each: 144 megapixels in 18 kB."""
    rows = zlib.compress(bytes((side + 7) // 8 + 1) * side, 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*c) for c in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")))


def npy(shape: tuple[int, ...]) -> bytes:
    """The header of an array of bytes of that shape, whatever follows it."""
    from numpy.lib import format as written

    file = io.BytesIO()
    written.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _webp_bomb(webp: bytes) -> bytes:
    """An extended header of 16,384 x 16,384 before the picture's own data."""
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16_383).to_bytes(3, "little") * 2
    body = b"WEBP" + extended + webp[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _saved(image: Any, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _array(array: Any) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, compresslevel=1)
    return file.getvalue()


def _tarred(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, len(content), "/etc/hosts"
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512 + 1024)
