"""Fine-tuning what draws whole samples: adapters, new classes that do not drive out old ones, trees fitted anew."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import Model, payload_digest
from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.protocols import Request
from volant.engines import open_model
from volant.modalities import open_modality
from volant.nets.flow import family as flows
from volant.stages.finetune import full, lora
from volant.stages.pretrain import fit

SETTINGS = {"steps": 6, "batch": 8, "lr": 2e-3}


def drawn(model: Model, ask: str, n: int = 6):
    session = open_model(model)
    ends = list(session.generate([Request(id=str(i), prompt=ask, seed=i) for i in range(n)]))
    assert all(end.finish == "stop" for end in ends), ends
    return [end.sample for end in ends]


@pytest.fixture(scope="module")
def tops(tmp_path_factory):
    """A few pictures of a class that the model has not met, beside the old ones in the validation split."""
    fresh = tiny.pictures(12, classes=("top",), seed=3)
    held = [s for s in tiny.pictures() if s.split != "train"]
    return tiny.stored(tmp_path_factory.mktemp("tops") / "data", [*fresh, *held])


def test_adapters_on_named_layers_alone_are_the_difference(shelf, tmp_path):
    run = tiny.content_run(tmp_path, "image")
    made = lora(run, shelf.flow, shelf.pictures, rank=2, targets="conv1", **SETTINGS)
    adapter = load_file(made.path / "adapter" / "adapter_model.safetensors")
    config = json.loads((made.path / "adapter" / "adapter_config.json").read_text())
    assert adapter and all("conv1" in name for name in adapter)
    assert config["r"] == 2 and all(name.endswith("conv1") for name in config["target_modules"])
    before, after = (flows.load(m.path).core.state_dict() for m in (shelf.flow, made))
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.endswith("conv1.weight") for name in moved)
    # What was merged is the layer and the product of the adapter's two matrices.
    for name in sorted(moved)[:2]:
        layer = name.removesuffix(".weight")
        (down,) = [t for n, t in adapter.items() if n.startswith(layer) and "lora_A" in n]
        (up,) = [t for n, t in adapter.items() if n.startswith(layer) and "lora_B" in n]
        added = torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down) * config["lora_alpha"] / config["r"]
        torch.testing.assert_close(after[name], before[name] + added, atol=1e-5, rtol=1e-4)
    assert made.about.extra["tuned"] == "lora" and made.about.extra["base"] == shelf.flow.digest[:16]
    assert any(s.name == "validation_loss" for s in watched(run).scores)
    assert open_modality("image").check(drawn(made, "left")[0]) == []


def test_a_layer_that_is_not_there_is_refused(shelf, tmp_path):
    with pytest.raises(SettingError, match=r"no layer is called 'conf1'.*conv1"):
        lora(tiny.content_run(tmp_path, "image"), shelf.flow, shelf.pictures, targets="conf1", **SETTINGS)


@pytest.mark.parametrize("method", [full, lora])
def test_a_new_class_joins_the_old_ones(method, shelf, tops, tmp_path):
    run = tiny.content_run(tmp_path, "image")
    made = method(run, shelf.flow, tops, **{**SETTINGS, "steps": 10})
    codec = open_modality("image").open_codec(made.path)
    assert codec.classes == ("left", "right", "top")
    said = " ".join(watched(run).lines)
    assert "new classes: top" in said and "20 samples of what the model knows are mixed in" in said
    for name in codec.classes:
        assert drawn(made, name, 1)[0].condition == name


def test_without_replay_nothing_is_mixed_in(shelf, tops, tmp_path):
    run = tiny.content_run(tmp_path, "image")
    full(run, shelf.flow, tops, replay=0.0, **{**SETTINGS, "steps": 2})
    assert "; 0 samples of what the model knows are mixed in" in " ".join(watched(run).lines)


def test_more_classes_than_there_is_room_for_are_refused(shelf, tmp_path):
    names = [f"class {i:03d}" for i in range(80)]
    samples = [s.model_copy(update={"condition": n, "id": n}) for s, n in zip(tiny.pictures(80), names, strict=True)]
    data = tiny.stored(tmp_path / "data", samples)
    with pytest.raises(DataError, match="are more than the .* that there is room for"):
        full(tiny.content_run(tmp_path, "image"), shelf.flow, data, replay=0.0, **SETTINGS)


def test_a_new_class_for_a_vae(shelf, tops, tmp_path):
    made = full(tiny.content_run(tmp_path, "image"), shelf.vae, tops, **SETTINGS)
    assert drawn(made, "top", 1)[0].condition == "top"


def test_a_new_class_for_a_flow_over_latents(shelf, tops, tmp_path):
    size = {"latent_channels": 2, "width": 16}
    few = {"steps": 2, "batch": 8}
    vae = fit(tiny.content_run(tmp_path / "vae", "image"), shelf.pictures, family="vae", size=size, **few)
    run = tiny.content_run(tmp_path / "flow", "image")
    flow = fit(run, shelf.pictures, latent=vae, size=tiny.FLOW, controls={"steps": 2.0}, **few)
    made = full(tiny.content_run(tmp_path / "full", "image"), flow, tops, **{**SETTINGS, "steps": 2})
    assert made.about.space["channels"] == 2 and drawn(made, "top", 1)[0].condition == "top"


def test_the_same_seed_tunes_the_same(shelf, tmp_path):
    once, again = (
        lora(tiny.content_run(tmp_path / n, "image", seed=4), shelf.flow, shelf.pictures, rank=2, **SETTINGS)
        for n in ("a", "b")
    )
    assert payload_digest(once.path) == payload_digest(again.path)


@pytest.mark.parametrize("given", [{"pack": True}, {"context": 64}])
def test_what_is_for_texts_alone_is_refused(shelf, tmp_path, given):
    for method in (full, lora):
        with pytest.raises(SettingError, match=f"`{next(iter(given))}` is for models of text"):
            method(tiny.content_run(tmp_path / method.__name__, "image"), shelf.flow, shelf.pictures, **given)


def test_a_tree_is_fitted_anew_by_full_and_has_no_layers_for_adapters(shelf, tmp_path):
    older = [s for s in tiny.people(60, seed=8) if json.loads(s.content)["age"] > 40]
    splits = (*("train",) * 3, "validation")
    data = tiny.stored(tmp_path / "data", [s.model_copy(update={"split": splits[i % 4]}) for i, s in enumerate(older)])
    made = full(tiny.content_run(tmp_path / "full", "table"), shelf.tree, data)
    assert min(json.loads(s.content)["age"] for s in drawn(made, "", 30)) > 40
    assert made.about.extra["tuned"] == "full" and made.about.family == "tree"
    with pytest.raises(ArtifactError, match="has no layers for adapters.*finetune.full"):
        lora(tiny.content_run(tmp_path / "lora", "table"), shelf.tree, data)
