"""The measuring loop: requests, order, bits per byte, intervals, and the watch over the task metric."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from volant.core.artifact import Dataset, Model
from volant.core.errors import DataError, RemoteError
from volant.core.protocols import Chunk, Output, Request
from volant.core.run import Run, Silent
from volant.core.sample import Sample, Source
from volant.core.spec import Goal
from volant.scorers import build
from volant.scorers.measure import answers, bits_per_byte, check_task, interval, measured, request_of, target_of
from volant.store.dataset import writer

SOURCE = Source(uri="test:measure", licence="CC0-1.0")


class Scripted:
    """A session that answers each prompt with what the script says, in pieces, last request first."""

    def __init__(self, script: dict[str, str]) -> None:
        self.script, self.asked = script, 0

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        for request in reversed(requests):
            self.asked += 1
            text = self.script[request.messages[-1]["content"]]
            yield Chunk(request.id, text[:3])
            yield Chunk(request.id, text[3:], "stop", 5, 7)

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        return [[-math.log(2)] * len(text.encode()) for _, text in pairs]

    def cancel(self, id: str) -> None: ...

    def close(self) -> None: ...


def sample(i: int, split: str = "validation") -> Sample:
    prompt, target = f"def f_{i}(): {'pass ' * (i % 4)}", f"Return the number {i} of the row."
    return Sample(id=f"s{i}", shape="completion", source=SOURCE, condition=prompt, target=target, split=split)  # type: ignore[arg-type]


SAMPLES = [sample(i) for i in range(20)]
RIGHT = Scripted({s.condition or "": s.target or "" for s in SAMPLES})
WRONG = Scripted({s.condition or "": "Nothing of the kind." for s in SAMPLES})


def test_answers_come_in_the_order_of_the_samples() -> None:
    found = answers(RIGHT, SAMPLES, batch=3)
    assert [o.text for o in found] == [s.target for s in SAMPLES]
    assert (found[0].prompt_tokens, found[0].completion_tokens, found[0].finish) == (5, 7, "stop")


def test_no_sample_and_a_failing_session_are_errors() -> None:
    with pytest.raises(DataError):
        answers(RIGHT, [])

    class Failing(Scripted):
        def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
            yield Chunk(requests[0].id, "", "error", error="out of memory")

    with pytest.raises(RemoteError, match="out of memory"):
        answers(Failing({}), SAMPLES[:1])


def test_the_answer_is_never_shown() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    chat = Sample(id="c", shape="messages", source=SOURCE, content=json.dumps(turns))
    assert request_of(chat).messages == ({"role": "user", "content": "a"},) and target_of(chat) == "b"
    assert all((s.target or "") not in str(request_of(s).messages) for s in SAMPLES)


def test_bits_per_byte_of_one_bit_a_byte_is_one() -> None:
    text = Sample(id="t", shape="text", source=SOURCE, content="naïve café " * 300)
    assert bits_per_byte(RIGHT, [*SAMPLES, text]) == pytest.approx([1.0] * 21)
    with pytest.raises(DataError, match="empty answer"):
        bits_per_byte(RIGHT, [SAMPLES[0].model_copy(update={"target": ""})])


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(0)
    real = yes = 0
    for _ in range(200):
        _, low, high = interval(rng.normal(0.5, 1, 60).tolist())
        real += low <= 0.5 <= high
        _, low, high = interval((rng.random(60) < 0.1).tolist(), binary=True)
        yes += low <= 0.1 <= high
    assert real >= 180 and yes >= 180


def test_ten_zeros_do_not_show_that_it_never_happens() -> None:
    assert interval([0.0] * 10, binary=True)[2] > 0.2
    assert interval([0.0] * 10) == (0.0, 0.0, 0.0)
    with pytest.raises(DataError):
        interval([])


def test_measured_marks_whose_figures_they_are() -> None:
    scores, values = measured([Output(s.target or "") for s in SAMPLES], SAMPLES, build(["relevance"]), of="baseline:x")
    assert scores[0].of == "baseline:x" and scores[0].value == pytest.approx(1) and len(values["relevance"]) == 20


def run_in(folder: Path, metric: str = "relevance") -> Run:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True)
    return Run("tuned", folder / "out", folder / "work", goal=Goal(metric=metric))


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    with writer(tmp_path / "data") as out:
        out.write_all([*SAMPLES, sample(99, "train")])
    return Dataset(tmp_path / "data")


def test_a_fall_of_the_task_metric_is_said(tmp_path: Path, data: Dataset) -> None:
    run = run_in(tmp_path)
    found = check_task(run, WRONG, data, before_session=RIGHT, limit=12)
    assert found is not None and found.verdict == "worse" and found.n == 12
    assert isinstance(run.watcher, Silent)
    assert any("WARNING" in line for line in run.watcher.lines)
    assert [s.name for s in run.watcher.scores] == ["relevance", "relevance_change"]


def test_the_stored_values_of_the_model_before_are_used(tmp_path: Path, data: Dataset) -> None:
    first, second = run_in(tmp_path / "1"), run_in(tmp_path / "2")
    assert check_task(first, WRONG, data) is None
    unused = Scripted({})
    found = check_task(second, RIGHT, data, before=Model(first.out), before_session=unused)
    assert found is not None and found.verdict == "better" and unused.asked == 0


def test_stored_values_of_other_samples_are_not_used(tmp_path: Path, data: Dataset) -> None:
    first, second = run_in(tmp_path / "1"), run_in(tmp_path / "2")
    check_task(first, RIGHT, data, limit=5)
    again = Scripted(WRONG.script)
    found = check_task(second, RIGHT, data, before=Model(first.out), before_session=again, limit=12)
    assert found is not None and found.verdict == "better" and again.asked == 12


def test_without_task_samples_it_says_so(tmp_path: Path) -> None:
    with writer(tmp_path / "plain") as out:
        out.write(Sample(id="t", shape="text", source=SOURCE, content="words", split="validation"))
    run = run_in(tmp_path)
    assert check_task(run, RIGHT, Dataset(tmp_path / "plain")) is None
    assert isinstance(run.watcher, Silent) and "not measured" in run.watcher.lines[0]
    assert not (run.out / "validation.json").exists()


def test_bits_per_byte_can_be_the_task_metric(tmp_path: Path, data: Dataset) -> None:
    run = run_in(tmp_path, "bits_per_byte")
    check_task(run, RIGHT, data)
    assert json.loads((run.out / "validation.json").read_text())["values"] == [1.0] * 20


def test_a_step_that_made_the_task_metric_worse_is_taken_back_as_far_as_it_goes(tmp_path: Path, data: Dataset) -> None:
    asked: list[str] = []
    tuned = Scripted(dict(WRONG.script))

    def back(why: str) -> bool:
        asked.append(why)
        if len(asked) == 2:
            tuned.script.update(RIGHT.script)
        return True

    run = run_in(tmp_path / "1")
    found = check_task(run, tuned, data, before_session=RIGHT, back=back)
    assert found is not None and found.verdict == "no difference" and len(asked) == 2 and "worse" in asked[0]
    assert json.loads((run.out / "validation.json").read_text())["values"] == pytest.approx([1.0] * 20)
    assert isinstance(run.watcher, Silent)
    assert [s.name for s in run.watcher.scores] == ["relevance", "relevance_change"]
    assert not any("WARNING" in line for line in run.watcher.lines)

    asked.clear()
    run = run_in(tmp_path / "2")
    found = check_task(run, WRONG, data, before_session=RIGHT, back=lambda why: bool(asked.append(why)))
    assert found is not None and found.verdict == "worse" and len(asked) == 1
