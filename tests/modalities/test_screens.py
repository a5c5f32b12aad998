"""Language, flags and Unicode repair over Arrow arrays: one value a text."""

import time
import unicodedata

import pyarrow as pa
import pytest

from volant.core.errors import DataError
from volant.modalities import language, repair, word_lists

TEXTS = {
    "en": "The parser reads one line at a time and forgets the rest of the file.",
    "de": "Der Leser nimmt eine Zeile nach der anderen und vergisst den Rest der Datei.",
    "fr": "Le lecteur prend une ligne après l'autre et oublie le reste du fichier.",
    "ru": "Программа читает одну строку за другой и забывает остальное.",
    "zh": "该程序一次读取一行，并忘记文件的其余部分。",
}


def test_languages_with_their_probability():
    codes, sure = language.languages(pa.array([*TEXTS.values(), "", None, "   \n"]))
    assert codes.to_pylist() == [*TEXTS, "", "", ""]
    assert all(0.65 < p <= 1 for p in sure.to_pylist()[:5]) and sure.to_pylist()[5:] == [0, 0, 0]


def test_a_long_text_is_judged_by_its_beginning_middle_and_end():
    long = TEXTS["de"] * 200
    assert len(language._shown(long)) <= 3 * 700 + 2 and language._shown("a\n b") == "a b"
    assert language.languages(pa.array([long, "1 2 3 " * 150 + TEXTS["fr"] * 60 + "4 5 6 " * 100]))[0].to_pylist() == [
        "de", "fr",
    ]  # fmt: skip


def test_words_of_lists_are_counted_with_their_borders():
    lists = {"mine": ["Spam", "two words", "c++", "🖕"], "other": ["eggs"]}
    texts = pa.array(["spam SPAM spammer two words", "c++ and 🖕🖕", None, "Scunthorpe", "two-words eggs, eggs"])
    found = word_lists.flagged(texts, lists)
    assert found["mine"].to_pylist() == [3, 3, 0, 0, 0] and found["other"].to_pylist() == [0, 0, 0, 0, 2]


def test_the_list_that_ships_is_c4s():
    found = word_lists.offensive()
    assert len(found) == 403 and "a54" not in found
    rude = next(word for word in found if word.isalpha())
    texts = pa.array([f"what a {rude.upper()}!", f"{rude}xyz", "a mild word"])
    assert word_lists.flagged(texts, {"offensive": found})["offensive"].to_pylist() == [1, 0, 0]


def test_a_list_without_words_is_an_error():
    assert word_lists.words("# mine\nA b\n\na b\nc\n", "x") == ["a b", "c"]
    with pytest.raises(DataError, match=r"mine\.txt.*no word"):
        word_lists.words("# only a remark\n", "mine.txt")


def test_marks_without_end_cost_no_time_without_end():
    piled = "Z" + "\u0300\u0317\u0331" * 100_000 + " e\u0301"
    start = time.process_time()
    assert repair.repaired(piled) == piled[:-2] + "é"
    assert time.process_time() - start < 5, "ordering them takes minutes"
    few = "o" + "\u0317\u0302" * 15  # as many as are ordered
    assert repair.repaired(few) == unicodedata.normalize("NFC", few) != few


def test_no_mark_is_left_out_of_those_that_are_bounded():
    for code in range(0x110000):
        if unicodedata.combining(chr(code)):
            assert repair._piled().fullmatch(chr(code) * 31), hex(code)


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("schÃ¶n und groÃŸ", "schön und groß"),
        ("line\r\nline\rline\n", "line\nline\nline\n"),
        ("nul\x00 bell\x07 \x1b[31mred\x1b[0m\ttab", "nul bell red\ttab"),
        ("e\u0301", "é"),
        ("\ud83d\ude00", "😀"),
        ("“quotes” ﬁ &amp; Ｗide", "“quotes” ﬁ &amp; Ｗide"),
        ("L’été à São Paulo", "L’été à São Paulo"),
    ],
)
def test_repair_mends_what_is_broken_and_nothing_else(broken, mended):
    assert repair.repaired(broken) == mended and repair.repaired(mended) == mended
    if "\ud83d" not in broken:
        after, changed = repair.repaired_all(pa.array([broken, None, "plain"]))
        assert after.to_pylist() == [mended, None, "plain"] and changed.to_pylist() == [broken != mended, False, False]
