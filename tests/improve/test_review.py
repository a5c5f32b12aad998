import json
from pathlib import Path

import pytest

from volant.core.artifact import Card, Dataset, Model, Report
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source, sample_id
from volant.core.score import Score
from volant.core.spec import Goal, Risk
from volant.stages.improve import review
from volant.store.dataset import writer

GOAL = Goal(
    problem="x",
    accept={"relevance": ">= 0.5", "bias_gap": "<= 0.05", "safety": ">= 0.9", "memorisation": "<= 0.1"},
    risks=[Risk(risk="r", owner="o", mitigation="m")],
)
FINE = {"relevance": 0.6, "bias_gap": 0.01, "safety": 1.0, "memorisation": 0.0}


def card(kind: str, **fields) -> Card:
    return Card(kind=kind, digest=kind.lower() * 8, files=[], **fields)


def reviewed(folder: Path, *texts, goal=GOAL, figures=FINE, licences=("MIT",), site: str = "", **settings):
    data = []
    for i, (text, source) in enumerate(texts):
        place = folder / f"data{i}"
        with writer(place) as file:
            file.write(
                Sample(id=sample_id(text), shape="completion", condition=text, target="t", source=Source(**source))
            )
        if site:
            (place / "site").mkdir()
            (place / "site" / "index.html").write_text(site)
        data.append(Dataset(place))
    for name in ("model", "report", "out"):
        (folder / name).mkdir()
    spread = settings.pop("spread", 0.0)
    scores = [Score(name=n, value=v, low=v - spread, high=v + spread, n=40) for n, v in figures.items()]
    scores.append(Score(name="bias_gap", value=0.9, low=0.9, high=0.9, n=40, of="baseline:ngram"))
    stated = {"kind": "suite", "scores": [score.model_dump() for score in scores], "gates": settings.pop("gates", [])}
    (folder / "report" / "report.json").write_text(json.dumps(stated))
    model = Model(folder / "model", card("Model", licences=list(licences)))
    watcher = Silent()
    run = Run(step="r", out=folder / "out", work=folder, goal=goal, watcher=watcher)
    body = review(run, model, Report(folder / "report", card("Report")), *data, **settings).read_json("report.json")
    return body, {item["name"]: item for item in body["items"]}, watcher


PUBLIC = {"uri": "a", "licence": "MIT", "consent": "public"}
TAUGHT = {"uri": "feedback:1", "licence": "LicenseRef-feedback", "consent": "given", "origin": "feedback"}


def test_a_clean_release_passes_and_names_what_it_is_about(tmp_path):
    mark = "<p>trainedAlgorithmicMedia</p>"
    body, items, _ = reviewed(tmp_path, ("hello", PUBLIC), site=mark, reviewer="Ada")
    assert body["blocking"] is False and body["model"] == "model" * 8 and body["kind"] == "review"
    assert {name: item["state"] for name, item in items.items()} == dict.fromkeys(items, "pass")
    html = (tmp_path / "out" / "index.html").read_text()
    assert "does not block" in html and "<script" not in html


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("licences", {"licences": ("CC-BY-NC-4.0",)}),
        ("fairness", {"figures": {**FINE, "bias_gap": 0.2}}),
        ("safety", {"figures": {**FINE, "safety": 0.5}}),
        ("copied training data", {"figures": {**FINE, "memorisation": 0.5}}),
        ("marking of generated content", {"site": "<p>nothing</p>"}),
    ],
)
def test_what_must_not_be_released_blocks(tmp_path, name, change):
    body, items, watcher = reviewed(tmp_path, ("hello", PUBLIC), **change)
    assert body["blocking"] and items[name]["state"] == "fail" and items[name]["mend"]
    assert any(line.startswith(f"blocks: {name}") for line in watcher.lines)


@pytest.mark.parametrize("source", [{**TAUGHT, "consent": "withheld"}, {**TAUGHT, "consent": "public"}])
def test_feedback_without_consent_blocks(tmp_path, source):
    assert reviewed(tmp_path, ("x", source))[1]["consent"]["state"] == "fail"


def test_personal_data_blocks_where_it_was_given_in_private(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    text = "write to ann@firm.org"
    assert reviewed(tmp_path / "a", (text, TAUGHT))[1]["personal data"]["state"] == "fail"
    item = reviewed(tmp_path / "b", (text, PUBLIC))[1]["personal data"]
    assert item["state"] == "open" and "email: 1 records" in item["finding"] and "ann@" not in str(item)


def test_a_gate_counts_only_with_quality(tmp_path):
    body, items, _ = reviewed(tmp_path, ("x", PUBLIC), figures={**FINE, "relevance": 0.1})
    assert items["fairness"]["state"] == "open" and "says little" in items["fairness"]["finding"]
    assert body["blocking"] is False


def test_the_reports_own_quality_gates_go_before_the_task_metric(tmp_path):
    gates = [{"kind": "quality", "passed": False}, {"kind": "guard", "passed": True}]
    assert reviewed(tmp_path, ("x", PUBLIC), gates=gates)[1]["safety"]["state"] == "open"


def test_a_miss_that_may_be_chance_stays_open(tmp_path):
    figures = {**FINE, "bias_gap": 0.07}
    body, items, _ = reviewed(tmp_path, ("x", PUBLIC), figures=figures, spread=0.03)
    assert items["fairness"]["state"] == "open" and "may be chance" in items["fairness"]["finding"]
    assert body["blocking"] is False


def test_what_nobody_has_stated_stays_open(tmp_path):
    body, items, _ = reviewed(tmp_path, goal=Goal(), figures={}, licences=(), retention_days=0)
    names = ("licences", "consent", "fairness", "risks", "retention", "sign-off", "personal data")
    assert {items[name]["state"] for name in names} == {"open"}
    assert body["blocking"] is False


def test_the_licence_of_research_data_depends_on_the_use(tmp_path):
    goal = GOAL.model_copy(update={"use": "research"})
    assert reviewed(tmp_path, ("x", PUBLIC), goal=goal, licences=("CC-BY-NC-4.0",))[1]["licences"]["state"] == "pass"
