"""The paired tests: against scipy, at their level under the null, and on awkward input."""

import numpy as np
import pytest

from volant.core.errors import DataError
from volant.scorers.compare import paired


def test_a_clear_gain_is_better_and_a_clear_loss_is_worse() -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(0, 1, 80)
    after = before + rng.normal(0.1, 0.05, 80)
    found = paired("relevance", before.tolist(), after.tolist())
    assert found.verdict == "better" and found.p < 0.001 and found.p_better < 0.001
    assert found.change.low < 0.1 < found.change.high + 0.02
    back = paired("relevance", after.tolist(), before.tolist())
    assert back.verdict == "worse" and back.p_better > 0.99 and back.gain == pytest.approx(-found.gain)


def test_lower_is_better_turns_the_verdict_and_the_gain() -> None:
    before, after = [2.0 + i / 100 for i in range(30)], [1.5 + i / 90 for i in range(30)]
    found = paired("bits_per_byte", before, after, direction="lower")
    assert found.change.value < 0 < found.gain
    assert found.verdict == "better" and found.p_better < 0.01


def test_one_outlier_does_not_make_it_better() -> None:
    before = [0.0] * 40
    after = [-0.01] * 39 + [100.0]
    assert paired("x", before, after).verdict != "better"


def test_false_alarms_stay_near_the_level() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(200):
        before, after = rng.normal(0, 1, 30), rng.normal(0, 1, 30)
        alarms += paired("x", before.tolist(), after.tolist()).verdict != "no difference"
    assert alarms <= 20  # 5 % of 200 is 10


@pytest.mark.parametrize("n", [5, 12, 60])
def test_flips_agree_with_scipy(n: int) -> None:
    from scipy.stats import permutation_test

    before = np.random.default_rng(n).normal(0, 1, n)
    after = before + np.random.default_rng(n + 1).normal(0.3, 1, n)

    def mean(x, y, axis):
        return (y - x).mean(axis=axis)

    theirs = permutation_test(
        (before, after), mean, permutation_type="samples", vectorized=True, n_resamples=9999, rng=0,
        alternative="greater",
    )  # fmt: skip
    ours = paired("x", before.tolist(), after.tolist())
    assert ours.p_better == pytest.approx(theirs.pvalue, abs=1e-12 if n <= 12 else 0.012)


def test_a_gain_that_a_third_of_the_examples_carries_is_found() -> None:
    rng = np.random.default_rng(2)
    before = rng.uniform(0, 1, 120)
    after = before - 0.01 + np.where(np.arange(120) % 3 == 0, 0.2, 0.0)
    assert paired("x", before.tolist(), after.tolist()).verdict == "better"


def test_yes_no_values_go_through_mcnemar() -> None:
    before = [0.0] * 12 + [1.0] * 20
    after = [1.0] * 10 + [0.0] * 2 + [1.0] * 19 + [0.0]
    found = paired("exact_match", before, after)
    assert found.test.startswith("McNemar")
    # 10 gained, 1 lost: 2 * (C(11,10) + C(11,11)) / 2^11
    assert found.p == pytest.approx(24 / 2048) and found.p_better == pytest.approx(12 / 2048)


def test_nothing_moved_is_no_difference() -> None:
    found = paired("x", [0.3, 0.7], [0.3, 0.7])
    assert (found.p, found.p_better, found.verdict, found.change.value) == (1.0, 1.0, "no difference", 0.0)


def test_one_pair_shows_nothing() -> None:
    assert paired("x", [0.1], [0.9]).verdict == "no difference"


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [1.0, 2.0]), ([float("nan")], [1.0])])
def test_what_cannot_be_paired_is_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(DataError):
        paired("x", before, after)


def test_same_seed_same_comparison() -> None:
    before, after = [0.1 * i for i in range(20)], [0.1 * i + 0.03 * (i % 3) for i in range(20)]
    assert paired("x", before, after, seed=4) == paired("x", before, after, seed=4)
