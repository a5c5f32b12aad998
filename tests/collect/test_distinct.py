"""`collect.distinct`: rows that repeat others, by key, equality, one column or numbers nearby, and fast."""

import itertools
import json
import random

import pytest

from tiny_models import dataset, run_in
from volant.core.errors import DataError, SettingError
from volant.core.sample import Sample, Source
from volant.modalities.row_likeness import Rows
from volant.stages import collect
from volant.store.dataset import dropped, rows


def row(number, split="train", **values):
    source = Source(uri=f"people.csv:{number}", licence="MIT")
    return Sample(
        id=f"r{number}", shape="row", source=source, split=split, group=f"g{number}", content=json.dumps(values)
    )


def people():
    return [
        row(0, name="Ada", age=36, town="Bern", pay=1000.0),
        row(1, name="Ben", age=41, town="Cork", pay=2000.0),
        row(2, name="Ada", age=36, town="Bern", pay=1000.0),
        row(3, name="Ada", age=37, town="Bern", pay=1000.0),
        row(4, "test", name="Ben", age=41, town="Cork", pay=2004.0),
        row(5, name="Cleo", age=None, town="Bern", pay=3000.0),
        row(6, name="Cleo", age=29, town="Brno", pay=3000.0),
    ]


def gone(tmp_path, name="run", samples=None, **settings):
    if not (tmp_path / "data").exists():
        dataset(tmp_path / "data", samples or people())
    from volant.core.artifact import Dataset

    made = collect.distinct(run_in(tmp_path / name), Dataset(tmp_path / "data"), **settings)
    assert len(list(rows(made))) + len(list(dropped(made))) == len(samples or people())
    return {s.id: s.drop for s in dropped(made)}


def test_each_way_of_repeating_is_explained(tmp_path):
    equal = "equal_row: 4 of 4 columns equal (of r0) against 4"
    assert gone(tmp_path, "equal") == {"r2": equal}
    assert gone(tmp_path, "one", differ=1) == {
        "r2": equal, "r3": "near_row: 3 of 4 columns equal (of r0), age 37 for 36 against 3",
        "r1": "near_row: 3 of 4 columns equal (of r4), pay 2000.0 for 2004.0 against 3",
    }  # fmt: skip
    near = "near_row: 4 of 4 columns equal (of r4) against 4"
    assert gone(tmp_path, "tolerance", tolerance=0.01) == {"r2": equal, "r1": near}
    found = gone(tmp_path, "key", key=["name", "town"])
    assert (
        set(found) == {"r1", "r2", "r3"} and found["r3"] == "same_key: 2 rows of name Ada, town Bern (of r0) against 1"
    )
    assert set(gone(tmp_path, "ignored", ignore=["age", "pay"])) == {"r1", "r2", "r3"}


def test_what_is_refused(tmp_path):
    with pytest.raises(SettingError, match="no column 'nmae'") as caught:
        gone(tmp_path, key=["nmae"])
    assert "name" in caught.value.fix
    text = Sample(id="t", shape="text", source=Source(uri="t", licence="MIT"), content="A text.")
    with pytest.raises(DataError, match="no rows"):
        collect.distinct(run_in(tmp_path / "text"), dataset(tmp_path / "texts", [text]))


@pytest.mark.parametrize(("differ", "tolerance"), [(0, 0.03), (1, 0.0), (1, 0.03)])
def test_blocks_find_what_every_pair_would(differ, tolerance):
    rng = random.Random(7)
    columns = {
        "a": [rng.choice("xyz") for _ in range(300)], "b": [rng.choice([None, 1, 2]) for _ in range(300)],
        "c": [rng.choice("pqrst") for _ in range(300)], "d": [round(rng.uniform(0, 9), 1) for _ in range(300)],
    }  # fmt: skip
    table = Rows(columns, tolerance)
    import numpy as np

    reach = {
        n: tolerance * (max(given) - min(given)) for n in "bd" if (given := [v for v in columns[n] if v is not None])
    }

    def same(name, i, j):
        one, other = columns[name][i], columns[name][j]
        near = tolerance and name in reach and None not in (one, other) and abs(one - other) <= reach[name] + 1e-9
        return one == other or near

    wanted = {
        (i, j) for i, j in itertools.combinations(range(300), 2)
        if sum(not same(name, i, j) for name in columns) <= differ
    }  # fmt: skip
    found = {(a.earlier, a.later) for a in table.near(np.arange(300), differ)}
    assert found <= wanted and len(found) >= 0.97 * len(wanted) > 0
