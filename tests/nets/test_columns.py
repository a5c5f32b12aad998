"""Rows as symbols and scores: exact where values are symbols, close where they are ranks, and back from disk."""

import math
from pathlib import Path

import numpy as np
import pytest

from volant.core.errors import ArtifactError, DataError
from volant.core.spaces import Column, Mixed
from volant.nets import columns

SPACE = Mixed(
    {
        "colour": Column("categorical", categories=3, missing=True),
        "income": Column("numeric"),
        "gain": Column("integer"),
        "rooms": Column("integer"),
        "empty": Column("numeric"),
    }
)


def table(rows: int = 600) -> np.ndarray:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 3, rows).astype(float)
    colour[::17] = np.nan
    income = np.exp(rng.normal(3, 1.5, rows))
    gain = np.where(rng.random(rows) < 0.7, 0, rng.integers(100, 90_000, rows)).astype(float)
    return np.stack([colour, income, gain, rng.integers(1, 9, rows).astype(float), np.full(rows, np.nan)], 1)


@pytest.mark.parametrize("ranges", [1, 8])
def test_dense_rows_come_back(ranges: int) -> None:
    rows = table()
    layout = columns.fit(SPACE, rows, ranges=ranges)
    dense = layout.encode(rows)
    assert dense.shape == (600, layout.width) and dense.dtype == np.float32 and np.isfinite(dense).all()
    back = layout.decode(dense)
    assert (np.isnan(back) == np.isnan(rows)).all()
    np.testing.assert_array_equal(back[:, [0, 3]], rows[:, [0, 3]])
    np.testing.assert_array_equal(back[rows[:, 2] == 0, 2], 0)
    tail = (rows[:, 1] > np.quantile(rows[:, 1], 0.002)) & (rows[:, 1] < np.quantile(rows[:, 1], 0.998))
    np.testing.assert_allclose(back[tail, 1], rows[tail, 1], rtol=1e-3)


def test_many_equal_values_are_a_symbol_and_the_rest_is_cut_evenly() -> None:
    rows = table()
    layout = columns.fit(SPACE, rows, ranges=8)
    colour, income, gain, rooms, empty = layout.slots
    assert gain.symbols == (0.0,) and gain.ranges == 8 and gain.whole
    assert income.symbols == () and not income.whole
    assert rooms.symbols == tuple(range(1, 9)) and rooms.ranges == 0
    assert colour.count == 4 and colour.missing and empty.count == 1
    assert layout.counts == (4, 8, 9, 8, 1)
    symbols, scores = layout.split(rows)
    shares = np.bincount(symbols[:, 1], minlength=8) / len(rows)
    np.testing.assert_allclose(shares, 1 / 8, atol=0.01)
    assert abs(scores[:, 1].mean()) < 0.05 and scores[:, 1].std() == pytest.approx(1, abs=0.05)
    assert (scores[symbols[:, 2] == 0, 2] == 0).all()


def test_drawn_places_have_the_distribution_of_the_data() -> None:
    rows = table(2000)
    layout = columns.fit(SPACE, rows, ranges=8)
    symbols, _ = layout.split(rows)
    made = layout.rows(symbols, np.random.default_rng(1).random(symbols.shape))
    for column in (1, 2):
        both = np.sort(np.concatenate([rows[:, column], made[:, column]]))
        own, other = (np.searchsorted(np.sort(x[:, column]), both, side="right") / 2000 for x in (rows, made))
        assert np.abs(own - other).max() < 0.02
    assert made[:, 2].min() == 0 and (made[:, 2] == np.round(made[:, 2])).all()
    copied = np.isin(made[:, 1], rows[:, 1])
    assert set(made[copied, 1]) <= {rows[:, 1].min(), rows[:, 1].max()}  # nothing but the outermost is ever copied


def test_symbols_are_drawn_as_the_softmax_says() -> None:
    logits = np.log(np.array([[0.1, 0.6, 0.3]]))
    drawn = columns.draw(np.repeat(logits, 4000, 0), np.random.default_rng(2).random(4000))
    np.testing.assert_allclose(np.bincount(drawn) / 4000, [0.1, 0.6, 0.3], atol=0.03)
    assert columns.draw(logits, np.array([1 - 1e-16]))[0] == 2


def test_what_was_never_missing_is_unknown_later() -> None:
    layout = columns.fit(SPACE, table(), ranges=4)
    odd = table(1)
    odd[0, 3] = np.nan
    symbols, _ = layout.split(odd)
    place, _ = layout.places()[3]
    assert symbols[0, 3] == -1 and (layout.encode(odd)[0, place] == 0).all()


def test_values_outside_of_the_training_rows_are_taken_as_the_outermost() -> None:
    rows = table()
    layout = columns.fit(SPACE, rows, ranges=4)
    odd = rows[:2].copy()
    odd[:, 1] = [-5, 1e9]
    odd[:, 3] = [-3, 40]
    back = layout.decode(layout.encode(odd))
    assert back[0, 1] == pytest.approx(rows[:, 1].min()) and back[1, 1] == pytest.approx(rows[:, 1].max())
    assert back[:, 3].tolist() == [1, 8]


def test_float32_rows_find_their_spikes() -> None:
    rows = np.concatenate([np.full(50, 0.1), np.random.default_rng(0).random(50)])[:, None]
    layout = columns.fit(Mixed({"x": Column("numeric")}), rows)
    symbols, _ = layout.split(rows.astype(np.float32).astype(np.float64))
    assert (symbols[:50] == 0).all() and (symbols[50:] == 1).all()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_table_of_a_few_rows(rows: int) -> None:
    given = table(rows)
    layout = columns.fit(SPACE, given, ranges=32)
    np.testing.assert_allclose(layout.decode(layout.encode(given)), given, rtol=1e-6)


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    rows = table()
    layout = columns.fit(SPACE, rows, ranges=8)
    layout.save(tmp_path)
    back = columns.open_layout(tmp_path)
    assert back == layout
    np.testing.assert_array_equal(back.encode(rows), layout.encode(rows))


def test_what_cannot_be_fitted_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shape"):
        columns.fit(SPACE, np.empty((0, 5)))
    with pytest.raises(DataError, match="100,000 categories"):
        columns.fit(Mixed({"id": Column("categorical", categories=100_000)}), np.zeros((3, 1)))
    with pytest.raises(DataError, match="no row"):
        columns.matrix_of([])
    (tmp_path / columns.FILE).write_text('[{"name": 1}]')
    with pytest.raises(ArtifactError, match="no layout"):
        columns.open_layout(tmp_path)
    assert math.isnan(columns.fit(SPACE, table()).decode(np.zeros((1, columns.fit(SPACE, table()).width)))[0, 4])
