import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from volant.core.artifact import Plan
from volant.core.errors import MachineError, RemoteError, SettingError
from volant.core.outside import OutsideFile, Snapshot
from volant.core.paths import Resolver
from volant.core.run import Run, Silent
from volant.core.score import Score
from volant.core.spec import Goal, Risk
from volant.stages import plan
from volant.stages.plan import estimates, landscape, scaling

GOAL = Goal(
    problem="Write a one-line docstring for a Python function",
    accept={"relevance": ">= 0.5"},
    risks=[Risk(risk="copies its training data", owner="Ada", mitigation="span check"), Risk(risk="invents <facts>")],
)


def make_run(folder: Path, **fields) -> Run:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    given = {"goal": GOAL, "resolver": Resolver.for_project(folder), **fields}
    return Run(step="s", out=out, work=folder, **given)


class FakeRecords:
    def __init__(self, rows):
        self.rows = rows

    def runs(self, method=None):
        return iter(self.rows)


def facts(**more) -> dict[str, Snapshot]:
    known = {"cores": 2, "memory_bytes": 4 << 30, "disk_free_bytes": 9 << 30, "bf16": False, **more}
    return {"machine": Snapshot("machine", "here", facts=known)}


def test_brief_keeps_the_goal_and_says_what_is_missing(tmp_path):
    run = make_run(tmp_path)
    made = plan.brief(run, audience="programmers", accept={"safety": ">= 0.9"}, risks=[{"risk": "leaks names"}])
    body = made.read_json("plan.json")
    assert body["targets"] == [
        {"metric": "relevance", "sign": ">=", "bar": 0.5},
        {"metric": "safety", "sign": ">=", "bar": 0.9},
    ]
    assert [r["risk"] for r in body["risks"]] == ["copies its training data", "invents <facts>", "leaks names"]
    text = " ".join(body["missing"])
    assert "an owner of the risk 'invents <facts>'" in text and "a mitigation of the risk 'leaks names'" in text
    assert "copies its training data" not in text and "goal.accept.safety" not in text
    assert "goal.accept.bias_gap" in text
    html = (run.out / "index.html").read_text()
    assert "invents &lt;facts&gt;" in html and "invents <facts>" not in html
    assert "src=" not in html and "http" not in html.replace("http-equiv", "")  # self-contained


def test_brief_refuses_an_unstated_problem_and_bad_targets(tmp_path):
    with pytest.raises(SettingError, match="no problem is stated"):
        plan.brief(make_run(tmp_path, goal=Goal()))
    with pytest.raises(SettingError, match="relevance"):
        plan.brief(make_run(tmp_path), accept={"relevance": "0.5"})
    with pytest.raises(SettingError, match="risk"):
        plan.brief(make_run(tmp_path), risks=[{"rsk": "x"}])


def local_model(folder: Path, licence: str = "apache-2.0", config: dict | None = None) -> tuple[OutsideFile, ...]:
    files = {
        "small/config.json": json.dumps(config or {"model_type": "qwen3", "dtype": "float32"}),
        "small/README.md": f"---\nlicense: {licence}\n---\n",
        "small/model.safetensors": "x" * 4000,
    }
    found = []
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        found.append(OutsideFile(path, name, len(text), "0"))
    return tuple(found)


def past_run(value: float) -> dict:
    score = {"name": "relevance", "value": value, "of": "model"}
    return {"step": "tuned", "method": "finetune.lora", "status": "done", "artifact": "ab" * 32, "scores": [score]}


def surveyed(tmp_path, outside=None, records=None, **settings) -> dict:
    run = make_run(tmp_path, outside=outside or {}, records=records)
    return plan.survey(run, **settings).read_json("plan.json")


def test_survey_builds_when_there_is_nothing(tmp_path):
    body = surveyed(tmp_path)
    assert body["decision"] == "build"
    names = [f["name"] for f in body["families"]]
    assert names[0] == "transformer"
    rivals = [f["baseline"] for f in body["families"]]
    assert rivals == sorted(rivals)  # baselines come last


def test_survey_adapts_a_usable_local_model_and_refuses_others(tmp_path):
    snapshot = {"models": Snapshot("folder", "m", files=local_model(tmp_path))}
    body = surveyed(tmp_path, snapshot, models="m")
    assert body["decision"] == "adapt" and "small" in body["reasons"][0]
    assert body["local"][0]["parameters"] == 1000 and body["local"][0]["licence"] == "apache-2.0"
    snapshot = {"models": Snapshot("folder", "m", files=local_model(tmp_path, "cc-by-nc-4.0"))}
    body = surveyed(tmp_path, snapshot, models="m")
    assert body["decision"] == "build" and "forbids commercial use" in " ".join(body["reasons"])
    snapshot = {"models": Snapshot("folder", "m", files=local_model(tmp_path, config={"auto_map": {}}))}
    assert "code of its own" in surveyed(tmp_path, snapshot, models="m")["local"][0]["hindrance"]


def test_survey_stops_when_a_past_run_meets_every_target(tmp_path):
    assert surveyed(tmp_path, records=FakeRecords([past_run(0.6)]))["decision"] == "stop"
    assert surveyed(tmp_path, records=FakeRecords([past_run(0.4)]))["decision"] == "adapt"
    failed = {**past_run(0.9), "status": "failed"}
    assert surveyed(tmp_path, records=FakeRecords([failed]))["decision"] == "build"


def test_survey_asks_the_hub_only_when_online(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def list_models(self, **query):
        asked.append(query)
        free = SimpleNamespace(id="a/free", tags=["license:mit", "safetensors"], gated=False, safetensors=None)
        return [SimpleNamespace(id="a/bin", tags=["license:mit"], gated=False, safetensors=None), free]

    monkeypatch.setattr(huggingface_hub.HfApi, "list_models", list_models)
    surveyed(tmp_path)
    assert not asked
    body = surveyed(tmp_path, online=True)
    assert asked[0]["search"] == "docstring Python function" and asked[0]["filter"] == "text-generation"
    assert body["decision"] == "adapt" and body["hub"][0]["name"] == "a/free"
    assert body["hub"][1]["hindrance"] == "no weights in safetensors"

    def offline(self, **query):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_models", offline)
    with pytest.raises(RemoteError, match=r"online: false"):
        surveyed(tmp_path, online=True)


def test_survey_reads_a_brief(tmp_path):
    folder = tmp_path / "brief"
    folder.mkdir()
    stated = {"problem": "x", "targets": [{"metric": "m", "sign": ">=", "bar": 1}]}
    (folder / "plan.json").write_text(json.dumps(stated))
    assert plan.survey(make_run(tmp_path), Plan(folder)).read_json("plan.json")["targets"][0]["metric"] == "m"


STEPS = [
    ("corpus", "collect.files", {}, {}),
    ("base", "pretrain.transformer", {"depth": 4, "steps": 300}, {"data": ["corpus"]}),
    ("tuned", "finetune.lora", {"rank": 8, "epochs": 2}, {"model": ["base"], "data": ["corpus"]}),
    ("report", "evaluate.suite", {"limit": 64}, {"model": ["tuned"], "data": ["corpus"]}),
]


def sized(tmp_path, steps=STEPS, outside=None, **fields) -> dict:
    settings = fields.pop("settings", {})
    run = make_run(tmp_path, spec_steps=steps, outside=outside or facts(), threads=2, **fields)
    return plan.sizing(run, **settings).read_json("plan.json")


def test_sizing_follows_the_model_from_step_to_step(tmp_path):
    from volant.nets.transformer import size_of

    body = sized(tmp_path)
    by = {row["step"]: row for row in body["steps"]}
    assert by["base"]["parameters"] == size_of(4).parameters(2048) == by["tuned"]["parameters"]
    assert by["tuned"]["memory_bytes"] < by["base"]["memory_bytes"]
    assert by["tuned"]["disk_bytes"] < by["base"]["disk_bytes"]
    assert body["disk_bytes"] == sum(row["disk_bytes"] for row in body["steps"])
    fast = {row["step"]: row for row in sized(tmp_path, outside=facts(bf16=True))["steps"]}
    assert fast["base"]["seconds"] < by["base"]["seconds"]


def test_a_step_is_sized_in_the_pieces_that_it_is_worked_off_in(tmp_path):
    base = ("base", "pretrain.transformer", {"depth": 4, "batch_tokens": 8192}, {})
    large = ("base", "pretrain.transformer", {"depth": 4, "batch_tokens": 2**18}, {})
    (one,), (other,) = sized(tmp_path, [base])["steps"], sized(tmp_path, [large])["steps"]
    assert one["memory_bytes"] == other["memory_bytes"]
    # What does not fit is not refused where the training would compute its blocks twice.
    deep = [("base", "pretrain.transformer", {"depth": 10, "batch_tokens": 8192}, {})]
    assert sized(tmp_path, deep)["steps"][0]["memory_bytes"] > 4 << 30


def test_adapters_in_4_bits_are_sized_as_adapters(tmp_path):
    steps = [STEPS[1], *((n, f"finetune.{n}", {}, {"model": ["base"]}) for n in ("full", "lora", "qlora"))]
    by = {row["step"]: row for row in sized(tmp_path, steps)["steps"]}
    assert by["qlora"]["memory_bytes"] == by["lora"]["memory_bytes"] < by["full"]["memory_bytes"]


@pytest.mark.parametrize("name", ["dpo", "kto", "orpo", "simpo", "grpo", "rloo", "ppo", "constitution", "preferences"])
def test_every_alignment_of_text_is_sized_by_its_model(tmp_path, name):
    steps = [STEPS[1], ("it", f"align.{name}", {}, {"model": ["base"], "data": ["corpus"]})]
    base, row = sized(tmp_path, steps)["steps"]
    assert row["parameters"] == base["parameters"] and row["seconds"] > 10
    more = {"epochs": 20.0} if name in ("dpo", "kto", "orpo", "simpo") else {"prompts": 1024}
    steps[1] = ("it", f"align.{name}", more, steps[1][3])
    assert sized(tmp_path, steps)["steps"][1]["seconds"] > 3 * row["seconds"]


def test_what_is_drawn_once_is_counted_once(tmp_path):
    steps = [STEPS[1], ("it", "align.reward_weighted", {"samples": 128}, {"model": ["base"], "data": ["corpus"]})]
    steps.append(("report", "evaluate.suite", {}, {"model": ["it"], "data": ["corpus"]}))
    base, row, report = sized(tmp_path, steps)["steps"]
    assert row["basis"].startswith("128 outputs") and report["parameters"] == base["parameters"]


def test_a_base_is_sized_by_its_weights_or_not_at_all(tmp_path):
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "model.safetensors").write_bytes(b"x" * 2_000_000)
    steps = [("base", "pretrain.base", {"source": "bases"}, {}), ("t", "finetune.full", {}, {"model": ["base"]})]
    body = sized(tmp_path, steps)
    assert [row["parameters"] for row in body["steps"]] == [1_000_000, 1_000_000]
    steps[0][2]["source"] = "volant/docstrings"  # comes with the package
    assert {row["parameters"] // 100_000 for row in sized(tmp_path, steps)["steps"]} == {34}
    watcher = Silent()
    steps[0][2]["source"] = "org/huge-model"
    body = sized(tmp_path, steps, watcher=watcher)
    assert body["steps"][0]["basis"] == "size not known" and "base is not known" in watcher.lines[0]


def test_every_method_can_be_sized(tmp_path):
    from volant.core.method import methods

    steps = [(name.replace(".", "_"), name, {}, {}) for name in methods()]
    assert len(sized(tmp_path, steps)["steps"]) == len(steps) > 20


def test_sizing_is_the_same_whatever_is_free_now(tmp_path):
    first = sized(tmp_path)
    assert first == sized(tmp_path, outside=facts(disk_free_bytes=5 << 30, memory_free_bytes=1 << 30))


def test_sizing_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(MachineError, match=r"base: pretrain.transformer would need .* of memory"):
        sized(tmp_path, [("base", "pretrain.transformer", {"depth": 40}, {})])
    with pytest.raises(MachineError, match="of disk"):
        sized(tmp_path, outside=facts(disk_free_bytes=1 << 20))
    with pytest.raises(MachineError, match="lower its tokens"):
        sized(tmp_path, settings={"hours": 0.001})


def test_sizing_without_steps_and_without_facts_says_so(tmp_path):
    watcher = Silent()
    assert sized(tmp_path, [], outside={"machine": Snapshot("machine", "here")}, watcher=watcher)["steps"] == []
    assert any("nothing to size" in line for line in watcher.lines)
    assert any("neither was checked" in line for line in watcher.lines)


def test_past_runs_scale_the_guess_and_stand_beside_it(tmp_path):
    plain = sized(tmp_path)
    took = {row["step"]: 3 * row["seconds"] for row in plain["steps"]}
    past = [{"step": s, "status": "done", "seconds": t, "peak_bytes": 7} for s, t in took.items()]
    scaled = sized(tmp_path, settings={"past": "*"}, records=FakeRecords(past))
    assert scaled["seconds"] > 1.5 * plain["seconds"]
    rows = estimates.beside(plain, [*past[:2], replace_status(past[2], "failed")])
    assert rows[0]["ratio"] == pytest.approx(3) and rows[0]["took_bytes"] == 7
    assert rows[2]["took_seconds"] is None and rows[3]["ratio"] is None


def test_a_loss_is_expected_and_stands_beside_what_it_became(tmp_path):
    steps = [
        (f"d{d}t{t}", "pretrain.transformer", {"depth": d, "tokens": t}, {}) for d, t in ((1, 1e5), (3, 1e5), (3, 2e5))
    ]
    body = sized(tmp_path, [*steps, ("far", "pretrain.transformer", {"depth": 6, "tokens": 10**8}, {}), *STEPS[2:3]])
    losses = [row["loss"] for row in body["steps"]]
    assert losses[-1] is None and [x["inside"] for x in losses[:-1]] == [True, True, True, False]
    assert [x["bits"] for x in losses[:-1]] == sorted((x["bits"] for x in losses[:-1]), reverse=True)
    assert all(x["low"] < x["bits"] < x["high"] < 1.5 * x["low"] for x in losses[:3])
    page = (tmp_path / "out" / "index.html").read_text()
    assert "beyond what was fitted" in page and "it became" not in page
    scores = [
        Score.exact("bits_per_byte", 9.0).model_copy(update={"of": "baseline:ngram"}),
        Score.exact("bits_per_byte", 2.71),
    ]
    past = [{"step": "d3t200000.0", "status": "done", "seconds": 12345, "peak_bytes": 7, "scores": scores}]
    watcher = Silent()
    sized(tmp_path, steps, settings={"past": "*"}, records=FakeRecords(past), watcher=watcher)
    (said,) = [line for line in watcher.lines if "came to" in line]
    assert "d3t200000.0 took 3.4 h where" in said and "came to 2.71 bits a byte (expected: " in said
    assert not any(
        "12345" in file.read_text() or "3.4 h" in file.read_text() for file in (tmp_path / "out").iterdir()
    )  # no measured time is payload
    assert all(row["loss"] is None for row in sized(tmp_path, steps, modality="table")["steps"])


def test_the_law_by_hand():
    fit = {"law": [1.0, 10.0, 0.5, 20.0, 0.5], "resampled": [[1.1, 10.0, 0.5, 20.0, 0.5], [0.9, 10.0, 0.5, 20.0, 0.5]],
           "scatter": 0.0, "parameters": [10, 1000], "tokens": [10, 1000]}  # fmt: skip
    found = scaling.expected(100, 400, fit)
    assert found.bits == 3.0 and found.inside and not scaling.expected(100, 4000, fit).inside
    assert found.high / 3 == pytest.approx(3 / found.low) == pytest.approx(math.exp(1.645 * 0.1 / 3), rel=2e-3)


def test_status_shows_what_was_expected_beside_what_it_came_to(tmp_path):
    from volant.cli.wheel import _line
    from volant.project.looking import StepState, _with_estimates

    sized(tmp_path, [("base", "pretrain.transformer", {"depth": 2, "tokens": 200_000}, {})])
    row = StepState("base", "pretrain.transformer", "fresh", seconds=30.0, bits=2.5)
    (row,) = _with_estimates([row], {"sizing": Plan(tmp_path / "out")})
    bits, low, high = row.estimated_bits
    assert low < bits < high and row.as_json()["bits"] == 2.5
    *_, took, expected = _line(row)
    assert took == "30 s, 2.50 bits" and expected.endswith(f", {bits:.2f} bits ({low:.2f} to {high:.2f})")


def replace_status(row: dict, status: str) -> dict:
    return {**row, "status": status}


def test_a_bigger_model_costs_more():
    small = estimates.sketch({"depth": 4}, None)
    large = estimates.sketch({"depth": 8}, None)
    speed = estimates.rates({"cores": 2}, threads=2)
    costs = [estimates.training("s", "pretrain.transformer", m, 1e6, speed) for m in (small, large)]
    assert costs[0].seconds < costs[1].seconds and costs[0].memory_bytes < costs[1].memory_bytes
    assert replace(small, depth=4) == small


def test_families_are_found_in_the_sources_without_importing_them():
    names = landscape.family_modules()
    assert "transformer" in names and "optim" not in names
    assert landscape.package_licence("pydantic") == "MIT" and landscape.package_licence("no-such-thing") == ""


def test_pages_are_self_contained(tmp_path):
    run = make_run(tmp_path, spec_steps=STEPS, outside=facts())
    plan.sizing(run)
    html = (run.out / "index.html").read_text()
    assert "<script" not in html and "https://" not in html and "finetune.lora" in html


def test_an_axis_of_costs_begins_at_none() -> None:
    from volant.store.scatter import Point, scatter

    drawn = scatter("quality", "over CPU seconds", [Point(0, 0.1, 0.05, 0.2), Point(500, 0.3, 0.2, 0.4)])
    assert ">-" not in drawn and ">0<" in drawn
    below = scatter("change", "over CPU seconds", [Point(0, -0.1, -0.2, 0.0), Point(500, 0.3, 0.2, 0.4)])
    assert ">-0.236<" in below
