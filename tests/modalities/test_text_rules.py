"""Published rules say of every text what plain Python says of it, with the value and the threshold."""

import pyarrow as pa
import pytest
import text_reference as reference
from hypothesis import given, settings
from test_text_features import KINDS, TEXTS, real_texts

from volant.core.errors import SettingError
from volant.modalities.text_features import features
from volant.modalities.text_rules import RULES, broken, rules_of

SETS = ("gopher", "c4", "c4_loose", "fineweb")


def first_broken(text, presets, kind):
    """The rules once more, as their papers put them."""
    found = reference.features(text, kind)
    for preset in presets:
        drop = {"gopher": gopher, "c4": c4, "c4_loose": c4_loose, "fineweb": fineweb}[preset](found)
        if drop:
            return drop
    return ""


def told(name, value, bound):
    return f"{name}: {value:.6g} against {bound:g}"


def above(pairs):
    return next((told(*pair) for pair in pairs if pair[1] > pair[2]), "")


def gopher(f):
    repeated = [("paragraphs_again", 0.3), ("paragraph_characters_again", 0.2), ("lines_again", 0.3)]
    repeated += [("line_characters_again", 0.2), ("top_2", 0.2), ("top_3", 0.18), ("top_4", 0.16)]
    repeated += [
        (f"again_{n}", bound) for n, bound in zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.1), strict=True)
    ]
    drop = above((f"gopher_{name}", f[name], bound) for name, bound in repeated)
    words, length = f["spoken_words"], f["mean_word_length"]
    if drop:
        return drop
    if words < 50:
        return told("gopher_min_words", words, 50)
    if words > 100_000:
        return told("gopher_max_words", words, 100_000)
    if length < 3:
        return told("gopher_min_word_length", length, 3)
    shares = [
        ("hashes", "hashes_per_word", 0.1),
        ("ellipses", "ellipses_per_word", 0.1),
        ("bullets", "bullet_rows", 0.9),
    ]
    shares += [("ellipsis_rows", "ellipsis_rows", 0.3)]
    drop = above([("gopher_max_word_length", length, 10), *((f"gopher_{n}", f[of], bound) for n, of, bound in shares)])
    if drop:
        return drop
    if f["letter_words"] < 0.8:
        return told("gopher_letters", f["letter_words"], 0.8)
    return told("gopher_stop_words", f["stop_words"], 2) if f["stop_words"] < 2 else ""


def c4(f, name="c4", kind="c4"):
    if f[f"{kind}_lorem"]:
        return told(f"{name}_lorem_ipsum", f[f"{kind}_lorem"], 0)
    if f[f"{kind}_curly"]:
        return told(f"{name}_curly_bracket", f[f"{kind}_curly"], 0)
    return told(f"{name}_sentences", f[f"{kind}_sentences"], 5) if f[f"{kind}_sentences"] < 5 else ""


def c4_loose(f):
    return c4(f, "c4_loose", "loose")


def fineweb(f):
    if f["terminal_lines"] < 0.12:
        return told("fineweb_terminal_lines", f["terminal_lines"], 0.12)
    shares = [("short_lines", "short_lines", 0.67), ("characters_again", "full_characters_again", 0.01)]
    shares += [("newlines", "newlines_per_word", 0.3)]
    return above((f"fineweb_{name}", f[of], bound) for name, of, bound in shares)


def check(texts, presets, kind):
    drops = broken(features(pa.array(texts, pa.large_string()), kind), rules_of(presets))
    assert {i: drop for i, text in enumerate(texts) if (drop := first_broken(text, presets, kind))} == drops


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_any_text_is_judged_as_by_the_reference(text):
    for preset in SETS:
        check([text, text * 9], [preset], "whitespace-1")


@pytest.mark.parametrize("kind", KINDS)
def test_real_texts_are_judged_as_by_the_reference(kind):
    texts = real_texts()
    for presets in (["gopher"], ["c4"], ["c4_loose"], ["fineweb"], ["gopher", "c4_loose", "fineweb"]):
        check(texts, presets, kind)


def test_every_rule_drops_something_and_its_threshold_can_be_loosened():
    prose = "The cat sat with the dog and that was all there is to be said of it."
    words = [
        f"{a}{b}" for a in ("north", "south", "east", "west", "inner") for b in ("ward", "land", "gate", "side", "ham")
    ]
    long = " ".join(f"the {w} and {v} of it" for w, v in zip(words * 4, sorted(words) * 4, strict=True))
    texts = {
        "gopher_min_words": "Nine words are too few, that is all the rule says.",
        "gopher_max_words": " ".join(f"word{i}" for i in range(100_001)),
        "gopher_min_word_length": " ".join(f"{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(200)),
        "gopher_max_word_length": " ".join(f"extraordinarily{i}" for i in range(60)),
        "gopher_hashes": " ".join(f"#tag{i} of" for i in range(60)),
        "gopher_ellipses": " ".join(f"word{i}..." for i in range(60)),
        "gopher_bullets": "\n".join(f"- item number {i} of {i * i} things" for i in range(30)),
        "gopher_ellipsis_rows": "\n".join(f"read all of chapter{i} for what part{i} has more..." for i in range(30)),
        "gopher_letters": " ".join(f"{i:04} word{i}" for i in range(100)),
        "gopher_stop_words": " ".join(f"word{i}" for i in range(60)),
        "gopher_lines_again": "\n".join(["same"] * 9 + [long]),
        "gopher_paragraphs_again": "\n\n".join(["same"] * 9 + [long]),
        "gopher_line_characters_again": "\n".join([*map(str, range(9)), prose, prose]),
        "gopher_paragraph_characters_again": "\n\n".join([*map(str, range(9)), prose, prose]),
        "c4_lorem_ipsum": "Here comes lorem ipsum dolor.", "c4_curly_bracket": "All of { is code.",
        "c4_sentences": prose,
        "c4_loose_lorem_ipsum": "here comes lorem ipsum dolor", "c4_loose_curly_bracket": "all of { is code",
        "c4_loose_sentences": prose, "fineweb_terminal_lines": "no end\nat all", "fineweb_short_lines": "Yes.\nNo.",
        "fineweb_characters_again": f"{prose}\n{prose}", "fineweb_newlines": f"{prose}\n" + "\n" * 20,
    }  # fmt: skip
    for n in (2, 3, 4):
        texts[f"gopher_top_{n}"] = " ".join(" ".join(f"word{k}" for k in range(n)) + f" other{i}" for i in range(20))
    for n in range(5, 11):
        texts[f"gopher_again_{n}"] = " ".join([f"a{i}" for i in range(n)] * 2 + [f"other{i}" for i in range(4)])
    assert set(texts) == {rule.name for rules in RULES.values() for rule in rules}
    for name, text in texts.items():
        rule = next(rule for rules in RULES.values() for rule in rules if rule.name == name)
        columns = features(pa.array([text], pa.large_string()))
        drops = broken(columns, [rule])
        assert drops and drops[0].startswith(f"{name}: ") and drops[0].endswith(f" against {rule.bound:g}"), (
            name,
            drops,
        )
        preset = next(preset for preset, rules in RULES.items() if rule in rules)
        (loose,) = [r for r in rules_of([preset], {name: 0 if rule.least else 1e9}) if r.name == name]
        assert broken(columns, [loose]) == {}


def test_a_threshold_of_no_rule_is_an_error():
    with pytest.raises(SettingError, match="gopher_min_word'.*Did you mean 'gopher_min_words'"):
        rules_of(["gopher"], {"gopher_min_word": 3})
    with pytest.raises(SettingError, match="no rule of no set"):
        rules_of([], {"gopher_min_words": 3})
