"""Images are handed out with what was asked for in their metadata, and read again; the route speaks OpenAI's."""

from __future__ import annotations

import base64
import io
import json
import xml.etree.ElementTree as tree

import numpy as np
import pytest
from PIL import Image as Pillow
from pydantic import ValidationError

from volant.core.errors import DataError, SettingError
from volant.core.outside import OutsideFile
from volant.core.sample import Source
from volant.modalities.image import modality, pixels, png
from volant.modalities.image_pixels import image_sample
from volant.modalities.image_route import GenerationBody
from volant.modalities.source_type import SOURCE_TYPE

HUMAN = Source(uri="", licence="CC0-1.0")
MADE = Source(uri="model:x", licence="CC0-1.0", origin="generated")
ROUTE = modality.api()["/v1/images/generations"]


def sample(k=0, source=MADE, size=(6, 8, 3), **more):
    array = np.random.default_rng(k).integers(0, 256, size, dtype=np.uint8)
    return image_sample(array, source, more.pop("condition", "a <red> & 'blue' house"), **more)


def opened(data):
    image = Pillow.open(io.BytesIO(data))
    image.load()
    return image


def read(data, ending, tmp_path):
    file = tmp_path / f"a{ending}"
    file.write_bytes(data)
    return list(modality.load(OutsideFile(file, file.name, len(data), ""), HUMAN))


def xmp_of(image):
    packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    return tree.fromstring(packet)  # of our own making


@pytest.mark.parametrize("form", ["png", "webp"])
def test_one_image_says_how_it_was_made(form, tmp_path):
    made = sample(attrs={"model": "abc", "seed": 7, "guidance": 1.5, "client": "secret"})
    data = modality.deliver([made], form)
    image = opened(data)
    assert image.format.lower() == form and np.array_equal(np.asarray(image), pixels(made))
    about = xmp_of(image)[0][0]
    assert about.find("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType").text == SOURCE_TYPE
    (prompt,) = about.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")
    assert prompt.text == made.condition
    settings = json.loads(about.attrib["{urn:volant:generation:}settings"])
    assert settings == {"model": "abc", "seed": 7, "guidance": 1.5} and b"secret" not in data
    (again,) = read(data, f".{form}", tmp_path)
    assert again.media == made.media and again.id != made.id  # the caption is not taken from the file


def test_a_png_has_its_settings_in_text_chunks():
    image = opened(modality.deliver([sample(attrs={"seed": 7})], "png"))
    assert image.text["prompt"] == "a <red> & 'blue' house" and json.loads(image.text["settings"]) == {"seed": 7}
    assert image.text["digital_source_type"] == SOURCE_TYPE


@pytest.mark.parametrize("form", ["png", "webp"])
def test_what_people_made_goes_out_bare(form):
    image = opened(modality.deliver([sample(source=HUMAN)], form))
    assert not getattr(image, "text", {}) and "xmp" not in image.info


def test_several_are_one_sheet():
    grey = [sample(k, size=(4, 6, 1), condition=str(k)) for k in range(5)]
    sheet = np.asarray(opened(modality.deliver(grey, "png")))
    assert sheet.ndim == 2 and sheet.shape == (3 * 6 - 2, 2 * 8 - 2)
    for index, one in enumerate(grey):
        top, left = index // 2 * 6, index % 2 * 8
        assert np.array_equal(sheet[top : top + 4, left : left + 6], pixels(one)[..., 0])
    mixed = opened(modality.deliver([sample(0, source=HUMAN), sample(1)], "png"))
    assert "compositeWith" in mixed.text["digital_source_type"]


@pytest.mark.parametrize("form", ["zip", "npz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sets_come_back_whole(form, channels, tmp_path):
    all_ = [sample(k, size=(4, 6, channels), condition=c) for k, c in enumerate(["a", "b", None, "ü\n東"])]
    again = read(modality.deliver(all_, form), f".{form}", tmp_path)
    assert [(s.media, s.condition, s.id) for s in again] == [(s.media, s.condition, s.id) for s in all_]


def test_a_set_of_generated_images_is_marked_inside(tmp_path):
    (tmp_path / "a.npz").write_bytes(modality.deliver([sample()], "npz"))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert str(found["digital_source_type"]) == SOURCE_TYPE
    assert SOURCE_TYPE.encode() in modality.deliver([sample()], "zip")


def test_an_image_folder_of_hugging_face_opens_the_zip(tmp_path):
    import datasets

    (tmp_path / "a.zip").write_bytes(modality.deliver([sample(k, condition=f"c{k}") for k in range(2)], "zip"))
    datasets.disable_progress_bars()
    found = datasets.load_dataset(
        "imagefolder", data_files=str(tmp_path / "a.zip"), cache_dir=str(tmp_path / "cache"), split="train"
    )
    assert found["text"] == ["c0", "c1"] and found[0]["image"].size == (8, 6)


def test_what_cannot_be_delivered_is_refused():
    with pytest.raises(SettingError, match="Did you mean 'png'"):
        modality.deliver([sample()], "pgn")
    with pytest.raises(DataError, match="no image"):
        modality.deliver([], "png")
    with pytest.raises(DataError, match="different sizes"):
        modality.deliver([sample(), sample(size=(9, 9, 3))], "npz")
    with pytest.raises(DataError, match="Deliver them as `zip`"):
        modality.deliver([sample(size=(3000, 3000, 1))] * 3, "png")


def test_a_preview_needs_nothing_from_outside():
    shown = modality.preview([sample(k) for k in range(3)])
    assert shown.count("data:image/png;base64,") == 3 and "http" not in shown
    assert "a &lt;red&gt; &amp; &#x27;blue&#x27; house" in shown and "<red>" not in shown
    big = modality.preview([sample(size=(600, 900, 1))])
    thumb = opened(base64.b64decode(big.split("base64,")[1].split('"')[0]))
    assert thumb.size == (256, 171)
    assert "… and 50 more" in modality.preview([sample(size=(2, 2, 1))] * 250)


def test_png_is_deterministic_and_refuses_what_is_no_image():
    assert png(pixels(sample())) == sample().media == png(pixels(sample()))
    assert opened(png(np.zeros((2, 3), np.uint8), {"key": "東京"})).text == {"key": "東京"}
    for array in (np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2)), np.zeros((0, 2), np.uint8)):
        with pytest.raises(DataError, match="no image"):
            png(array)
    with pytest.raises(DataError, match="collect.files"):
        pixels(sample().model_copy(update={"media": b"junk"}))


def body(**fields):
    return GenerationBody.model_validate({"prompt": "a cat", **fields})


def test_the_route_asks():
    assert ROUTE.asked(body()) == ("a cat", {}, 1)
    assert ROUTE.asked(body(n=3, guidance=2, steps=9, seed=5)) == ("a cat", {"guidance": 2, "steps": 9}, 3)


@pytest.mark.parametrize(
    "fields",
    [{"n": 0}, {"n": 17}, {"size": "8"}, {"size": "0x8"}, {"response_format": "url"}, {"guidance": float("nan")},
     {"steps": 10**9}, {"seed": 2**64}, {"prompt": "a" * 5000}, {"mask": "x"}, {"stream": True},
     {"output_format": "svg"}],
)  # fmt: skip
def test_the_route_refuses(fields):
    with pytest.raises(ValidationError):
        body(**fields)


def test_the_openai_client_s_own_fields_are_taken():
    body(model="m", quality="hd", style="vivid", size="auto", user="u", response_format="b64_json", background="auto",
         moderation="low", output_compression=50, output_format="webp", safety_identifier="s", n=None,
         partial_images=0)  # fmt: skip


@pytest.mark.parametrize("form", ["png", "webp", "jpeg"])
def test_the_route_answers(form):
    made = [sample(k, attrs={"tries": 1}) for k in range(2)]
    told = ROUTE.answer(made, body(n=2, size="8x6", seed=4, steps=9, output_format=form))
    assert told["created"] == 0 and len(told["data"]) == 2
    image = opened(base64.b64decode(told["data"][0]["b64_json"]))
    assert image.format.lower() == form and image.size == (8, 6)
    settings = xmp_of(image)[0][0].attrib["{urn:volant:generation:}settings"]
    assert json.loads(settings) == {"seed": 4, "steps": 9, "tries": 1}


def test_the_route_makes_only_its_own_size():
    with pytest.raises(SettingError, match="makes images of 8x6"):
        ROUTE.answer([sample()], body(size="512x512"))


def test_the_openai_client_reads_the_answer():
    from openai.types import ImagesResponse

    found = ImagesResponse.model_validate(ROUTE.answer([sample()], body()))
    assert found.data[0].b64_json


def test_the_route_teaches():
    made = [sample(k, condition="a cat") for k in range(2)]
    asked = {"prompt": "a cat", "n": 2, "seed": 3}
    taught = ROUTE.taught(asked, ROUTE.answer(made, body(**asked)))
    assert [(s.media, s.condition, s.source.origin) for s in taught] == [(s.media, "a cat", "feedback") for s in made]
    assert ROUTE.taught({"prompt": 3}, {"data": []}) == []
    assert ROUTE.taught(asked, {"data": [{"b64_json": base64.b64encode(b"junk").decode()}]}) == []
