"""Pre-training as a method: it learns, opens with transformers alone, mixes tasks in, and repeats bit by bit."""

from __future__ import annotations

import json
import random

import pytest

from volant.core.artifact import Dataset
from volant.core.errors import DataError, MachineError
from volant.core.method import method_of
from volant.core.run import Run
from volant.core.sample import Sample, Source, sample_id
from volant.stages.pretrain import transformer
from volant.store.dataset import writer

SOURCE = Source(uri="test:", licence="CC0-1.0")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
SMALL = {"depth": 1, "vocab": 300, "context": 32, "batch_tokens": 128, "tokens": 2048}


def text(seed, split="train"):
    rng = random.Random(seed)
    content = " ".join(WORDS[(seed + i + rng.randint(0, 1)) % 10] for i in range(60))
    return Sample(id=sample_id(content), shape="text", source=SOURCE, content=content, split=split)


def task(i, split="train"):
    condition = f"{WORDS[i % 10]} plus {i // 10}"
    return Sample(
        id=sample_id(condition, split),
        shape="completion",
        source=SOURCE,
        condition=condition,
        target=f"{WORDS[(i + 1) % 10]}",
        split=split,
    )


def dataset(folder, samples):
    folder.mkdir(parents=True)
    with writer(folder) as out:
        out.write_all(samples)
    return Dataset(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    samples = [text(i) for i in range(30)] + [text(1000 + i, "validation") for i in range(4)]
    samples += [task(i) for i in range(80)] + [task(i, "validation") for i in range(90, 98)]
    return dataset(tmp_path_factory.mktemp("data") / "d", samples)


def make_run(folder, **more):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    return Run(step="base", out=folder / "out", work=folder / "work", threads=1, **more)


def test_learns_measures_and_opens_with_transformers_alone(data, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = make_run(tmp_path)
    model = transformer(run, data, **{**SMALL, "tokens": 12_000}, patience=0)
    found = {s.name: s for s in run.watcher.scores}
    losses = [v for n, v, _ in run.watcher.metrics if n == "loss"]
    assert losses[-1] < 0.6 * losses[0]
    assert found["bits_per_byte"].n == 4 and found["bits_per_byte"].value < 1.5
    assert found["training_tokens"].value == pytest.approx(12_000, rel=0.1)
    assert "relevance" in found and (model.path / "validation.json").is_file()
    tokenizer, net = AutoTokenizer.from_pretrained(model.path), AutoModelForCausalLM.from_pretrained(model.path)
    assert net.config.model_type == "qwen3"
    assert found["parameters"].value == net.num_parameters() == model.about.parameters
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "one plus 1"}], add_generation_prompt=True, tokenize=False
    )
    assert "one plus 1" in chat and len(tokenizer(chat)["input_ids"]) < 30
    assert tokenizer.convert_tokens_to_ids("<|end|>") in net.generation_config.eos_token_id
    assert any("tokens of text" in line for line in run.watcher.lines)
    assert any("tokens of answers" in line for line in run.watcher.lines)


def test_same_seed_same_digest_and_no_place_or_time_in_the_payload(data, tmp_path):
    models = [transformer(make_run(tmp_path / str(i), seed=s), data, **SMALL) for i, s in enumerate((1, 1, 2))]
    assert models[0].digest == models[1].digest != models[2].digest
    for file in models[0].path.rglob("*.json"):
        assert str(tmp_path) not in file.read_text()


def test_a_kill_resumes_to_the_same_digest(data, tmp_path, monkeypatch):
    from volant.nets import loop

    more = {**SMALL, "checkpoint_tokens": 500}
    whole = transformer(make_run(tmp_path / "whole"), data, **more)
    step = loop._Training._one_step

    def deadly(self):
        if self.step == 9:
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_one_step", deadly)
        with pytest.raises(KeyboardInterrupt):
            transformer(make_run(tmp_path / "cut"), data, **more)
    run = make_run(tmp_path / "cut")
    again = transformer(run, data, **more)
    assert any("carrying on" in line for line in run.watcher.lines)
    assert again.digest == whole.digest


def test_tasks_alone_text_alone_and_several_datasets(tmp_path):
    only_text = dataset(tmp_path / "t", [text(i) for i in range(20)])
    only_tasks = dataset(tmp_path / "c", [task(i) for i in range(60)])
    run = make_run(tmp_path / "one")
    transformer(run, only_text, **{**SMALL, "tokens": 512})
    assert any("no validation split" in line for line in run.watcher.lines)
    transformer(make_run(tmp_path / "two"), only_tasks, **{**SMALL, "tokens": 512})
    run = make_run(tmp_path / "three")
    transformer(run, only_text, only_tasks, **{**SMALL, "tokens": 512})
    assert sum("tokens of" in line and "samples" in line for line in run.watcher.lines) == 2


def test_fewer_windows_than_a_step_takes_are_said(data, tmp_path):
    run = make_run(tmp_path)
    transformer(run, data, **{**SMALL, "tokens": 64, "batch_tokens": 1 << 20})
    assert any("a step takes all " in line and "windows of " in line for line in run.watcher.lines)


def test_the_budget_holds_where_the_data_are_shorter_than_a_step(data, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("volant.nets.compiling.pays", lambda run, net, **size: bool(asked.append(size)))
    only_text = dataset(tmp_path / "t", [text(i) for i in range(20)])
    for name, some in (("both", data), ("text", only_text)):
        run = make_run(tmp_path / name)
        made = transformer(run, some, **{**SMALL, "tokens": 20_000, "batch_tokens": 1 << 30})
        (said,) = [line for line in run.watcher.lines if " parameters, " in line]
        steps, step_tokens = (int(word) for word in said.split() if word.isdigit())
        assert steps > 1 and 20_000 - step_tokens < made.about.extra["tokens"] == steps * step_tokens <= 20_000
        assert asked.pop() == {"steps": steps, "step_tokens": step_tokens}


def test_too_little_text_is_one_readable_message(tmp_path):
    one = Sample(id="a", shape="text", source=SOURCE, content="short")
    with pytest.raises(DataError, match="one window needs") as caught:
        transformer(make_run(tmp_path), dataset(tmp_path / "d", [one]), **SMALL)
    assert "context" in caught.value.fix and not list((tmp_path / "out").iterdir())


def test_too_little_memory_is_said_before_training(data, tmp_path, monkeypatch):
    monkeypatch.setattr("volant.nets.memory.free_bytes", lambda device: 1000)
    with pytest.raises(MachineError, match="needs about [0-9,]+ MiB of memory and 0 MiB are free"):
        transformer(make_run(tmp_path), data, **SMALL)


def test_settings_are_documented_and_round_trip():
    method = method_of(transformer)
    assert set(method.setting_docs) >= set(method.fields)
    defaults = method.settings()
    assert method.settings.model_validate(json.loads(defaults.model_dump_json())) == defaults
