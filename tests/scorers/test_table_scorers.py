"""Scorers of tables: against slow ways to the same figures, known cases, and their ladders."""

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp, spearmanr
from sklearn.metrics import r2_score, roc_auc_score

from volant.core.errors import DataError, SettingError
from volant.core.protocols import Output, Scorer
from volant.core.sample import Sample, Source
from volant.core.score import Score
from volant.scorers import build
from volant.scorers.jackknife import pseudo_values
from volant.scorers.ladders_table import LEAST, rungs, training
from volant.scorers.table_distance import nearest, nearest_others, placed
from volant.scorers.table_figures import placements, spread_over
from volant.scorers.table_privacy import closer, closest_share, membership
from volant.scorers.table_rows import Sides, equal_rows, grades, sides
from volant.scorers.table_rules import violations
from volant.scorers.table_shape import (
    categories_distance,
    correlations,
    marginals,
    numbers_distance,
    pair_correlations,
)
from volant.scorers.table_spread import row_coverage
from volant.scorers.table_use import _contributions, target_of

NAMES = (
    "marginals", "pair_correlations", "tstr", "c2st", "row_coverage", "closest_share", "membership", "violations",
)  # fmt: skip
SETS = tuple(name for name in NAMES if name not in ("closest_share", "violations"))
SOURCE = Source(uri="test:tables", licence="CC0-1.0")
Row = dict[str, Any]


def samples(rows: Sequence[Row], **declared: Any) -> list[Sample]:
    attrs = {"table": declared} if declared else {}
    return [
        Sample(id=f"row-{i}", shape="row", source=SOURCE, content=json.dumps(row), attrs=attrs)
        for i, row in enumerate(rows)
    ]


def outputs(rows: Sequence[Row]) -> list[Output]:
    return [Output("", sample=sample) for sample in samples(rows)]


def people(n: int, seed: int) -> list[Row]:
    """Rows with a strong pattern, missing values, a date and an answer that hangs on the rest."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        size = rng.normal()
        made.append({
            "height": round(float(170 + 10 * size), 1),
            "weight": round(float(70 + 12 * size + 3 * rng.normal()), 1) if rng.random() > 0.1 else None,
            "children": int(rng.poisson(1.3)),
            "seen": f"2024-{rng.integers(1, 13):02d}-{rng.integers(1, 29):02d}",
            "shirt": "SML"[int(np.clip(round(1 + size), 0, 2))] if rng.random() > 0.05 else None,
            "tall": "yes" if size + 0.3 * rng.normal() > 0 else "no",
        })  # fmt: skip
    return made


def by_themselves(rows: Sequence[Row], seed: int) -> list[Row]:
    """Each column drawn by itself."""
    rng = np.random.default_rng(seed)
    columns = {name: [rows[i][name] for i in rng.integers(0, len(rows), len(rows))] for name in rows[0]}
    return [{name: column[i] for name, column in columns.items()} for i in range(len(rows))]


def scorer(name: str, rows: Sequence[Row] | None, **settings: Any) -> Scorer:
    return build({name: {"training": None if rows is None else samples(rows), **settings}})[name]


def figure(
    name: str, made: Sequence[Row], real: Sequence[Row], trained: Sequence[Row] | None, **settings: Any
) -> Score:
    return scorer(name, trained, **settings).score(outputs(made), samples(real))[0]


TRAINED, REAL, FRESH = people(200, 1), people(200, 2), people(200, 3)


# --- figures against slow ways to them ------------------------------------------------------------


def mixed(n: int, seed: int) -> Sides:
    made, real, trained = people(n, seed), people(n, seed + 1), people(n + 7, seed + 2)
    return sides(samples(made), samples(real), samples(trained))


@pytest.mark.parametrize("seed", range(6))
def test_numbers_distance_is_kolmogorov_and_smirnovs_and_so_without_each_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = (np.round(rng.normal(size=31) * scale, 1) for scale in (1, 1 + seed / 3))
    x[rng.random(31) < 0.1] = np.nan
    whole, without = numbers_distance(x, y)
    high = [np.nan_to_num(v, nan=99.0) for v in (x, y)]
    assert whole == pytest.approx(ks_2samp(*high).statistic)
    for i in range(31):
        assert without[i] == pytest.approx(ks_2samp(*(np.delete(v, i) for v in high)).statistic)


@pytest.mark.parametrize("seed", range(4))
def test_categories_distance_is_total_variation_and_so_without_each_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 5, 40), rng.integers(0, 3 + seed, 40)

    def slow(a: Any, b: Any) -> float:
        return sum(abs((a == k).mean() - (b == k).mean()) for k in range(9)) / 2

    whole, without = categories_distance(x, y)
    assert whole == pytest.approx(slow(x, y))
    assert without == pytest.approx([slow(np.delete(x, i), np.delete(y, i)) for i in range(40)])


def test_correlations_are_pearsons_over_complete_rows_and_so_without_each() -> None:
    rng = np.random.default_rng(0)
    u = 1e6 + rng.normal(size=30)
    v = u + rng.normal(size=30)
    u[3], v[7] = np.nan, np.nan

    def slow(a: Any, b: Any) -> float:
        both = ~np.isnan(a + b)
        return float(np.corrcoef(a[both], b[both])[0, 1])

    whole, without = correlations(u, v)
    assert whole == pytest.approx(slow(u, v), abs=1e-9)
    assert without == pytest.approx([slow(np.delete(u, i), np.delete(v, i)) for i in range(30)], abs=1e-9)
    assert correlations(np.ones(5), np.arange(5.0))[0] == 0.0
    assert correlations(np.full(5, np.nan), np.arange(5.0))[0] == 0.0


def test_marginals_and_their_values_against_leaving_pairs_out() -> None:
    given = mixed(25, 10)

    def slow(x: Any, y: Any) -> float:
        found = []
        for c, kind in enumerate(given.kinds):
            a, b = (np.nan_to_num(v[:, c], nan=1e9) for v in (x, y))
            if kind == "categorical":
                found.append(1 - sum(abs((a == k).mean() - (b == k).mean()) for k in {*a, *b}) / 2)
            else:
                found.append(1 - ks_2samp(a, b).statistic)
        return float(np.mean(found))

    measured = marginals().measure(given)
    whole = slow(given.outputs_NC, given.references_NC)
    without = np.array(
        [slow(*(np.delete(v, i, 0) for v in (given.outputs_NC, given.references_NC))) for i in range(25)]
    )
    assert measured.scores[0].value == pytest.approx(whole)
    assert measured.values == pytest.approx(pseudo_values(whole, without))


def test_pair_correlations_against_a_slow_way() -> None:
    rows = [{k: row[k] for k in ("height", "children", "tall")} for row in people(60, 4)]
    made = [{k: row[k] for k in ("height", "children", "tall")} for row in by_themselves(people(60, 5), 0)]
    given = sides(samples(made), samples(rows), None)

    def slow(x: Any, y: Any) -> float:
        gx, gy = grades(x[:, :2], given.references_NC[:, :2]), grades(y[:, :2], given.references_NC[:, :2])
        numbers = 1 - abs(np.corrcoef(gx.T)[0, 1] - np.corrcoef(gy.T)[0, 1]) / 2
        tables = []
        for c in (0, 1):
            cells = [
                [(min(1, int(g * 2)), k) for g, k in zip(v[:, c], w[:, 2], strict=True)] for v, w in ((gx, x), (gy, y))
            ]
            known = {*cells[0], *cells[1]}
            tables.append(1 - sum(abs(cells[0].count(k) - cells[1].count(k)) for k in known) / (2 * len(x)))
        return float(np.mean([numbers, *tables]))

    x, y = given.outputs_NC, given.references_NC
    measured = pair_correlations().measure(given)
    assert measured.scores[0].value == pytest.approx(slow(x, y))
    without = np.array([slow(np.delete(x, i, 0), np.delete(y, i, 0)) for i in range(60)])
    assert measured.values == pytest.approx(pseudo_values(slow(x, y), without))
    # Ranks among themselves: Spearman's correlation.
    own = grades(y[:, :2], y[:, :2])
    assert correlations(own[:, 0], own[:, 1])[0] == pytest.approx(spearmanr(y[:, 0], y[:, 1]).statistic)


def test_grades_are_mid_ranks_and_go_on_beyond_the_range() -> None:
    real = np.array([[0.0], [10.0], [10.0], [20.0], [np.nan]])
    found = grades(np.array([[0.0], [10.0], [20.0], [15.0], [30.0], [-1e9], [np.nan]]), real)[:, 0]
    assert found[:6] == pytest.approx([0.125, 0.5, 0.875, 0.6875, 1.375, -0.875])
    assert np.isnan(found[6])
    assert grades(np.array([[3.0]]), np.array([[np.nan]]))[0, 0] == 0.0


def gower(x: Any, y: Any, given: Sides) -> Any:
    real = np.vstack([given.training_TC, given.references_NC]) if given.training_TC is not None else given.references_NC
    at = given.ordered
    x, y = x.copy(), y.copy()
    x[:, at], y[:, at] = grades(x[:, at], real[:, at]), grades(y[:, at], real[:, at])
    found = np.zeros((len(x), len(y)))
    for (i, a), (j, b) in itertools.product(enumerate(x), enumerate(y)):
        for c, kind in enumerate(given.kinds):
            if np.isnan(a[c]) or np.isnan(b[c]):
                found[i, j] += np.isnan(a[c]) != np.isnan(b[c])
            else:
                found[i, j] += (a[c] != b[c]) if kind == "categorical" else abs(a[c] - b[c])
    return found / len(given.kinds)


def test_distances_are_gowers_with_missing_values() -> None:
    given = mixed(40, 20)
    x, y = given.outputs_NC, given.references_NC
    assert np.isnan(x).any()
    assert nearest(placed(x, given), placed(y, given)) == pytest.approx(gower(x, y, given).min(1))
    own = np.sort(gower(y, y, given), axis=1)
    assert nearest_others(placed(y, given), 3) == pytest.approx(own[:, 3])


def test_coverage_membership_and_closest_share_against_all_distances() -> None:
    given = mixed(40, 30)
    x, y, t = given.outputs_NC, given.references_NC, given.training_TC
    assert t is not None
    t = t[:40]
    given = Sides(given.names, given.kinds, given.sizes, x, y, t, "cut")
    to_real = gower(y, x, given).min(1)
    radius = np.sort(gower(y, y, given), axis=1)[:, 5]
    assert row_coverage().measure(given).values == [float(d <= r) for d, r in zip(to_real, radius, strict=True)]
    measured = membership(training=[]).measure(given)
    inside = gower(t, x, given).min(1)
    auc = roc_auc_score(np.repeat([1, 0], 40), np.round(-np.r_[inside, to_real], 9))
    assert measured.scores[0].value == pytest.approx(auc)
    assert np.mean(measured.values) == pytest.approx(auc)
    wins = gower(x, t, given).min(1) < gower(x, y, given).min(1) - 1e-9
    ties = np.abs(gower(x, t, given).min(1) - gower(x, y, given).min(1)) < 1e-9
    assert closest_share(training=[]).measure(given).values == pytest.approx(wins + ties / 2)


@pytest.mark.parametrize(("trained", "unseen"), [(30, 10), (10, 30)])
def test_closest_share_of_unequal_sets_is_what_drawing_equal_ones_gives(trained: int, unseen: int) -> None:
    given = mixed(30, 40)
    t, y, x = given.references_NC[:trained], people_matrix(given, 50)[:unseen], given.outputs_NC
    expected = closer(given, x, t, y)
    to_t, to_y = gower(x, t, given), gower(x, y, given)
    rng, found = np.random.default_rng(0), np.zeros(len(x))
    size = min(trained, unseen)
    for _ in range(4000):
        a = to_t[:, rng.choice(trained, size, replace=False)].min(1)
        b = to_y[:, rng.choice(unseen, size, replace=False)].min(1)
        found += (a < b - 1e-9) + (np.abs(a - b) <= 1e-9) / 2
    assert found / 4000 == pytest.approx(expected, abs=0.04)
    assert 0.02 < expected.mean() < 0.98


def people_matrix(given: Sides, seed: int) -> Any:
    return sides(samples(people(30, seed)), samples(people(30, seed + 1)), samples(people(37, 42))).outputs_NC


def test_placements_have_the_area_under_the_curve_as_their_mean() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 9, 50) + 1.0, rng.integers(0, 9, 70) + 0.0
    area = roc_auc_score(np.repeat([1, 0], [50, 70]), np.r_[left, right])
    assert placements(left, right).mean() == pytest.approx(area)
    assert (1 - placements(right, left)).mean() == pytest.approx(area)


@pytest.mark.parametrize("others", [10, 40, 100])
def test_effects_told_over_examples_keep_their_weight(others: int) -> None:
    effects = np.random.default_rng(0).normal(size=others)
    told = spread_over(effects, 40)
    assert told.mean() == pytest.approx(0.0, abs=1e-12)
    assert told.var() / 40 == pytest.approx(effects.var() / others, rel=0.35)


def test_contributions_have_the_figure_as_their_mean() -> None:
    rng = np.random.default_rng(0)
    true, guess = (rng.random(200) < 0.2).astype(float), rng.random(200)
    found = _contributions(guess, true, "AUC")
    assert found.mean() == pytest.approx(roc_auc_score(true, guess))
    # Hanley and McNeil's bound, roughly: the spread is that of the area, not of a mean of 200 draws.
    draws = [roc_auc_score(true[i], guess[i]) for i in rng.integers(0, 200, (400, 200))]
    assert found.std() / math.sqrt(200) == pytest.approx(np.std(draws), rel=0.2)
    true, guess = rng.normal(size=200), rng.normal(size=200)
    found = _contributions(guess, true, "R2")
    assert found.mean() == pytest.approx(r2_score(true, guess))
    draws = [r2_score(true[i], guess[i]) for i in rng.integers(0, 200, (400, 200))]
    assert found.std() / math.sqrt(200) == pytest.approx(np.std(draws), rel=0.2)


# --- known cases ----------------------------------------------------------------------------------


def test_the_references_themselves_are_perfect() -> None:
    for name in ("marginals", "pair_correlations", "row_coverage"):
        assert figure(name, REAL, REAL, TRAINED).value == pytest.approx(1.0), name
    assert figure("c2st", REAL, REAL, TRAINED).value == pytest.approx(0.5, abs=0.02)
    assert figure("tstr", TRAINED, REAL, TRAINED).value == 1.0


def test_columns_by_themselves_keep_marginals_and_lose_the_rest() -> None:
    made = by_themselves(TRAINED, 0)
    real = {name: figure(name, FRESH, REAL, TRAINED).value for name in NAMES}
    alone = {name: figure(name, made, REAL, TRAINED).value for name in NAMES}
    assert abs(alone["marginals"] - real["marginals"]) < 0.03
    assert alone["pair_correlations"] < real["pair_correlations"] - 0.1
    assert alone["tstr"] < 0.75 < 0.95 < real["tstr"]
    assert alone["c2st"] > 0.9
    assert 0.4 < real["c2st"] < 0.6
    assert alone["row_coverage"] < 0.8 < real["row_coverage"]
    assert 0.4 < alone["closest_share"] < 0.6
    assert 0.4 < alone["membership"] < 0.6


def test_copies_of_training_rows_are_found() -> None:
    share, copies = scorer("closest_share", TRAINED).score(outputs(TRAINED), samples(REAL))
    assert share.value > 0.99
    assert (copies.name, copies.value) == ("exact_copies", 1.0)
    attack, found = scorer("membership", TRAINED).score(outputs(TRAINED), samples(REAL))
    assert attack.value > 0.99
    assert found.value > 0.9
    # Ten rows given away among 200 hardly move the mean; the second figures name them.
    few = [*TRAINED[:10], *FRESH[10:]]
    share, copies = scorer("closest_share", TRAINED).score(outputs(few), samples(REAL))
    assert share.value < 0.6
    assert copies.value == pytest.approx(10 / 200)


def test_a_difference_in_one_number_is_no_exact_copy() -> None:
    rows, known = np.array([[1.0, np.nan], [1.0, 2.0], [-0.0, 1.0]]), np.array([[1.0, np.nan], [0.0, 1.0]])
    assert list(equal_rows(rows, known)) == [True, False, True]


def test_missing_values_count() -> None:
    made = [{**row, "weight": None} for row in FRESH]
    assert figure("marginals", made, REAL, TRAINED).value < figure("marginals", FRESH, REAL, TRAINED).value - 0.1
    assert figure("pair_correlations", made, REAL, TRAINED).value < figure("pair_correlations", FRESH, REAL, None).value
    assert figure("c2st", made, REAL, TRAINED).value > 0.9


def only(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    return [{name: row[name] for name in names} for row in rows]


@pytest.mark.parametrize("names", [("shirt", "tall"), ("height", "weight", "children")])
def test_tables_of_one_kind(names: tuple[str, ...]) -> None:
    real, trained, fresh = (only(rows, names) for rows in (REAL, TRAINED, FRESH))
    for name in NAMES:
        scores = scorer(name, trained).score(outputs(fresh), samples(real))
        assert all(s.low <= s.value <= s.high and s.n <= 200 for s in scores), name
        alone = figure(name, by_themselves(trained, 0), real, trained)
        if name in ("pair_correlations", "c2st"):
            assert scores[0].better_than(alone), name


def test_the_target_of_tstr() -> None:
    rows = people(30, 0)
    given = sides(samples(rows), samples(rows), None)
    assert given.names[target_of(given)] == "tall"
    assert given.names[target_of(given, "children")] == "children"
    numbers = only(rows, ("height", "weight", "seen"))
    assert target_of(sides(samples(numbers), samples(numbers), None)) == 1
    with pytest.raises(DataError, match="Did you mean 'height'"):
        target_of(given, "heigth")


@pytest.mark.parametrize(
    ("target", "said"), [("tall", "AUC"), ("shirt", "accuracy"), ("weight", "R2"), ("height", "R2")]
)
def test_tstr_of_each_kind_of_target(target: str, said: str) -> None:
    good = figure("tstr", FRESH, REAL, TRAINED, target=target)
    bad = figure("tstr", by_themselves(TRAINED, 0), REAL, TRAINED, target=target)
    assert good.note.startswith(f"{said} of {target}")
    assert good.value > 0.9 > bad.value
    assert good.low < good.value < good.high
    unknown = figure("tstr", FRESH, REAL, None, target=target)
    assert unknown.value == pytest.approx(good.value, abs=0.15)
    assert "cross-fitted" in unknown.note


def test_tstr_where_outputs_know_one_class_only() -> None:
    made = [{**row, "tall": "yes"} for row in FRESH]
    score = figure("tstr", made, REAL, TRAINED)
    assert "0.5000 from outputs" in score.note
    made = [{**row, "weight": None} for row in FRESH]
    assert figure("tstr", made, REAL, TRAINED, target="weight").value < 0


# --- rules ----------------------------------------------------------------------------------------

RULES = {"constraints": ["height > 100", "children <= 3"], "key": ["height"], "types": {"height": "numeric"}}


def test_violations_count_constraints_and_the_key() -> None:
    real = samples(people(20, 0), **RULES)
    rows = [{**row, "height": 101.0 + i, "children": 1} for i, row in enumerate(people(20, 1))]
    assert violations().values(outputs(rows), real) == [0.0] * 20
    rows[3] = {**rows[3], "children": 4}
    rows[5] = {**rows[5], "height": 99.0, "children": 5}
    rows[9] = {**rows[9], "height": rows[8]["height"]}
    values = violations().values(outputs(rows), real)
    assert [i for i, value in enumerate(values) if value] == [3, 5, 9]
    first, worst = violations().score(outputs(rows), real)
    assert first.value == pytest.approx(0.15)
    assert (worst.value, worst.note) == (pytest.approx(0.1), "children <= 3")
    # A missing value breaks nothing.
    assert violations().values(outputs([{**rows[3], "children": None}]), real[:1]) == [0.0]


def test_violations_of_a_setting_come_before_what_is_declared() -> None:
    real, rows = samples(people(20, 0), **RULES), outputs(people(20, 1))
    strict = violations(constraints=["height > 1000"])
    assert strict.score(rows, real)[0].value == 1.0
    assert strict.digest != violations().digest
    none = violations().score(outputs(people(20, 1)), samples(people(20, 0)))
    assert [s.value for s in none] == [0.0]
    assert none[0].note == "no constraint is declared"
    with pytest.raises(DataError, match="heigth"):
        violations(constraints=["heigth > 1"]).score(rows, real)


# --- what every one of them keeps -----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_it_ranks_its_ladder(name: str) -> None:
    judge = build({name: {"training": training()}})[name]
    assert isinstance(judge, Scorer)
    assert judge.modality == "table"  # type: ignore[attr-defined]
    for seed in (0, 1):
        best, middle, worst = (judge.score(made, real)[0] for made, real in rungs(judge.ladder, seed=seed))
        assert best.better_than(middle), f"{best} against {middle}"
        assert middle.better_than(worst), f"{middle} against {worst}"
        assert best.name == name == judge.name
        assert best.direction == judge.direction


@pytest.mark.parametrize("name", NAMES)
def test_its_values_have_the_figure_as_mean_and_it_says_the_same_again(name: str) -> None:
    made, real = outputs(FRESH[:80]), samples(REAL[:80])
    judge = scorer(name, TRAINED)
    values = judge.values(made, real)
    scores = judge.score(made, real)
    assert len(values) == 80
    assert np.mean(values) == pytest.approx(scores[0].value)
    again = scorer(name, TRAINED)
    assert again.score(made, real) == scores
    assert again.values(made, real) == values
    assert len({s.name for s in scores}) == len(scores)
    assert judge.digest == again.digest != scorer(name, FRESH).digest  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_too_little_is_refused(name: str) -> None:
    judge = scorer(name, TRAINED)
    with pytest.raises(DataError, match="n=0"):
        judge.score([], [])
    with pytest.raises(DataError, match="do not belong"):
        judge.score(outputs(FRESH[:1]), samples(REAL[:3]))
    with pytest.raises(DataError, match="holds no row"):
        judge.score([Output("a text"), Output("another")], samples(REAL[:2]))
    if name in SETS:
        with pytest.raises(DataError, match="n=1"):
            judge.score(outputs(FRESH[:1]), samples(REAL[:1]))
    else:
        assert judge.score(outputs(FRESH[:1]), samples(REAL[:1]))[0].n == 1
    assert len(judge.values(outputs(FRESH[:2]), samples(REAL[:2]))) == 2


@pytest.mark.parametrize("name", ["closest_share", "membership"])
def test_privacy_needs_the_training_rows(name: str) -> None:
    for rows in (None, []):
        with pytest.raises(SettingError, match="training"):
            scorer(name, rows).score(outputs(FRESH), samples(REAL))


def test_one_column_has_no_pairs_and_nothing_to_predict_from() -> None:
    one = only(REAL, ("height",))
    for name in ("pair_correlations", "tstr"):
        with pytest.raises(DataError, match="one column"):
            figure(name, one, one, one)
    assert figure("c2st", only(FRESH, ("height",)), one, one).value < 0.65


def test_a_value_of_another_kind_is_named() -> None:
    with pytest.raises(DataError, match="height"):
        figure("marginals", [{**row, "height": "tall"} for row in FRESH], REAL, TRAINED)


def test_a_category_that_real_rows_lack_is_no_hit() -> None:
    made = [{**row, "tall": "perhaps"} for row in FRESH]
    assert figure("marginals", made, REAL, TRAINED).value < figure("marginals", FRESH, REAL, TRAINED).value - 0.1
    assert figure("c2st", made, REAL, TRAINED).value > 0.95


def test_many_categories_stay_apart() -> None:
    rows = [{"code": f"c{i % 300}", "x": float(i % 300)} for i in range(600)]
    made = [{"code": f"c{(i + 1) % 300}", "x": float(i % 300)} for i in range(600)]
    score = scorer("closest_share", rows).score(outputs(made), samples(rows))[1]
    assert score.value == 0.0
    assert figure("c2st", made, rows, rows).n == 600


def test_an_empty_column_is_left_out() -> None:
    real = [{**row, "nothing": None} for row in REAL[:40]]
    declared = samples(real, types={"nothing": "numeric"})
    judge = build({"marginals": {"training": declared}})["marginals"]
    assert judge.score(outputs(real), declared)[0].value == 1.0


def test_ladders_are_as_large_as_asked_and_never_small() -> None:
    for n, size in ((10, LEAST), (250, 250)):
        for made, real in rungs("memorisation", n=n):
            assert len(made) == len(real) == size
    assert [s.content for s in training(250)[:LEAST]] == [s.content for s in training()]
    with pytest.raises(SettingError, match="Did you mean 'fidelity'"):
        rungs("fidelty")
