"""The family of pipelines: what it is told, what it learns, how it draws; tiny pipelines of several shapes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import tiny_pipelines as tiny
from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.spaces import Example, Grid
from volant.nets import denoising, lowrank, open_family, pipeline_files
from volant.nets.arrays import array_batch
from volant.nets.pipeline import family, tokenizer_json

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipelines")
    return {
        "sd": tiny.stable_diffusion(root / "sd"), "xl": tiny.stable_diffusion_xl(root / "xl"),
        "sd3": tiny.stable_diffusion_3(root / "sd3"), "pixart": tiny.pixart(root / "pixart"),
        "ddpm": tiny.ddpm(root / "ddpm"), "dit": tiny.dit(root / "dit"),
    }  # fmt: skip


def told(net):
    """Two different conditions for a pipeline."""
    if net.told == "words":
        return [net.pipe.tokenizer(word, add_special_tokens=False).input_ids for word in ("a red cat", "blue")]
    return [[1], [2]] if net.told == "class" else [[], []]


@pytest.mark.parametrize("name", ["sd", "xl", "sd3", "ddpm", "dit"])
def test_pictures_depend_on_their_own_seed_alone(folders, name):
    net = family.load(folders[name])
    one, two = told(net)
    drawn = family.sample(net, [one, two, one, one], seed=0, seeds=[5, 6, 7, 5], steps=3)
    alone = family.sample(net, [one], seed=9, seeds=[7], steps=3)
    assert drawn.dtype == np.float32 and drawn.shape[:2] == (4, 3) and np.abs(drawn).max() <= 1
    assert np.allclose(drawn[2], alone[0], atol=1e-4) and np.allclose(drawn[0], drawn[3], atol=1e-4)
    assert np.abs(drawn[0] - drawn[2]).max() > 0.1
    assert np.array_equal(drawn, family.sample(net, [one, two, one, one], seed=1, seeds=[5, 6, 7, 5], steps=3))
    assert family.sample(net, [], seed=0).shape[0] == 0 and not net.training


@pytest.mark.parametrize("name", ["sd", "xl", "sd3", "pixart", "ddpm", "dit"])
def test_only_the_denoiser_learns(folders, name):
    net = family.load(folders[name])
    side = 8 if name == "ddpm" else 16
    examples = [Example(np.full((3, side, side), 0.3, np.float32), tuple(ids)) for ids in told(net)]
    batch = array_batch(examples)
    net.train()
    total, count = family.step_loss(net, batch)
    total.backward()
    assert count == 2 and 0.2 < float(total.detach()) / 2 < 5
    assert all(p.grad is not None for p in net.core.parameters() if p.requires_grad)
    assert not any(p.requires_grad or p.grad is not None for p in net.frozen.parameters())
    assert not any(m.training for m in net.frozen.modules()) and net.core.training
    with torch.no_grad():
        assert float(family.loss(net.eval(), batch)) == float(family.loss(net, batch))


def test_the_condition_reaches_the_denoiser(folders):
    net = family.load(folders["sd"])
    one, two = told(net)
    plain, guided, other = (
        family.sample(net, [ids], seed=3, guidance=g, steps=3) for ids, g in ((one, 1), (one, 9), (two, 9))
    )
    assert np.abs(plain - guided).max() > 1e-3 and np.abs(guided - other).max() > 1e-3
    values = np.zeros((3, 16, 16), np.float32)
    losses = [float(family.loss(net, array_batch([Example(values, tuple(ids))])).detach()) for ids in (one, two, [])]
    assert len(set(losses)) == 3


def test_captions_are_left_out_now_and_then_and_in_training_only(folders, monkeypatch):
    net = family.load(folders["sd"])
    heard = []
    asked = net.pipe.encode_prompt
    monkeypatch.setattr(net.pipe, "encode_prompt", lambda prompt, device, **more: heard.append(prompt) or asked(
        prompt, device, 1, False))  # fmt: skip
    ids = tuple(told(net)[0])
    batch = array_batch([Example(np.zeros((3, 16, 16), np.float32), ids)] * 200)
    # What the denoiser makes of them is not asked here, and 200 rows take time.
    monkeypatch.setattr(net.core, "forward", lambda x, timestep, **more: (x,))
    torch.manual_seed(0)
    family.step_loss(net.train(), batch)
    family.step_loss(net.eval(), batch)
    assert 8 <= heard[0].count("") <= 36 and len(set(heard[0])) == 2 and "a red cat" in heard[0]
    assert heard[1].count("") == 0


def test_words_survive_the_way_through_ids(folders):
    net = family.load(folders["sd"])
    tokenizer = net.pipe.tokenizer
    for text in ("A red cat's hat, 2 blue ones!", "ünïcode — naïve", "it'd re-do  (this): 100%"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer(net.words([*ids, -1]), add_special_tokens=False).input_ids == ids
    body, length = tokenizer_json(net)
    assert length == 75 and json.loads(body)["padding"] is None


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow"])
def test_the_target_leads_back_to_the_content(kind):
    import diffusers

    if kind == "flow":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    else:
        scheduler = diffusers.DDIMScheduler(**tiny.BETAS, prediction_type=kind, clip_sample=False)
    torch.manual_seed(0)
    x = torch.randn(64, 4, 2, 2)
    noised, time_B, target = denoising.noised(scheduler, x)
    if kind == "flow":
        found = noised - (time_B / 1000)[:, None, None, None] * target
        assert (time_B > 500).float().mean() > 0.6  # the shift spends the training where the noise is
    else:
        scheduler.set_timesteps(1000)
        rows = zip(target, time_B, noised, strict=True)
        found = torch.stack([scheduler.step(o, int(t), n).pred_original_sample for o, t, n in rows])
        assert time_B.float().std() > 250
    assert torch.allclose(found, x, atol=2e-3)


def test_an_unknown_prediction_is_refused():
    import diffusers

    with pytest.raises(ArtifactError, match="EDMEulerScheduler.*cannot be trained"):
        denoising.noised(diffusers.EDMEulerScheduler(), torch.zeros(1, 1, 2, 2))


def test_classes_have_names_and_one_for_none(folders):
    net = family.load(folders["dit"])
    assert net.classes == 1000 and net.names()[:4] == ["tench, Tinca tinca", "crane", "crane", "3"]
    assert net.has_none
    none = family.sample(net, [[]], seed=1, steps=2, guidance=1)
    assert np.abs(none - family.sample(net, [[5]], seed=1, steps=2, guidance=1)).max() > 1e-4


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # that scheduler's own
def test_a_consistency_model_draws_classes_and_cannot_be_told_none(tmp_path):
    import diffusers

    core = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, num_class_embeds=3,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    told = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 1}
    scheduler = diffusers.DPMSolverMultistepScheduler(**told)
    diffusers.ConsistencyModelPipeline(unet=core, scheduler=scheduler).save_pretrained(tmp_path)
    net = family.load(tmp_path)
    assert net.told == "class" and net.classes == 3 and not net.has_none
    drawn = family.sample(net, [[0], [2], []], seed=0, seeds=[1, 1, 3], steps=2)
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3
    values = np.zeros((3, 8, 8), np.float32)
    assert float(family.loss(net, array_batch([Example(values, (1,))])).detach()) > 0
    with pytest.raises(DataError, match="a picture has none"):
        family.loss(net, array_batch([Example(values, ())]))


def test_saved_and_loaded_it_is_the_same_and_names_no_place(folders, tmp_path):
    import diffusers

    net = family.load(folders["dit"])
    chosen = lowrank.adapt(net.core, rank=2, alpha=0, dropout=0, targets=["to_q"], seed=0)
    assert chosen
    with torch.no_grad():
        for name, weight in net.core.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    lowrank.merge(net.core)
    family.save(net, tmp_path / "saved")
    again = family.load(tmp_path / "saved")
    assert all(torch.equal(p, again.core.state_dict()[n]) for n, p in net.core.state_dict().items())
    assert np.array_equal(family.sample(net, [[1]], seed=1, steps=2), family.sample(again, [[1]], seed=1, steps=2))
    assert diffusers.DiTPipeline.from_pretrained(tmp_path / "saved").labels["Tinca tinca"] == 0
    texts = [p.read_text() for p in (tmp_path / "saved").rglob("*.json")]
    assert len(texts) >= 4 and not any(str(tmp_path) in t or str(folders["dit"]) in t for t in texts)


def test_what_cannot_be(folders, tmp_path):
    assert open_family("pipeline") is family and family.logp(None, None) is None and family.export() == ()
    with pytest.raises(ArtifactError, match="cannot be built"):
        family.build(Grid(3, (8, 8)), seed=0)
    with pytest.raises(SettingError, match="more than the 1000"):
        family.sample(family.load(folders["ddpm"]), [[]], seed=0, steps=1001)
    (tmp_path / "model_index.json").write_text("[")
    with pytest.raises(ArtifactError, match="no readable model_index.json"):
        family.load(tmp_path)


def index_of(folder, **changes):
    return {**pipeline_files.read_index(folder / "model_index.json"), **changes}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"_class_name": ["my_pipeline", "MyPipeline"]}, "code of its own"),
        ({"_class_name": "UNet2DModel"}, "code of its own"),
        ({"_class_name": "NoSuchPipeline"}, "code of its own"),
        ({"unet": ["os", "system"]}, "os.system"),
        ({"unet": ["my_unet", "MyUNet"]}, "my_unet.MyUNet"),
        ({"unet": ["diffusers", "NoSuchModel"]}, "NoSuchModel"),
        ({"unet": ["diffusers.utils", "x"]}, "does not open"),
        ({"../up": ["diffusers", "UNet2DModel"]}, "does not open"),
    ],
)
def test_an_index_that_asks_for_code_is_refused(folders, change, says):
    with pytest.raises(ArtifactError, match=says):
        pipeline_files.components(index_of(folders["ddpm"], **change))


def test_files_are_chosen_by_what_they_are(folders):
    index = index_of(folders["ddpm"], safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    names = [
        "model_index.json", "README.md", "LICENSE.txt", "whole.safetensors", "pipeline.py", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin", "unet/code.py", "unet/deep/config.json", "other/config.json",
        "scheduler/scheduler_config.json", "safety_checker/config.json",
        "safety_checker/model-00001-of-00002.safetensors", "safety_checker/model.safetensors.index.json",
        "safety_checker/pytorch_model.bin.index.json",
    ]  # fmt: skip
    assert sorted(pipeline_files.chosen(index, names)) == [
        "LICENSE.txt", "model_index.json", "safety_checker/config.json",
        "safety_checker/model-00001-of-00002.safetensors", "safety_checker/model.safetensors.index.json",
        "scheduler/scheduler_config.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    half = [n for n in names if n != "unet/diffusion_pytorch_model.safetensors"]
    with pytest.raises(ArtifactError, match="there as diffusion_pytorch_model.fp16.safetensors alone"):
        pipeline_files.chosen(index, half)
    with pytest.raises(ArtifactError, match="'scheduler' is missing"):
        pipeline_files.chosen(index, [n for n in names if not n.startswith("scheduler")])
