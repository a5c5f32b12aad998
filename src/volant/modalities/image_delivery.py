"""Images handed out: single files that say how they were made, sheets, whole sets; previews for pages.

In go samples; out come bytes (`deliver`) or an HTML fragment (`preview`). What a machine made says so in
the IPTC's words (`trainedAlgorithmicMedia`) in its XMP, with the prompt and the settings; a PNG has them in
text chunks as well. Images that people made are handed out without any word about them.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from volant.core.errors import DataError, SettingError, did_you_mean
from volant.core.sample import Sample
from volant.modalities.image_pixels import MAX_PIXELS, Pixels, pillow, pixels, png
from volant.modalities.source_type import COMPOSITE_TYPE, SOURCE_TYPE

SUFFIXES = {"png": ".png", "webp": ".webp", "zip": ".zip", "npz": ".npz"}
_SETTINGS = ("model", "family", "engine", "seed", "guidance", "steps", "controls", "tries", "ignored")
_PREVIEWED = 200
_THUMBNAIL = 256
_GAP = 2
_YEAR_ZERO = (1980, 1, 1, 0, 0, 0)  # of zip files: the same samples have to give the same bytes


def deliver(samples: Sequence[Sample], form: str) -> bytes:
    """Samples in one of the forms of `SUFFIXES`.

    `png` and `webp` (lossless) are one image; of several samples, a sheet of all. `zip` holds PNG files with a
    `metadata.jsonl`, as Hugging Face's `imagefolder` reads it; `npz` the arrays `images` and `labels`.

    Raises:
        SettingError: an unknown form.
        DataError: no samples, too many for one sheet, or different sizes in one array.
    """
    if form not in SUFFIXES:
        raise SettingError(f"images are not delivered as {form!r}.", where="form", fix=did_you_mean(form, SUFFIXES))
    if not samples:
        raise DataError("there is no image to deliver.", where=form, fix="Give one or more.")
    if form == "zip":
        return _zip(samples)
    if form == "npz":
        return _npz(samples)
    return encoded(sheet([pixels(sample) for sample in samples]), form, marks(samples))


def encoded(array: Pixels, form: str, said: Mapping[str, str]) -> bytes:
    """An array as `png`, `webp` (lossless) or `jpeg`, with what is said of it in its metadata."""
    xmp = _xmp(said) if said else b""
    if form == "png":
        return png(array, {**said, "XML:com.adobe.xmp": xmp.decode()} if said else None)
    file = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if form == "webp" else {"quality": 95}
    pillow(array).save(file, form.upper(), **options, **({"xmp": xmp} if xmp else {}))
    return file.getvalue()


def marks(samples: Sequence[Sample]) -> dict[str, str]:
    """What is said of images that a machine made: prompts, settings, source type; empty where people made all."""
    made = [s for s in samples if s.source.origin != "human"]
    if not made:
        return {}
    settings: dict[str, Any] = {}
    for name in _SETTINGS:
        values = {json.dumps(s.attrs[name], sort_keys=True, default=str) for s in made if name in s.attrs}
        found = [json.loads(value) for value in sorted(values)]
        if found:
            settings[name] = found[0] if len(found) == 1 else found
    prompts = list(dict.fromkeys(s.condition for s in made if s.condition))
    said = {
        "prompt": " | ".join(prompts)[:4000],
        "settings": json.dumps(settings, sort_keys=True, ensure_ascii=False) if settings else "",
        "digital_source_type": SOURCE_TYPE if len(made) == len(samples) else COMPOSITE_TYPE,
        "Software": "Volant",
    }
    return {key: value for key, value in said.items() if value}


def sheet(arrays: Sequence[Pixels]) -> Pixels:
    """One image as it is; several in rows on white, in their order, as nearly square as it goes.

    Raises:
        DataError: more pixels than one image may have.
    """
    if len(arrays) == 1:
        return arrays[0]
    height, width = (max(a.shape[axis] for a in arrays) for axis in (0, 1))
    columns = math.ceil(math.sqrt(len(arrays) * height / width)) or 1
    rows = math.ceil(len(arrays) / columns)
    channels = max(a.shape[2] for a in arrays)
    size = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, channels)
    if size[0] * size[1] > MAX_PIXELS:
        what = f"{len(arrays)} images make a sheet of {size[0] * size[1]:,} pixels; at most {MAX_PIXELS:,} go."
        raise DataError(what, fix="Deliver them as `zip`.")
    page = np.full(size, 255, np.uint8)
    for index, array in enumerate(arrays):
        top, left = (index // columns) * (height + _GAP), (index % columns) * (width + _GAP)
        page[top : top + array.shape[0], left : left + array.shape[1]] = array
    return page


def preview(samples: Sequence[Sample]) -> str:
    """A few samples as a grid in an HTML fragment that needs nothing from outside; captions are escaped."""
    cells = []
    for sample in samples[:_PREVIEWED]:
        image = pillow(pixels(sample))
        size = f"{image.width} x {image.height}"
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        data = base64.b64encode(png(np.asarray(image))).decode()
        caption = html.escape(sample.condition or "")
        style = "image-rendering:pixelated;" if max(image.size) < 96 else ""
        cells.append(
            f'<figure style="margin:0;text-align:center"><img alt="{caption or "image"}" title="{size}" '
            f'style="{style}width:{max(64, image.width)}px;max-width:100%" src="data:image/png;base64,{data}">'
            f'<figcaption style="font-size:smaller;overflow-wrap:anywhere">{caption}</figcaption></figure>'
        )
    more = len(samples) - _PREVIEWED
    rest = f"<p>… and {more:,} more</p>" if more > 0 else ""
    grid = "display:grid;gap:8px;grid-template-columns:repeat(auto-fill,minmax(72px,max-content))"
    return f'<div class="images" style="{grid}">\n' + "\n".join(cells) + f"\n</div>{rest}"


def _zip(samples: Sequence[Sample]) -> bytes:
    file = io.BytesIO()
    lines = []
    with zipfile.ZipFile(file, "w") as archive:
        for index, sample in enumerate(samples):
            name = f"images/{index:06d}.png"
            lines.append(json.dumps({"file_name": name, "text": sample.condition}, ensure_ascii=False))
            # A PNG is compressed already.
            archive.writestr(zipfile.ZipInfo(name, _YEAR_ZERO), encoded(pixels(sample), "png", marks([sample])))
        listed = zipfile.ZipInfo("metadata.jsonl", _YEAR_ZERO)
        listed.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(listed, "\n".join(lines) + "\n")
    return file.getvalue()


def _npz(samples: Sequence[Sample]) -> bytes:
    arrays = [pixels(sample) for sample in samples]
    sizes = {a.shape[:2] for a in arrays}
    if len(sizes) > 1:
        what = f"images of {len(sizes)} different sizes do not go into one array."
        raise DataError(what, where="npz", fix="Deliver them as `zip`, or scale them first.")
    deep = max(a.shape[2] for a in arrays)
    images = np.stack([a if a.shape[2] == deep else np.repeat(a, deep, axis=2) for a in arrays])
    said = marks(samples)
    labels = np.array([sample.condition or "" for sample in samples])
    members: dict[str, Any] = {"images": images[..., 0] if deep == 1 else images, "labels": labels}
    if said:
        members["digital_source_type"] = np.array(said["digital_source_type"])
    file = io.BytesIO()
    np.savez_compressed(file, **members)
    return file.getvalue()


def _xmp(said: Mapping[str, str]) -> bytes:
    """What is said of an image as an XMP packet (ISO 16684-1), the way that RDF is written in it."""
    settings = f" volant:settings={quoteattr(said['settings'])}" if "settings" in said else ""
    prompt = escape(said.get("prompt", ""))
    text = f'<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{prompt}</rdf:li></rdf:Alt></dc:description>'
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:volant="urn:volant:generation:"'
        f" xmp:CreatorTool={quoteattr(said['Software'])}{settings}>"
        f"<Iptc4xmpExt:DigitalSourceType>{escape(said['digital_source_type'])}</Iptc4xmpExt:DigitalSourceType>"
        f'{text if prompt else ""}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()
