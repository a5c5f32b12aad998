"""`collect.split` deals whole units: groups and near duplicates, by hash or by time, as they were dealt before."""

import json
import random

import pytest

from volant.core.artifact import Dataset, payload_digest
from volant.core.errors import DataError, SettingError
from volant.core.run import Run
from volant.core.sample import Sample, Source, sample_id
from volant.stages import collect
from volant.store import dataset as store

WORDS = [f"word{i}" for i in range(4000)]


def text(dice, count=60):
    return " ".join(dice.choice(WORDS) for _ in range(count))


def changed(told, dice, count=1):
    words = told.split()
    for at in dice.sample(range(len(words)), count):
        words[at] = "other"
    return " ".join(words)


def sample(content, *, group="", **more):
    source = Source(uri="t", licence="MIT", collected_at=more.pop("at", ""), origin=more.pop("origin", "human"))
    own = sample_id(content, group)
    return Sample(id=own, shape="text", source=source, content=content, group=group or own, **more)


def made(folder, samples, step="made", modality="text"):
    (folder / step).mkdir(parents=True)
    with store.writer(folder / step, modality=modality) as out:
        out.write_all(samples)
    return Dataset(folder / step)


def dealt(folder, samples, step="split", *, data=None, modality="text", **settings):
    run = Run(step=step, out=folder / step, work=folder / f"{step}-work", modality=modality)
    run.out.mkdir(parents=True)
    run.work.mkdir()
    result = collect.split(run, data or made(folder, samples, f"{step}-made", modality), **settings)
    return list(store.rows(result)), run, result


def families(dice, count=120, copies=2):
    """Texts, each with copies of which one word in sixty is changed; every one is a group of its own."""
    bases = [text(dice) for _ in range(count)]
    return [[sample(base), *(sample(changed(base, dice)) for _ in range(copies))] for base in bases]


def test_no_cluster_lies_in_two_splits(tmp_path):
    dice = random.Random(1)
    found = families(dice)
    rows, run, _ = dealt(tmp_path, [one for family in found for one in family])
    split_of = {row.id: row.split for row in rows}
    assert all(len({split_of[one.id] for one in family}) == 1 for family in found)
    counts = [sum(split_of[family[0].id] == split for family in found) for split in ("train", "validation", "test")]
    assert sum(counts) == 120 and counts[0] > 80 and min(counts) >= 4
    cluster_of = {row.id: row.attrs["cluster"] for row in rows}
    assert all({cluster_of[one.id] for one in family} == {min(one.id for one in family)} for family in found)
    assert next(score.value for score in run.watcher.scores if score.name == "alike_share") == 1.0
    alone, _, _ = dealt(tmp_path, [one for family in found for one in family], "alone", near=1.0)
    split_of = {row.id: row.split for row in alone}
    assert sum(len({split_of[one.id] for one in family}) > 1 for family in found) > 30  # what would have leaked


def test_groups_and_what_resembles_one_of_them_stay_together(tmp_path):
    dice = random.Random(2)
    base = text(dice)
    chain = [sample(text(dice), group="a"), sample(base, group="a"), sample(changed(base, dice), group="b"),
             sample(text(dice), group="b")]  # fmt: skip
    others = [sample(text(dice)) for _ in range(40)]
    rows, _, _ = dealt(tmp_path, [*chain, *others])
    split_of = {row.id: row.split for row in rows}
    assert len({split_of[one.id] for one in chain}) == 1
    assert {row.id: row.attrs for row in rows}[chain[0].id] == {}


def test_the_deal_depends_on_the_records_alone(tmp_path):
    dice = random.Random(3)
    flat = [one for family in families(dice, 60) for one in family]
    first, run, result = dealt(tmp_path, flat)
    again, _, same = dealt(tmp_path, flat, "again")
    assert payload_digest(result.path) == payload_digest(same.path)
    dice.shuffle(flat)
    shuffled, _, _ = dealt(tmp_path, flat, "shuffled")
    assert {row.id: row.split for row in first} == {row.id: row.split for row in shuffled}


def test_more_data_move_no_unit_that_nothing_joins(tmp_path):
    dice = random.Random(11)
    known = families(dice, 60)
    before, _, _ = dealt(tmp_path, [one for family in known for one in family])
    joining = [sample(changed(known[0][0].content, dice))]
    new = [one for family in families(dice, 60) for one in family]
    after, _, _ = dealt(tmp_path, [*new, *joining, *(one for family in known for one in family)], "after")
    split_of = {row.id: row.split for row in after}
    untouched = {one.id for family in known[1:] for one in family}
    assert all(split_of[row.id] == row.split for row in before if row.id in untouched)
    assert len({split_of[one.id] for one in [*joining, *known[0]]}) == 1


def test_an_earlier_deal_is_kept_whatever_joins_it(tmp_path):
    dice = random.Random(5)
    bases = [text(dice) for _ in range(90)]
    before, _, earlier = dealt(tmp_path, [sample(base) for base in bases], salt="other")
    more = [sample(changed(base, dice)) for base in bases]
    after, run, _ = dealt(tmp_path, [*(sample(base) for base in bases), *more], "after", earlier=earlier)
    split_of = {row.id: row.split for row in after}
    assert all(split_of[row.id] == row.split for row in before)
    assert all(split_of[b.id] == split_of[sample(base).id] for b, base in zip(more, bases, strict=True))
    assert "90 of 90 units keep the split they had" in run.watcher.lines


def test_a_record_that_joins_two_splits_draws_them_to_the_one_that_was_seen(tmp_path):
    dice = random.Random(6)
    base = text(dice, 80)
    left, right = " ".join(base.split()[:60]), " ".join(base.split()[20:])
    rest = [sample(text(dice), split="train") for _ in range(10)]
    ends = [sample(left, split="test"), sample(right, split="validation"), sample(text(dice), split="test"),
            sample(text(dice), split="validation")]  # fmt: skip
    earlier = made(tmp_path, [*rest, *ends], "earlier")
    after, run, _ = dealt(tmp_path, [*rest, *ends, sample(base)], "after", earlier=earlier)
    split_of = {row.id: row.split for row in after}
    assert {split_of[one.id] for one in (ends[0], ends[1], sample(base))} == {"validation"}
    assert split_of[ends[2].id] == "test"
    assert any("1 units join records of several earlier splits" in line for line in run.watcher.lines)


def test_time_gives_the_latest_to_test_and_no_cluster_to_two(tmp_path):
    dice = random.Random(7)
    days = [sample(text(dice), at=f"2026-01-{day:02}") for day in range(1, 31)]
    late_copy = sample(changed(days[0].content, dice), at="2026-02-20")
    rows, run, _ = dealt(tmp_path, [*days, late_copy], by="time", validation=0.2, test=0.1)
    split_of = {row.source.collected_at: row.split for row in rows}
    assert split_of["2026-02-20"] == "train"  # a copy of an old record tells nothing about new ones
    assert [split_of[f"2026-01-{day:02}"] for day in (1, 20, 22, 26, 27, 30)] == [
        "train", "train", "validation", "validation", "test", "test",
    ]  # fmt: skip
    assert any("test from 2026-01-27" in line for line in run.watcher.lines)
    fixed = {"validation_from": "2026-01-10", "test_from": "2026-01-20"}
    rows, _, _ = dealt(tmp_path, [*days, late_copy], "fixed", by="time", **fixed)
    assert sum(row.split == "test" for row in rows) == 11 and sum(row.split == "validation" for row in rows) == 10
    with pytest.raises(DataError, match="no unit falls into validation"):
        dealt(tmp_path, days, "wrong", by="time", validation_from="2026-02-01", test_from="2026-01-20")
    with pytest.raises(DataError, match="does not say when it came"):
        dealt(tmp_path, [*days, sample(text(dice))], "none", by="time")
    with pytest.raises(DataError, match="no ISO date"):
        dealt(tmp_path, [*days, sample(text(dice), at="last week")], "odd", by="time")


def test_a_column_groups(tmp_path):
    dice = random.Random(8)
    rows = [sample(text(dice), attrs={"author": f"a{i % 30}"} if i else {}) for i in range(200)]
    found, _, _ = dealt(tmp_path, rows, column="attrs.author")
    sides = {}
    for row in found:
        assert sides.setdefault(row.attrs.get("author"), row.split) == row.split
    with pytest.raises(SettingError, match="no 'autor'"):
        dealt(tmp_path, rows, "wrong", column="autor")


def row_of(number, **columns):
    content = json.dumps(columns, sort_keys=True)
    source = Source(uri="t", licence="MIT")
    return Sample(id=sample_id(content, str(number)), shape="row", source=source, content=content, group=f"g{number}")


def test_equal_rows_stay_together_and_near_ones_where_asked(tmp_path):
    rows = [row_of(i, shop=f"s{i // 2 % 40}", day=i // 2, price=float(i // 2), kind="x") for i in range(160)]
    found, _, _ = dealt(tmp_path, rows, modality="table")
    sides = {}
    for row in found:
        assert sides.setdefault(row.content, row.split) == row.split
    near = [row_of(i, **{f"c{k}": f"{i // 2} {k}" for k in range(9)}, last=i) for i in range(160)]
    apart, _, _ = dealt(tmp_path, near, "apart", modality="table")
    close, _, _ = dealt(tmp_path, near, "close", modality="table", near=0.85)

    def torn(rows):
        first = {}
        return sum(first.setdefault(json.loads(row.content)["c0"], row.split) != row.split for row in rows)

    assert torn(apart) > 10 and torn(close) == 0


def test_feedback_stays_in_train_and_dropped_records_with_their_group(tmp_path):
    dice = random.Random(9)
    base = [sample(text(dice), group=f"g{i}") for i in range(60)]
    feedback = [sample(changed(one.content, dice), origin="feedback") for one in base[:20]]
    gone = [sample(text(dice), group=f"g{i}", drop="min_words: 1 against 5") for i in range(60)]
    rows, _, result = dealt(tmp_path, [*base, *feedback, *gone])
    split_of = {row.group: row.split for row in rows if row.source.origin == "human"}
    assert {row.split for row in rows if row.source.origin == "feedback"} == {"train"}
    assert all(row.split == split_of[row.group] for row in store.dropped(result))


def test_few_units_fill_every_split_and_too_few_are_an_error(tmp_path):
    dice = random.Random(10)
    three = [one for family in families(dice, 3, copies=3) for one in family]
    rows, _, _ = dealt(tmp_path, three)
    assert {row.split for row in rows} == {"train", "validation", "test"}
    with pytest.raises(DataError, match="8 records in 2 units cannot be split"):
        dealt(tmp_path, three[:8], "two")
