"""The modality image: pictures with a class, a caption, or nothing.

Everything that stages need to know of images, by name, behind the protocol of `core.protocols.Modality`.
The work is in the files beside this one: `image_files` with `image_captions`, `image_arrays` and
`zip_archive` (reading), `image_pixels` (bytes and arrays), `image_codec` (grids),
`image_pipeline_codec` (grids and ids of a pipeline that was taken as it is), `image_hash` (likeness),
`image_delivery` (handing out) and `image_route` (the server's route). No file here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal, Route
from volant.core.sample import Sample, Source
from volant.modalities import image_codec, image_delivery, image_files, image_hash, image_pipeline_codec
from volant.modalities.image_codec import ImageCodec
from volant.modalities.image_pipeline_codec import PipelineCodec
from volant.modalities.image_pixels import MOST_PIXELS, BadImage, caption_problem, decoded
from volant.modalities.image_pixels import pixels as pixels
from volant.modalities.image_pixels import png as png
from volant.modalities.image_route import ROUTE

_PNG = b"\x89PNG\r\n\x1a\n"


class Image:
    """Images, behind the protocol of a modality."""

    name = "image"
    version = 1
    media_type = "image/png"
    shapes: tuple[str, ...] = ("media",)
    near = 0.9  # share of the hash; re-encoding keeps 0.9, and other pictures are hardly ever so alike

    def load(self, file: OutsideFile, source: Source, **options: Any) -> Iterator[Sample | Refusal]:
        """Samples of one file, in order; a bad image becomes a Refusal and the rest goes on.

        Args:
            file: a file of a snapshot.
            source: terms of every image; its `uri` is completed with the image's place.
            options: `captions` (`auto`, `folder`, `name`, `sidecar`, `none`), `max_pixels` (of one image; about
                16 million by default), `fields` (`file_name`, `text`, `label`, `images`, `labels` to the file's
                own names), `group` (a column that keeps images in one split), `encoding` (of CSV and JSON).
        """
        yield from image_files.load(file, source, image_files.Reading.of(options))

    def check_reading(self, options: Mapping[str, Any]) -> None:
        """Refuse options of `load` that mean nothing, before a file is read.

        Raises:
            SettingError: one has no such value.
        """
        image_files.Reading.of(options)

    def check(self, sample: Sample) -> list[str]:
        """What is wrong with a sample, in words; empty when it may be used."""
        if sample.shape != "media" or sample.media is None:
            return [f"its shape {sample.shape!r} is not media, or it has no bytes"]
        if not sample.media.startswith(_PNG):
            return ["it is no PNG, which is what loading makes of every image"]
        problem = caption_problem(sample.condition)
        problems = [f"its caption {problem}"] if problem else []
        try:
            height, width, channels = decoded(sample.media, max_pixels=MOST_PIXELS).shape
        except BadImage as reason:
            return [*problems, f"it {reason}"]
        sizes = {"width": width, "height": height, "channels": channels}
        wrong = [name for name, size in sizes.items() if sample.attrs.get(name, size) != size]
        return [*problems, *(f"its {name} is {sizes[name]}, not {sample.attrs[name]}" for name in wrong)]

    def fingerprint(self, sample: Sample) -> Sequence[int]:
        """128 integers; the share of equal ones falls with the angle between two images' thumbnails."""
        return image_hash.fingerprint(pixels(sample))

    def spaces(self) -> tuple[str, ...]:
        """Images are grids."""
        return ("grid",)

    def codec(self, samples: Iterable[Sample], **options: Any) -> ImageCodec:
        """Fit a codec (`side`, `channels`, `captions`, `words`)."""
        return image_codec.fit_codec(samples, **options)

    def open_codec(self, folder: Path) -> ImageCodec | PipelineCodec:
        """The codec in a model directory: a pipeline's own, or one that was fitted."""
        if image_pipeline_codec.has_pipeline(folder):
            return image_pipeline_codec.open_codec(folder)
        return image_codec.open_codec(folder)

    def features(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Coarse light, colour and directions of edges as float32 [n, 224]; needs no fit."""
        return image_hash.features(pixels(sample) for sample in samples)

    def parts(self, samples: Sequence[Sample]) -> Mapping[str, Sequence[float | str]]:
        """The class or caption, how bright the picture is (0 to 1), and how much its light varies."""
        light = [pixels(sample).astype(np.float64) / 255 for sample in samples]
        found: dict[str, Sequence[float | str]] = {
            "brightness": [float(x.mean()) for x in light],
            "contrast": [float(x.std()) for x in light],
        }
        if any(sample.condition for sample in samples):
            found["class"] = [sample.condition or "" for sample in samples]
        return found

    def preview(self, samples: Sequence[Sample]) -> str:
        """A few samples as a grid in an HTML fragment."""
        return image_delivery.preview(samples)

    def forms(self) -> Mapping[str, str]:
        """One picture (a sheet where there are several), or all of them in an archive."""
        return {"png": ".png", "webp": ".webp", "zip": ".zip", "npz": ".npz"}

    def deliver(self, samples: Sequence[Sample], form: str) -> bytes:
        """Samples as `png`, `webp`, `zip` or `npz`; readable by `load` again."""
        return image_delivery.deliver(samples, form)

    def baselines(self) -> Mapping[str, tuple[str, dict[str, Any]]]:
        """A Gaussian of the pixels of each class."""
        return {"gaussian": ("gaussian", {})}

    def scorers(self) -> Sequence[str]:
        """The scorers that judge images, the most telling first."""
        return (
            "frechet_ratio", "class_accuracy", "recall", "precision", "density", "coverage", "mmd", "nearest_ratio",
            "image_diversity", "sharpness", "spectrum",
        )  # fmt: skip

    def gates(self) -> Sequence[str]:
        """Fidelity, diversity and memorisation, on one set of samples."""
        return ("frechet_ratio", "recall", "nearest_ratio")

    def api(self) -> Mapping[str, str | Route]:
        """The route that OpenAI's client calls."""
        return {"/v1/images/generations": ROUTE}


modality = Image()
