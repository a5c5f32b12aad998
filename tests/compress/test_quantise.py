"""int8 with the loss stated, or a refusal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ctranslate2
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from tiny_models import dataset, model, run_in, samples, watched
from volant.core.artifact import Dataset, Model, payload_digest
from volant.core.errors import DataError, GateRefused, SettingError
from volant.core.method import method_of
from volant.stages.compress import quantise


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset]:
    folder = tmp_path_factory.mktemp("quantise")
    return model(folder), dataset(folder / "data", samples())


def test_int8_states_its_loss_and_repeats_bit_by_bit(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        run = run_in(tmp_path / name)
        small = quantise(run, *made, loss=0.2, limit=8)
        digests.append(payload_digest(small.path)[0])
    assert digests[0] == digests[1]
    scores = {s.name: s for s in watched(run).scores}
    assert scores["size_ratio"].value < 0.6 and scores["speed_ratio"].value > 0
    assert abs(scores["bits_per_byte_change"].value) < 0.2 * scores["bits_per_byte"].value
    assert small.about.engine == "ctranslate2" and small.about.extra["quantisation"]["bits"] == 8
    assert json.loads((small.path / "validation.json").read_text())["metric"] == "relevance"


def test_the_directory_opens_without_volant(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    small = quantise(run_in(tmp_path), *made, bits=32, limit=4)
    tokenizer = AutoTokenizer.from_pretrained(small.path)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "def add_name(x):"}], tokenize=False, add_generation_prompt=True
    )
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode(asked))
    told = ctranslate2.Generator(str(small.path)).generate_batch(
        [tokens], max_length=20, sampling_topk=1, include_prompt_in_result=False, end_token="<|end|>"
    )
    assert tokenizer.decode(told[0].sequences_ids[0], skip_special_tokens=True) == "Add the name."


def test_float32_loses_nothing(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path)
    quantise(run, *made, bits=32, loss=0.0001, limit=8)
    change = {s.name: s for s in watched(run).scores}["bits_per_byte_change"]
    assert abs(change.value) < 1e-4


def test_more_loss_than_stated_is_refused_with_numbers(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    # The same function with half of each MLP's columns 4096 times smaller: one scale a row cannot hold both.
    learnt = [s.model_copy(update={"split": "validation"}) for s in samples() if s.split == "train"]
    brittle = tmp_path / "brittle"
    shutil.copytree(made[0].path, brittle)
    weights = load_file(brittle / "model.safetensors")
    for name in [n for n in weights if n.endswith("up_proj.weight")]:
        down = name.replace("up_proj", "down_proj")
        weights[name][::2] *= 4096
        weights[down][:, ::2] /= 4096
    save_file(weights, brittle / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(GateRefused, match=r"bits per byte rose by .*%.*stated loss of 20.0%") as caught:
        quantise(run_in(tmp_path), Model(brittle), dataset(tmp_path / "learnt", learnt), loss=0.2)
    assert "loss" in caught.value.fix


def test_inputs_are_untouched(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    before = payload_digest(made[0].path)[0]
    quantise(run_in(tmp_path), *made, bits=32, limit=2)
    assert payload_digest(made[0].path)[0] == before


def test_what_it_does_not_take(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    small = quantise(run_in(tmp_path / "a"), *made, bits=32, limit=2)
    with pytest.raises(SettingError, match="ctranslate2"):
        quantise(run_in(tmp_path / "b"), small, made[1])
    train_only = dataset(tmp_path / "train", [s for s in samples() if s.split == "train"])
    with pytest.raises(DataError, match="validation"):
        quantise(run_in(tmp_path / "c"), made[0], train_only)


def test_every_setting_is_documented() -> None:
    method = method_of(quantise)
    assert set(method.fields) <= set(method.setting_docs)
