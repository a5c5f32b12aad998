"""`collect.mix`: shares as asked, caps kept, copies that know their record, the same bytes from the same seed."""

import json
from collections import Counter

import pytest

from tiny_models import watched
from volant.core.artifact import Card, Dataset, payload_digest
from volant.core.errors import DataError, SettingError
from volant.core.run import Run
from volant.core.sample import Label, Sample, Source
from volant.stages.collect import mix
from volant.store.dataset import rows, writer


def sample(part, number, split="train", **fields):
    values = {"content": f"{part} {number}", "group": f"{part}{number}", **fields}
    source = Source(uri=f"{part}.jsonl:{number}", licence="MIT")
    return Sample(id=f"{part}{number}", shape="text", split=split, source=source, **values)


def stored(folder, samples, step):
    with writer(folder) as out:
        out.write_all(samples)
    digest, files = payload_digest(folder)
    return Dataset(folder, Card(kind="Dataset", digest=digest, files=files, step=step))


def make(tmp_path, seed=0, name="out", **parts):
    data = [
        stored(tmp_path / part, [*samples, sample(part, 900, "validation"), sample(part, 901, "test")], part)
        for part, samples in parts.items()
        if not (tmp_path / part).exists()
    ] or [Dataset(tmp_path / part, Card(kind="Dataset", digest="0" * 64, files=[], step=part)) for part in parts]
    (tmp_path / name).mkdir()
    return Run(step="mix", out=tmp_path / name, work=tmp_path, seed=seed), data


def of(part, count):
    return [sample(part, number) for number in range(count)]


def counted(made):
    return Counter(s.source.place.removesuffix(".jsonl") for s in rows(made, "train"))


def test_weights_temperature_and_sizes(tmp_path):
    run, data = make(tmp_path, web=of("web", 90), books=of("books", 10))
    assert counted(mix(run, *data)) == {"web": 90, "books": 10}
    run, data = make(tmp_path, name="hot", web=[], books=[])
    assert counted(mix(run, *data, temperature=2)) == {"web": 75, "books": 25}
    run, data = make(tmp_path, name="weighed", web=[], books=[])
    made = mix(run, *data, weights={"web": 1, "books": 1}, size=60)
    assert counted(made) == {"web": 30, "books": 30}
    assert made.about["splits"] == {"train": 60, "validation": 2, "test": 2}
    told = json.loads((made.path / "mix.json").read_text())
    assert told["books"] == {"records": 10, "taken": 30, "characters": sum(7 * 3 for _ in range(10)), "most_times": 3}
    assert {s.name: s.value for s in watched(run).scores} == {"mixed_records": 60, "mixed_used": 0.4}


def test_a_part_gives_no_more_than_its_epochs(tmp_path):
    run, data = make(tmp_path, web=of("web", 50), books=of("books", 10))
    made = mix(run, *data, weights={"web": 1, "books": 9}, epochs=2)
    assert counted(made) == {"web": 40, "books": 20}
    run, data = make(tmp_path, name="all", web=[], books=[])
    assert counted(mix(run, *data, weights={"books": 1}, epochs=1.5)) == {"books": 15}


def test_copies_have_ids_of_their_own_and_know_their_record(tmp_path):
    run, data = make(tmp_path, books=of("books", 5))
    made = list(rows(mix(run, *data, size=20), "train"))
    assert len({s.id for s in made}) == 20
    by_text = Counter(s.content for s in made)
    assert set(by_text.values()) == {4}
    for one in made:
        number = one.content.split()[1]
        assert one.id == f"books{number}" or one.parents == [f"books{number}"]


def test_seeds(tmp_path):
    digests = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run, data = make(tmp_path, seed=seed, name=name, web=of("web", 40))
        digests[name] = payload_digest(mix(run, *data, size=10).path)[0]
    assert digests["a"] == digests["b"] != digests["c"]


def test_better_records_are_taken_more_often(tmp_path):
    graded = [sample("web", n, attrs={"quality": n / 100} if n >= 25 else {}) for n in range(100)]
    run, data = make(tmp_path, web=graded)
    made = mix(run, *data, quality="attrs.quality", boost=3, size=200)
    quarters = Counter(int(s.content.split()[1]) // 25 for s in rows(made, "train"))
    assert quarters == {0: 25, 1: 42, 2: 58, 3: 75}  # 1 : 5/3 : 7/3 : 3
    run, data = make(tmp_path, name="low", web=[])
    low = Counter(
        int(s.content.split()[1]) // 25 for s in rows(mix(run, *data, quality="-attrs.quality", boost=3), "train")
    )
    assert low[1] > low[2] > low[3]


def test_strata_keep_their_shares_or_are_made_even(tmp_path):
    labelled = [
        sample("web", n, labels=[Label(name="topic", value="a" if n < 80 else "b", by="x")]) for n in range(100)
    ]
    for name, strata, expected in (("keep", "keep", {"a": 24, "b": 6}), ("even", "even", {"a": 15, "b": 15})):
        run, data = make(tmp_path, name=name, web=labelled)
        made = mix(run, *data, stratify="labels.topic", strata=strata, size=30)
        assert Counter(s.labels[0].value for s in rows(made, "train")) == expected


def test_shares_in_characters(tmp_path):
    long = [sample("long", n, content="x" * 90) for n in range(10)]
    short = [sample("short", n, content="x" * 10) for n in range(90)]
    run, data = make(tmp_path, long=long, short=short)
    made = mix(run, *data, weights={"long": 1, "short": 1}, unit="characters")
    told = json.loads((made.path / "mix.json").read_text())
    assert told["long"]["characters"] == told["short"]["characters"] == 900


def test_what_is_held_out_in_one_dataset_is_not_trained_on_from_another(tmp_path):
    shared = sample("web", 7)
    run, data = make(tmp_path, web=of("web", 20), books=[*of("books", 5), shared.model_copy(update={"split": "test"})])
    made = mix(run, *data)
    assert counted(made) == {"web": 19, "books": 5} and "web7" not in {s.id for s in rows(made, "train")}
    assert [s.id for s in rows(made, "test")].count("web7") == 1


@pytest.mark.parametrize(
    "settings, error, said",
    [
        ({"weights": {"wbe": 1}}, SettingError, "no part 'wbe'.*'web'"), ({"by": "colour"}, SettingError, "attrs.NAME"),
        ({"weights": {"web": 0}}, SettingError, "all weights are 0"),
        ({"quality": "attrs.name"}, SettingError, "no number"),
        ({"quality": "-attrs.worth"}, SettingError, "no record has 'attrs.worth'"),
        ({"by": "attrs.topic"}, SettingError, "no record has 'attrs.topic'.*fields"),
        ({"stratify": "labels.topic"}, SettingError, "no record has 'labels.topic'"),
        ({"epochs": 0.01}, DataError, "the mix holds no record.*Raise `epochs`"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, settings, error, said):
    run, data = make(tmp_path, web=[sample("web", n, attrs={"name": "ann"}) for n in range(5)])
    with pytest.raises(error, match=said):
        mix(run, *data, **settings)


def test_nothing_to_mix(tmp_path):
    run, data = make(tmp_path, web=[])
    with pytest.raises(DataError, match="no training record"):
        mix(run, *data)
    with pytest.raises(SettingError, match="needs a Dataset"):
        mix(run)
