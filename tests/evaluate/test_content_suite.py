"""`evaluate.suite` and `evaluate.compare` on pictures with a judge and on rows: gates, baselines, pages."""

from __future__ import annotations

import json

import pytest

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import payload_digest
from volant.core.errors import SettingError
from volant.modalities import open_modality
from volant.stages.evaluate import compare, suite
from volant.stages.pretrain import fit

IMAGES = ["class_accuracy", "frechet_ratio", "recall", "nearest_ratio"]
ACCEPT = {"class_accuracy": ">= 0.8", "frechet_ratio": "<= 60", "recall": ">= 0.02", "nearest_ratio": ">= 0.3"}
BOUNDS = {"c2st": "<= 0.95", "row_coverage": ">= 0.2", "closest_share": "<= 0.9"}
ROWS = ["marginals", "c2st", "row_coverage", "closest_share"]


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """Enough to tell figures of sets apart from chance."""
    folder = tmp_path_factory.mktemp("more")
    return {
        "image": tiny.stored(folder / "pictures", tiny.pictures(240, seed=4)),
        "table": tiny.stored(folder / "people", tiny.people(900, seed=4)),
    }


@pytest.fixture(scope="module")
def trees(more, tmp_path_factory):
    """A tree of all rows, and one of columns that know nothing of each other."""
    folder = tmp_path_factory.mktemp("trees")
    sizes = {"good": {"leaf": 5}, "poor": {"independent": True}}
    return {n: fit(tiny.content_run(folder / n, "table"), more["table"], size=size) for n, size in sizes.items()}


def body_of(report):
    return json.loads((report.path / "report.json").read_text())


def test_a_suite_of_pictures(shelf, more, tmp_path):
    settings = {"judge": shelf.judge, "scorers": IMAGES, "limit": 24}
    run = tiny.content_run(tmp_path / "a", "image", metric="class_accuracy", accept=ACCEPT)
    made = suite(run, shelf.flow, more["image"], **settings)
    body = body_of(made)
    assert {s["of"] for s in body["scores"]} >= {"model", "baseline:gaussian"}
    assert set(body["values"]["model"]) == set(IMAGES) and len(body["values"]["model"]["recall"]) == 24
    named = {gate["name"] for gate in body["gates"]}
    assert {"class_accuracy", "frechet_ratio", "recall", "nearest_ratio"} <= named
    assert body["verdict"] in ("ship", "retrain", "collect more", "stop") and body["reasons"]
    assert body["comparisons"]["baseline:gaussian"] and "bits_per_byte" not in body["values"]["model"]
    page = (made.path / "index.html").read_text()
    assert page.count("<img") >= 3 * 24  # the real ones, the model's, the baseline's
    assert {s.name for s in watched(run).scores} >= set(IMAGES)
    again = tiny.content_run(tmp_path / "b", "image", metric="class_accuracy", accept=ACCEPT)
    assert payload_digest(suite(again, shelf.flow, more["image"], **settings).path) == payload_digest(made.path)


def test_without_a_judge_it_says_what_is_missing(shelf, more, tmp_path):
    with pytest.raises(SettingError, match="needs a judge") as refused:
        suite(tiny.content_run(tmp_path, "image"), shelf.flow, more["image"], scorers=["recall"], limit=8)
    assert "pretrain.judge" in refused.value.fix


def test_a_suite_of_rows(trees, more, tmp_path):
    run = tiny.content_run(tmp_path, "table", metric="marginals", accept=BOUNDS)
    made = suite(run, trees["good"], more["table"], previous=trees["poor"], scorers=ROWS, limit=50)
    body = body_of(made)
    assert {s["of"] for s in body["scores"]} >= {"model", "previous", "baseline:cart", "baseline:marginals"}
    assert {"c2st", "row_coverage", "closest_share"} <= {gate["name"] for gate in body["gates"]}
    page = (made.path / "index.html").read_text()
    assert "nurse" in page and "<svg" in page


def test_rows_without_joint_structure_are_worse_and_do_not_pass(trees, more, tmp_path):
    run = tiny.content_run(tmp_path / "a", "table", metric="pair_correlations")
    body = body_of(
        compare(run, trees["poor"], more["table"], champion=trees["good"], metric="pair_correlations", limit=150)
    )
    assert body["verdict"] == "worse" and body["p"] > 0.95 and not body["better"]
    not_worse, *guards = body["gates"]
    assert not_worse["name"] == "not_worse" and not not_worse["passed"]
    assert [g["name"] for g in guards] == list(open_modality("table").gates())
    assert not any(g["counts"] for g in guards)  # guards count only together with quality
    run = tiny.content_run(tmp_path / "b", "table", metric="pair_correlations")
    other = body_of(
        compare(run, trees["good"], more["table"], champion=trees["poor"], metric="pair_correlations", limit=150)
    )
    assert other["verdict"] == "better" and other["p"] < 0.05


def test_pictures_are_compared_with_the_goal_s_baseline(shelf, more, tmp_path):
    run = tiny.content_run(tmp_path, "image")
    made = compare(run, shelf.flow, more["image"], judge=shelf.judge, metric="class_accuracy", limit=24)
    body = body_of(made)
    assert body["against"] == "gaussian" and body["n"] == 24 and len(body["values"]["against"]) == 24
    assert {"frechet_ratio", "recall", "nearest_ratio"} <= {g["name"] for g in body["gates"]}
