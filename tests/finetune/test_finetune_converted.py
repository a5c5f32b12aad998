"""Fine-tuning what was made small or converted: 8-bit weights of content are tuned as floats, the rest is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import small_content as tiny
from tiny_models import dataset, model, run_in, samples, watched
from volant.core.artifact import Card, Model
from volant.core.errors import SettingError
from volant.core.protocols import Request
from volant.engines import open_model
from volant.nets import opened
from volant.stages.align import dpo, reward, reward_weighted
from volant.stages.compress import quantise
from volant.stages.finetune import full, lora

SETTINGS = {"steps": 4, "batch": 8}


@pytest.fixture(scope="module")
def small(shelf: Any, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The shelf's VAE of pictures in 8 bits."""
    run = tiny.content_run(tmp_path_factory.mktemp("small"), "image")
    return quantise(run, shelf.vae, shelf.pictures, metric="sharpness", limit=4, loss=1.0)


def other_engine(model: Model, folder: Path, engine: str) -> Model:
    """A copy that says it is for another engine."""
    shutil.copytree(model.path, folder)
    told = json.loads((folder / "volant.json").read_text())
    (folder / "volant.json").write_text(json.dumps({**told, "engine": engine}))
    return Model(folder)


@pytest.mark.parametrize("method", [full, lora, reward_weighted])
def test_weights_in_8_bits_are_tuned_as_floats(method: Any, small: Model, shelf: Any, tmp_path: Path) -> None:
    run = tiny.content_run(tmp_path, "image")
    more = {"scorers": ["nearest_ratio"], "samples": 16} if method is reward_weighted else {}
    made = method(run, small, shelf.pictures, **SETTINGS, **more)
    said = [line for line in watched(run).lines if "8 bits" in line]
    assert said == ["the weights were in 8 bits: they are trained, and written, as float32; quantise the result again"]
    assert "quantisation" in small.about.extra and "quantisation" not in made.about.extra
    assert made.about.extra["base"] == small.digest[:16] and not list(made.path.rglob("*.int8.safetensors"))
    whole, rounded, tuned = (opened.opened(m).net.state_dict() for m in (shelf.vae, small, made))
    moved = max(float((tuned[n] - rounded[n]).abs().max()) for n in rounded if rounded[n].is_floating_point())
    assert moved > 0 and tuned.keys() == whole.keys()
    assert all(t.dtype != torch.int8 for t in tuned.values())
    assert list(open_model(made).generate([Request(id="1", prompt="left")]))[0].finish == "stop"


@pytest.mark.parametrize("method", [full, lora])
@pytest.mark.parametrize("engine", ["ctranslate2", "onnx"])
def test_a_converted_model_names_the_step_to_use(
    method: Any, engine: str, shelf: Any, tmp_path: Path, texts: tuple[Model, Any]
) -> None:
    whole, data = texts if engine == "ctranslate2" else (shelf.vae, shelf.pictures)
    made = other_engine(whole, tmp_path / "made", engine)
    with pytest.raises(SettingError, match=f"not one for '{engine}'. Name the step that made the model before it"):
        method(run_in(tmp_path / "a"), made, data)
    parents = {"model": ["0123456789abcdef"], "data": ["f" * 16]}
    card = Card(kind="Model", digest="1" * 64, files=[], method="compress.x", step="small", parents=parents)
    with pytest.raises(SettingError, match="the step that made 0123456789ab, of which `compress.x` made this one"):
        method(run_in(tmp_path / "b"), Model(made.path, card), data)


@pytest.mark.parametrize("method", [dpo, reward, reward_weighted])
def test_nor_is_it_aligned(method: Any, shelf: Any, tmp_path: Path, texts: tuple[Model, Any]) -> None:
    settings = {"scorers": ["relevance"]} if method is reward_weighted else {}
    made = other_engine(texts[0], tmp_path / "text", "ctranslate2")
    with pytest.raises(SettingError, match="align.dpo" if settings else "Name the step that made the model before"):
        method(run_in(tmp_path / "a"), made, texts[1], **settings)
    made = other_engine(shelf.vae, tmp_path / "content", "onnx")
    with pytest.raises(SettingError, match="not one for 'onnx'. Name the step that made the model before it"):
        method(run_in(tmp_path / "b"), made, shelf.pictures, **settings)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Any]:
    folder = tmp_path_factory.mktemp("texts")
    return model(folder, steps=0), dataset(folder / "data", samples())
