"""`suite` and `compare` with scripted sessions: baselines, gates, verdicts, slices, the page, the digest."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from volant.core.artifact import Dataset, Model, Report, payload_digest
from volant.core.errors import DataError, SettingError
from volant.core.method import method_of
from volant.core.protocols import Chunk, Request
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source
from volant.core.score import Score
from volant.core.spec import Goal
from volant.scorers.compare import paired
from volant.stages.evaluate import compare, suite
from volant.stages.evaluate.verdict import Gate, decide, gates, slices
from volant.store.dataset import writer

SOURCE = Source(uri="test:evaluate", licence="CC0-1.0")
VERBS, NOUNS = (
    ("add", "read", "find", "sort", "load", "drop", "copy", "hash"),
    ("file", "list", "name", "row", "page", "key"),
)


def measured(run, model, data, **settings):
    """The suite on the split that the tests below fill."""
    return suite(run, model, data, split="test", **settings)


def samples(split: str, first: int) -> list[Sample]:
    """48 tasks; a training task has another number in its name."""
    found = []
    for i, (verb, noun) in enumerate((v, n) for v in VERBS for n in NOUNS):
        prompt = f"def {verb}_{noun}_{first + i}(x): return x"
        target = f"{verb.capitalize()} the {noun} number {first + i} & <return> it."
        found.append(
            Sample(id=f"{split}-{i}", shape="completion", source=SOURCE, condition=prompt, target=target,
                   split=split, group=f"{noun}.py")  # type: ignore[arg-type]
        )  # fmt: skip
    return found


class Scripted:
    """Answers the first `right` tasks rightly and the others with `wrong`; one bit a byte, or none."""

    def __init__(self, right: int, wrong: str = "Nothing.", bits: float | None = 1.0) -> None:
        self.right, self.wrong, self.bits = right, wrong, bits
        self.known = {s.condition: s.target for s in samples("test", 500)}

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        for request in requests:
            asked = request.messages[-1]["content"].split("\n")[-1]
            known = list(self.known).index(asked) < self.right if asked in self.known else False
            yield Chunk(request.id, (self.known[asked] or "") if known else self.wrong, "stop")

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        if self.bits is None:
            raise NotImplementedError
        return [[-self.bits * math.log(2)] * len(text.encode()) for _, text in pairs]

    def cancel(self, id: str) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    with writer(tmp_path / "data") as out:
        out.write_all([*samples("train", 0), *samples("test", 500)])
    return Dataset(tmp_path / "data")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`models(right=...)`: a Model whose session is the scripted one."""
    sessions: dict[str, Scripted] = {}

    def make(**script: Any) -> Model:
        place = tmp_path / f"model{len(sessions)}"
        place.mkdir()
        about = {"family": "transformer", "modality": "text", "parameters": 1234}
        (place / "volant.json").write_text(json.dumps(about | {"extra": {"n": len(sessions)}}))
        sessions[str(place)] = Scripted(**script)
        return Model(place)

    monkeypatch.setattr("volant.engines.open_model", lambda model, **_: sessions[str(model.path)])
    return make


def run_in(folder: Path, **goal: Any) -> Run:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True)
    return Run("report", folder / "out", folder / "work", goal=Goal(problem="Say what <it> does", **goal))


def body_of(report: Report) -> dict[str, Any]:
    body: dict[str, Any] = report.read_json("report.json")
    return body


class Page(HTMLParser):
    """Collects what a page would fetch, and checks that tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href") and not (v or "").startswith(("#", "data:"))]
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_good_model_ships(tmp_path: Path, data: Dataset, models: Any) -> None:
    run = run_in(tmp_path / "run", accept={"relevance": ">= 0.9", "latency_p95_ms": "<= 100"})
    body = body_of(measured(run, models(right=48), data))
    assert body["verdict"] == "ship", body["reasons"]
    assert {s["of"] for s in body["scores"]} == {"model", "baseline:ngram", "baseline:nearest_neighbour", "reference"}
    own = {s["name"]: s["value"] for s in body["scores"] if s["of"] == "model"}
    assert own["relevance"] == own["exact_match"] == own["token_f1"] == 1 and own["bias_gap"] == 0
    assert own["bits_per_byte"] == pytest.approx(1)
    assert [g["name"] for g in body["gates"] if not g["counts"]] == ["latency_p95_ms"]
    assert isinstance(run.watcher, Silent) and {"relevance", "bits_per_byte"} <= {s.name for s in run.watcher.scores}


def test_a_model_that_does_not_beat_the_baseline_fails(tmp_path: Path, data: Dataset, models: Any) -> None:
    body = body_of(measured(run_in(tmp_path / "run"), models(right=4), data))
    gate = next(g for g in body["gates"] if g["name"] == "beats_baseline")
    assert not gate["passed"] and body["verdict"] != "ship"
    assert "nearest_neighbour" in body["reasons"][0]
    # The guards hold, but a model that answers nothing useful cannot take credit for that.
    assert all(not g["counts"] for g in body["gates"] if g["kind"] == "guard")


def test_no_better_than_before_and_worse_than_the_baseline_is_stop(tmp_path: Path, data: Dataset, models: Any) -> None:
    body = body_of(measured(run_in(tmp_path / "run"), models(right=2), data, previous=models(right=3)))
    assert body["verdict"] == "stop" and "previous" in body["comparisons"]


def test_knowing_the_training_data_by_heart_asks_for_more_of_it(
    tmp_path: Path, data: Dataset, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logprobs(self: Scripted, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        return [[-(2.0 if "number 5" in text else 0.5)] * len(text.encode()) for _, text in pairs]

    monkeypatch.setattr(Scripted, "logprobs", logprobs)
    run = run_in(tmp_path / "run", accept={"relevance": ">= 0.99"})
    body = body_of(measured(run, models(right=40), data))
    assert body["verdict"] == "collect more" and "by heart" in body["reasons"][-1]


def test_an_unsafe_model_does_not_ship_however_good(tmp_path: Path, data: Dataset, models: Any) -> None:
    harmful = models(right=46, wrong="You are worthless, I will kill you.")
    body = body_of(measured(run_in(tmp_path / "run"), harmful, data))
    assert body["verdict"] == "retrain" and any("safety" in r for r in body["reasons"])


def test_an_engine_without_probabilities_is_measured_without_bits(tmp_path: Path, data: Dataset, models: Any) -> None:
    body = body_of(measured(run_in(tmp_path / "run"), models(right=48, bits=None), data, bias_pairs=0))
    names = {s["name"] for s in body["scores"] if s["of"] == "model"}
    assert "bits_per_byte" not in names and "bias_gap" not in names and "relevance" in names


def test_the_page_is_self_contained_escaped_and_whole(tmp_path: Path, data: Dataset, models: Any) -> None:
    report = measured(run_in(tmp_path / "run"), models(right=20), data, previous=models(right=10))
    text = (report.path / "index.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == [] and page.fetched == [] and "<script" not in text and "url(" not in text
    assert "&lt;return&gt;" in text and "<return>" not in text and "Say what &lt;it&gt; does" in text
    assert text.count("<svg") >= 12 and "nan" not in re.sub(r"[a-z]*name[a-z]*", "", text.lower())
    assert "prefers-color-scheme" in text


def test_same_input_same_digest_and_nothing_of_this_machine(tmp_path: Path, data: Dataset, models: Any) -> None:
    model = models(right=20)
    first, second = (measured(run_in(tmp_path / name), model, data) for name in ("1", "2"))
    assert payload_digest(first.path)[0] == payload_digest(second.path)[0]
    assert str(tmp_path) not in (first.path / "report.json").read_text()


def test_the_values_pair_with_the_ids(tmp_path: Path, data: Dataset, models: Any) -> None:
    body = body_of(measured(run_in(tmp_path / "run"), models(right=20), data, limit=10))
    assert len(body["ids"]) == body["n"] == 10
    assert all(len(v) == 10 for of in body["values"].values() for v in of.values())
    assert body["ids"][-1] == "test-43"  # spread over the split, not its head


def test_a_split_without_tasks_says_how_to_mend_it(tmp_path: Path, models: Any) -> None:
    with writer(tmp_path / "plain") as out:
        out.write(Sample(id="t", shape="text", source=SOURCE, content="words", split="test"))
    with pytest.raises(DataError, match="prompt"):
        measured(run_in(tmp_path / "run"), models(right=1), Dataset(tmp_path / "plain"))


def test_one_example_is_enough_to_report_and_too_few_to_ship(tmp_path: Path, data: Dataset, models: Any) -> None:
    body = body_of(measured(run_in(tmp_path / "run"), models(right=48), data, limit=1))
    assert body["n"] == 1 and body["verdict"] == "collect more"


def test_the_better_candidate_wins_and_the_worse_does_not(tmp_path: Path, data: Dataset, models: Any) -> None:
    good, poor = models(right=40), models(right=10)
    won = body_of(compare(run_in(tmp_path / "1"), good, data, champion=poor))
    assert won["better"] and won["p"] < 0.001 and won["gain"] > 0.3 and won["n"] == 48
    assert {"name", "passed", "value", "bar"} <= set(won["gates"][0]) and all(g["passed"] for g in won["gates"])
    lost = body_of(compare(run_in(tmp_path / "2"), poor, data, champion=good))
    assert not lost["better"] and lost["p"] > 0.99 and lost["gain"] < 0 and lost["verdict"] == "worse"
    same = body_of(compare(run_in(tmp_path / "3"), good, data, champion=good))
    assert not same["better"] and same["p"] == 1 and same["gain"] == 0


def test_a_better_candidate_that_harms_fails_its_gate(tmp_path: Path, data: Dataset, models: Any) -> None:
    harmful = models(right=30, wrong="You are worthless.")
    body = body_of(compare(run_in(tmp_path / "1"), harmful, data, champion=models(right=10)))
    assert body["better"] and [g["name"] for g in body["gates"] if not g["passed"]] == ["safety"]
    stated = body_of(
        compare(run_in(tmp_path / "2", accept={"safety": ">= 0.5"}), harmful, data, champion=models(right=10))
    )
    assert all(g["passed"] for g in stated["gates"])


def test_lower_is_better_in_bits_per_byte(tmp_path: Path, data: Dataset, models: Any) -> None:
    run = run_in(tmp_path / "run")
    old, new = models(right=1, bits=2.0), models(right=1, bits=1.0)
    body = body_of(compare(run, new, data, champion=old, metric="bits_per_byte"))
    assert body["better"] and body["gain"] == pytest.approx(1)
    assert body["gates"][-1]["name"] == "relevance" and all(g["passed"] for g in body["gates"])


def test_what_is_likelier_and_answers_worse_fails_the_gate_of_the_goals_metric(
    tmp_path: Path, data: Dataset, models: Any
) -> None:
    old, new = models(right=40, bits=2.0), models(right=10, bits=1.0)
    body = body_of(compare(run_in(tmp_path / "run"), new, data, champion=old, metric="bits_per_byte"))
    assert body["better"] and [g["name"] for g in body["gates"] if not g["passed"]] == ["relevance"]


def test_without_a_champion_the_baseline_stands_in(tmp_path: Path, data: Dataset, models: Any) -> None:
    report = compare(run_in(tmp_path / "1"), models(right=48), data)
    assert body_of(report)["against"] == "nearest neighbour" and body_of(report)["better"]
    page = Page()
    page.feed((report.path / "index.html").read_text())
    assert page.open == [] and page.fetched == []
    with pytest.raises(SettingError, match="oracle"):
        compare(run_in(tmp_path / "2", baseline="oracle"), models(right=48), data)


@pytest.mark.parametrize("method", [suite, compare])
def test_every_setting_is_documented(method: Any) -> None:
    found = method_of(method)
    assert set(found.fields) <= set(found.setting_docs) and found.json_schema()["x-returns"] == "Report"


def score(name: str, value: float) -> Score:
    return Score(name=name, value=value, low=value, high=value, n=50)


def test_guards_count_only_beside_quality() -> None:
    goal = Goal(accept={"relevance": ">= 0.5", "bias_gap": "<= 0.1"})
    bars = {"bias_gap": "<= 0.05", "safety": ""}
    poor = gates(goal, {"relevance": score("relevance", 0.1), "bias_gap": score("bias_gap", 0.0)}, None, "", bars)
    good = gates(goal, {"relevance": score("relevance", 0.9), "bias_gap": score("bias_gap", 0.2)}, None, "", bars)
    assert [g.counts for g in poor] == [True, False] and [g.counts for g in good] == [True, True]
    assert decide(good, n=50, against=None, since=None, fit=None)[0] == "retrain"
    assert decide(poor, n=50, against=None, since=None, fit=(2.0, 2.1))[0] == "retrain"
    assert decide(poor, n=10, against=None, since=None, fit=(2.0, 2.1))[0] == "collect more"


def test_progress_is_not_stopped() -> None:
    worse, better = paired("x", [1.0] * 40, [0.5] * 40), paired("x", [0.1 + i / 1e3 for i in range(40)], [0.5] * 40)
    missed = [Gate("beats_baseline", "quality", False, -0.5, 0.0, "better than it")]
    assert decide(missed, n=40, against=worse, since=better, fit=None)[0] == "retrain"
    assert decide(missed, n=40, against=worse, since=worse, fit=None)[0] == "stop"


def test_the_worst_slice_comes_first() -> None:
    tasks = samples("test", 500)
    values = [0.1 if t.group == "row.py" else 0.8 for t in tasks]
    worst = slices(tasks, values, "higher")[0]
    assert (worst.by, worst.name, worst.n) == ("group", "row.py", 8) and worst.rest > worst.high
    assert slices(tasks, [1 - v for v in values], "lower")[0].name == "row.py"
