"""Examples are taken where they help and left out, with the reason, where they do not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tiny_models import dataset, model, run_in, samples, watched
from volant.core.artifact import Dataset, Model, Prompt, payload_digest
from volant.core.errors import DataError
from volant.core.method import method_of
from volant.core.protocols import Chunk, Request
from volant.engines import open_model
from volant.scorers.measure import answers
from volant.stages.prompt import few_shot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset]:
    folder = tmp_path_factory.mktemp("few_shot")
    return model(folder, steps=12), dataset(folder / "data", samples())


class Copies:
    """A model that can do nothing but copy the last example's answer, as large models like to."""

    asked = 0

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        for request in requests:
            Copies.asked += 1
            said = [m["content"] for m in request.messages if m["role"] == "assistant"]
            yield Chunk(request.id, said[-1] if said else "?", finish="stop", completion_tokens=3)

    def logprobs(self, pairs: Any) -> list[list[float]]:
        raise NotImplementedError

    def cancel(self, id: str) -> None: ...
    def close(self) -> None: ...


def test_examples_that_help_are_taken(
    made: tuple[Model, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volant.engines.open_model", lambda *a, **k: Copies())
    before = payload_digest(made[0].path)[0]
    run = run_in(tmp_path)
    prompt = few_shot(run, *made, examples=4)
    file = prompt.read_json("prompt.json")
    assert file["k"] in (2, 4) and file["model"] == before == payload_digest(made[0].path)[0]
    assert {e["sample"] for e in file["examples"]} <= {s.id for s in samples() if s.split == "train"}
    assert [row["k"] for row in file["measured"]["tried"]] == [0, 2, 4]
    change = {s.name: s for s in watched(run).scores}["relevance_change"]
    assert change.low > 0 and "change relevance" in file["measured"]["why"]
    assert json.loads((prompt.path / "validation.json").read_text())["metric"] == "relevance"


def test_examples_that_do_not_help_are_left_out_with_the_reason(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path)
    prompt = few_shot(run, *made, examples=2, limit=8)
    file = prompt.read_json("prompt.json")
    assert file["k"] == 0 and file["examples"] == [] and file["measured"]["why"].startswith("no examples")
    held = [s for s in samples() if s.split == "validation"]
    bare, asked = open_model(made[0]), open_model(made[0], prompt=Prompt(prompt.path))
    assert [o.text for o in answers(bare, held)] == [o.text for o in answers(asked, held)]


def test_the_same_seed_gives_the_same_prompt(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    found = [few_shot(run_in(tmp_path / n), *made, examples=1, limit=4, pool=8).path for n in "ab"]
    assert payload_digest(found[0])[0] == payload_digest(found[1])[0]


def test_the_whole_prompt_fits_the_context(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    from volant.engines.prompting import PromptFile, apply

    budget = few_shot(run_in(tmp_path), *made, examples=1, limit=2).read_json("prompt.json")["budget_characters"]
    examples = [{"prompt": s.condition, "completion": s.target} for s in samples() if s.split == "train"]
    PromptFile.model_validate({"examples": examples, "k": 64, "budget_characters": budget}).save(tmp_path)
    session: Any = open_model(made[0])
    asked = apply(Prompt(tmp_path), Request(messages=({"role": "user", "content": "def add_file(x):"},)))
    assert 3 < len(asked.messages) < 64 and session.tokens(asked) + 48 <= session.context


def test_nothing_to_measure_on(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    train = dataset(tmp_path / "train", [s for s in samples() if s.split == "train"])
    with pytest.raises(DataError, match="validation"):
        few_shot(run_in(tmp_path), made[0], train)


def test_every_setting_is_documented() -> None:
    assert set(method_of(few_shot).fields) <= set(method_of(few_shot).setting_docs)
