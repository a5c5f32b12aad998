"""Records judged each by itself, a table at a time: checks, quality rules, personal data, and what likeness stands on.

In go rows of a dataset's schema. `tagged` reads their texts once and finds features, what C4 leaves of each text, and
keys, sketches and words by which rows are compared later: whatever the thresholds are. `decided` and `decided_here`
drop by features alone, and `masked` looks at what is left. A plain text is looked at in columns and never made a Sample
of; of other shapes Samples are made for the modality's checks, and where a text changes. What a rule dropped is neither
changed nor compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from volant.core.sample import Sample
from volant.modalities.minhash import LENGTH, signatures
from volant.modalities.personal import masked_all
from volant.modalities.quality import FIGURES, Rules, answer_figures, broken_figures, figures
from volant.modalities.record_columns import (
    Places,
    at,
    contents,
    equal_keys,
    new_columns,
    of_origin,
    plain_keys,
    plain_texts,
    put_rows,
    put_texts,
)
from volant.modalities.sample_texts import texts_of, with_texts
from volant.modalities.text_arrays import answer_array, text_array, text_column
from volant.modalities.text_corpus import Corpus, own_spans, surprise
from volant.modalities.text_features import Feature, Likeness, Reading, Rows, WordKind, columns_of, likeness
from volant.modalities.text_features import read as read_texts
from volant.modalities.text_rules import Rule, broken, trims_first
from volant.modalities.text_shapes import MAX_CHARS
from volant.modalities.words import Words, joined_words
from volant.store import arrow_functions as pc
from volant.store.arrow_values import numbers, one, strings, values
from volant.store.dataset import from_table, to_table


@dataclass(frozen=True)
class How:
    """By what records are judged.

    Attributes:
        modality: of the goal, whose `check` is asked.
        own: thresholds for plain texts where no published set judges them, and for answers.
        presets, rules: published sets, and their rules.
        personal: `mask`, `drop` or `keep`.
        remembered: gives a Sample, or what is left of one that was to be forgotten.
        forgotten: ids of those.
        corpus: what all the records say of each plain text; None where no rule asks.
        words: what a word is to published rules; see `text_words`.
    """

    modality: Any
    own: Rules
    presets: Sequence[str]
    rules: Sequence[Rule]
    personal: str
    remembered: Callable[[Sample], Sample]
    forgotten: frozenset[str] = frozenset()
    corpus: Corpus | None = None
    words: WordKind = "whitespace-1"


@dataclass
class Tagged:
    """A table of N records and what was found of each, whatever the thresholds on features are.

    Attributes:
        table: the rows, with what is left of the forgotten, feedback in train; their texts as they came.
        drop: why some go already, by place: as they came, by the modality's checks.
        plain_N: which are plain texts.
        figure_NF: what was counted of plain texts, see `text_features.columns_of`; zeros of others, and no column
            where no published rule asks.
        own_NF: what `quality` counted of texts and answers that its rules judge, NaN of others.
        place_C, changed: plain texts of which rows go where the record stays, and their new columns.
        key_N2: equal for equal rows; see `record_columns.equal_keys`.
        mark_NP: sketches [N, P] of texts and fingerprints of pictures, zeros where there is none.
        words: of likeness, of what the records say if they stay.
        beside_N2: of plain texts, the share in shared lines and the surprise (`text_corpus`); None if no rule asks.
    """

    table: pa.Table
    drop: dict[int, str]
    plain_N: NDArray[np.bool_]
    figure_NF: NDArray[np.int64]
    own_NF: NDArray[np.float64]
    place_C: Places
    changed: pa.Table
    key_N2: NDArray[np.uint64]
    mark_NP: NDArray[np.uint32]
    words: Words
    beside_N2: NDArray[np.float64] | None = None

    def alive(self, among: NDArray[np.bool_] | None = None) -> Places:
        """Places of the rows that nothing drops."""
        return alive(self.table.num_rows, self.drop, among)


def alive(count: int, drop: Mapping[int, str], among: NDArray[np.bool_] | None = None) -> Places:
    """Places of the rows that nothing drops."""
    kept = np.ones(count, bool) if among is None else among.copy()
    kept[list(drop)] = False
    return np.flatnonzero(kept)


def placed(table: pa.Table, how: How, first: int = 0) -> pa.Table:
    """The rows as they are judged: feedback only trains, and of what was to be forgotten only its name is left.

    Args:
        first: the number of the first row; plain texts lose lines that earlier records have.
    """
    moved = of_origin(table, "feedback") & values(pc.not_equal(table["split"], one("train")))
    if moved.any():
        number = table.schema.get_field_index("split")
        split = pc.if_else(numbers(moved), one("train"), table["split"])
        table = table.set_column(number, table.schema.field(number), split)
    if how.forgotten:
        gone = np.flatnonzero(np.asarray(pc.is_in(table["id"], pa.array(sorted(how.forgotten)))))
        left = (
            to_table(how.remembered(sample) for sample in from_table(table.take(pa.array(gone)))) if len(gone) else None
        )
        table = put_rows(table, gone, left) if left else table
    if how.corpus:
        places = np.flatnonzero(plain_texts(table))
        _, left, went_N = own_spans(at(text_column(table["content"]), places), first + places, how.corpus)
        places, attrs = places[went_N > 0], [{"lines_shared": n} for n in went_N[went_N > 0].tolist()]
        table = put_texts(table, places, pa.array(left, pa.large_string()), attrs)
    return table


def tagged(table: pa.Table, how: How, first: int = 0) -> Tagged:
    """Find all there is to be found of rows of the schema before a threshold decides: their texts are read once.

    What only published rules ask for is counted where there are some: the loops that count it take half a minute to
    compile on a new machine.
    """
    table = placed(table, how, first)
    count = table.num_rows
    drops = table["drop"].to_pylist()
    drop = {place: drops[place] for place in np.flatnonzero(values(pc.not_equal(table["drop"], one("")))).tolist()}
    plain_N = plain_texts(table)
    places = alive(count, drop, plain_N)
    texts = at(text_column(table["content"]), places)
    sets = {"c4", "c4_loose"} & set(how.presets)
    rows: Rows = "all" if not sets else "c4" if "c4" in sets else "c4_loose"
    read = read_texts(texts, rows=rows, words=how.words) if how.presets else None
    figure_NF = np.zeros((count, read.figure_NF.shape[1] if read else 0), np.int64)
    said, other, attrs = texts, np.zeros(0, np.int64), list[dict[str, int]]()
    if read:
        figure_NF[places] = read.figure_NF
    if read and read.kept is not None:
        said = read.kept
        other = np.flatnonzero(values(pc.not_equal(said, texts)))
        attrs = [{"rows_dropped": n} for n in read.went_N[other].tolist()]
    changed = new_columns(table, places[other], at(said, other), attrs)
    alike = read.likeness if read else likeness(texts)
    key_N2, mark_NP, words = _compared(table, places, said, alike)
    own_NF = np.full((count, len(FIGURES)), np.nan)
    found = Tagged(table, drop, plain_N, figure_NF, own_NF, places[other], changed, key_N2, mark_NP, words)
    sound_N = np.zeros(count, bool)
    if how.modality.name == "text":
        sound_N[places] = _sound(texts, read, alike)
    _check(found, sound_N, how)
    _count_for_own_rules(found, how)
    if how.corpus:
        found.beside_N2 = np.zeros((count, 2))
        found.beside_N2[places, 0] = own_spans(texts, first + places, how.corpus)[0]
        found.beside_N2[places, 1] = surprise(texts, how.corpus)
    return found


def decided(found: NDArray[np.int64], places: Places, how: How) -> dict[int, str]:
    """What published rules drop of the plain texts at these places, by their figures alone."""
    if not len(places):
        return {}
    return _broken(places, columns_of(found[places], left=trims_first(how.presets)), how.rules)


def decided_here(own_NF: NDArray[np.float64], text_N: NDArray[np.bool_], rules: Rules) -> dict[int, str]:
    """What the rules of `quality` drop of the texts (and, where they are none, answers) that were counted for them."""
    places = np.flatnonzero(~np.isnan(own_NF[:, 0]))
    found = broken_figures(own_NF[places], ~text_N[places], rules)
    return {int(places[number]): drop for number, drop in found.items()}


def beside(found_N2: NDArray[np.float64], places: Places, rules: Sequence[Rule]) -> dict[int, str]:
    """What the corpus drops of the plain texts at these places."""
    return _broken(places, {"shared": found_N2[places, 0], "surprise": found_N2[places, 1]}, rules)


def _broken(places: Places, columns: Mapping[str, Feature], rules: Sequence[Rule]) -> dict[int, str]:
    """What drops the texts at these places by the rules that look at one of these columns."""
    own = [rule for rule in rules if rule.feature in columns]
    return {int(places[number]): drop for number, drop in broken(columns, own).items()}


def _compared(
    table: pa.Table, places: Places, said: pa.LargeStringArray, plain: Likeness
) -> tuple[NDArray[np.uint64], NDArray[np.uint32], Words]:
    """Keys, sketches and words of all rows, of which plain texts at `places` were read."""
    if len(places) == table.num_rows:
        return plain_keys(said, plain), signatures(plain.words), plain.words
    count = table.num_rows
    key_N2, mark_NP = np.zeros((count, 2), np.uint64), np.zeros((count, LENGTH), np.uint32)
    key_N2[places], mark_NP[places] = plain_keys(said, plain), signatures(plain.words)
    rest = np.setdiff1d(np.arange(count), places)
    others = pc.take(table, numbers(rest))
    words = likeness(text_array(others)).words
    key_N2[rest], mark_NP[rest] = equal_keys(others), signatures(words)
    mark_NP[contents(table)] = 0
    return key_N2, mark_NP, joined_words([(places, plain.words), (rest, words)], count)


def _sound(texts: pa.LargeStringArray, read: Reading | None, alike: Likeness) -> NDArray[np.bool_]:
    """Which texts are plainly without fault; of the others the modality is asked."""
    small_N = values(pc.binary_length(texts)) <= MAX_CHARS
    if read:
        found = read.features
        return np.asarray((found["words"] > 0) & (found["nuls"] == 0) & small_N)
    return np.asarray((np.diff(alike.words.begin_N) > 0) & ~values(pc.match_substring(texts, "\0")) & small_N)


def _check(found: Tagged, sound_N: NDArray[np.bool_], how: How) -> None:
    """Ask the modality of every row that is not plainly a text without fault; pictures leave their fingerprints."""
    others = found.alive(~sound_N)
    for place, sample in zip(others.tolist(), _samples(found.table, others), strict=True):
        problems = how.modality.check(sample)
        if problems:
            found.drop[place] = f"check: {problems[0]} against none"
        elif sample.shape == "media":
            found.mark_NP[place] = np.asarray(how.modality.fingerprint(sample)).astype(np.uint32)


def _count_for_own_rules(found: Tagged, how: How) -> None:
    shapes = values(pc.equal(found.table["shape"], one("text")))
    places = found.alive(~contents(found.table) & (~shapes if how.presets else True))
    if not len(places):
        return
    rows = pc.take(found.table, numbers(places))
    texts = zip(shapes[places].tolist(), text_array(rows).to_pylist(), answer_array(rows).to_pylist(), strict=True)
    found.own_NF[places] = [figures(text) if plain else answer_figures(text, answer) for plain, text, answer in texts]


@dataclass
class Masked:
    """Records in which personal data was found.

    Attributes:
        drop: why they go, by place, where that is asked for.
        places, table: those that stay, masked.
        key_N2, mark_NP, words: of these.
    """

    drop: dict[int, str]
    places: Places
    table: pa.Table
    key_N2: NDArray[np.uint64]
    mark_NP: NDArray[np.uint32]
    words: Words


def masked(table: pa.Table, places: Places, how: How) -> Masked:
    """Mask or drop what says who somebody is, in rows at these places of a table that has changed already."""
    drop: dict[int, str] = {}
    rows = pc.take(table, numbers(places))
    plain_N = plain_texts(rows)
    plain, others = np.flatnonzero(plain_N), np.flatnonzero(~plain_N)
    texts, sums = masked_sums(at(text_column(rows["content"]), plain))
    holding = np.array([i for i, own in enumerate(sums) if own], np.int64)
    changed: list[tuple[int, Sample]] = []
    samples = list(_samples(rows, others))
    for place, sample, (after, own) in zip(
        others.tolist(), samples, _masked([texts_of(s) for s in samples]), strict=True
    ):
        if own:
            drop[place] = _told(own)
            changed.append((place, with_texts(sample, after, masked=own)))
    drop |= {int(plain[i]): _told(sums[i]) for i in holding.tolist()}
    if how.personal == "drop" or not drop:
        none = rows.slice(0, 0)
        return Masked({int(places[at]): why for at, why in drop.items()}, places[:0], none, *_likened(none))
    rows = put_texts(rows, plain[holding], at(texts, holding), [{"masked": sums[i]} for i in holding.tolist()])
    if changed:
        rows = put_rows(rows, np.array([at for at, _ in changed]), to_table(sample for _, sample in changed))
    touched = np.array(sorted(drop), np.int64)
    rows = pc.take(rows, numbers(touched))
    return Masked({}, places[touched], rows, *_likened(rows))


def _likened(rows: pa.Table) -> tuple[NDArray[np.uint64], NDArray[np.uint32], Words]:
    words = likeness(text_array(rows)).words
    return equal_keys(rows), signatures(words), words


def masked_sums(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, list[dict[str, int]]]:
    """The texts, masked, and how many of each kind were found in each."""
    after, counts = masked_all(texts)
    held_N = np.sum([values(n) for n in counts.values()], axis=0) > 0
    sums: list[dict[str, int]] = [{} for _ in range(len(texts))]
    for i in np.flatnonzero(held_N).tolist():
        sums[i] = {kind: counts[kind][i].as_py() for kind in counts if counts[kind][i].as_py()}
    return after, sums


def _told(found: Mapping[str, int]) -> str:
    return f"personal_data: {', '.join(f'{n} {kind}' for kind, n in sorted(found.items()))} against 0"


def _masked(texts: Sequence[Sequence[str]]) -> Iterator[tuple[list[str], dict[str, int]]]:
    """The texts of each sample, masked, and how many of each kind were found in them."""
    flat, counts = masked_all(strings((text for own in texts for text in own), pa.large_string()))
    rows = zip(flat.to_pylist(), *(values.to_pylist() for values in counts.values()), strict=True)
    for own in texts:
        found = [next(rows) for _ in own]
        sums = {kind: sum(row[1 + number] for row in found) for number, kind in enumerate(counts)}
        yield [row[0] for row in found], {kind: n for kind, n in sums.items() if n}


def _samples(table: pa.Table, places: Places) -> Iterator[Sample]:
    return from_table(pc.take(table, numbers(places))) if len(places) else iter(())
