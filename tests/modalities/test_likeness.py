"""Words, MinHash, near duplicates, the leakage gate, quality rules, personal data, licences."""

import random

import numpy as np
import pytest

from volant.core.errors import LicenceError
from volant.core.sample import Sample, Source
from volant.modalities import duplicates, minhash, open_modality
from volant.modalities.licence import canonical, card_licence, forbids, hindrance, require
from volant.modalities.personal import masked
from volant.modalities.quality import Rules, answer_figures, broken_figures, figures
from volant.modalities.words import ngrams, plain_words, words_of

DICE = random.Random(7)
VOCABULARY = [f"word{i}" for i in range(3000)]


def prose(count):
    return " ".join(DICE.choice(VOCABULARY) for _ in range(count))


def true_jaccard(a, b, n=5):
    sets = []
    for text in (a, b):
        words = plain_words(text)
        sets.append({tuple(words[i : i + n]) for i in range(len(words) - n + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def edited(text, share):
    return " ".join("changed" if DICE.random() < share else w for w in text.split())


@pytest.mark.parametrize(
    "text", ["A_b c-d  é1", "日本語 abcです", "“quoted” text", "🎉x y", "", "x", "naïve\u0301 ab", "a" * 50]
)
def test_hashed_words_are_the_words(text):
    both = words_of(["alpha beta", text, "gamma"])
    assert len(both.of(1)) == len(plain_words(text))
    assert np.array_equal(both.of(1), words_of([text]).of(0))


def test_equal_words_and_only_those_have_equal_hashes():
    texts = [prose(500) for _ in range(20)] + ["ab ba aab aba baa Ab"]
    words = words_of(texts)
    known = {}
    for at, text in enumerate(texts):
        for word, value in zip(plain_words(text), words.of(at), strict=True):
            assert known.setdefault(word, int(value)) == int(value)
    assert len(set(known.values())) == len(known)


def test_runs_never_cross_texts():
    words = words_of(["a b c d e", "f g", "", "a b c d e f g"])
    grams, owners = ngrams(words, 5)
    assert list(np.bincount(owners, minlength=4)) == [1, 1, 0, 3]
    assert grams[0] == grams[owners == 3][0]


def test_signatures_estimate_jaccard():
    for share in (0.0, 0.02, 0.1, 1.0):
        base = prose(400)
        other = edited(base, share)
        signature = minhash.signatures(words_of([base, other]))
        assert abs(np.mean(signature[0] == signature[1]) - true_jaccard(base, other)) < 0.15


def test_near_duplicates_are_found_and_only_those():
    base = [prose(200) for _ in range(60)]
    near = [edited(text, 0.015) for text in base]
    far = [edited(text, 0.3) for text in base]
    texts = base + near + far
    found = duplicates.near_duplicates(texts, 0.8)
    expected = {60 + i for i in range(60) if true_jaccard(base[i], near[i]) >= 0.8}
    assert len(expected) > 30 and set(found) == expected
    assert all(earlier == later - 60 for later, (earlier, _) in found.items())
    later, (earlier, similarity) = next(iter(found.items()))
    assert abs(similarity - true_jaccard(texts[later], texts[earlier])) < 1e-6


def test_wordless_texts_are_not_alike():
    assert duplicates.near_duplicates(["...", "!!!", ""], 0.8) == {}


def test_features_tell_alike_from_unlike():
    source = Source(uri="x", licence="MIT")
    base = prose(100)
    samples = [
        Sample(id=str(i), shape="text", source=source, content=t)
        for i, t in enumerate([base, edited(base, 0.1), prose(100), "..."])
    ]
    found = open_modality("text").features(samples)
    assert found.dtype == np.float32 and found.shape == (4, 1024)
    assert found[0] @ found[1] > 0.7 > 0.3 > found[0] @ found[2] and not found[3].any()
    assert open_modality("text").features([]).shape == (0, 1024)


def broken_rule(text, rules):
    return broken_figures(np.array([figures(text)]), np.zeros(1, bool), rules).get(0, "")


def broken_answer(text, answer, rules):
    return broken_figures(np.array([answer_figures(text, answer)]), np.ones(1, bool), rules).get(0, "")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("one two", "min_words: 2 against 5"),
        ("a b c d e f g", "word_length"),
        ("1234 5678 9012 3456 7890 12", "min_letters"),
        ("# #tag #tag #tag word word", "max_symbols"),
        ("\n".join(["- item number"] * 4), "max_bullets"),
        ("\n".join(["the very same line again"] * 10), "max_duplicate_lines"),
        ("buy now here " * 30, "max_top_phrase"),
        (" ".join(VOCABULARY[:40] * 2), "max_duplicate_phrases"),
    ],
)
def test_rules_say_value_and_threshold(text, rule):
    found = broken_rule(text, Rules())
    assert found.startswith(rule) and " against " in found


def test_good_prose_and_code_pass():
    good = "The parser reads one line at a time. It keeps what it needs, and forgets the rest.\n" + prose(60)
    assert broken_rule(good, Rules()) == ""
    code = "def add(a, b):\n    total = a + b\n    if total > 10:\n        return 10\n    return total\n"
    assert broken_rule(code, Rules()) == "" and broken_answer(code, "Add.", Rules()) == ""
    assert broken_answer("x", "no no no " * 20, Rules()).startswith("max_top_phrase")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail ann.b@firm.co.uk.", "mail <email>."),
        ("user@example.com and a@b.test", "user@example.com and a@b.test"),
        ("host 8.8.8.8:53 and 192.168.0.1, version 1.2.3.4", "host <ip>:53 and 192.168.0.1, version 1.2.3.4"),
        ("call +44 20 7946 0958 or (555) 123-4567", "call <phone> or <phone>"),
        ("x = 12345678 + 3.14159 - 2024-01-02 and 555-1234567", "x = 12345678 + 3.14159 - 2024-01-02 and 555-1234567"),
        ("@decorator(a@b)", "@decorator(a@b)"),
    ],
)  # fmt: skip
def test_personal_data_is_masked(text, expected):
    assert masked(text)[0] == expected


def test_names_of_hubs_and_cards():
    assert canonical("odc-by") == "ODC-By-1.0" and canonical("llama3") == "LicenseRef-Llama-3"
    assert card_licence("---\nlicense:\n- cc-by-4.0\n---\n") == "cc-by-4.0" and card_licence("no head") == ""
    assert "lists no licence 'unknown'" in hindrance("unknown", "research")
    assert hindrance("", "research") == "it states no licence" and hindrance("cc-by-4.0", "research") == ""


def test_licences():
    assert canonical("mit or cc-by-4.0") == "MIT OR CC-BY-4.0"
    assert canonical("LicenseRef-own") == "LicenseRef-own"
    with pytest.raises(LicenceError, match="Did you mean 'CC-BY-4.0'"):
        canonical("CC-BY-4.O")
    with pytest.raises(LicenceError, match="LicenseRef-MyTerms"):
        canonical("MyTerms")
    for bad in ("", "MIT AND", "MIT Apache-2.0"):
        with pytest.raises(LicenceError):
            canonical(bad)


@pytest.mark.parametrize(
    ("licence", "use", "allowed"),
    [
        ("CC-BY-NC-4.0", "commercial", False), ("CC-BY-NC-SA-3.0", "commercial", False),
        ("CC-BY-NC-4.0", "research", True),
        ("BUSL-1.1", "commercial", False), ("MIT", "commercial", True), ("CC-BY-4.0", "commercial", True),
        ("MIT OR CC-BY-NC-4.0", "commercial", True), ("MIT AND CC-BY-NC-4.0", "commercial", False),
        ("CC-BY-ND-4.0", "research", False), ("(MIT OR CC-BY-NC-4.0) AND Apache-2.0", "commercial", False),
        ("LicenseRef-OpenRAIL-M", "commercial", True), ("LicenseRef-Llama-3", "research", False),
        ("LicenseRef-Llama-3.1", "commercial", True), ("LicenseRef-maker-non-commercial", "commercial", False),
        ("ODC-By-1.0", "commercial", True), ("PolyForm-Noncommercial-1.0.0", "commercial", False),
        ("NCSA", "commercial", True), ("GPL-3.0-or-later WITH GCC-exception-3.1", "commercial", True),
    ],
)  # fmt: skip
def test_forbidden_uses(licence, use, allowed):
    assert (forbids(licence, use) == "") is allowed
    if allowed:
        assert require(licence, use) == licence
    else:
        with pytest.raises(LicenceError, match=r"data\.jsonl"):
            require(licence, use, where="data.jsonl")
