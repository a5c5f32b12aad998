"""The compiled pass agrees with plain Python on every text: drawn ones, made ones, and real ones."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import text_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.modalities.text_characters import BREAKS, terminals
from volant.modalities.text_features import columns_of, features, likeness, read, trimmed

PIECES = [
    *("the", "and", "Cat", "dog", "a", "x", "1", "_", " ", "  ", "\n", "\n\n", "\r\n", "\r", "\t", ".", "...", "!"),
    *('"', "'", "#", "-", "- ", "\u2022", "\u2026", ")", "]", "[1]", "[edit]", "[citation needed]", "[", "{", "}"),
    *("lorem ipsum", "JavaScript", "uses cookies", "Privacy Policy", "terms of use ", "use of cookies "),
    *("\u3002", "\u6c34", "\u6c34\u706b", "\uac00", "\u00e9", "\u00c9", "\u03a3", "\u03c3", "\u0130", "\U0001f600"),
    *("\U00010400", "\u0915\u093e", "\x00", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u3000", "\u201d", "word " * 3),
    *("of the same thing ", "One line that ends well.\n", "y" * 1001, "\ufffd", "\ud7ff", "\uffff"),
]
TEXTS = st.one_of(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), st.text(max_size=200))
KINDS = ("whitespace-1", "letters-1")


def strings(texts):
    return pa.array(texts, pa.large_string())


def check(texts, kind):
    found = features(strings(texts), kind)
    for at, text in enumerate(texts):
        expected = reference.features(text, kind)
        assert set(expected) == set(found)
        got = {name: column[at] for name, column in found.items()}
        assert got == expected, (text, {n: (got[n], expected[n]) for n in got if got[n] != expected[n]})


@settings(max_examples=120, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from(KINDS))
def test_features_of_any_text_are_the_reference(texts, kind):
    check(texts, kind)


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.booleans(), st.sampled_from(KINDS))
def test_the_trimmed_text_and_its_lines_are_the_reference(text, punctuation, kind):
    found = read(strings([text, text]), rows="c4" if punctuation else "c4_loose", words=kind)
    expected = reference.c4(text, punctuation)
    assert found.kept.to_pylist() == [expected[-1]] * 2 and found.went_N[1] == len(text.splitlines()) - expected[1]
    left, whole = columns_of(found.figure_NF, left=True), columns_of(found.figure_NF)
    of_left = reference.features(expected[-1], kind)
    for name, column in left.items():
        of_lines = name in ("terminal_lines", "short_lines", "full_characters_again", "newlines_per_word")
        assert column[1] == (of_left[name] if of_lines else whole[name][1]), name


def real_texts():
    library = Path(sys.base_prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    topics = (library / "pydoc_data" / "topics.py").read_text()
    code = [(library / name).read_text() for name in ("argparse.py", "this.py", "locale.py", "statistics.py")]
    return [*code, *(topics[i : i + 3000] for i in range(0, len(topics), 3000)), "a b c d\n" * 500, "x " * 5000]


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_real_texts_are_the_reference(kind):
    check(real_texts(), kind)


@pytest.mark.parametrize(
    "text", ["", " ", "\n", "\n\n\n", "\0", ".", "\u2026", "a", "a\n", "\na", "a\n\n \n\na", "[1]", "...", "\u3000"]
)
def test_edges(text):
    for kind in KINDS:
        check([text, "", text], kind)


def test_every_character_is_what_python_says():
    """Each character of Unicode beside a letter: words, rows, ends of lines."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    step = 997
    texts = ["".join(f"a{letter}b " for letter in every[at::step]) for at in range(0, step, 50)]
    for kind in KINDS:
        check(texts, kind)
    letters = [*BREAKS, *terminals(), "\u00df", "\u0130", "\ufb01"]
    check([f"one two three{letter}\nfour" for letter in letters], "whitespace-1")


def test_the_tables_leave_out_no_letter():
    beyond = "".join(map(chr, range(0x34000, 0x110000)))
    assert not any(map(str.isalnum, beyond)) and not any(map(str.isspace, beyond)) and beyond.lower() == beyond


def test_slices_nulls_and_nothing():
    texts = ["one two", None, "three four five", "six"]
    whole, part = features(strings(texts)), features(strings(texts).slice(1, 2))
    assert list(part["words"]) == [0, 3] and list(whole["words"]) == [2, 0, 3, 1]
    assert all(len(column) == 0 for column in features(strings([])).values())
    assert len(likeness(strings([])).words) == 0


def test_a_thread_whose_first_texts_are_tiny_has_the_room_that_the_loop_begins_with():
    from concurrent.futures import ThreadPoolExecutor

    from volant.modalities.text_reading import desk_for

    with ThreadPoolExecutor(1) as fresh:
        desk = fresh.submit(desk_for, np.frombuffer(b"a z", np.uint8), np.array([0, 3])).result()
    assert len(desk.keys) == len(desk.marks) >= 16


def test_broken_bytes_are_survived():
    raw = b"ab \xff\xc3 \xe2\x80 \xf0\x9f\x98 cd \xf7\xbf\xbf\xbf \x80"
    array = pa.Array.from_buffers(
        pa.large_string(), 1, [None, pa.py_buffer(np.array([0, len(raw)])), pa.py_buffer(raw)]
    )
    assert features(array)["words"][0] > 2 and len(likeness(array).words) == 1


def test_likeness_sees_no_case_no_marks_no_blanks():
    one, two, three = (
        "Hello, World!  \u00c9t\u00e9 \u6c34\u706b",
        "hello world \u00e9t\u00e9 \u6c34 \u706b",
        "hello,\nworld! \u00e9t\u00e9 \u6c34\u706b",
    )
    found = likeness(strings([one, two, three]))
    assert np.array_equal(found.words.of(0), found.words.of(1)) and len(found.words.of(0)) == 5
    assert found.whole_N[0] == found.whole_N[2] != found.whole_N[1]


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=6))
def test_equal_words_have_equal_hashes_and_others_do_not(texts):
    found = likeness(strings(texts))
    numbers, seen = {}, {}
    for at, text in enumerate(texts):
        words = reference.words_of("".join(map(reference.small, text)), "letters-1")
        hashes = found.words.of(at).tolist()
        assert len(hashes) == len(words)
        for word, number in zip(words, hashes, strict=True):
            assert numbers.setdefault(word, number) == number
        whole = " ".join("".join(map(reference.small, text)).split())
        assert seen.setdefault(whole, found.whole_N[at]) == found.whole_N[at]
    assert len(set(numbers.values())) == len(numbers) and len(set(seen.values())) == len(seen)


def test_a_phrase_counts_that_a_citation_stood_in():
    texts = [
        "Please turn on java[1]script to go on.",
        "Read our pri[2]vacy policy here today.",
        "A line[3] that stays.",
    ]
    kept, _ = trimmed(strings(texts), punctuation=True)
    assert kept.to_pylist() == [reference.c4(text, True)[-1] for text in texts] == ["", "", "A line that stays."]
