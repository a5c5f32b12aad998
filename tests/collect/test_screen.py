"""`collect.screen`: languages, flags, repair and names, a record at a time, with nothing lost unsaid."""

import json
import sys
import types

import pytest
from test_collect import made, pair, run_in, snapshot_of

from volant.core.errors import DataError, MissingPackage, SettingError
from volant.core.sample import Sample, Source, sample_id
from volant.modalities import language
from volant.stages import collect
from volant.store.dataset import dropped, rows

ENGLISH = "The parser reads one line at a time and forgets the rest of the file, number {}."
GERMAN = "Der Leser nimmt eine Zeile nach der anderen und vergisst den Rest der Datei, Nummer {}."
MESSAGES = [{"role": "user", "content": 'Is it schÃ¶n "here"?'}, {"role": "assistant", "content": "Yes, it is here."}]


def text(content, split="train", **more):
    source = Source(uri="t", licence="MIT")
    return Sample(id=sample_id(content), shape="text", source=source, content=content, split=split, group="g", **more)


def chat(content):
    return text(content).model_copy(update={"shape": "messages"})


def screened(folder, samples, *, lists=None, step="screen", **settings):
    folder.mkdir(exist_ok=True)
    (folder / f"{step}-lists").mkdir()
    for name, words in (lists or {}).items():
        (folder / f"{step}-lists" / name).write_bytes(words if isinstance(words, bytes) else words.encode())
    run = run_in(folder, step)
    if lists:
        run.outside["lists"] = snapshot_of(folder / f"{step}-lists", sorted(lists))
    return collect.screen(run, made(folder, samples, f"{step}-in"), **settings), run


def spread(samples):
    """With a record in every split."""
    return [*samples, text(ENGLISH.format(1000), "validation"), text(ENGLISH.format(1001), "test")]


def test_languages_are_told_and_kept_by_name(tmp_path):
    samples = spread([text(ENGLISH.format(i)) for i in range(3)] + [text(GERMAN.format(i)) for i in range(2)])
    result, _ = screened(tmp_path, samples)
    assert [s.attrs["language"] for s in rows(result, "train")] == ["en"] * 3 + ["de"] * 2
    assert all(0.65 < s.attrs["language_sure"] <= 1 and s.parents == [] for s in rows(result))
    result, _ = screened(tmp_path, [*samples, text("zx qv 0 0 1 1 kk")], step="en", languages=["en"])
    assert {s.attrs["language"] for s in rows(result)} == {"en"}
    drops = [s.drop.split(" (")[0] for s in dropped(result)]
    assert drops[:2] == ["language: de"] * 2 and len(drops) == 3 and "language" in drops[2]
    assert json.loads((result.path / "screen.json").read_text())["languages"]["de"] == 2
    with pytest.raises(SettingError, match="'english' is no code") as caught:
        screened(tmp_path, samples, step="english", languages=["de", "english"])
    assert " en, " in caught.value.fix and len(language.codes()) == 176


def test_a_mended_record_names_its_parent(tmp_path):
    old = [text("schÃ¶ne GrÃ¼ÃŸe an alle Leser dieser Zeile"), chat(json.dumps(MESSAGES))]
    same = text(ENGLISH.format(0))
    result, _ = screened(tmp_path, spread([*old, same]))
    greeting, said, untouched = list(rows(result, "train"))
    assert greeting.content == "schöne Grüße an alle Leser dieser Zeile" and greeting.parents == [old[0].id]
    assert said.messages[0]["content"] == 'Is it schön "here"?' and said.parents == [old[1].id]
    assert greeting.attrs["repaired"] == "unicode-1" and untouched.id == same.id
    left, _ = screened(tmp_path, spread(old), step="left", repair="none")
    assert [s.id for s in rows(left, "train")] == [s.id for s in old]


def test_words_flag_and_drop_only_where_asked(tmp_path):
    from volant.modalities.word_lists import offensive

    rude = text(f"what a {offensive()[5]} that was, said the old man at the door")
    samples = spread([rude, text(ENGLISH.format(0)), text("green eggs and ham, said Sam the cook of the inn")])
    result, _ = screened(tmp_path, samples, lists={"food.txt": "# mine\nEggs\nham\n"})
    assert [s.attrs.get("flags") for s in rows(result, "train")] == [{"offensive": 1}, None, {"food": 2}]
    assert not list(dropped(result))
    result, _ = screened(tmp_path, samples, step="c4", offensive="drop")
    assert [s.drop for s in dropped(result)] == ["offensive: 1 words of the list against 0"]


def test_threats_insults_and_hate_are_flagged_and_kept(tmp_path):
    said = [
        "I\u2019ll kill you when you come home",
        "you are such a worthless\nidiot, you are stupid",
        "Kill  yourself!",
    ]
    mild = [
        "They will kill you with kindness at the inn",
        "You are such a good friend of the house, he said",
        "how to build a bomb shelter in a garden of your own",
    ]
    result, _ = screened(tmp_path, spread([text(t) for t in [*said, *mild]]), repair="none")
    assert [s.attrs.get("flags", {}).get("toxic", 0) for s in rows(result, "train")] == [1, 2, 1, 0, 0, 0]
    assert json.loads((result.path / "screen.json").read_text())["flags"]["toxic"] == 3


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ({"a.txt": "# nothing\n"}, r"a\.txt.*no word"),
        ({"a.txt": "x", "a.lst": "y"}, "two lists are named 'a'"),
        ({"offensive.txt": "x"}, "two lists"),
        ({"toxic.txt": "x"}, "two lists"),
        ({"a.txt": b"\xff\xfe\x00"}, "no UTF-8"),
    ],
)
def test_a_list_that_is_none_is_an_error(tmp_path, lists, says):
    with pytest.raises(DataError, match=says):
        screened(tmp_path, spread([text("a b c")]), lists=lists)


def test_nothing_left_and_nothing_to_read_are_errors(tmp_path):
    with pytest.raises(DataError, match="no record is left in train and validation and test.*languages: 3 en"):
        screened(tmp_path, spread([text(ENGLISH.format(0))]), languages=["de"])
    row = Sample(id="r", shape="row", source=Source(uri="t", licence="MIT"), content='{"a": 1}', group="r")
    with pytest.raises(DataError, match="none of the 1 records holds text"):
        screened(tmp_path, [row], step="rows")
    unreadable, _ = screened(tmp_path, spread([chat("no json"), pair("asked here", "and told there")]), step="chat")
    assert [s.attrs.get("language") is None for s in rows(unreadable, "train")] == [True, False]


class People:
    """A pipeline with spaCy's interface that knows two people."""

    pipe_names = ["ner"]

    def __call__(self, said):
        found = [(at, name) for name in ("Ada Byron", "Bob") if (at := said.find(name)) >= 0]
        ents = [types.SimpleNamespace(label_="PERSON", start_char=at, end_char=at + len(n)) for at, n in sorted(found)]
        return types.SimpleNamespace(ents=[*ents, types.SimpleNamespace(label_="ORG", start_char=0, end_char=1)])


def test_names_need_the_extra_and_a_pipeline_that_finds_people(tmp_path, monkeypatch):
    from volant.modalities import personal_names

    samples = spread([text("Bob met Ada Byron at the bridge over the river")])
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(MissingPackage, match=r"volant\[names\].*spacy download en_x"):
        screened(tmp_path, samples, names="en_x")
    loaded = {"people": People(), "tagger": types.SimpleNamespace(pipe_names=["tagger"])}

    def load(name):
        if name not in loaded:
            raise OSError("E050")
        return loaded[name]

    monkeypatch.setitem(sys.modules, "spacy", types.SimpleNamespace(load=load))
    personal_names._opened.cache_clear()
    result, _ = screened(tmp_path, samples, step="found", names="people")
    kept = next(rows(result, "train"))
    assert kept.content == "<name> met <name> at the bridge over the river" and kept.attrs["masked"] == {"name": 2}
    assert kept.parents == [samples[0].id]
    with pytest.raises(SettingError, match="finds no people"):
        screened(tmp_path, samples, step="tagger", names="tagger")
    with pytest.raises(MissingPackage, match="no pipeline 'other'"):
        screened(tmp_path, samples, step="other", names="other")
    personal_names._opened.cache_clear()
