"""Images become grids and come back; conditions become ids, and unknown ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.sample import Source
from volant.core.spaces import Grid
from volant.modalities.image import modality, pixels
from volant.modalities.image_pixels import image_sample

SOURCE = Source(uri="", licence="CC0-1.0")


def sample(array, condition=None):
    return image_sample(np.asarray(array, np.uint8), SOURCE, condition)


def noise(k, height=8, width=8, channels=1):
    return np.random.default_rng(k).integers(0, 256, (height, width, channels), dtype=np.uint8)


def captioned(captions):
    return [sample(noise(k), c) for k, c in enumerate(captions)]


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    images = np.round(found.images / 16 * 255).astype(np.uint8)
    return [sample(a[..., None], str(t)) for a, t in zip(images, found.target, strict=True)]


def test_digits(digits):
    codec = modality.codec(digits)
    assert codec.space == Grid(1, (8, 8), conditions=18, condition_length=1)
    assert codec.classes == tuple("0123456789")
    encoded = codec.encode(digits[3])
    assert encoded.values.shape == (1, 8, 8) and encoded.values.dtype == np.float32 and encoded.condition == (3,)
    assert np.allclose(encoded.values, pixels(digits[3]).transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    back = codec.decode(encoded.values, "3")
    assert np.array_equal(pixels(back), pixels(digits[3])) and back.condition == "3"
    assert back.source.origin == "generated" and back.attrs == {"width": 8, "height": 8, "channels": 1}


def test_decoding_is_within_half_a_step_and_cuts():
    codec = modality.codec([sample(noise(0))])
    values = np.random.default_rng(0).uniform(-1.2, 1.2, (1, 8, 8))
    back = codec.encode(codec.decode(values)).values
    assert np.abs(back - np.clip(values, -1, 1)).max() <= 0.5 / 127.5 + 1e-6


def test_size_is_the_commonest_and_channels_what_is_needed():
    grey = [sample(noise(k, 6, 9)) for k in range(3)]
    assert modality.codec([*grey, sample(noise(9, 20, 20))]).space == Grid(1, (6, 9))
    codec = modality.codec([*grey, sample(noise(9, 20, 20, 3))])
    assert codec.space.channels == 3
    assert np.array_equal(codec.fitted(pixels(grey[0])), np.repeat(pixels(grey[0]), 3, axis=2))
    assert modality.codec(grey, side=16, channels=3).space == Grid(3, (16, 16))


def test_other_sizes_are_scaled_to_cover_and_cut_at_the_centre():
    wide = np.zeros((10, 30, 1), np.uint8)
    wide[:, 10:20] = 255
    codec = modality.codec([sample(noise(0, 10, 10))])
    assert (codec.fitted(wide) == 255).mean() == 1.0
    double = np.repeat(np.repeat(wide[:, 10:20], 2, 0), 2, 1)
    assert codec.fitted(double).shape == (10, 10, 1)


def test_auto_takes_classes_where_each_is_seen_twice():
    assert modality.codec(captioned(["a", "b", "a", "b"])).captions == "class"
    assert modality.codec(captioned(["a", "b", "a"])).captions == "words"
    assert modality.codec(captioned([None, None])).captions == "none"
    assert modality.codec(captioned(["a", "b", "a"]), captions="class").classes == ("a", "b")
    assert modality.codec(captioned(["10", "9", "b", "a"] * 2)).classes == ("9", "10", "a", "b")
    many = captioned([str(k) for k in range(257)] * 2)
    assert modality.codec(many).captions == "words"


def test_unconditional_images_beside_classes_have_no_ids():
    codec = modality.codec(captioned(["a", "a", None]))
    assert codec.encode(sample(noise(7))).condition == ()


def test_a_class_is_asked_for_by_name_or_in_a_sentence():
    codec = modality.codec(captioned(["cat", "polar bear", "7"] * 2))
    ids = {name: codec.condition(name) for name in codec.classes}
    assert sorted(ids.values()) == [(0,), (1,), (2,)] and codec.condition("  ") == ()
    assert codec.condition("A drawing of a Polar Bear!") == ids["polar bear"] and codec.condition("CAT") == ids["cat"]
    assert codec.condition("digit 7") == ids["7"]
    with pytest.raises(DataError, match="Did you mean 'cat'"):
        codec.condition("catt")
    with pytest.raises(DataError, match="Known: 7, cat, polar bear"):
        codec.condition("zebra 17")
    with pytest.raises(DataError, match="names 2 classes"):
        codec.condition("a cat and a polar bear")
    with pytest.raises(DataError, match="no class 'dog'"):
        codec.encode(sample(noise(0), "dog"))


def test_words_are_hashed_and_have_an_order():
    codec = modality.codec(captioned(["a red house", "the blue sea in the evening", "a red sea"]))
    assert codec.captions == "words" and codec.space.condition_length == 6 and codec.space.conditions == 1024
    assert codec.condition("red house") == codec.condition("Red, house!") != codec.condition("house red")
    assert len(codec.condition("sea " * 40)) == 6
    assert codec.encode(sample(noise(0), "a red house")).condition == codec.condition("a red house")
    with pytest.raises(DataError, match="Did you mean 'house'"):
        codec.condition("hous")
    long = modality.codec(captioned([" ".join(f"w{k}" for k in range(40)), "a"]))
    assert long.space.condition_length == 16


def test_words_that_are_not_told_are_named():
    codec = modality.codec(captioned(["a red house", "the blue sea in the evening", "a red sea"]))
    assert codec.condition("a purple red sea") == codec.condition("a red sea")  # its id would be another word's
    drawn = np.zeros((1, *codec.space.dims)) if codec.space.channels == 1 else np.zeros((3, *codec.space.dims))
    assert codec.decode(drawn, "a purple red sea").attrs["ignored"] == ["purple"]
    assert codec.decode(drawn, "a purple red sea").condition == "a purple red sea"
    assert "ignored" not in codec.decode(drawn, "Red sea!").attrs and "ignored" not in codec.decode(drawn).attrs
    assert codec.ignored("the blue sea in the evening red house") == ["red", "house"]  # beyond the longest caption
    classes = modality.codec(captioned(["polar bear", "cat"] * 2))
    assert classes.ignored("a large polar bear") == ["a", "large"] and classes.ignored("cat") == []


def test_a_class_is_added_in_the_same_space():
    codec = modality.codec(captioned(["a", "b"] * 2))
    more = codec.with_classes(["c", "d"])
    assert more.space == codec.space and more.classes == ("a", "b", "c", "d") and more.condition("d") == (3,)
    assert [more.condition(c) for c in "ab"] == [codec.condition(c) for c in "ab"]
    with pytest.raises(DataError, match="there already"):
        more.with_classes(["c"])
    with pytest.raises(DataError, match="more than the 6"):
        more.with_classes([str(k) for k in range(7)])
    words = modality.codec(captioned(["a", "b"]))
    assert words.fresh(["b c", "a"]) == ["c"] and words.ignored("b, c!") == ["c"]
    more = words.with_classes(words.fresh(["b c", "a"]))
    assert more.space == words.space and more.ignored("c") == [] and len(more.condition("c")) == 1
    with pytest.raises(DataError, match="without conditions"):
        modality.codec(captioned([None])).with_classes(["c"])


def test_a_model_without_conditions_says_so():
    codec = modality.codec(captioned([None]))
    assert codec.condition("") == () and codec.encode(sample(noise(0), "a")).condition == ()
    with pytest.raises(DataError, match="without conditions"):
        codec.condition("a cat")


@pytest.mark.parametrize("captions", [["a", "b"] * 2, ["a red house", "b"], [None]])
def test_a_saved_codec_is_the_same(captions, tmp_path):
    codec = modality.codec(captioned(captions))
    codec.save(tmp_path)
    assert modality.open_codec(tmp_path) == codec
    assert (tmp_path / "codec" / "image.json").is_file()


@pytest.mark.parametrize("content", ["", "{}", '{"version": 2}', "[1]"])
def test_a_damaged_codec_is_refused(content, tmp_path):
    with pytest.raises(ArtifactError, match="cannot be read"):
        modality.open_codec(tmp_path)
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec" / "image.json").write_text(content)
    with pytest.raises(ArtifactError, match="cannot be read"):
        modality.open_codec(tmp_path)


@pytest.mark.parametrize(
    "options, where",
    [({"side": -1}, "side"), ({"channels": 2}, "channels"), ({"captions": "clas"}, "captions"),
     ({"space": "mixed"}, "space"), ({"words": 3}, "words")],
)  # fmt: skip
def test_bad_settings_are_refused(options, where):
    with pytest.raises(SettingError) as caught:
        modality.codec(captioned(["a"]), **options)
    assert caught.value.where == where and caught.value.fix


def test_no_images_and_huge_ones_are_refused():
    with pytest.raises(DataError, match="no image"):
        modality.codec([])
    with pytest.raises(DataError, match="Set `side`"):
        modality.codec([sample(np.zeros((1, 2000, 1)))])


def test_numbers_that_are_no_image_are_refused():
    codec = modality.codec(captioned([None]))
    for values, sentence in ((np.zeros((3, 8, 8)), "shape"), (np.full((1, 8, 8), np.nan), "finite")):
        with pytest.raises(DataError, match=sentence):
            codec.decode(values)
