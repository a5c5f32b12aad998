"""Krippendorff's alpha against the worked examples of "Computing Krippendorff's Alpha-Reliability" (2011)."""

import pytest

from volant.core.errors import DataError, SettingError
from volant.scorers.alpha import alpha, alpha_score

# Section C: four observers, twelve units, missing values as dots.
MISSING = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]
BINARY = ["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"]
NOMINAL = ["a a b b d c c c e d d a", "b a b b b c c c e d d d"]


def units(rows):
    return [[value for value in column if value != "."] for column in zip(*[row.split() for row in rows], strict=True)]


@pytest.mark.parametrize(
    "rows, level, published",
    [
        (MISSING, "nominal", 0.743), (MISSING, "ordinal", 0.815), (MISSING, "interval", 0.849),
        (BINARY, "nominal", 0.095), (BINARY, "interval", 0.095), (NOMINAL, "nominal", 0.692),
    ],
)  # fmt: skip
def test_published_examples(rows, level, published):
    assert alpha(units(rows), level) == pytest.approx(published, abs=0.0005)


def test_the_interval_holds_the_value_and_shrinks():
    few = alpha_score(units(MISSING), "nominal", seed=3)
    many = alpha_score(units(MISSING) * 20, "nominal", seed=3)
    assert few.n == 11 and few.low < few.value < few.high  # one unit was rated once
    assert many.high - many.low < (few.high - few.low) / 2
    assert few == alpha_score(units(MISSING), "nominal", seed=3)


def test_edges():
    assert alpha([["a", "a"], ["a", "a", "a"]]) == 1.0
    assert alpha([["a", "b"], ["b", "a"]]) < 0
    for nothing in ([], [["a"], ["b"]]):
        with pytest.raises(DataError, match="rated by two people"):
            alpha(nothing)
    with pytest.raises(DataError, match="'b' is no number"):
        alpha([["1", "b"]], "ordinal")
    with pytest.raises(SettingError, match="Did you mean 'ordinal'"):
        alpha([["1", "2"]], "ordnal")
