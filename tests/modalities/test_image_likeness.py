"""Near copies of images have like signatures, different ones have not; features tell pictures apart."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw
from sklearn.datasets import load_digits, load_sample_images

from volant.core.sample import Source
from volant.modalities.image import modality
from volant.modalities.image_hash import FEATURES, LENGTH
from volant.modalities.image_pixels import decoded, image_sample

SOURCE = Source(uri="", licence="CC0-1.0")


def sample(image):
    return image_sample(decoded(bytes_of(image)), SOURCE)


def bytes_of(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def share(one, other):
    left, right = (modality.fingerprint(sample(x)) for x in (one, other))
    return np.mean([a == b for a, b in zip(left, right, strict=True)])


@pytest.fixture(scope="module")
def photos():
    return [Pillow.fromarray(x).resize((320, 214)) for x in load_sample_images().images]


def stamped(image):
    image = image.copy()
    ImageDraw.Draw(image).rectangle((0, 0, 16, 12), fill="white")
    return image


COPIES = {
    "jpeg": (lambda im: Pillow.open(io.BytesIO(bytes_of(im, "JPEG", quality=50))), 0.9),
    "webp": (lambda im: Pillow.open(io.BytesIO(bytes_of(im, "WEBP", quality=50))), 0.9),
    "half the size": (lambda im: im.resize((160, 107)), 0.9),
    "brighter": (lambda im: im.point(lambda v: min(255, v + 15)), 0.85),
    "a pixel to the side": (lambda im: im.crop((1, 0, *im.size)), 0.85),
    "a small stamp in the corner": (stamped, 0.7),
}


@pytest.mark.parametrize("name", sorted(COPIES))
def test_copies_are_like_their_originals(name, photos):
    change, least = COPIES[name]
    assert min(share(photo, change(photo)) for photo in photos) >= least


def test_other_pictures_are_not(photos):
    assert share(*photos) < 0.3
    turned = photos[0].transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    assert share(photos[0], turned) < 0.4


def test_plain_pictures_differ_by_light_and_colour():
    plain = {name: Pillow.new("RGB", (16, 16), name) for name in ("black", "white", "red", "blue")}
    for one in plain:
        for other in plain:
            assert (share(plain[one], plain[other]) > 0.7) == (one == other)


def test_few_digits_pass_for_copies_of_each_other():
    images = np.round(load_digits().images[:600] / 16 * 255).astype(np.uint8)
    marks = np.array([modality.fingerprint(image_sample(a[..., None], SOURCE)) for a in images])
    assert marks.shape == (600, LENGTH) and marks.min() >= 0 and marks.max() < 64
    alike = (marks[:, None] == marks[None]).mean(-1)
    np.fill_diagonal(alike, 0)
    assert (alike.max(1) >= 0.8).mean() < 0.02 and alike.mean() < 0.2


def test_features_tell_digits_apart():
    found = load_digits()
    images = np.round(found.images / 16 * 255).astype(np.uint8)
    matrix = modality.features([image_sample(a[..., None], SOURCE) for a in images[:900]])
    assert matrix.shape == (900, FEATURES) and matrix.dtype == np.float32
    far = ((matrix[450:, None] - matrix[None, :450]) ** 2).sum(-1)
    assert (found.target[:450][far.argmin(1)] == found.target[450:900]).mean() > 0.9


def test_features_see_colour():
    red, blue = (sample(Pillow.new("RGB", (16, 16), c)) for c in ((120, 0, 0), (0, 0, 255)))
    assert np.abs(np.diff(modality.features([red, blue]), axis=0)).max() > 0.3
