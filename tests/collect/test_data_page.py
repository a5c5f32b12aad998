"""The data report: what it counts is what is there, its examples show nobody, and it stands alone."""

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from test_collect import gather, made, run_in

from volant.core.sample import Label, Sample, Source, sample_id
from volant.stages import collect
from volant.stages.collect._counting import _words_of, facts_of
from volant.stages.collect._data_page import data_page

NESTED = {"language": "en", "of": {"language": "la"}}


def text(content, split="train", uri="data/a.txt:7", drop="", **more):
    source = Source(uri=uri, **{"licence": "MIT", "consent": "public", **more.pop("source", {})})
    name = sample_id(content, uri)
    return Sample(id=name, shape="text", source=source, content=content, split=split, group="g", drop=drop, **more)


def page_of(folder, samples):
    data = made(folder, samples)
    data_page(run_in(folder, "page"), data)
    return data, (folder / "page" / "index.html").read_text("utf-8")


def seen(page):
    """What a reader sees, with the rows of tables as lines."""
    shown = re.sub(r"</(?:td|th|p|dd|dt|h2|h3|summary|pre|span|b|figcaption)>", " | ", page.split("</style>")[-1])
    return re.sub(r"\s+", " ", re.sub(r"</tr>", "\n", re.sub(r"<[^/t][^>]*>|</?t[^r][^>]*>|</[^t][^>]*>", "", shown)))


def test_what_is_there_is_counted(tmp_path):
    kept = [text(f"word number {i} of it", uri=f"data/a.jsonl:{i}", attrs=NESTED) for i in range(5)]
    kept += [
        text("ein Satz", "validation", "https://site.org/a/b", attrs={"language": "de"}, source={"licence": "CC0-1.0"})
    ]
    kept += [
        text(
            "un mot",
            "test",
            "data/b.zip/c.txt",
            source={"origin": "generated"},
            labels=[Label(name="grade", value="good", by="us")],
        )
    ]
    gone = [text(f"short {i}", drop=f"min_words: {i} against 5", uri="data/a.jsonl:9") for i in (1, 3, 4, 2)]
    data, page = page_of(tmp_path, [*kept, *gone])
    found = facts_of(data)
    assert found.kept == {"train": 5, "validation": 1, "test": 1} and found.dropped == {"train": 4}
    assert found.words == {"train": 25, "validation": 2, "test": 2}
    assert found.sources == {
        ("data/a.jsonl", "MIT", "public", "human"): 5,
        ("https://site.org", "CC0-1.0", "public", "human"): 1,
        ("data/b.zip", "MIT", "public", "generated"): 1,
    }  # fmt: skip
    assert found.languages == {"en": 5, "de": 1} and found.labels == {("grade", "good"): 1}
    rule = found.rules["min_words"]
    assert rule.count == 4 and rule.bar == "5" and sorted(rule.values) == [1, 2, 3, 4]
    assert [e.value for _, _, e in rule.examples] == ["4", "3", "2"], "nearest to the threshold first"
    for told in ("7 of 11 records are kept", "36.4%", "CC0-1.0", "https://site.org", "grade: good", "min_words"):
        assert told in page, told


def test_examples_show_nobody_and_nothing_that_is_sealed(tmp_path):
    gone = [
        text("call ann@firm.de, she said", drop="min_words: 4 against 5"),
        text("the sealed words of a test", "test", drop="min_words: 4 against 5", uri="b"),
        text("<script>alert(1)</script>", drop="leakage: 9 words (<i>bob@firm.de</i>) against 8"),
    ]
    _, page = page_of(tmp_path, [text("kept")] + gone)
    assert "&lt;email&gt;" in page and "firm.de" not in page and "sealed words" not in page
    assert "(in the sealed test split)" in page
    assert "<script" not in page and "<i>" not in page and "&lt;script&gt;" in page


def test_the_page_stands_alone_and_is_the_same_twice(tmp_path):
    samples = [text(f"word number {i}") for i in range(3)]
    pages = [page_of(tmp_path / name, samples)[1] for name in "ab"]
    assert pages[0] == pages[1]
    assert not re.search(r"(?:src|href)=|@import|url\(", pages[0].replace('href="#', "")), "it loads nothing"
    assert "nothing was dropped" in pages[0]


def test_cleaning_tells_its_duplicates_leaks_and_masks(tmp_path):
    words = ["river", "stone", "bridge", "market", "winter", "garden", "letter", "engine", "island", "silver"]
    said = [" ".join(f"{words[(i * j) % 10]}{(i * 7 + j) % 40}" for j in range(12)) for i in range(40)]
    leak = "A long sentence of the evaluation set that nobody should ever see in the training data of any model at all."
    samples = [text(t, uri=f"a:{i}") for i, t in enumerate(said[:38])]
    samples += [text(said[0], uri=f"copy:{i}") for i in range(3)]
    samples += [text(f"{said[38]} {leak} {said[39]}", uri="leak")]
    samples += [
        text(f"{leak} Test.", "test", "test"),
        text("Another one of the words for validation here.", "validation"),
    ]
    samples += [text("Write to ann@firm.de who knows all about the fish of the river.", uri="mail")]
    result = collect.clean(run_in(tmp_path, "clean"), made(tmp_path, samples, "in"))
    page = (result.path / "index.html").read_text("utf-8")
    found = facts_of(result)
    assert found.twins.most_common(1)[0][1] >= 3 and found.rules["leakage"].count == 1
    assert found.masked == {"email": 1} and found.changed["masked"] == 1
    for told in ("exact_duplicate", "copied most often", "share runs of words", "personal data"):
        assert told in page, told


def test_screening_tells_languages_flags_and_repair(tmp_path):
    from volant.modalities.word_lists import offensive

    samples = [
        text(f"The parser reads one line at a time, number {i}.", split)
        for i, split in enumerate(("train", "test", "validation"))
    ]
    samples += [text("schÃ¶ne GrÃ¼ÃŸe an alle Leser dieser Zeile"), text(f"what a {offensive()[5]} that was, he said")]
    result = collect.screen(run_in(tmp_path, "screen"), made(tmp_path, samples, "in"))
    page = (result.path / "index.html").read_text("utf-8")
    for told in ("Languages", "broken Unicode", "offensive", "look, not drop"):
        assert told in page, told


def test_many_files_are_told_by_their_folders(tmp_path):
    folders = [f"data/{'ab'[i % 2]}/deep/{i}.txt" for i in range(30)]
    samples = [text(f"words {i}", uri=uri) for i, uri in enumerate([*folders, "https://a.org/b/c", "own.txt"])]
    _, page = page_of(tmp_path, samples)
    assert "data/a/deep/ (15 files)" in page and "https://a.org<" in page and "own.txt" in page


@given(st.lists(st.one_of(st.none(), st.text(" \n\tab\u00e9\u3000\v", max_size=6)), max_size=8), st.integers(0, 8))
def test_words_are_counted_from_bytes(texts, first):
    for kind in (pa.string(), pa.large_string()):
        counted = _words_of(pa.array(texts, kind).slice(first)).tolist()
        assert counted == [len(re.findall(r"[^ \n\t\v]+", one or "")) for one in texts[first:]]


def test_pictures_and_rows_have_a_page_too(tmp_path):
    row = Source(uri="t.csv:1", licence="MIT")
    rows = [
        Sample(id=f"r{i}", shape="row", source=row, content=f'{{"a": {i}}}', split=s, group=str(i))
        for i, s in enumerate(("train", "test", "validation"))
    ]
    _, page = page_of(tmp_path, rows)
    assert "3 records; nothing was dropped." in page and "t.csv" in page


def test_what_is_gathered_has_a_page_that_counts_refusals(tmp_path):
    lines = [f'{{"text": "word number {i} of the file"}}' for i in range(9)]
    lines[3:3] = ["{broken", "{broken too", '{"nothing": 1}']
    result, _ = gather(tmp_path, {"a.jsonl": "\n".join(lines)}, consent="public")
    page = (result.path / "index.html").read_text("utf-8")
    refused = seen(page.partition("What was refused</h2>")[2])
    assert "3 records could not be read" in refused and "a.jsonl:4" in refused and "CC-BY-4.0" in page
    assert sorted(re.findall(r"\| ([0-9]+) \| a\.jsonl", refused)) == ["1", "2"], refused
