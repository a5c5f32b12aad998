"""Options of reading that mean nothing are refused by name, by every modality, before a file is read."""

import pytest

from volant.core import Run
from volant.core.errors import SettingError
from volant.core.outside import OutsideFile
from volant.core.sample import Source
from volant.modalities import open_modality

OTHERS = {"piece_chars": 8000, "plain": True, "whole": False, "fields": {}, "group": "", "encoding": ""}


@pytest.mark.parametrize(
    ("modality", "options", "where", "said"),
    [
        ("text", {"plain": "maybe"}, "plain", "true or false"),
        ("text", {"whole": 1}, "whole", "true or false"),
        ("text", {"plian": True}, "plian", "Did you mean 'plain'"),
        ("text", {"encoding": "utf-9"}, "encoding", "no encoding 'utf-9'"),
        ("text", {"piece_chars": "many"}, "piece_chars", "Take 0 or more"),
        ("text", {"fields": {"txet": "body"}}, "fields", "Did you mean 'text'"),
        ("text", {"fields": ["text"]}, "fields", "no mapping"),
        ("table", {"typse": {}}, "typse", "Did you mean 'types'"),
        ("table", {"key": 5}, "key", "no list of texts"),
        ("table", {"delimiter": 5}, "delimiter", "is a text"),
        ("table", {"encoding": "utf-9"}, "encoding", "no encoding 'utf-9'"),
        ("image", {"captoins": "folder"}, "captoins", "Did you mean 'captions'"),
        ("image", {"max_pixels": "many"}, "max_pixels", "Take 1 to"),
        ("image", {"group": 5}, "group", "is a text"),
    ],
)
def test_options_that_mean_nothing_are_refused(modality, options, where, said) -> None:
    with pytest.raises(SettingError, match=said) as told:
        open_modality(modality).check_reading(OTHERS | options)
    assert told.value.where == where


@pytest.mark.parametrize("modality", ["text", "table", "image"])
def test_what_gathering_gives_to_every_modality_is_taken(modality) -> None:
    open_modality(modality).check_reading(OTHERS)


def test_a_text_that_means_a_missing_value_is_one_text(tmp_path) -> None:
    place = tmp_path / "a.csv"
    place.write_text("a,b\nNA,1\nA,2\n")
    file = OutsideFile(place, "a.csv", place.stat().st_size, "")
    rows = [
        sample.content for sample in open_modality("table").load(file, Source(uri="", licence="CC0-1.0"), missing="NA")
    ]
    assert rows == ['{"a": null, "b": 1}', '{"a": "A", "b": 2}']


def test_options_are_refused_before_a_file_is_fetched(tmp_path) -> None:
    from volant.stages.collect._reading import read

    def files():
        raise AssertionError("a file was fetched")
        yield

    run = Run(step="corpus", out=tmp_path, work=tmp_path, modality="table")
    with pytest.raises(SettingError, match="typse"):
        list(read(run, files(), {"typse": {}}, total=0, few=False))


@pytest.mark.parametrize(
    ("raw", "said"), [("words".encode("utf-16-le"), "as UTF-16 does"), (b"  \n\n", "is empty"), (b"\xff", "0xff")]
)
def test_a_text_file_without_text_is_refused_with_a_reason(tmp_path, raw, said) -> None:
    place = tmp_path / "a.txt"
    place.write_bytes(raw)
    found = open_modality("text").load(
        OutsideFile(place, "a.txt", len(raw), ""), Source(uri="", licence="CC0-1.0"), piece_chars=8000
    )
    assert [said in refusal.reason for refusal in found] == [True]
