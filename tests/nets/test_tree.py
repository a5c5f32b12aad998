"""Sequential trees: joint structure kept, missing values and conditions handled, seeded row by row, safe files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.protocols import Request
from volant.core.sample import Sample, Source
from volant.core.spaces import Column, Example, Grid, Mixed, Tokens
from volant.nets import session as sessions
from volant.nets import tree
from volant.nets.arrays import array_batch
from volant.nets.tree import family

SPACE = Mixed(
    {
        "age": Column("integer", low=18, high=90),
        "job": Column("categorical", categories=4, missing=True),
        "pay": Column("numeric", missing=True),
        "day": Column("date"),
    }
)


def table(rows: int, seed: int = 0) -> np.ndarray:
    """Age decides the job, age and job the pay; pay is missing for one job, jobs are missing for some."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, rows).astype(float)
    job = np.where(age < 30, 0.0, np.where(age < 60, rng.integers(1, 3, rows), 3.0))
    pay = np.round(1000 + 50 * age * (1 + (job == 2)) + rng.normal(0, 40, rows), 2)
    pay[job == 3] = np.nan
    job[rng.random(rows) < 0.05] = np.nan
    return np.stack([age, job, pay, np.floor(18_000 + 3 * age)], axis=1)


def examples(matrix: np.ndarray) -> list[Example]:
    return [Example(row) for row in matrix]


def fitted(rows: int = 2000, **size):
    net = family.build(SPACE, seed=0, **size)
    return family.estimate(net, examples(table(rows)), seed=1)


def drawn(net, count: int, seed: int = 5, **controls) -> np.ndarray:
    return family.sample(net, [[]] * count, seed=seed, **controls)


def test_what_hangs_together_in_the_data_hangs_together_in_what_is_drawn() -> None:
    real, made = table(4000, seed=9), drawn(fitted(), 4000)
    for matrix in (real, made):
        assert np.isnan(matrix[matrix[:, 1] == 3, 2]).mean() > 0.97
    young = made[:, 0] < 30
    assert np.nanmax(made[young, 1]) == 0
    assert abs(np.isnan(made[:, 1]).mean() - 0.05) < 0.015
    known = ~np.isnan(made[:, 2])
    assert np.corrcoef(made[known, 0] * (1 + (made[known, 1] == 2)), made[known, 2])[0, 1] > 0.95
    assert np.abs(made[:, 3] - 18_000 - 3 * made[:, 0]).max() <= 3 * 3
    for column in range(4):
        assert abs(np.nanmean(made[:, column]) - np.nanmean(real[:, column])) < 0.1 * np.nanstd(real[:, column])


def test_independent_columns_keep_their_marginals_alone() -> None:
    made, real = drawn(fitted(independent=True), 4000), table(2000)
    assert abs(np.corrcoef(made[:, 0], made[:, 3])[0, 1]) < 0.06
    assert abs(np.isnan(made[:, 2]).mean() - np.isnan(real[:, 2]).mean()) < 0.03


def test_a_smaller_leaf_fits_closer_and_the_order_of_losses_says_so() -> None:
    batch = array_batch(examples(table(2000)))
    losses = [float(family.loss(fitted(**size), batch)) for size in ({"leaf": 2}, {"leaf": 50}, {"independent": True})]
    assert losses == sorted(losses) and losses[0] < 0.7 * losses[2]
    assert family.logp(fitted(rows=50), batch) is None


def test_values_are_training_values_until_they_are_smoothed() -> None:
    net, real = fitted(rows=300), table(300)
    plain = drawn(net, 500)
    assert set(plain[~np.isnan(plain[:, 2]), 2]) <= set(real[:, 2])
    smooth = drawn(net, 500, smooth=1.0)
    known = ~np.isnan(smooth[:, 2])
    assert np.isin(smooth[known, 2], real[:, 2]).mean() < 0.2
    assert np.nanmin(real[:, 2]) <= np.nanmin(smooth[:, 2]) and np.nanmax(smooth[:, 2]) <= np.nanmax(real[:, 2])
    assert (smooth[:, 0] == np.round(smooth[:, 0])).all() and (smooth[:, 3] == np.round(smooth[:, 3])).all()
    assert (np.isnan(plain) == np.isnan(smooth)).all()


def test_each_row_depends_on_its_own_seed_alone() -> None:
    net = fitted()
    whole = drawn(net, 40, seeds=range(40))
    for chosen in ([7], [39, 0, 12]):
        assert np.array_equal(drawn(net, len(chosen), seed=99, seeds=chosen), whole[chosen], equal_nan=True)
    assert np.array_equal(drawn(net, 40), drawn(net, 40), equal_nan=True)
    assert not np.array_equal(drawn(net, 40), drawn(net, 40, seed=6), equal_nan=True)
    assert len(np.unique(whole[:, 2])) > 10


def test_a_hundred_thousand_rows_are_drawn() -> None:
    net = fitted()
    assert drawn(net, 100_000, seeds=range(100_000)).shape == (100_000, 4)


def test_saved_and_loaded_bit_exactly_and_nothing_in_the_file_is_trusted(tmp_path) -> None:
    net = fitted(rows=400)
    family.save(net, tmp_path / "a")
    again = family.load(tmp_path / "a")
    assert np.array_equal(drawn(net, 50), drawn(again, 50), equal_nan=True)
    assert list(again.space.columns) == list(SPACE.columns)
    family.save(again, tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    state, back = net.state_dict(), again.state_dict()
    assert state and all(torch.equal(state[name].nan_to_num(-9), back[name].nan_to_num(-9)) for name in state)
    whole = load_file(tmp_path / "a" / "model.safetensors")
    for name, place, value in (
        ("left", 0, 0),
        ("right", -1, 10**6),
        ("first", -1, 10**6),
        ("predictors", 0, 3),
        ("feature", 0, 9),
        ("held", (0, 0), 60_000),
        ("nodes_C", 0, 5),
        ("ranks_P", 0, 1),
    ):
        bent = {n: a.copy() for n, a in whole.items()}
        at = np.flatnonzero(bent["feature"] >= 0)[0] if name in ("left", "feature") else place
        at = np.flatnonzero(bent["feature"] < 0)[-1] if name == "first" else at
        at = np.flatnonzero(bent["feature"] >= 0)[-1] if name == "right" else at
        bent[name][at] = value
        save_file(bent, tmp_path / "b" / "model.safetensors")
        with pytest.raises(ArtifactError, match="cannot be read"):
            family.load(tmp_path / "b")
            pytest.fail(f"a bent {name} was taken")
    (tmp_path / "b" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ArtifactError, match="cannot be read"):
        family.load(tmp_path / "b")


def digits() -> tuple[list[Example], Grid]:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (np.round(data.images * 255 / 16) / 127.5 - 1).astype(np.float32)
    found = [Example(x[None], (int(c),)) for x, c in zip(images, data.target, strict=True)]
    return found, Grid(1, (8, 8), conditions=10)


def test_digits_are_drawn_as_their_class_asks() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    known, space = digits()
    net = family.estimate(family.build(space, seed=0, leaf=10), known[:1200], seed=0)
    made = family.sample(net, [[c % 10] for c in range(300)], seed=3)
    assert made.shape == (300, 1, 8, 8) and made.min() >= -1 and made.max() <= 1
    told = KNeighborsClassifier(3).fit(np.stack([e.values.ravel() for e in known]), [e.condition[0] for e in known])
    assert (told.predict(made.reshape(300, -1)) == np.arange(300) % 10).mean() > 0.6
    free = family.sample(net, [[]] * 300, seed=3)
    assert len(set(told.predict(free.reshape(300, -1)))) == 10
    with pytest.raises(DataError, match="no training example had the condition 11"):
        family.sample(net, [[11]], seed=0)


def test_channels_come_back_where_they_were() -> None:
    rng = np.random.default_rng(0)
    known = [Example(np.stack([np.full((2, 3), a), np.full((2, 3), -a)])) for a in rng.uniform(0.2, 1, 60)]
    net = family.estimate(family.build(Grid(2, (2, 3)), seed=0, leaf=1), known, seed=0)
    made = family.sample(net, [[]] * 30, seed=0)
    assert (made[:, 0] > 0).all() and (made[:, 1] < 0).all()


def test_many_categories_and_columns_of_nothing_are_no_trouble() -> None:
    rng = np.random.default_rng(0)
    code = rng.integers(0, 900, 3000).astype(float)
    matrix = np.stack([code, np.floor(code / 300), np.full(3000, np.nan), code % 2], axis=1)
    wide = Mixed(
        {
            "low": Column("categorical", 3),
            "id": Column("categorical", 900),
            "gone": Column("numeric", missing=True),
            "odd": Column("categorical", 2),
        }
    )
    net = family.estimate(family.build(wide, seed=0, leaf=5), examples(matrix[:, [1, 0, 2, 3]]), seed=0)
    made = drawn(net, 2000)
    assert np.isnan(made[:, 2]).all()
    assert (np.floor(made[:, 1] / 300) == made[:, 0]).mean() > 0.97
    assert (made[:, 1] % 2 == made[:, 3]).mean() > 0.9


def test_one_example_is_told_again_and_none_is_an_error() -> None:
    row = table(1)
    one = family.estimate(family.build(SPACE, seed=0), examples(row), seed=0)
    assert np.array_equal(drawn(one, 3), np.repeat(row, 3, axis=0), equal_nan=True)
    assert drawn(one, 0).shape == (0, 4)
    with pytest.raises(DataError, match="n=0"):
        family.estimate(family.build(SPACE, seed=0), [], seed=0)
    with pytest.raises(ArtifactError, match="not fitted"):
        drawn(family.build(SPACE, seed=0), 1)


def test_other_spaces_large_grids_and_wrong_sizes_are_refused() -> None:
    with pytest.raises(ArtifactError, match="tokens"):
        family.build(Tokens(9, 9), seed=0)
    with pytest.raises(ArtifactError, match=r"3,072 values.*1,024"):
        family.build(Grid(3, (32, 32)), seed=0)
    for wrong in ({"leaf": 0}, {"smooth": 1.5}):
        with pytest.raises(SettingError, match="out of bounds"):
            family.build(SPACE, seed=0, **wrong)


class MadeCodec:
    """Rows of two numbers; `above:x` is held by `fits`, since no network is told of it."""

    space = Mixed({"a": Column("integer"), "b": Column("integer")})

    def encode(self, sample: Sample) -> Example:
        return Example(np.array(list(json.loads(sample.content or "{}").values()), dtype=float))

    def decode(self, values, condition: str = "") -> Sample:
        body = json.dumps({"a": int(values[0]), "b": int(values[1])})
        return Sample(id="x", shape="row", source=SOURCE, content=body, condition=condition or None)

    def condition(self, text: str) -> tuple[int, ...]:
        if text and not text.startswith("above:"):
            raise DataError(f"no column is called {text}.")
        return ()

    def fits(self, sample: Sample, condition: str) -> bool:
        return not condition or json.loads(sample.content or "{}")["a"] > int(condition[6:])


class MadeModality:
    def codec(self, samples, **options):
        assert options == {"space": "mixed"}
        return MadeCodec()


SOURCE = Source(uri="test:tree", licence="CC0-1.0")


def test_the_baseline_answers_requests_and_draws_again_what_does_not_fit(monkeypatch) -> None:
    monkeypatch.setattr(sessions, "open_modality", lambda name: {"table": MadeModality()}[name])
    rows = [
        Sample(id=str(i), shape="row", source=SOURCE, content=json.dumps({"a": i % 50, "b": 2 * (i % 50)}))
        for i in range(500)
    ]
    session = tree.fit(rows, leaf=1)
    ask = [Request(id=str(s), prompt="above:39", seed=s) for s in range(20)]
    got = {chunk.id: chunk for chunk in session.generate(ask)}
    assert len(got) == 20
    for chunk in got.values():
        body = json.loads(chunk.sample.content)
        assert chunk.finish == "stop" and body["a"] > 39 and body["b"] == 2 * body["a"]
    assert max(c.sample.attrs["tries"] for c in got.values()) > 1
    alone = next(iter(session.generate(ask[7:8])))
    assert alone.sample == got["7"].sample
    wrong = list(session.generate([Request(id="w", prompt="size"), Request(id="n", prompt="above:99")]))
    assert [c.finish for c in wrong] == ["error", "error"] and "none of 64 draws" in wrong[1].error
    session.cancel("0")
    assert next(iter(session.generate(ask[:1]))).finish == "cancelled"
    with pytest.raises(DataError, match="n=0"):
        tree.fit([])
    with pytest.raises(DataError, match="text"):
        tree.fit([Sample(id="t", shape="text", source=SOURCE, content="x")])
