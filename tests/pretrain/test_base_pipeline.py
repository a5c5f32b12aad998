"""A diffusers pipeline through its life: taken from a directory or the hub, tuned with LoRA, served; and refusals."""

from __future__ import annotations

import base64
import fnmatch
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_pipelines as tiny
from volant.core.artifact import Dataset
from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.outside import Snapshot
from volant.core.protocols import Request
from volant.engines import open_model
from volant.modalities.image import modality
from volant.modalities.image_pixels import pixels
from volant.serving.app import create_app
from volant.serving.run import running
from volant.serving.service import Fixed, Service
from volant.stages.finetune import lora
from volant.stages.pretrain import base
from volant.store.dataset import writer

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("source") / "tiny-sd", "PNDMScheduler", skip_prk_steps=True)


@pytest.fixture(scope="module")
def model(source, tmp_path_factory):
    return base(tiny.make_run(tmp_path_factory.mktemp("base") / "b", source), source=str(source))


@pytest.fixture(scope="module")
def tuned(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    (folder / "data").mkdir()
    with writer(folder / "data") as out:
        for i in range(16):
            out.write_all([tiny.picture(("red", "blue")[i % 2], i)])
        out.write_all([tiny.picture(("red", "blue")[i % 2], i, "validation") for i in range(16, 24)])
    run = tiny.make_run(folder / "t")
    before = model.digest
    made = lora(run, model, Dataset(folder / "data"), rank=4, steps=30, batch=4, lr=5e-3)
    assert model.digest == before
    return made, run


def ask(model, *requests):
    session = open_model(model)
    try:
        return list(session.generate(list(requests)))
    finally:
        session.close()


def test_a_directory_becomes_a_model_that_draws(source, model):
    import diffusers

    about = model.about
    assert (about.family, about.engine, about.modality) == ("pipeline", "sampler", "image")
    assert about.space["dims"] == [16, 16] and about.space["condition_length"] == 75
    assert about.extra["controls"] == {"guidance": 7.5, "steps": 50}
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (model.path / weights).read_bytes() == (source / weights).read_bytes()
    two = ask(model, *(Request(id=str(s), prompt="a red square", seed=s, controls={"steps": 3}) for s in (1, 2)))
    one = ask(model, Request(id="2", prompt="a red square", seed=2, controls={"steps": 3}))
    images = [pixels(chunk.sample).astype(int) for chunk in two]
    assert images[0].shape == (16, 16, 3) and np.abs(images[0] - images[1]).max() > 20
    assert np.abs(images[1] - pixels(one[0].sample)).max() <= 1 and two[0].sample.condition == "a red square"
    opened = diffusers.DiffusionPipeline.from_pretrained(model.path)
    assert type(opened) is diffusers.StableDiffusionPipeline
    text = "".join(p.read_text() for p in model.path.rglob("*.json"))
    assert str(model.path) not in text and str(source) not in text


def test_the_codec_speaks_the_pipeline_s_own_words(model):
    codec = modality.open_codec(model.path)
    words = tiny.tokenizer()
    for text in ("A red  cat's hat!", "Überblue, 12"):
        assert list(codec.condition(text)) == words(text, add_special_tokens=False).input_ids
    assert codec.condition(" ") == () and len(codec.condition("blue " * 200)) == 75
    example = codec.encode(tiny.picture("red", side=40))
    assert example.values.shape == (3, 16, 16) and example.condition == codec.condition("a red square")
    assert abs(float(example.values[0].mean()) - (220 / 127.5 - 1)) < 0.1
    (codec_file := model.path / "codec/pipeline.json").read_text()
    assert json.loads(codec_file.read_text())["told"] == "words"


def test_same_source_same_digest(source, model, tmp_path):
    assert base(tiny.make_run(tmp_path / "again", source), source=str(source)).digest == model.digest


def test_lora_tunes_the_denoiser_alone(model, tuned):
    import diffusers

    made, run = tuned
    change = next(s for s in run.watcher.scores if s.name == "validation_loss_change")
    assert change.high < 0
    was, now = (diffusers.DiffusionPipeline.from_pretrained(m.path) for m in (model, made))
    same = lambda part: all(  # noqa: E731
        torch.equal(p, getattr(now, part).state_dict()[n]) for n, p in getattr(was, part).state_dict().items()
    )
    assert same("vae") and same("text_encoder") and not same("unet")
    assert json.loads((made.path / "adapter/adapter_config.json").read_text())["r"] == 4
    assert (made.path / "model_index.json").read_bytes() == (model.path / "model_index.json").read_bytes()
    assert made.about.extra["tuned"] == "lora" and made.about.family == "pipeline"
    text = "".join(p.read_text() for p in made.path.rglob("*.json"))
    assert str(model.path) not in text and str(made.path) not in text
    given = {"num_inference_steps": 3, "output_type": "np", "generator": torch.Generator().manual_seed(4)}
    alone = now("a red square", **given).images[0]
    ours = ask(made, Request(id="a", prompt="a red square", seed=4, controls={"steps": 3}))[0].sample
    assert np.abs(alone * 255 - pixels(ours)).max() <= 1.01


def test_the_official_client_gets_a_picture_of_the_tuned_pipeline(tuned):
    import openai
    from fastapi.testclient import TestClient

    service = Service(Fixed(tuned[0], name="champion"))
    try:
        app = TestClient(create_app(service), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 5000))
        body = {"prompt": "a red square", "seed": 4, "steps": 3}
        first, again = (app.post("/v1/images/generations", json=body).json()["data"] for _ in range(2))
        assert first == again
        with running(service) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            told = {"seed": 4, "steps": 3}
            made = client.images.generate(model="champion", prompt="a red square", n=2, extra_body=told)
            assert made.data is not None and len(made.data) == 2
            opened = [Image.open(io.BytesIO(base64.b64decode(d.b64_json or ""))) for d in made.data]
            assert {(image.format, image.size) for image in opened} == {("PNG", (16, 16))}
            again = Image.open(io.BytesIO(base64.b64decode(first[0]["b64_json"])))
            assert np.abs(np.asarray(opened[0]).astype(int) - np.asarray(again)).max() <= 1
    finally:
        service.close()


def test_a_pipeline_of_classes_is_asked_by_name_or_number(tmp_path):
    model = base(tiny.make_run(tmp_path / "b", folder := tiny.dit(tmp_path / "dit")), source=str(folder))
    codec = modality.open_codec(model.path)
    assert [codec.condition(t) for t in ("tench", "Tinca Tinca", "tench, Tinca tinca", "0", "7", "")] == [
        (0,), (0,), (0,), (0,), (7,), (),
    ]  # fmt: skip
    with pytest.raises(DataError, match="2 classes.*Ask by number: 1, 2"):
        codec.condition("crane")
    with pytest.raises(DataError, match="no class 'tenhc'"):
        codec.condition("tenhc")
    assert model.about.space["conditions"] == 1000 and model.about.extra["controls"]["guidance"] == 4.0
    chunk = ask(model, Request(id="a", prompt="tench", controls={"steps": 2}))[0]
    assert chunk.finish == "stop" and pixels(chunk.sample).shape == (16, 16, 3)
    refused = ask(model, Request(id="a", prompt="unicorn"))[0]
    assert refused.refused and "unicorn" in refused.error


def test_a_pipeline_that_is_told_nothing(tmp_path):
    model = base(tiny.make_run(tmp_path / "b", folder := tiny.ddpm(tmp_path / "ddpm")), source=str(folder))
    assert model.about.space["conditions"] == 0 and model.about.extra["controls"] == {"steps": 100}
    codec = modality.open_codec(model.path)
    assert codec.encode(tiny.picture("red", side=8)).condition == ()
    with pytest.raises(DataError, match="without conditions"):
        codec.condition("red")
    chunk = ask(model, Request(id="a", prompt="", controls={"steps": 2}))[0]
    assert pixels(chunk.sample).shape == (8, 8, 3)


def changed(source, target, **index):
    shutil.copytree(source, target)
    if index:
        file = target / "model_index.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **index}))
    return target


def test_pickled_weights_are_refused_and_never_read(source, tmp_path):
    pickled = changed(source, tmp_path / "pickled")
    (pickled / "unet/diffusion_pytorch_model.safetensors").unlink()
    (pickled / "unet/diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")
    with pytest.raises(ArtifactError, match="'unet' are a pickle") as caught:
        base(tiny.make_run(tmp_path / "b", pickled), source=str(pickled))
    assert str(pickled) in caught.value.where and "safetensors" in caught.value.fix


def test_a_custom_pipeline_is_refused_and_never_run(source, tmp_path):
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'w')"
    for place, index in (
        ("my_pipeline.py", {"_class_name": ["my_pipeline", "Mine"]}),
        ("unet/my_unet.py", {"unet": ["my_unet", "Mine"]}),
    ):
        evil = changed(source, tmp_path / place.partition("/")[0].removesuffix(".py"), **index)
        (evil / place).write_text(code)
        with pytest.raises(ArtifactError, match=r"code of its own|my_unet\.Mine"):
            base(tiny.make_run(tmp_path / f"b{len(place)}", evil), source=str(evil))
    config = changed(source, tmp_path / "auto") / "text_encoder/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "evil.Evil"}}))
    with pytest.raises(ArtifactError, match="auto_map"):
        base(tiny.make_run(tmp_path / "c", tmp_path / "auto"), source=str(tmp_path / "auto"))
    assert not canary.exists()


def test_code_beside_a_pipeline_is_left_behind(source, tmp_path):
    beside = changed(source, tmp_path / "beside")
    (beside / "pipeline.py").write_text("raise SystemExit")
    (beside / "unet/config.py").write_text("raise SystemExit")
    made = base(tiny.make_run(tmp_path / "b", beside), source=str(beside))
    assert not list(made.path.rglob("*.py"))


def test_a_pipeline_that_needs_a_picture_is_refused(source, tmp_path):
    other = changed(source, tmp_path / "img", _class_name="StableDiffusionImg2ImgPipeline")
    with pytest.raises(ArtifactError, match="does not make pictures of words or a class alone"):
        base(tiny.make_run(tmp_path / "b", other), source=str(other))


def test_a_project_of_text_takes_no_pipeline(source, tmp_path):
    with pytest.raises(SettingError, match="this project makes text"):
        base(tiny.make_run(tmp_path / "b", source, modality="text"), source=str(source))


def test_damaged_weights_are_an_error_with_a_fix(source, tmp_path):
    broken = changed(source, tmp_path / "broken")
    file = broken / "vae/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ArtifactError, match="cannot be opened") as caught:
        base(tiny.make_run(tmp_path / "b", broken), source=str(broken))
    assert "fetch the pipeline again" in caught.value.fix


def test_a_hub_name_fetches_the_parts_and_nothing_else(source, model, tmp_path, monkeypatch):
    """The hub's client is replaced by a copy that holds to its patterns as the client does (`*` matches `/` too)."""
    remote = changed(source, tmp_path / "remote")
    (remote / "whole.safetensors").write_bytes(b"x")
    (remote / "unet/diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x")
    (remote / "unet/diffusion_pytorch_model.bin").write_bytes(b"x")
    cache = tmp_path / "cache" / ("0123456789" * 4)
    calls = []

    def snapshot_download(name, *, revision, allow_patterns, ignore_patterns=()):
        calls.append((name, revision))
        for file in remote.rglob("*"):
            key = file.relative_to(remote).as_posix()
            wanted = any(fnmatch.fnmatch(key, p) for p in allow_patterns)
            if file.is_file() and wanted and not any(fnmatch.fnmatch(key, p) for p in ignore_patterns):
                (cache / key).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, cache / key)
        return str(cache)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    run = tiny.make_run(tmp_path / "b")
    run.outside["source"] = Snapshot("hub", "someone/tiny-sd", (), {"name": "someone/tiny-sd", "local": False})
    made = base(run, source="someone/tiny-sd")
    assert calls == [("someone/tiny-sd", "main"), ("someone/tiny-sd", "0123456789" * 4)]
    fetched = {p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file()}
    theirs = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()}
    assert fetched == theirs
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (made.path / weights).read_bytes() == (model.path / weights).read_bytes()
