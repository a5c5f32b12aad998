"""Images are read from every usual kind of file; what is broken or hostile is refused with the reason."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import textwrap
import zipfile

import numpy as np
import pytest
from PIL import Image as Pillow

import peak_memory
from volant.core.errors import SettingError
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.core.sample import Sample, Source
from volant.modalities.image import modality, pixels
from volant.testing.poison_images import npy, png_bomb, poisoned_images

SOURCE = Source(uri="", licence="CC0-1.0")


def read(path, root=None, **options):
    name = str(path.relative_to(root)) if root else path.name
    return list(modality.load(OutsideFile(path, name, path.stat().st_size, ""), SOURCE, **options))


def only(path, root=None, **options) -> Sample:
    (found,) = read(path, root, **options)
    assert isinstance(found, Sample), found
    return found


def refusal(path, root=None, **options) -> str:
    (found,) = read(path, root, **options)
    assert isinstance(found, Refusal) and found.where
    return found.reason


def picture(k: int = 0, size=(6, 5)):
    return np.random.default_rng(k).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)


def save(path, array=None, form=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(picture() if array is None else array).save(path, form, **options)
    return path


@pytest.mark.parametrize("ending, options", [("png", {}), ("webp", {"lossless": True})])
def test_lossless_files_keep_their_pixels(ending, options, tmp_path):
    found = only(save(tmp_path / f"a.{ending}", **options))
    assert np.array_equal(pixels(found), picture())
    assert found.attrs == {"width": 6, "height": 5, "channels": 3} and modality.check(found) == []
    assert found.source.uri == f"a.{ending}" and found.media.startswith(b"\x89PNG")


def test_jpeg_is_read_and_becomes_png(tmp_path):
    smooth = np.asarray(Pillow.fromarray(picture()).resize((32, 32), Pillow.Resampling.BICUBIC))
    found = only(save(tmp_path / "a.jpeg", smooth, quality=95))
    assert np.abs(pixels(found).astype(int) - smooth).mean() < 6 and found.media.startswith(b"\x89PNG")


def test_grey_images_have_one_channel_however_they_are_saved(tmp_path):
    grey = picture()[..., 0]
    found = [only(save(tmp_path / f"{k}.png", a)) for k, a in enumerate((grey, np.stack([grey] * 3, -1)))]
    assert [f.attrs["channels"] for f in found] == [1, 1] and found[0].id == found[1].id
    assert pixels(found[0]).shape == (5, 6, 1)


def test_transparency_lies_on_white(tmp_path):
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0, 0] = (255, 0, 0, 255)
    found = pixels(only(save(tmp_path / "a.png", clear)))
    assert found[0, 0].tolist() == [255, 0, 0] and (found[1] == 255).all()


def test_palettes_and_bits_are_read(tmp_path):
    image = Pillow.fromarray(picture())
    image.quantize(8).save(tmp_path / "p.png")
    image.convert("1").save(tmp_path / "b.png")
    assert only(tmp_path / "p.png").attrs["channels"] == 3
    assert set(np.unique(pixels(only(tmp_path / "b.png")))) <= {0, 255}


@pytest.mark.parametrize("turn, back", [(3, 2), (6, 1), (8, 3)])
def test_orientation_is_applied(turn, back, tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = turn
    turned = np.rot90(picture(), back)
    found = only(save(tmp_path / "a.png", turned, exif=exif))
    assert np.array_equal(pixels(found), picture())


def test_what_a_file_says_of_its_maker_is_gone(tmp_path):
    exif = Pillow.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    found = only(save(tmp_path / "a.jpg", exif=exif, comment="SecretPlace"))
    assert b"Secret" not in found.media
    with Pillow.open(io.BytesIO(found.media)) as image:
        assert not image.info and not image.getexif()


def test_a_broken_orientation_does_not_cost_the_image(tmp_path):
    assert only(save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffjunk"))


@pytest.mark.parametrize("said", sorted(poisoned_images()))
def test_poison_is_refused_with_the_reason(said, tmp_path):
    ending, content = poisoned_images()[said]
    file = tmp_path / f"a{ending}"
    file.write_bytes(content)
    found = read(file)
    assert found and all(isinstance(r, Refusal) and len(r.reason) > 10 for r in found)


@pytest.mark.parametrize(
    "said, reason",
    [
        ("a PNG of 144 megapixels", "144,000,000 pixels"), ("a WebP that says it has 268 megapixels", "268,435,456"),
        ("a zip bomb of arrays", "zip bomb"), ("a zip bomb of images", "zip bomb"), ("an animated PNG", "3 frames"),
        ("a JPEG cut off", "truncated"), ("an array of floats", "uint8"), ("a JPEG for print, in CMYK", "CMYK"),
        ("an array of pickled objects", "unpickled"), ("a list that leaves its folder", "outside of its folder"),
        ("a PNG of 16 bits a channel", "8 bits"), ("a list without file names", "file_name"),
        ("an array that is larger than it is", "do not"), ("a JPEG of thousands of scans", "scans"),
    ],
)  # fmt: skip
def test_the_reason_names_the_matter(said, reason, tmp_path):
    ending, content = poisoned_images()[said]
    (tmp_path / f"a{ending}").write_bytes(content)
    assert reason in refusal(tmp_path / f"a{ending}")


def test_bombs_take_no_memory(tmp_path):
    """In a process of its own: reading them must not raise its peak by what they unpack into."""
    (tmp_path / "a.png").write_bytes(png_bomb())
    assert len(png_bomb()) < 20_000
    for number, said in enumerate(
        ("a zip bomb of arrays", "a zip bomb of images", "a WebP that says it has 268 megapixels")
    ):
        ending, content = poisoned_images()[said]
        (tmp_path / f"{number}{ending}").write_bytes(content)
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from volant.core.outside import OutsideFile
        from volant.core.sample import Source
        from volant.modalities.image import modality
        source = Source(uri="", licence="CC0-1.0")
        def read(file):
            return list(modality.load(OutsideFile(file, file.name, file.stat().st_size, ""), source))
        files = sorted(Path(sys.argv[1]).iterdir())
        good = files[0].with_name("good.jpg")
        from PIL import Image
        Image.new("RGB", (64, 64)).save(good)
        read(good)
        before = PEAK
        assert all(len(read(file)) == 1 for file in files)
        print(PEAK - before)
        """
    ).replace("PEAK", peak_memory.KILOBYTES)
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_000  # KiB; the smallest of the four unpacks into 18 MB


def test_max_pixels_can_be_set(tmp_path):
    file = save(tmp_path / "a.png")
    assert "at most 20 are read" in refusal(file, max_pixels=20)
    with pytest.raises(SettingError, match="max_pixels"):
        read(file, max_pixels=10**12)


def test_captions_by_rule(tmp_path):
    file = save(tmp_path / "cats" / "7_0001.png")
    assert only(file, tmp_path, captions="folder").condition == "cats"
    assert only(file, tmp_path, captions="name").condition == "7"
    assert only(file, tmp_path, captions="none").condition is None
    assert "is not there" in refusal(file, tmp_path, captions="sidecar")
    file.with_suffix(".txt").write_text(" A cat on a mat.\n", encoding="utf-8")
    assert only(file, tmp_path, captions="sidecar").condition == "A cat on a mat."
    assert only(file, tmp_path).condition == "A cat on a mat."
    assert read(file.with_suffix(".txt"), tmp_path) == []
    with pytest.raises(SettingError, match="Did you mean 'folder'"):
        read(file, tmp_path, captions="foldr")


def test_auto_takes_folders_where_they_tell_something_apart(tmp_path):
    file = save(tmp_path / "cats" / "2024_0001.png")
    assert only(file, tmp_path).condition == "2024"  # one folder alone says nothing
    save(tmp_path / "dogs" / "a.png")
    assert only(file, tmp_path).condition == "cats"
    flat = save(tmp_path / "train" / "7_0001.png")
    assert only(flat, tmp_path).condition == "7"  # a split's name is no class
    assert only(save(tmp_path / "train" / "picture.png"), tmp_path).condition is None


def test_rules_that_give_nothing_are_refused(tmp_path):
    file = save(tmp_path / "picture.png")
    assert "before a number" in refusal(file, captions="name")
    assert "no folder" in refusal(file, captions="folder")


@pytest.mark.parametrize(
    "content, reason", [(b"\xff\xfe\x00", "UTF-8"), (b"a" * 20_000, "20,000 bytes"), (b"a\0b", "NUL")]
)
def test_a_broken_sidecar_is_refused(content, reason, tmp_path):
    file = save(tmp_path / "a.png")
    file.with_suffix(".txt").write_bytes(content)
    assert reason in refusal(file)


def test_metadata_lists_images(tmp_path):
    for k in range(3):
        save(tmp_path / "images" / f"{k}.png", picture(k))
    rows = [{"file_name": "images/0.png", "text": "nought"}, {"file_name": "images/1.png", "label": 1},
            {"file_name": "images/2.png"}, {"file_name": "images/3.png", "text": "x"}]  # fmt: skip
    listed = tmp_path / "metadata.jsonl"
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    *good, bad = read(listed)
    assert [s.condition for s in good] == ["nought", "1", None]
    assert [np.array_equal(pixels(s), picture(k)) for k, s in enumerate(good)] == [True] * 3
    assert isinstance(bad, Refusal) and bad.where == "metadata.jsonl:4" and "not there" in bad.reason
    assert good[1].source.uri == "metadata.jsonl:2"


def test_metadata_in_csv_with_other_names_and_groups(tmp_path):
    save(tmp_path / "a.png")
    listed = tmp_path / "list.csv"
    listed.write_text("path,what,who\na.png,a house,ann\na.png,,\n")
    fields = {"file_name": "path", "text": "what"}
    good, bad = read(listed, fields=fields, group="who")
    assert good.condition == "a house" and good.group == "ann"
    assert isinstance(bad, Refusal) and "group field" in bad.reason


def test_an_image_and_the_list_that_names_it_are_one_sample(tmp_path):
    file = save(tmp_path / "a.png")
    listed = tmp_path / "metadata.csv"
    listed.write_text("file_name,text\na.png,a house\n")
    assert only(file) == only(listed).model_copy(update={"source": only(file).source})


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    save(tmp_path / "secret.png")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.png").symlink_to(tmp_path / "secret.png")
    (folder / "metadata.csv").write_text("file_name,text\na.png,x\n~/a.png,x\n")
    assert all("outside of its folder" in r.reason for r in read(folder / "metadata.csv"))


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
def test_arrays(channels, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 7, *channels), dtype=np.uint8)
    if channels == (4,):
        images[..., 3] = 255
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(5))
    np.save(tmp_path / "a.npy", images)
    found, plain = read(tmp_path / "a.npz"), read(tmp_path / "a.npy")
    wanted = images[..., :3] if len(channels) and channels[0] > 1 else images.reshape(5, 4, 7, 1)
    assert [s.condition for s in found] == list("01234") and {s.condition for s in plain} == {None}
    for set_ in (found, plain):
        assert np.array_equal(np.stack([pixels(s) for s in set_]), wanted)
    assert found[2].source.uri == "a.npz[2]"


def test_arrays_with_other_names_text_labels_and_groups(tmp_path):
    images = np.zeros((2, 5, 5), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=images, y=np.array(["cat", "dog"]), who=np.array([1, 1]))
    cat, dog = read(tmp_path / "a.npz", fields={"images": "x", "labels": "y"}, group="who")
    assert (cat.condition, dog.condition) == ("cat", "dog") and cat.group == dog.group == "1"
    assert "Known: who, x, y" in refusal(tmp_path / "a.npz")
    assert "has no array 'z'" in refusal(tmp_path / "a.npz", fields={"images": "x", "labels": "z"})
    np.savez(tmp_path / "b.npz", images=images, labels=np.arange(3))
    assert "for 2 images" in refusal(tmp_path / "b.npz")


def test_an_array_cut_off_inside_an_archive_keeps_nothing_made_up(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", npy((5, 8, 8)) + bytes(3 * 64))
    assert "do not" in refusal(tmp_path / "a.npz")


def test_arrays_in_fortran_s_order_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.zeros((3, 8, 9), np.uint8)))
    assert "ascontiguousarray" in refusal(tmp_path / "a.npy")


def test_a_zip_of_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for k, name in enumerate(("cats/1.png", "dogs/1.png", "dogs/2.jpg", "dogs/readme.md")):
            file = save(tmp_path / f"{k}.{'jpg' if name.endswith('jpg') else 'png'}", picture(k))
            archive.write(file, name)
        archive.writestr("dogs/3.png", b"broken")
    found = read(tmp_path / "a.zip")
    assert [getattr(s, "condition", "refused") for s in found] == ["cats", "dogs", "dogs", "refused"]
    assert found[-1].where == "a.zip/dogs/3.png"


def test_locked_and_odd_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", b"x")
    assert "compression method 14" in refusal(tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    assert "no image" in refusal(tmp_path / "b.zip")


def test_an_unknown_ending_is_refused(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    assert ".gif" in refusal(tmp_path / "a.gif")
    (tmp_path / "a.txt").write_text("no image beside it")
    assert ".txt" in refusal(tmp_path / "a.txt")


def test_the_same_picture_is_in_one_split_whatever_it_is_called(tmp_path):
    a, b = only(save(tmp_path / "1_1.png")), only(save(tmp_path / "2_1.png"))
    assert (a.condition, b.condition) == ("1", "2") and a.group == b.group and a.split == b.split and a.id != b.id


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"media": None}, "no bytes"), ({"shape": "text"}, "shape"), ({"media": b"\xff\xd8junk"}, "no PNG"),
        ({"condition": "a\0"}, "NUL"), ({"condition": " "}, "empty"), ({"condition": "a" * 5000}, "5,000"),
        ({"attrs": {"width": 7}}, "width is 6"), ({"media": png_bomb()}, "144,000,000"),
    ],
)  # fmt: skip
def test_check_says_what_is_wrong(change, sentence, tmp_path):
    sample = only(save(tmp_path / "a.png"))
    (problem,) = modality.check(sample.model_copy(update=change))
    assert sentence in problem


def png(k: int = 0) -> bytes:
    made = io.BytesIO()
    Pillow.fromarray(picture(k)).save(made, "PNG")
    return made.getvalue()


def tarred(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_600_000_000
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(("ending", "mode"), [("tar", "w"), ("tgz", "w:gz"), ("tar.gz", "w:gz")])
def test_a_tar_in_the_form_of_webdataset(ending, mode, tmp_path):
    members = {
        "s/0001.png": png(1), "s/0001.txt": b"a small  dog", "s/0001.json": b'{"label": 3, "who": "ana"}',
        "s/0002.json": b'{"label": 4, "who": "bea"}', "s/0002.png": png(2), "s/0003.cls": b"7", "s/0003.png": png(3),
        "s/0004.left.png": png(4), "s/0004.right.png": png(5), "s/0004.txt": b"two sides", "s/0005.png": png(6),
        "s/0006.txt": b"of nothing", "s/0007.mp3": b"a song", "s/0008.png": b"no picture", "s/0009.json": b"{",
        "s/0009.png": png(7),
    }  # fmt: skip
    found = read(tarred(tmp_path / f"a.{ending}", members, mode))
    samples = {s.source.uri.rpartition("/")[2]: s for s in found if isinstance(s, Sample)}
    assert {name: s.condition for name, s in samples.items()} == {
        "0001.png": "a small  dog", "0002.png": "4", "0003.png": "7", "0004.left.png": "two sides",
        "0004.right.png": "two sides", "0005.png": None,
    }  # fmt: skip
    assert np.array_equal(pixels(samples["0002.png"]), picture(2))
    assert {s.source.collected_at for s in samples.values()} == {"2020-09-13"}
    told = {r.where.rpartition("/")[2]: r.reason for r in found if isinstance(r, Refusal)}
    assert set(told) == {"0006.txt", "0008.png", "0009.png", f"a.{ending}"} and "1 .mp3" in told[f"a.{ending}"]
    one = [s for s in read(tmp_path / f"a.{ending}", captions="none") if isinstance(s, Sample)]
    assert {s.condition for s in one} == {None}
    grouped = [s for s in read(tmp_path / f"a.{ending}", group="who") if isinstance(s, Sample)]
    assert {s.group for s in grouped} == {"ana", "bea"}
    assert [s.condition for s in read(tmp_path / f"a.{ending}", captions="folder") if isinstance(s, Sample)][0] == "s"
