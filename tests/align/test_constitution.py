"""`align.constitution`: principles that are computed or put to a critic, and how far both agree with people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tiny_models import dataset, model, run_in, samples, watched
from volant.core.artifact import Dataset, Model
from volant.core.errors import DataError, GateRefused, VolantError
from volant.core.outside import OutsideFile, Snapshot
from volant.core.protocols import Chunk, Output, Request
from volant.scorers import build
from volant.scorers.agreement import kappa, kappa_score
from volant.scorers.drawn import drawn
from volant.stages.align import constitution, dpo
from volant.stages.align.constitution import _Answer, _apart, _lead
from volant.stages.align.critic import Critic
from volant.stages.align.principles import Bench, read
from volant.store.dataset import rows

SHORT = """principles:
  - {name: short, says: The answer has at most four words., scorer: word_count, settings: {least: 1, most: 4}}
  - {name: like, says: It says what the function does., scorer: token_f1, weight: 2}
"""
SAID = "principles: [{name: kind, says: The answer is kind.}]\n"
FEW: dict[str, Any] = {"principles": "constitution.yaml", "prompts": 32, "answers": 3, "max_tokens": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset]:
    folder = tmp_path_factory.mktemp("constitution")
    return model(folder, steps=8), dataset(folder / "data", samples())


def running(folder: Path, text: str, **more: Any) -> Any:
    """A run whose snapshot holds this constitution."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "constitution.yaml"
    file.write_text(text)
    listed = OutsideFile(file, file.name, len(text), "0" * 64)
    facts = {"workload": "*", "requests": 0, "feedback": 0, "ratings": 99}
    outside = {
        "principles": Snapshot("files", file.name, (listed,)), "ratings": Snapshot("records", "*", facts=facts),
    }  # fmt: skip
    return run_in(folder, outside=outside, **more)


class Rated:
    """Records in which people always prefer the answer that the reference gives."""

    def __init__(self, turned: bool = False, count: int = 16) -> None:
        self.turned, self.count = turned, count

    def ratings(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        for number, sample in enumerate(samples()[: self.count]):
            both = [sample.target, "Do something else with it now, and then again."]
            a, b = both if number % 2 else both[::-1]
            right = "a" if number % 2 else "b"
            choice = {"a": "b", "b": "a"}[right] if self.turned else right
            yield {"id": number, "prompt": sample.condition, "a": a, "b": b, "choice": choice, "rater": "Ada"}

    requests = feedback = runs = None  # type: ignore[assignment]


class Scripted:
    """Stands for a critic that is too large to run here: it prefers the shorter answer, wherever it stands."""

    def __init__(self, bias: str = "") -> None:
        self.bias, self.seen = bias, list[str]()

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        for request in requests:
            text = request.messages[-1]["content"]
            self.seen.append(text)
            if "Which answer" not in text:
                yield Chunk(request.id, "It says too much.", finish="stop")
                continue
            a = text.split("Answer A:\n")[1].split("\n\nAnswer B:\n")[0]
            b = text.split("Answer B:\n")[1].split("\n\nWhich answer")[0]
            says = self.bias or ("A" if len(a) < len(b) else "B")
            yield Chunk(request.id, f"Answer {says}.", finish="stop")

    def close(self) -> None:
        pass


def test_principles_that_are_computed_give_pairs_to_learn_from(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    run = running(tmp_path / "pairs", SHORT, records=Rated())
    found = constitution(run, *made, **FEW)
    pairs = [s for s in rows(found) if s.shape == "preference"]
    assert {p.split for p in pairs} == {"train", "validation"} and all(p.target != p.rejected for p in pairs)
    assert all(p.labels[0].by.startswith("constitution:short@") and p.source.origin == "generated" for p in pairs)
    assert any(p.attrs["revision"] for p in pairs) and all(p.parents for p in pairs)
    asked = {s.id: s for s in samples()}
    for name, scorer in build({"word_count": {"least": 1, "most": 4}, "token_f1": {}}).items():
        sides = [[Output(str(getattr(p, side))) for p in pairs] for side in ("target", "rejected")]
        kept, lost = (scorer.values(side, [asked[p.parents[0]] for p in pairs]) for side in sides)
        assert all(a >= b for a, b in zip(kept, lost, strict=True)), name
    scores = {s.name: s for s in watched(run).scores}
    assert scores["judge_kappa"].value == 1.0 and scores["judge_kappa"].n == 16
    assert {"keeps_short", "keeps_like", "pair_yield", "revision_wins", "chosen_length_change"} <= set(scores)
    aligned = run_in(tmp_path / "dpo")
    dpo(aligned, made[0], found, lr=3e-4, epochs=3)
    assert {s.name: s for s in watched(aligned).scores}["pair_accuracy"].value > 0.5


def test_no_pair_costs_a_principle_unless_it_may(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(SHORT)
    bench = Bench(read(tmp_path / "c.yaml", "c.yaml"), None)
    answers = [_Answer(Output(str(values)), values) for values in ([1.0, 0.1], [0.0, 0.9], [1.0, 0.5], [0.4, 0.5])]
    assert _apart(answers, bench, tradeoffs=False) == (answers[2], answers[0])
    crossed = [answers[0], answers[1]]
    assert _apart(crossed, bench, tradeoffs=False) is None and _apart(answers[:1], bench, tradeoffs=True) is None
    assert _apart(crossed, bench, tradeoffs=True) == (answers[1], answers[0])


def test_the_same_seed_gives_the_same_pairs(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    one, two = (constitution(running(tmp_path / n, SHORT), *made, **{**FEW, "prompts": 12}) for n in "ab")
    assert [s.id for s in rows(one)] == [s.id for s in rows(two)]


def test_a_critic_criticises_and_judges_in_words(
    made: tuple[Model, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import volant.engines

    scripted, really = Scripted(), volant.engines.open_model
    hosted = Model(tmp_path)
    monkeypatch.setattr(volant.engines, "open_model", lambda m, **kw: scripted if m is hosted else really(m, **kw))
    counts: list[int] = []
    monkeypatch.setattr(
        sys.modules[_lead.__module__], "drawn", lambda *a, **kw: counts.append(len(a[2])) or drawn(*a, **kw)
    )
    run = running(tmp_path / "run", SAID, records=Rated(turned=True, count=8))
    found = [s for s in rows(constitution(run, *made, critic=hosted, **FEW)) if s.shape == "preference"]
    assert found and all(len(p.target or "") < len(p.rejected or "") for p in found)
    assert {p.attrs["critique"] for p in found} == {"It says too much."}
    assert {p.labels[0].by for p in found} == {"constitution:critic"}
    assert counts[0] == FEW["prompts"]  # one draft a prompt, since the scorers would choose among more
    assert any("The answer should keep this principle: The answer is kind." in text for text in scripted.seen)
    kappas = {s.name: s for s in watched(run).scores}["judge_kappa"]
    assert kappas.value < 0 and kappas.n == 8  # people took the longer one; under ten ratings it only says so


def test_a_critic_that_takes_what_it_reads_first_decides_nothing(tmp_path: Path) -> None:
    critic = Critic(run_in(tmp_path), Scripted(bias="A"), max_tokens=8)
    assert critic.verdicts([("p", "one", "three", "s"), ("p", "three", "one", "s")]) == [0, 0]
    fair = Critic(run_in(tmp_path / "b"), Scripted(), max_tokens=8)
    assert fair.verdicts([("p", "one", "three", "s"), ("p", "three", "one", "s")]) == [1, -1]
    small = Critic(run_in(tmp_path / "d"), Scripted(bias="a"), max_tokens=8)
    assert [small._letter(text) for text in ("b", " (a).", "**B**", "a better one", "A, not b")] == [
        "B",
        "A",
        "B",
        "",
        "A",
    ]
    lost = Critic(run_in(tmp_path / "c"), Scripted(bias="neither A nor B"), max_tokens=8)
    assert lost.verdicts([("p", "one", "three", "s")]) == [0] and lost.unread == 2


def test_agreement_is_that_of_the_judge_that_labels(tmp_path: Path) -> None:
    """A heavy scorer outweighs the critic in the pairs that are made, and so it does against people."""
    both = SHORT.replace("settings: {least: 1, most: 4}}", "settings: {least: 1, most: 4}, weight: 8}") + SAID[12:-2]
    (tmp_path / "c.yaml").write_text(both.replace("[{name", "  - {name"))
    every = read(tmp_path / "c.yaml", "c.yaml")
    bench, said = Bench(every, None), [p for p in every if not p.scorer]
    assert [p.weight for p in every] == [8, 2, 1]
    critic = Critic(run_in(tmp_path), Scripted(), max_tokens=8)
    short, wordy = Output("Indistinguishable from everything else here"), Output("a b c d e f g h i")
    sample = samples()[0]
    values = bench.values([wordy, short], [sample, sample])
    assert bench.total(values[1]) > bench.total(values[0])  # and the critic takes the other one, which has less letters
    assert _lead(([short], [wordy], [sample]), bench, said, critic)[0] > 0


def test_a_judge_that_people_contradict_is_refused(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    with pytest.raises(GateRefused, match=r"by a kappa of -1.00, less than 0.3"):
        constitution(running(tmp_path, SHORT, records=Rated(turned=True)), *made, least_kappa=0.3, **FEW)


@pytest.mark.parametrize(
    "text, says",
    [
        ("principles: [", "no YAML"), ("principles: []", "at least 1 item"), ("laws: []", "Field required"),
        ("principles: [{name: Short, says: x}]", "String should match"),
        ("principles: [{name: a, says: x, rule: y}]", "Extra inputs"),
        ("principles: [{name: a, says: x}, {name: a, says: y}]", "two principles are called 'a'"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_constitution(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(DataError, match=says):
        read(tmp_path / "c.yaml", "c.yaml")


def test_what_nobody_can_judge_is_refused(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing judges kind.*`scorer`.*`critic`"):
        constitution(running(tmp_path / "a", SAID), *made, **FEW)
    same = SHORT.replace("word_count, settings: {least: 1, most: 4}", "safety").replace("token_f1, weight: 2", "safety")
    with pytest.raises(DataError, match="no pair to learn from"):
        constitution(running(tmp_path / "b", same), *made, **{**FEW, "prompts": 8})


def test_a_critic_that_answers_nonsense_is_told_apart_from_ties(
    made: tuple[Model, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import volant.engines

    really, hosted = volant.engines.open_model, Model(tmp_path)
    monkeypatch.setattr(volant.engines, "open_model", lambda m, **k: Scripted("C") if m is hosted else really(m, **k))
    with pytest.raises(DataError, match="no pair to learn from.* neither A nor B: name one that follows"):
        constitution(running(tmp_path / "run", SAID), *made, critic=hosted, **{**FEW, "prompts": 8})


def test_kappa_is_cohens() -> None:
    """The example of Cohen (1960) as textbooks give it: 20 yes-yes, 15 no-no, 5 and 10 apart, kappa 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert kappa(first, second) == pytest.approx(0.4)
    score = kappa_score(first, second, seed=0)
    assert score.low < 0.4 < score.high and score.n == 50
    assert kappa(["a"] * 3, ["a"] * 3) == 1.0 and kappa(["a", "b"], ["b", "a"]) == -1.0
    with pytest.raises(DataError, match="0 and 0 choices"):
        kappa([], [])
    assert json.loads(score.model_dump_json())["name"] == "judge_kappa"


@pytest.mark.parametrize(
    ("scorer", "said"),
    [
        ("nosuch", "there is no scorer 'nosuch'"),
        ("fits_schema, settings: {schema: 3}", "3 is no JSON Schema"),
    ],
)
def test_a_scorer_that_cannot_be_built_is_told_with_file_and_principle(
    made: tuple[Model, Dataset], tmp_path: Path, scorer: str, said: str
) -> None:
    text = f"principles: [{{name: short, says: Be short., scorer: {scorer}}}]\n"
    with pytest.raises(VolantError, match=f"yaml short: {said}"):
        constitution(running(tmp_path, text), *made, **FEW)
