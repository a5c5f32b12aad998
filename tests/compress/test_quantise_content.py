"""int8 for networks of images and tables: smaller, opened by the same engine, refused where it costs too much."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from made_tables import visits
from tiny_converted import SOURCE, content_model, pictures
from tiny_models import dataset, run_in, watched
from volant.core.artifact import Dataset, Model, ModelAbout, payload_digest
from volant.core.errors import ArtifactError, GateRefused, SettingError
from volant.core.method import method_of
from volant.core.sample import Sample
from volant.core.spaces import space_json
from volant.engines import open_model
from volant.modalities import open_modality
from volant.modalities.image import pixels
from volant.nets import content, open_family
from volant.nets.int8 import packed, restored, unpacked
from volant.nets.vae import family
from volant.scorers.measure import answers
from volant.stages.compress import quantise
from volant.testing.methods import check_documented


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Dataset]:
    folder = tmp_path_factory.mktemp("int8")
    return content_model(folder, "vae", steps=40, z=4, width=8), dataset(folder / "data", pictures())


def test_rounding_is_within_half_a_step_of_each_row() -> None:
    torch.manual_seed(0)
    tensors = {"w": torch.randn(6, 4, 3, 3) * torch.logspace(-3, 3, 6).view(-1, 1, 1, 1), "b": torch.randn(99)}
    tensors["w"][2] = 0
    tensors["edges"] = torch.randn(20, 20, dtype=torch.float64) * 1e6
    small = packed(tensors)
    assert small["w"].dtype == torch.int8 and small["edges"] is not None and small["edges"].dtype == torch.float64
    back = unpacked(small, {"w": "float32"})
    assert set(back) == set(tensors) and torch.equal(back["b"], tensors["b"])
    step = tensors["w"].flatten(1).abs().amax(1) / 127
    off = (back["w"] - tensors["w"]).flatten(1).abs().amax(1)
    assert bool((off <= step / 2 * 1.001).all()) and bool((back["w"][2] == 0).all())


def test_it_is_smaller_and_draws_nearly_the_same(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    run = run_in(tmp_path / "one")
    small = quantise(run, *made, metric="sharpness", limit=16, loss=0.2)
    again = quantise(run_in(tmp_path / "two"), *made, metric="sharpness", limit=16, loss=0.2)
    assert payload_digest(small.path)[0] == payload_digest(again.path)[0]
    scores = {s.name: s for s in watched(run).scores}
    assert scores["size_ratio"].value < 0.4 and {"sharpness", "sharpness_change"} <= set(scores)
    told = small.about.extra["quantisation"]
    assert small.about.engine == "sampler" and told["bits"] == 8 and told["allowed_loss"] == 0.2
    asked = pictures(12)
    pairs = zip(answers(open_model(made[0]), asked), answers(open_model(small), asked), strict=True)
    apart = [
        np.abs(pixels(a.sample).astype(float) - pixels(b.sample)).mean() for a, b in pairs if a.sample and b.sample
    ]
    assert len(apart) == 12 and 0 < max(apart) < 10


def test_the_family_opens_what_is_restored(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    small = quantise(run_in(tmp_path), *made, metric="sharpness", limit=8, loss=1)
    with restored(small.path) as folder:
        net = family.load(folder)
        place = folder
    assert not place.exists()
    whole = family.load(made[0].path).state_dict()
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, whole[name], atol=float(whole[name].abs().max()) / 100 + 1e-9, rtol=0)
    with restored(made[0].path) as folder:
        assert folder == made[0].path


def test_more_loss_than_stated_is_refused(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    # One weight a row so large that nothing beside it survives in 8 bits; its input is always 0.
    brittle = content_model(tmp_path, "vae", steps=1, z=4, width=8)
    tensors = load_file(made[0].path / "model.safetensors")
    name = next(n for n in tensors if n.startswith("paint") and n.endswith("0.weight"))
    first = next(n for n in tensors if n.startswith("outward.2") and n.endswith("weight"))
    channel = tensors[first].size(0) // tensors[name].size(1)
    tensors[first][:channel] = 0
    tensors[first.replace("weight", "bias")][:channel] = 0
    tensors[name][:, 0] = 1e5
    save_file(tensors, brittle.path / "model.safetensors")
    with pytest.raises(GateRefused, match=r"sharpness went from .*stated loss of 5.0%"):
        quantise(run_in(tmp_path / "run"), brittle, made[1], metric="sharpness", limit=16)


def test_nothing_to_quantise_is_said(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="32 bits already"):
        quantise(run_in(tmp_path / "a"), *made, bits=32, metric="sharpness")
    small = quantise(run_in(tmp_path / "b"), *made, metric="sharpness", limit=8, loss=1)
    with pytest.raises(SettingError, match="in 8 bits already"):
        quantise(run_in(tmp_path / "c"), small, made[1], metric="sharpness")


def test_a_tree_has_nothing_to_quantise(tmp_path: Path) -> None:
    rows = [
        Sample(id=str(n), shape="row", content=json.dumps(row), source=SOURCE, split="train" if n % 4 else "validation")
        for n, row in enumerate(visits(60))
    ]
    codec: Any = open_modality("table").codec(rows)
    tree: Any = open_family("tree")
    net = content.build(tree, codec, content.encoded(codec, rows), seed=0, size={})
    tree.estimate(net, content.encoded(codec, rows), seed=0)
    place = tmp_path / "model"
    tree.save(net, place)
    codec.save(place)
    about = ModelAbout(family="tree", modality="table", engine="sampler", space=space_json(codec.space))
    (place / "volant.json").write_text(about.model_dump_json() + "\n")
    with pytest.raises(SettingError, match="a tree holds no matrices of weights: there is nothing to quantise"):
        quantise(run_in(tmp_path / "run"), Model(place), dataset(tmp_path / "data", rows))


def test_damage_is_said(made: tuple[Model, Dataset], tmp_path: Path) -> None:
    small = quantise(run_in(tmp_path), *made, metric="sharpness", limit=8, loss=1)
    (file,) = small.path.glob("*.int8.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="int8 weights cannot be opened"):
        open_model(small)


def test_settings_are_documented() -> None:
    check_documented(method_of(quantise))
