"""Orders without state: each pass a permutation, even, the same wherever it is asked from; shares that add up."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.store.order import Order, shares, takes


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65, 1000])
def test_each_pass_is_a_permutation_of_its_own(count):
    first, second = (Order(count, 3).at(np.arange(start, start + count)) for start in (0, count))
    assert sorted(first) == sorted(second) == list(range(count))
    assert count < 5 or list(first) != list(second)
    assert list(Order(count, 3).at(np.arange(count))) == list(first)
    assert count < 5 or list(Order(count, 4).at(np.arange(count))) != list(first)


def test_a_step_gives_the_same_record_whatever_was_asked_before():
    order = Order(1_000_003, 5)
    steps = np.array([0, 17, 999_999, 1_000_003, 5_000_000])
    together = order.at(steps)
    assert [int(order.at(step)[0]) for step in steps] == together.tolist()


def test_orders_are_even():
    """Every order of four comes up as often as chance has it (chi-square of 23 degrees: 99.9 % lie below 49.7)."""
    found = Counter(tuple(Order(4, seed).at(range(4)).tolist()) for seed in range(1200))
    assert len(found) == 24 and sum((n - 50) ** 2 / 50 for n in found.values()) < 49.7
    drawn = Order(100_000, 1).at(np.arange(100_000))
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01


def test_shares():
    assert shares({"a": 900, "b": 100}) == pytest.approx({"a": 0.9, "b": 0.1})
    assert shares({"a": 900, "b": 100}, temperature=2) == pytest.approx({"a": 0.75, "b": 0.25})
    assert shares({"a": 900, "b": 100}, {"b": 3}) == {"a": 0.0, "b": 1.0}


@pytest.mark.parametrize(
    "wanted, most, found",
    [
        ([50, 30, 20], [10, 100, 100], [10, 54, 36]), ([1 / 3] * 3, [1, 1, 1], [1, 0, 0]),
        ([10, 0, 5], [3, 9, 4], [3, 0, 4]), ([2.5, 2.5], [9, 9], [3, 2]), ([], [], []), ([5], [0], [0]),
        ([1.0, 4574.0, 2.2250738585072014e-308], [4496, 0, 90], [4496, 0, 79]),
    ],
)  # fmt: skip
def test_takes(wanted, most, found):
    assert takes(wanted, most) == found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), max_size=8))
def test_takes_fill_up_to_what_there_is(parts):
    wanted, most = [w for w, _ in parts], [m for _, m in parts]
    found = takes(wanted, most)
    room = [int(m + 1e-9) if w > 0 else 0 for w, m in parts]
    assert all(0 <= f <= r for f, r in zip(found, room, strict=True))
    assert sum(found) == min(round(sum(wanted)), sum(room))
