import random
from pathlib import Path

import numpy as np
import pytest

from volant.core.artifact import Dataset
from volant.core.errors import DataError
from volant.core.outside import Snapshot
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source, sample_id
from volant.scorers import shift
from volant.stages.improve import drift
from volant.store.dataset import writer

CODE = tuple(
    "read write file parse json list sort count path open close number string name value key item".split()  # noqa: SIM905
)
COOK = tuple(
    "boil onion salt pepper oven butter garlic stew roast lemon sugar flour bread soup spoon plate".split()  # noqa: SIM905
)


def asks(words: tuple[str, ...], n: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [
        f"def {'_'.join(draw.sample(words, 2))}({', '.join(draw.sample(words, draw.randint(1, 4)))}):" for _ in range(n)
    ]


def training(folder: Path, prompts: list[str]) -> Dataset:
    source = Source(uri="x", licence="MIT")
    with writer(folder / "data") as file:
        for i, prompt in enumerate(prompts):
            file.write(
                Sample(id=sample_id(prompt, str(i)), shape="completion", condition=prompt, target="x", source=source)
            )
    return Dataset(folder / "data")


class FakeRecords:
    def __init__(self, prompts, at="2026-11-20T10:00:00+00:00"):
        self.rows = [{"at": at, "request": {"messages": [{"role": "user", "content": p}]}} for p in prompts]

    def requests(self, snapshot):
        return iter(self.rows)


def drifted(folder: Path, data: Dataset, records, **settings):
    out = folder / f"out{len(list(folder.iterdir()))}"
    out.mkdir()
    watcher = Silent()
    run = Run(step="d", out=out, work=folder, records=records, watcher=watcher, seed=settings.pop("seed", 0))
    run.outside["workload"] = Snapshot("records", "*", facts={"workload": "*", "requests": 9})
    return drift(run, data, permutations=199, **settings).read_json("report.json"), watcher, out


def test_seeded_drift_is_detected_and_the_same_week_is_not(tmp_path):
    data = training(tmp_path, asks(CODE, 200, 1))
    body, _, out = drifted(tmp_path, data, FakeRecords(asks(COOK, 60, 2)))
    assert body["verdict"] == "drift" and body["tests"]["discrepancy"] <= 0.02
    auc = next(s for s in body["scores"] if s["name"] == "classifier_auc")
    assert auc["low"] > 0.9
    assert "onion" in [word for word, _ in body["new_words"]]
    unknown = {s["of"]: s["value"] for s in body["scores"] if s["name"] == "unknown_words"}
    assert unknown["model"] > 0.5 > unknown["training, held out"]
    html = (out / "index.html").read_text()
    assert "drift" in html and "def " not in html  # no request is quoted
    body, _, _ = drifted(tmp_path, data, FakeRecords(asks(CODE, 60, 3)))
    assert body["verdict"] == "stable"


def test_lengths_alone_are_drift(tmp_path):
    data = training(tmp_path, asks(CODE, 100, 1))
    longer = [f"{a} {b} {c}" for a, b, c in zip(asks(CODE, 60, 4), asks(CODE, 60, 5), asks(CODE, 60, 6), strict=True)]
    body, _, _ = drifted(tmp_path, data, FakeRecords(longer))
    assert body["verdict"] == "drift" and body["tests"]["length"] < 0.001


def test_too_few_requests_are_said_and_repeats_count_once(tmp_path):
    data = training(tmp_path, asks(CODE, 50, 1))
    body, watcher, _ = drifted(tmp_path, data, FakeRecords([]))
    assert body["verdict"] == "too few requests" and body["tests"] == {}
    body, watcher, _ = drifted(tmp_path, data, FakeRecords(["the same"] * 500))
    assert body["verdict"] == "too few requests" and "1 different requests" in watcher.lines[-1]


def test_only_the_last_days_before_the_newest_request_count(tmp_path):
    data = training(tmp_path, asks(CODE, 100, 1))
    records = FakeRecords(asks(COOK, 60, 2), at="2026-10-01T10:00:00+00:00")
    records.rows += FakeRecords(asks(CODE, 60, 3)).rows
    assert drifted(tmp_path, data, records)[0]["verdict"] == "stable"
    assert drifted(tmp_path, data, records, days=100)[0]["verdict"] == "drift"


def test_the_report_is_seeded(tmp_path):
    data, records = training(tmp_path, asks(CODE, 80, 1)), FakeRecords(asks(CODE, 40, 3))
    first, second, other = (drifted(tmp_path, data, records, seed=s, most=30)[0] for s in (1, 1, 2))
    assert first == second != other


def test_a_dataset_without_prompts_is_refused(tmp_path):
    with pytest.raises(DataError, match="3 different training prompts"):
        drifted(tmp_path, training(tmp_path, ["a", "b", "c"]), FakeRecords(asks(CODE, 40, 3)))


def test_false_alarms_come_as_often_as_the_level_says():
    """150 looks at two equal worlds at level 0.05: between 0 and 10 % alarm (binomial, p < 0.01 beyond)."""
    from scipy.stats import ks_2samp

    alarms = 0
    for seed in range(150):
        draw = np.random.default_rng(seed)
        x_ND = draw.normal(size=(70, 8)) * draw.uniform(0.5, 2, 8)
        _, p = shift.discrepancy(x_ND, 40, draw, 99)
        lengths = draw.lognormal(3, 0.5, 70)
        tests = shift.holm({"a": p, "b": float(ks_2samp(lengths[:40], lengths[40:], method="asymp").pvalue)})
        alarms += min(tests.values()) < 0.05
    assert alarms <= 15


def test_discrepancy_finds_a_small_shift_that_grows_with_the_shift():
    draw = np.random.default_rng(0)
    base = draw.normal(size=(120, 8))
    found = []
    for step in (0.0, 0.5, 1.0):
        moved = base.copy()
        moved[60:] += step
        found.append(shift.discrepancy(moved, 60, np.random.default_rng(1), 199))
    values, ps = zip(*found, strict=True)
    assert values[0] < values[1] < values[2] and ps[0] > 0.05 and ps[2] == 1 / 200


def test_requests_that_training_already_has_are_not_told_apart(tmp_path):
    prompts = asks(CODE, 80, 1)
    body, _, _ = drifted(tmp_path, training(tmp_path, prompts), FakeRecords(prompts[:50]))
    auc = next(s for s in body["scores"] if s["name"] == "classifier_auc")
    assert body["verdict"] == "stable" and 0.35 < auc["value"] < 0.65


def test_holm_never_lowers_a_p():
    assert shift.holm({"a": 0.01, "b": 0.04}) == {"a": 0.02, "b": 0.04}
    assert shift.holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
