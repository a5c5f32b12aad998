"""The modality image keeps its contract, and broken ones are found out."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from volant.core.protocols import Route
from volant.core.sample import Source
from volant.modalities import open_modality
from volant.modalities.image import Image, modality, pixels
from volant.modalities.image_codec import ImageCodec
from volant.modalities.image_pixels import decoded, image_sample
from volant.modalities.image_route import ROUTE
from volant.testing import check_modality
from volant.testing.poison_images import poisoned_images

SOURCE = Source(uri="", licence="CC0-1.0")
FORMS = {"png": ".png", "webp": ".webp", "zip": ".zip", "npz": ".npz"}
WHOLE = ("zip", "npz")


def drawn(seed: int, side: int = 24, channels: int = 3):
    """A smooth picture, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    image = Pillow.fromarray(small).resize((side, side), Pillow.Resampling.BICUBIC)
    return np.asarray(image)[..., :channels] if channels == 3 else np.asarray(image.convert("L"))[..., None]


SAMPLES = [image_sample(drawn(k), SOURCE, ("a red house", "the sea")[k % 2]) for k in range(6)]


def encoded_anew(sample):
    file = io.BytesIO()
    Pillow.fromarray(pixels(sample)).resize((30, 30), Pillow.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return image_sample(decoded(file.getvalue()), sample.source, sample.condition)


class Alone(Image):
    """Without the scorers and the baseline, which lie in other layers."""

    def baselines(self):
        return {}

    def scorers(self):
        return ()


def check(kind, tmp_path, samples=SAMPLES, **more):
    options = {"forms": FORMS, "lines": ("", ""), "whole": WHOLE, "near": encoded_anew, "tolerance": 1e-6}
    check_modality(kind, samples, folder=tmp_path, **{**options, "poisons": poisoned_images(), **more})


@pytest.mark.parametrize("captions", ["class", "words"])
def test_image(captions, tmp_path):
    check(Alone(), tmp_path, codec={"captions": captions})


def test_images_without_captions(tmp_path):
    check(Alone(), tmp_path, [image_sample(pixels(s), SOURCE) for s in SAMPLES])


def test_image_with_all_its_names(tmp_path):
    check(modality, tmp_path)


def test_it_is_found_by_its_name():
    assert open_modality("image") is modality
    assert modality.spaces() == ("grid",) and set(modality.gates()) <= set(modality.scorers())


class Trusting(Alone):
    def load(self, file, source, **options):
        try:
            yield from super().load(file, source, **options)
        finally:
            if file.name.startswith("own"):
                yield SAMPLES[0]


class Dim(ImageCodec):
    def decode(self, values, condition=""):
        return super().decode(np.asarray(values) * 0.9, condition)


class Unsure(ImageCodec):
    def condition(self, text):
        return (10_000,)


class Loose(Alone):
    codec_kind = Dim

    def codec(self, samples, **options):
        made = super().codec(samples, **options)
        return self.codec_kind(made.space, made.captions, made.classes, made.known)


class Elsewhere(Loose):
    codec_kind = Unsure


class Careless(Alone):
    def preview(self, samples):
        return super().preview(samples) + "".join(s.condition or "" for s in samples)


class Bitwise(Alone):
    def fingerprint(self, sample):
        return [hash((sample.media, k)) for k in range(128)]


class Lossy(Alone):
    def deliver(self, samples, form):
        made = [image_sample(pixels(s) // 2 * 2, s.source, s.condition) for s in samples]
        return super().deliver(made, form)


class Unbounded(Alone):
    def api(self):
        class Body(ROUTE.body):
            zoom: int = 1

        return {"/v1/images/generations": replace(ROUTE, body=Body)}


class Credulous(Alone):
    def api(self):
        return {"/v1/images/generations": replace(ROUTE, taught=lambda body, answer: [SAMPLES[0]])}


@pytest.mark.parametrize(
    "broken, sentence",
    [
        (Trusting, "for good samples"), (Loose, "other numbers after decoding"), (Elsewhere, "asked otherwise"),
        (Careless, "runs what the data says"), (Bitwise, "alike only"), (Lossy, "changed"),
        (Unbounded, "does not bound the numbers zoom"), (Credulous, "learns from a broken answer"),
    ],
)  # fmt: skip
def test_broken_image(broken, sentence, tmp_path):
    with pytest.raises(AssertionError, match=sentence):
        check(broken(), tmp_path)


def test_its_only_route_is_openai_s():
    (path,) = modality.api()
    assert path == "/v1/images/generations" and isinstance(modality.api()[path], Route)
