import random
from pathlib import Path

import numpy as np
import pytest

import toy_content
from volant.core.artifact import Dataset, Model
from volant.core.errors import DataError, SettingError
from volant.core.outside import Snapshot
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source, sample_id
from volant.scorers import parts, shift
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


def drifted(folder: Path, data: Dataset, records, modality: str = "text", **settings):
    out = folder / f"out{len(list(folder.iterdir()))}"
    out.mkdir()
    watcher = Silent()
    seed = settings.pop("seed", 0)
    run = Run(step="d", out=out, work=folder, records=records, watcher=watcher, seed=seed, modality=modality)
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


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr("volant.modalities.open_modality", lambda name: toy_content.Modality())
    return "toy"


def pictures(folder: Path, n: int, seed: int, *, shares=(0.4, 0.3, 0.3), level: int = 120) -> Dataset:
    draw = np.random.default_rng(seed)
    with writer(folder / f"pictures{seed}") as file:
        for i in range(n):
            colour = int(draw.choice(3, p=shares))
            rgb = [0, 0, 0]
            rgb[colour] = int(draw.normal(level, 20))
            found = toy_content.painted(rgb, list(toy_content.COLOURS)[colour])
            file.write(found.model_copy(update={"id": f"{seed}-{i}", "split": "train"}))
    return Dataset(folder / f"pictures{seed}")


class Asked(FakeRecords):
    """Requests for pictures, as the server records them."""

    def __init__(self, prompts):
        super().__init__([])
        self.rows = [{"at": "2026-11-20T10:00:00+00:00", "request": {"prompt": p, "n": 1}, "response": {"data": []}}
                     for p in prompts]  # fmt: skip


def classes(n: int, seed: int, shares) -> list[str]:
    return [str(c) for c in np.random.default_rng(seed).choice(list(toy_content.COLOURS), n, p=shares)]


def test_requests_for_other_classes_are_drift_and_the_same_shares_are_not(tmp_path, toy):
    data = pictures(tmp_path, 300, 1)
    body, _, out = drifted(tmp_path, data, Asked(classes(100, 2, (0.05, 0.05, 0.9))), modality=toy)
    assert body["verdict"] == "drift" and set(body["tests"]) == {"discrepancy", "condition"}
    psi = next(s for s in body["scores"] if s["name"] == "psi")
    auc = next(s for s in body["scores"] if s["name"] == "classifier_auc")
    assert psi["low"] > 0.25 and psi["of"] == "condition" and auc["low"] > 0.65
    body, _, _ = drifted(tmp_path, data, Asked(classes(100, 3, (0.4, 0.3, 0.3))), modality=toy)
    auc = next(s for s in body["scores"] if s["name"] == "classifier_auc")
    assert body["verdict"] == "stable" and 0.35 < auc["value"] < 0.65
    asked = [f"{word} {number}" for number, word in enumerate(["a violet sky"] * 40)]
    body, _, _ = drifted(tmp_path, data, Asked(asked), modality=toy)
    assert "violet" in [word for word, _ in body["new_words"]]
    body, _, _ = drifted(tmp_path, data, Asked(["red", "", "blue"]), modality=toy)
    assert body["verdict"] == "too few requests"


def test_fresh_pictures_are_compared_whole_and_by_their_parts(tmp_path, toy):
    data, none = pictures(tmp_path, 200, 1), Asked([])
    body, _, _ = drifted(tmp_path, data, none, modality=toy, recent=pictures(tmp_path, 80, 2))
    assert body["verdict"] == "stable" and set(body["tests"]) == {"discrepancy", "brightness", "class"}
    body, _, out = drifted(tmp_path, data, none, modality=toy, recent=pictures(tmp_path, 80, 3, level=160))
    assert body["verdict"] == "drift" and body["tests"]["brightness"] < 0.001 < body["tests"]["class"]
    assert any("brightness" in reason for reason in body["reasons"])
    body, _, _ = drifted(tmp_path, data, none, modality=toy, recent=pictures(tmp_path, 80, 4, shares=(0.8, 0.1, 0.1)))
    assert body["verdict"] == "drift" and body["tests"]["class"] < 0.02
    body, _, _ = drifted(tmp_path, data, none, modality=toy, recent=pictures(tmp_path, 5, 5))
    assert body["verdict"] == "too few examples"
    with pytest.raises(DataError, match="has 5 training examples, 20 are needed"):
        drifted(tmp_path, pictures(tmp_path, 5, 6), none, modality=toy, recent=data)


def test_a_judge_gives_the_features(tmp_path, toy, monkeypatch):
    """A judge that sees no difference, where the modality's own features see one; and a model that is no judge."""

    class Blind:
        def features(self, samples):
            return np.array([[len(s.media or b"") % 7, i % 5] for i, s in enumerate(samples)], np.float32)

    folder = tmp_path / "judge"
    folder.mkdir()
    (folder / "volant.json").write_text('{"family": "loop", "modality": "toy"}')
    from volant.nets import loop

    monkeypatch.setattr(loop, "open_judge", lambda model: Blind(), raising=False)
    data, moved = pictures(tmp_path, 100, 1), pictures(tmp_path, 60, 3, level=180)
    seen, _, _ = drifted(tmp_path, data, None, modality=toy, recent=moved)
    blind, _, _ = drifted(tmp_path, data, None, modality=toy, recent=moved, judge=Model(folder))
    assert seen["tests"]["discrepancy"] < 0.05 < blind["tests"]["discrepancy"]
    (folder / "volant.json").write_text('{"family": "transformer", "modality": "toy"}')
    with pytest.raises(SettingError, match="'transformer' is no judge"):
        drifted(tmp_path, data, None, modality=toy, recent=moved, judge=Model(folder))
    _, watcher, _ = drifted(tmp_path, data, Asked(classes(30, 3, (0.4, 0.3, 0.3))), modality=toy, judge=Model(folder))
    assert any("judge is not used" in line for line in watcher.lines)


def test_fresh_prompts_take_the_place_of_the_requests(tmp_path):
    data = training(tmp_path, asks(CODE, 100, 1))
    (tmp_path / "fresh").mkdir()
    fresh = training(tmp_path / "fresh", asks(COOK, 60, 2))
    body, _, _ = drifted(tmp_path, data, FakeRecords(asks(CODE, 60, 3)), recent=fresh)
    assert body["verdict"] == "drift" and body["scores"][0]["name"] == "prompts"


def test_parts_find_what_moved_and_what_is_missing():
    draw = np.random.default_rng(0)

    def side(n, *, age=40.0, gone=0.0, kinds=(0.6, 0.3, 0.1)):
        ages = draw.normal(age, 10, n)
        ages[draw.random(n) < gone] = np.nan
        return {"age": ages.tolist(), "job": [str(j) for j in draw.choice(list("abc"), n, p=kinds)], "same": ["x"] * n}

    def found(right):
        compared = parts.compare(side(300), right, random=np.random.default_rng(1), permutations=199)
        return {name: p for apart in compared for name, p in apart.tests.items()}, {a.psi.of: a.psi for a in compared}

    tests, psi = found(side(100))
    assert set(tests) == {"age", "job"} and min(tests.values()) > 0.02 and psi["age"].value < 0.35
    tests, psi = found(side(100, age=52))
    assert tests["age"] < 1e-6 and tests["job"] > 0.02 and psi["age"].low > 0.25
    tests, _ = found(side(100, gone=0.2))
    assert tests["age (missing)"] == 1 / 200 and tests["age"] > 0.02
    tests, psi = found(side(100, kinds=(0.2, 0.3, 0.5)))
    assert tests["job"] == 1 / 200 and psi["job"].value > psi["age"].value
    with pytest.raises(DataError, match="differ in their parts"):
        found({"age": [1.0]})


def test_the_index_is_the_published_formula():
    """Two equal bins of 500 against 250 and 750: (0.25 - 0.5) ln(0.5) + (0.75 - 0.5) ln(1.5), counts being smoothed."""
    kinds = ["a"] * 500 + ["b"] * 500
    moved = ["a"] * 250 + ["b"] * 750
    (apart,) = parts.compare({"k": kinds}, {"k": moved}, random=np.random.default_rng(0), permutations=99)
    assert apart.psi.value == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5), rel=0.01)
    assert apart.psi.low < apart.psi.value < apart.psi.high


def test_categories_alarm_as_often_as_the_level_says():
    """300 looks at two equal worlds, rare categories among them, at 0.05: at most 9 % alarm (binomial, p < 0.002)."""
    alarms = 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        kinds = draw.choice(8, 90, p=[0.5, 0.3, 0.1, 0.04, 0.03, 0.01, 0.01, 0.01])
        alarms += parts.permuted(kinds, 60, draw, 99) <= 0.05
    assert alarms <= 27


def test_a_reservoir_holds_no_more_and_each_is_as_likely():
    counts = np.zeros(12)
    samples = shift.as_samples([f"t{i}" for i in range(12)])
    for seed in range(600):
        kept = shift.sampled(iter(samples), 4, seed)
        places = [samples.index(s) for s in kept]
        assert len(kept) == 4 and places == sorted(places)
        counts[places] += 1
    assert counts.min() > 150 and counts.max() < 250  # 200 expected, deviation 11.5
