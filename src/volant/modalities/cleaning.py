"""Records judged each by itself, a table at a time: checks, quality rules, personal data, and what likeness stands on.

In go rows of a dataset's schema; out come the same rows, some with another text, what drops each of them, and keys and
sketches by which rows are compared later. A plain text is looked at in columns and never made a Sample of; of other
shapes Samples are made for the modality's checks, and where a text changes. The order is that of `collect.clean`: what
a rule dropped is neither changed nor compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from volant.core.sample import Sample
from volant.modalities.minhash import LENGTH, signatures
from volant.modalities.personal import masked_all
from volant.modalities.quality import Rules, broken_answer, broken_rule
from volant.modalities.record_columns import Places, at, contents, equal_keys, plain_texts, put_rows, put_texts, strings
from volant.modalities.sample_texts import texts_of, with_texts
from volant.modalities.text_arrays import answer_array, text_array
from volant.modalities.text_features import features, likeness, trimmed
from volant.modalities.text_rules import Rule, broken
from volant.modalities.text_shapes import MAX_CHARS
from volant.store.dataset import from_table, to_table

# Something that is no white space to Python: RE2's own class knows ASCII's alone.
_SAYS = r"[^\s\x0b\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"


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
    """

    modality: Any
    own: Rules
    presets: Sequence[str]
    rules: Sequence[Rule]
    personal: str
    remembered: Callable[[Sample], Sample]
    forgotten: frozenset[str] = frozenset()


@dataclass
class Judged:
    """A table of N records and what was found of each.

    Attributes:
        table: the rows, with what is left of the forgotten, feedback in train.
        drop: why each goes, by its place.
        changed: places of rows that say something else than they did.
        key_N2: equal for equal rows; see `record_columns.equal_keys`.
        mark_NP: sketches [N, P] of texts and fingerprints of pictures, zeros where there is none.
    """

    table: pa.Table
    drop: dict[int, str] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    key_N2: NDArray[np.uint64] = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    mark_NP: NDArray[np.uint32] = field(default_factory=lambda: np.zeros((0, LENGTH), np.uint32))

    def alive(self, among: NDArray[np.bool_] | None = None) -> Places:
        """Places of the rows that nothing drops."""
        kept = np.ones(self.table.num_rows, bool) if among is None else among.copy()
        kept[list(self.drop)] = False
        return np.flatnonzero(kept)


def placed(table: pa.Table, how: How) -> pa.Table:
    """The rows as they are judged: feedback only trains, and of what was to be forgotten only its name is left."""
    moved = pc.and_(
        pc.equal(pc.struct_field(table["source"], "origin"), "feedback"), pc.not_equal(table["split"], "train")
    )
    if pc.any(moved, min_count=0).as_py():
        number = table.schema.get_field_index("split")
        split = pc.if_else(moved, "train", table["split"])
        table = table.set_column(number, table.schema.field(number), split)
    if how.forgotten:
        gone = np.flatnonzero(np.asarray(pc.is_in(table["id"], pa.array(sorted(how.forgotten)))))
        left = (
            to_table(how.remembered(sample) for sample in from_table(table.take(pa.array(gone)))) if len(gone) else None
        )
        table = put_rows(table, gone, left) if left else table
    return table


def judged(table: pa.Table, how: How) -> Judged:
    """Judge rows of the schema."""
    found = Judged(placed(table, how))
    for place in np.flatnonzero(np.asarray(pc.not_equal(found.table["drop"], ""))).tolist():
        found.drop[place] = found.table["drop"][place].as_py()
    plain_N = plain_texts(found.table)
    _check(found, plain_N, how)
    _by_own_rules(found, how)
    if how.presets:
        _by_published_rules(found, plain_N, how)
    if how.personal != "keep":
        _without_personal(found, plain_N, how)
    _compare(found, plain_N, how)
    return found


def _check(found: Judged, plain_N: NDArray[np.bool_], how: How) -> None:
    """Ask the modality of every row that is not plainly a text without fault."""
    sound_N = np.zeros(found.table.num_rows, bool)
    places = found.alive(plain_N) if how.modality.name == "text" else np.zeros(0, np.int64)
    if len(places):
        texts = at(strings(found.table["content"]), places)
        fault = pc.or_(pc.match_substring(texts, "\0"), pc.greater(pc.binary_length(texts), MAX_CHARS))
        sound_N[places] = np.asarray(pc.and_not(pc.match_substring_regex(texts, _SAYS), fault))
    others = found.alive(~sound_N)
    for place, sample in zip(others.tolist(), _samples(found, others), strict=True):
        problems = how.modality.check(sample)
        if problems:
            found.drop[place] = f"check: {problems[0]} against none"


def _by_own_rules(found: Judged, how: How) -> None:
    shapes = np.asarray(pc.equal(found.table["shape"], "text"))
    places = found.alive(~contents(found.table) & (~shapes if how.presets else True))
    if not len(places):
        return
    rows = found.table.take(pa.array(places))
    for place, plain, text, answer in zip(
        places.tolist(), shapes[places].tolist(), text_array(rows).to_pylist(), answer_array(rows).to_pylist(),
        strict=True,
    ):  # fmt: skip
        drop = broken_rule(text, how.own) if plain else broken_answer(text, answer, how.own)
        if drop:
            found.drop[place] = drop


def _by_published_rules(found: Judged, plain_N: NDArray[np.bool_], how: How) -> None:
    """Drop plain texts by published rules, and take out the rows that C4 does not keep."""
    places = found.alive(plain_N)
    texts = at(strings(found.table["content"]), places)
    for number, drop in broken(features(texts), how.rules).items():
        found.drop[int(places[number])] = drop
    if not {"c4", "c4_loose"} & set(how.presets):
        return
    places = found.alive(plain_N)
    texts = at(strings(found.table["content"]), places)
    after, went_N = trimmed(texts, punctuation="c4" in how.presets)
    other = np.flatnonzero(np.asarray(pc.not_equal(after, texts)))
    _put(found, places[other], at(after, other), [{"rows_dropped": n} for n in went_N[other].tolist()])


def _without_personal(found: Judged, plain_N: NDArray[np.bool_], how: How) -> None:
    """Mask or drop what says who somebody is."""
    places = found.alive(plain_N)
    after, counts = masked_all(at(strings(found.table["content"]), places))
    total_N = np.sum([np.asarray(n) for n in counts.values()], axis=0)
    holding = np.flatnonzero(total_N)
    sums = [{kind: counts[kind][i].as_py() for kind in counts if counts[kind][i].as_py()} for i in holding.tolist()]
    if how.personal == "drop":
        found.drop |= {int(place): _told(own) for place, own in zip(places[holding], sums, strict=True)}
    else:
        _put(found, places[holding], at(after, holding), [{"masked": own} for own in sums])
    places = found.alive(~plain_N)
    samples = list(_samples(found, places))
    changed: list[tuple[int, Sample]] = []
    for place, sample, (texts, own) in zip(
        places.tolist(), samples, _masked([texts_of(s) for s in samples]), strict=True
    ):
        if own and how.personal == "drop":
            found.drop[place] = _told(own)
        elif own:
            changed.append((place, with_texts(sample, texts, masked=own)))
    if changed:
        where = np.array([place for place, _ in changed])
        found.table = put_rows(found.table, where, to_table(sample for _, sample in changed))
        found.changed.update(where.tolist())


def _told(found: Mapping[str, int]) -> str:
    return f"personal_data: {', '.join(f'{n} {kind}' for kind, n in sorted(found.items()))} against 0"


def _masked(texts: Sequence[Sequence[str]]) -> Iterator[tuple[list[str], dict[str, int]]]:
    """The texts of each sample, masked, and how many of each kind were found in them."""
    flat, counts = masked_all(pa.array([text for own in texts for text in own], pa.large_string()))
    rows = zip(flat.to_pylist(), *(values.to_pylist() for values in counts.values()), strict=True)
    for own in texts:
        found = [next(rows) for _ in own]
        sums = {kind: sum(row[1 + number] for row in found) for number, kind in enumerate(counts)}
        yield [row[0] for row in found], {kind: n for kind, n in sums.items() if n}


def _compare(found: Judged, plain_N: NDArray[np.bool_], how: How) -> None:
    """Keys of all rows, sketches of texts, fingerprints of pictures."""
    table = found.table
    content_N = contents(table)
    texts = text_array(table)
    alike = likeness(texts)
    found.key_N2 = equal_keys(table, alike if plain_N.all() else None)
    found.mark_NP = signatures(alike.words)
    found.mark_NP[content_N] = 0
    pictures = found.alive(np.asarray(pc.equal(table["shape"], "media")))
    for place, sample in zip(pictures.tolist(), _samples(found, pictures), strict=True):
        found.mark_NP[place] = np.asarray(how.modality.fingerprint(sample)).astype(np.uint32)


def _put(found: Judged, places: Places, texts: pa.LargeStringArray, attrs: Sequence[Mapping[str, Any]]) -> None:
    found.table = put_texts(found.table, places, texts, attrs)
    found.changed.update(places.tolist())


def _samples(found: Judged, places: Places) -> Iterator[Sample]:
    return from_table(found.table.take(pa.array(places))) if len(places) else iter(())
