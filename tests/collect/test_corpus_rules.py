"""The rules of `collect.clean` that look at a text beside all others: lines that many share, and unusual characters."""

import itertools
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from test_published_rules import SPLITS, cleaned, prose, run_in, sample

from volant.core.artifact import Dataset
from volant.modalities import text_corpus
from volant.modalities.text_corpus_kernel import ASCII, BLANK, KINDS, LATIN, LATIN_MARK, OTHER, OTHER_MARK
from volant.stages import collect
from volant.store import dataset as store

MENU = ["Home", "About us", "Contact (0)"]
SENTENCES = [
    line.split("\t")
    for line in Path(__file__).parents[2].joinpath("bench", "languages.tsv").read_text("utf-8").splitlines()
]


def test_lines_that_many_share_go_from_the_ends_of_all_but_the_first(tmp_path):
    tops = itertools.cycle([MENU, [" home ", "", *MENU[1:]]])
    texts = [
        "\n".join([*top, *prose(i, 4), MENU[0], *prose(i + 20, 4), f"Copyright {i}."])
        for i, top in zip(range(7), tops, strict=False)
    ]
    samples = [sample(text, split) for text, split in zip(texts, SPLITS, strict=False)]
    samples += [sample("\n".join(MENU)), sample("\n".join(prose(30)))]
    wanted = {"thresholds": {"corpus_line_records": 6}}
    drops, kept = cleaned(tmp_path, samples, rules=["gopher", "corpus"], **wanted)
    assert drops == {samples[7].id: "gopher_top_2: 0.4 against 0.2"}
    by_parent = {(s.parents or [s.id])[0]: s for s in kept}
    assert by_parent[samples[0].id].text == texts[0]  # the test record came first: it keeps them
    for number in range(1, 7):
        found = by_parent[samples[number].id]
        assert found.text == "\n".join([*prose(number, 4), MENU[0], *prose(number + 20, 4)])
        assert found.attrs == {"lines_shared": 4}
    drops, kept = cleaned(tmp_path, samples, "own", rules=["corpus"], **wanted)
    assert drops == {samples[7].id: "corpus_shared_lines: 1 against 0.5"}
    drops, kept = cleaned(tmp_path, samples, "many", rules=["gopher", "corpus"])
    assert not any(s.parents for s in kept)


def test_lines_of_copies_are_not_shared_ones(tmp_path):
    """A menu of many pages goes; a text of which there are many copies stays once, whole."""
    often = prose(40, 12)
    copies = ["\n".join([*often[:at], f"Row {at} is another one now.", *often[at + 1 :]]) for at in range(12)]
    copies += ["\n".join(often)] * 3
    menus = ["\n".join([*MENU, *prose(at, 4)]) for at in range(12)]
    texts = itertools.zip_longest([*menus, *copies], SPLITS, fillvalue="train")
    samples = [sample(text, split) for text, split in texts]
    drops, kept = cleaned(tmp_path, samples, rules=["corpus"], personal="keep")
    stayed = [one.text for one in kept]
    assert [text for text in stayed if often[0] in text or often[1] in text] == [copies[0]]
    assert sum(text.startswith(MENU[0]) for text in stayed) == 1
    assert not any(drop.startswith("corpus") for drop in drops.values())


def test_misread_letters_are_dropped_and_a_language_of_its_own_is_not(tmp_path):
    dice = random.Random(0)
    texts = ["\n".join(prose(i)) for i in range(40)]
    misread = "".join(dice.choice("rn1lI|0OQ.,;:~^_") if dice.random() < 0.3 else c for c in texts[5])
    foreign = " ".join(text for code, text in SENTENCES if code == "cs")
    samples = [sample(text, split) for text, split in itertools.zip_longest(texts, SPLITS, fillvalue="train")]
    samples += [sample(misread), sample(foreign)]
    wanted = {"thresholds": {"corpus_surprise": 2.5}}  # so few words make a corpus of little surprise
    drops, _ = cleaned(tmp_path, samples, rules=["corpus"], personal="keep", **wanted)
    assert list(drops) == [samples[40].id]
    assert drops[samples[40].id].startswith("corpus_surprise: ") and drops[samples[40].id].endswith(" against 2.5")
    assert cleaned(tmp_path, samples, "off", personal="keep")[0] == {}


def test_a_forgotten_record_says_nothing_of_the_others(tmp_path):
    samples = [sample("\n".join([*MENU, *prose(i)]), split) for i, split in enumerate(SPLITS)]
    samples.append(sample("\n".join([*MENU, *prose(40)])))
    data = run_in(tmp_path, "data")
    with store.writer(data.out) as out:
        out.write_all(samples)
    left = {}
    for step, gone in (("all", ()), ("gone", [samples[-1].id]), ("never", ())):
        if step == "never":
            data = run_in(tmp_path, "less")
            with store.writer(data.out) as out:
                out.write_all(samples[:-1])
        run = run_in(tmp_path, step, forgotten=frozenset(gone))
        collect.clean(run, Dataset(data.out), rules=["corpus"], thresholds={"corpus_line_records": len(SPLITS)})
        left[step] = sorted(s.text for s in store.rows(Dataset(run.out)))
    assert left["gone"] == left["never"] != left["all"] and all(text.startswith("Home") for text in left["gone"])


def test_row_groups_threads_and_a_second_run_change_nothing(tmp_path):
    samples = [sample("\n".join([*MENU, *prose(i)]), split) for i, split in enumerate(SPLITS * 3)]
    found = []
    for number, (rows, threads) in enumerate([(27, 1), (9, 1), (9, 2)]):
        pieces = []
        for at in range(0, 27, rows):
            pieces.append(run_in(tmp_path, f"data{number}-{at}").out)
            with store.writer(pieces[-1]) as out:
                out.write_all(samples[at : at + rows])
        run = run_in(tmp_path, f"clean{number}", threads=threads)
        collect.clean(run, *map(Dataset, pieces), rules=["corpus"])
        found.append(sorted((s.id, s.text) for s in store.rows(Dataset(run.out))))
    assert found[0] == found[1] == found[2] and sum(text.startswith("Home") for _, text in found[0]) == 1
    again = run_in(tmp_path, "again")
    for looked in run.work.glob("corpus-*"):  # what a killed run had looked at
        looked.rename(again.work / looked.name)
    collect.clean(again, *map(Dataset, pieces), rules=["corpus"])
    assert sorted((s.id, s.text) for s in store.rows(Dataset(again.out))) == found[0]


def kinds_of(text):
    """As the loops say it, by `str` alone."""
    for _, run in itertools.groupby(text, key=lambda c: c.isspace() or (c < "\x80" and ASCII[ord(c)] == BLANK)):
        for c in run:
            if c < "\x80":
                kind = int(ASCII[ord(c)])
            elif c.isspace():
                kind = BLANK
            elif c < "\u0250":
                kind = LATIN if c.isalpha() else LATIN_MARK
            else:
                kind = OTHER if c.isalnum() else OTHER_MARK
            yield kind
            if kind == BLANK:
                break


def runs_of(text):
    before = (BLANK, BLANK)
    for kind in kinds_of(text):
        if not (kind == BLANK == before[1]):
            yield (*before, kind)
            before = (before[1], kind)


TEXTS = [" ".join(t for _, t in SENTENCES[at : at + 4]) for at in range(0, 96, 4)] + [
    "x = {'a': 3.25}\n\n\t# naïve “q”" * 9
]


@pytest.mark.parametrize("of", [slice(0, 8), slice(0, 25)])
def test_bits_a_character_are_those_of_plain_python(of):
    array = pa.array(TEXTS, pa.large_string())
    learned = array[of]
    three = Counter(run for text in TEXTS[of] for run in runs_of(text))
    two, one = Counter(), Counter()
    for run, times in three.items():
        two[run[1:]] += times
        one[run[2]] += times
    after_two, after_one = Counter(), Counter()
    for (a, b, c), times in three.items():
        after_two[a, b] += times
        after_one[b] += times

    def bits(a, b, c):
        share = (one[c] + 1) / (one.total() + KINDS)
        share = (two[b, c] + 8 * share) / (after_one[b] + 8)
        return -math.log2((three[a, b, c] + 8 * share) / (after_two[a, b] + 8))

    corpus = text_corpus.Corpus(
        np.zeros(0, np.uint64),
        np.zeros(0, np.int64),
        text_corpus.bits(text_corpus.triples(learned)),
        frozenset(),
        0.5,
        99.0,
    )
    for text, value in zip(TEXTS, text_corpus.surprise(array, corpus), strict=True):
        runs = list(runs_of(text))
        told = [bits(*run) for run in runs if run[2] != OTHER]
        wanted = sum(told) / len(told) if len(told) >= 64 and 2 * len(told) >= len(runs) else 0.0
        assert value == pytest.approx(wanted, abs=1e-5)
