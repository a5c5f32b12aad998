"""`collect.clean` by the rules of Gopher, C4 and FineWeb."""

import itertools

import pytest

from volant.core.artifact import Dataset
from volant.core.errors import DataError, SettingError
from volant.core.run import Run
from volant.core.sample import Sample, Source, sample_id
from volant.stages import collect
from volant.store import dataset as store

SPLITS = ("test", "validation", "train", "train", "train", "train", "train", "train", "train")
NAMES = ["".join(letters) for letters in itertools.product("bdfgk", "aeiou", "lmnrst", "aeiou", "nrst")]


def run_in(folder, step="step", **named):
    (folder / step).mkdir(parents=True)
    (folder / f"{step}-work").mkdir()
    return Run(step=step, out=folder / step, work=folder / f"{step}-work", **named)


def prose(number, lines=8):
    """Lines of words that no other number has, between words that all texts have."""
    found = []
    for line in range(lines):
        at = (number * lines + line) * 5 % (len(NAMES) - 5)
        found.append("The {} of {} and {} that {} have with {}.".format(*NAMES[at : at + 5]))
    return found


def sample(text, split="train"):
    return Sample(id=sample_id(text), shape="text", source=Source(uri="t", licence="MIT"), content=text, split=split)


def cleaned(folder, samples, step="clean", **settings):
    data = run_in(folder, f"{step}-data")
    with store.writer(data.out) as out:
        out.write_all(samples)
    result = collect.clean(run_in(folder, step), Dataset(data.out), **settings)
    return {s.id: s.drop for s in store.dropped(result)}, list(store.rows(result))


def test_published_rules_judge_plain_texts_and_c4_takes_rows_out(tmp_path):
    good = ["\n".join([*prose(i), "Menu", "  by nobody", "This one [12] ends well."]) for i in range(7)]
    bad = ["too short", "\n".join([prose(8, 1)[0]] * 9), "\n".join([*prose(9), "Here stands { as well."])]
    samples = [sample(text, split) for text, split in itertools.zip_longest([*good, *bad], SPLITS, fillvalue="train")]
    drops, kept = cleaned(tmp_path, samples, rules=["gopher", "c4"])
    assert drops == {
        samples[7].id: "gopher_top_2: 1 against 0.2",
        samples[8].id: "gopher_lines_again: 0.888889 against 0.3",
        samples[9].id: "c4_curly_bracket: 1 against 0",
    }
    by_parent = {s.parents[0]: s for s in kept}
    assert list(by_parent) == [s.id for s in (*samples[2:7], samples[1], samples[0])]
    for number in range(7):
        found = by_parent[samples[number].id]
        assert found.text == "\n".join([*prose(number), "This one  ends well."]) and found.attrs == {"rows_dropped": 2}
        assert found.id == sample_id("text", "", found.text, "", "")


def test_the_definition_of_a_word_is_a_setting(tmp_path):
    """Of texts that hyphens hold together blanks divide too few words, and letters enough."""
    texts = ["\n".join(line.replace(" ", "-", 6) for line in prose(i, 6)) for i in range(6)]
    samples = [sample(text, split) for text, split in zip(texts, SPLITS, strict=False)]
    drops, kept = cleaned(tmp_path, samples, "letters", rules=["gopher"], words="letters-1")
    assert not drops and len(kept) == 6
    with pytest.raises(DataError, match="6 gopher_min_words"):
        cleaned(tmp_path, samples, "blanks", rules=["gopher"])


def test_a_threshold_is_changed_by_the_name_of_its_rule(tmp_path):
    samples = [sample("\n".join(prose(i)), split) for i, split in enumerate(SPLITS)]
    samples[4] = sample("\n".join(prose(40, 2)))
    drops, _ = cleaned(tmp_path, samples, rules=["gopher"], thresholds={"gopher_min_words": 3})
    assert drops == {}
    drops, _ = cleaned(tmp_path, samples, "strict", rules=["gopher"], thresholds={"gopher_stop_words": 3})
    assert drops == {samples[4].id: "gopher_min_words: 22 against 50"}
    with pytest.raises(SettingError, match="Did you mean 'gopher_min_words'"):
        cleaned(tmp_path, samples, "wrong", rules=["gopher"], thresholds={"gopher_min_word": 3})


def test_fineweb_asks_for_ends_of_lines(tmp_path):
    samples = [sample("\n".join(prose(i)), split) for i, split in enumerate(SPLITS)]
    samples[3] = sample("\n".join(line.rstrip(".") for line in prose(3)))
    drops, kept = cleaned(tmp_path, samples, rules=["gopher", "c4_loose", "fineweb"])
    assert drops == {samples[3].id: "fineweb_terminal_lines: 0 against 0.12"} and not any(s.parents for s in kept)


def test_fineweb_judges_what_c4_leaves_where_it_comes_behind(tmp_path):
    """A page with a long menu: C4 takes the menu out, and FineWeb, which drops pages of short lines, sees the rest."""
    samples = [sample("\n".join(prose(i)), split) for i, split in enumerate(SPLITS)]
    samples[4] = sample("\n".join([*prose(40), *(f"Part {number}" for number in range(20))]))
    drops, kept = cleaned(tmp_path, samples, rules=["gopher", "c4_loose", "fineweb"])
    assert drops == {} and "\n".join(prose(40)) in {s.text for s in kept}
    drops, _ = cleaned(tmp_path, samples, "whole", rules=["gopher", "fineweb", "c4_loose"])
    assert drops == {samples[4].id: "fineweb_short_lines: 0.714286 against 0.67"}


def test_another_threshold_reads_no_text(tmp_path, monkeypatch):
    """What was found of the texts is judged anew: rules, equal and near ones, without a row group being opened."""
    from volant.modalities import open_modality
    from volant.modalities.cleaning import How
    from volant.modalities.quality import Rules
    from volant.modalities.text_rules import rules_of
    from volant.stages.collect._clean_alike import drop_equal, drop_near
    from volant.stages.collect._clean_rows import Rows
    from volant.store.shards import Part

    texts = ["\n".join([*prose(i), "Menu"]) for i in range(7)]
    texts += [texts[4].replace("\n", "  \n"), texts[5] + "\nOne more line of it.", "\n".join([*prose(9, 3), "Menu"])]
    data = run_in(tmp_path, "data")
    with store.writer(data.out) as out:
        out.write_all(sample(text, split) for text, split in zip(texts, [*SPLITS, "train"], strict=True))

    def judged(run, **thresholds):
        rules = rules_of(["gopher", "c4"], thresholds)
        how = How(open_modality("text"), Rules(), ["gopher", "c4"], rules, "keep", run.remembered)
        rows = Rows(run, [Dataset(data.out)], how)
        rows.judge(lambda n: None)
        drop_equal(rows)
        drop_near(run, rows, 0.6)
        return rows.drop, rows.ids.to_pylist()

    run = run_in(tmp_path, "one")
    strict = judged(run)
    fresh = judged(run_in(tmp_path, "two"), gopher_min_words=5, c4_sentences=1)
    monkeypatch.setattr(Part, "read", lambda *given: pytest.fail("a text was read again"))
    assert judged(run, gopher_min_words=5, c4_sentences=1) == fresh and judged(run) == strict
    assert sorted(drop.split(":")[0] for drop in strict[0].values()) == [
        "exact_duplicate",
        "gopher_min_words",
        "near_duplicate",
    ]
    assert len(fresh[0]) == 2 and fresh[1] != strict[1]


def test_what_was_masked_is_compared_as_it_leaves(tmp_path):
    texts = ["\n".join(prose(i)) for i in range(7)]
    texts += [
        "\n".join([*prose(8), f"He of {name} with it wrote to {name}@firm.org that day."]) for name in ("al", "al")
    ]
    texts[8] = texts[8].replace("al@firm.org", "ben@firm.org")
    samples = [sample(text, split) for text, split in zip(texts, SPLITS, strict=True)]
    drops, kept = cleaned(tmp_path, samples, rules=["gopher"])
    (masked,) = (s for s in kept if "<email>" in s.text)
    assert drops == {sample_id("text", "", masked.text, "", ""): f"exact_duplicate: 1.00 (of {masked.id}) against 1.00"}
    drops, _ = cleaned(tmp_path, samples, "drop", rules=["gopher"], personal="drop")
    assert set(drops.values()) == {"personal_data: 1 email against 0"} and len(drops) == 2
