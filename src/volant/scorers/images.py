"""The pictures behind outputs and references, as arrays of one size.

Outputs and samples enter; uint8 arrays leave. Sizes and colours are those of the references: what differs is
brought to them, because two models are compared at one size or not at all.

Shape legend: N pictures, H height, W width, C channels, D = H * W * C.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import DataError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.modalities.image import pixels

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Size = tuple[int, int, int]


def samples_of(outputs: Sequence[Output], where: str) -> list[Sample]:
    """The samples that the outputs hold.

    Raises:
        DataError: an output holds none, or no picture.
    """
    for number, output in enumerate(outputs):
        if output.sample is None or output.sample.media is None:
            raise DataError(
                f"output {number} holds no picture.",
                where=where, fix="Score the outputs of a model of images, or choose scorers of this modality.",
            )  # fmt: skip
    return [cast(Sample, output.sample) for output in outputs]


def usual_size(samples: Sequence[Sample]) -> Size:
    """The most frequent (height, width, channels), channels 1 or 3; of equally frequent ones the smallest.

    Raises:
        DataError: a sample holds no picture.
    """
    shapes = [pixels(sample).shape for sample in samples]
    counts = Counter((height, width, 1 if channels < 3 else 3) for height, width, channels in shapes)
    return min(counts, key=lambda size: (-counts[size], size))


def at_most(size: Size, side: int) -> Size:
    """The size shrunk until neither side is longer than `side`."""
    height, width, channels = size
    share = min(1.0, side / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share)), channels


def stacked(samples: Sequence[Sample], size: Size) -> Bytes:
    """Pictures of one size [N, H, W, C]."""
    found_NHWC = np.empty((len(samples), *size), np.uint8)
    for number, sample in enumerate(samples):
        found_NHWC[number] = _fitted(pixels(sample), size)
    return found_NHWC


def grey(samples: Sequence[Sample], size: Size) -> Floats:
    """Brightness from 0 to 1 [N, H, W]; colours are weighted as by ITU-R BT.601."""
    array_NHWC = stacked(samples, size).astype(np.float64) / 255.0
    if size[2] == 1:
        return array_NHWC[..., 0]
    bright_NHW: Floats = array_NHWC @ np.array([0.299, 0.587, 0.114])
    return bright_NHW


def digest_of(samples: Sequence[Sample]) -> str:
    """sha256 of the pictures, in their order."""
    whole = hashlib.sha256()
    for sample in samples:
        whole.update(hashlib.sha256(sample.media or b"").digest())
    return whole.hexdigest()


def _fitted(array_HWC: Bytes, size: Size) -> Bytes:
    from PIL import Image

    if array_HWC.shape == size:
        return array_HWC
    picture = Image.fromarray(array_HWC[..., 0] if array_HWC.shape[2] == 1 else array_HWC)
    picture = picture.convert("L" if size[2] == 1 else "RGB")
    if (picture.height, picture.width) != size[:2]:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BOX)
    return np.array(picture, np.uint8).reshape(size)
