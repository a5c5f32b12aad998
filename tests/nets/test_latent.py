"""A codec behind an autoencoder: latents of unit spread there, content back, and all of it travels with the model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from volant.core.artifact import Model, ModelAbout
from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Sample, Source
from volant.core.spaces import Example, Grid, Mixed, space_json
from volant.nets import latent
from volant.nets.flow import family as flow

SPACE = Grid(1, (8, 8), conditions=3)
SOURCE = Source(uri="made:test", licence="CC0-1.0")


class Pictures:
    """A codec of 8x8 pictures whose bytes are the pixels."""

    space = SPACE
    classes = ("a", "b", "c")

    def encode(self, sample):
        values = np.frombuffer(sample.media, np.uint8).reshape(1, 8, 8).astype(np.float32) / 127.5 - 1
        return Example(values, self.condition(sample.condition or ""))

    def decode(self, values, condition=""):
        pixels = np.clip((np.asarray(values) + 1) * 127.5, 0, 255).round().astype(np.uint8)
        return Sample(id="made", shape="media", source=SOURCE, media=pixels.tobytes(), condition=condition or None)

    def condition(self, text):
        return (self.classes.index(text),) if text else ()

    def fits(self, sample, condition):
        return sample.condition == (condition or None)

    def save(self, folder):
        (folder / "pictures.json").write_text(json.dumps(list(self.classes)))


class Halves:
    """An autoencoder without loss: each 2x2 block is four channels, turned by an orthogonal matrix, tripled."""

    name = "halves"

    def encode_mean(self, net, values):
        return 3 * torch.einsum("oc,nchw->nohw", net, torch.nn.functional.pixel_unshuffle(values, 2))

    def decode(self, net, latents):
        return torch.nn.functional.pixel_shuffle(torch.einsum("oc,nohw->nchw", net, latents / 3), 2)

    def save(self, net, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "turn.json").write_text(json.dumps(net.tolist()))

    def load(self, folder):
        return torch.tensor(json.loads((folder / "turn.json").read_text()), dtype=torch.float32)


@pytest.fixture(autouse=True)
def halves(monkeypatch):
    torch.set_num_threads(1)

    def opened(name):
        return Halves() if name == "halves" else flow

    monkeypatch.setattr(latent, "open_family", opened)


def samples(count=40):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 8, 8)).astype(np.uint8)
    return [
        Sample(id=str(i), shape="media", source=SOURCE, media=p.tobytes(), condition=Pictures.classes[i % 3])
        for i, p in enumerate(pixels)
    ]


def autoencoder(folder, space=SPACE, family="halves"):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    Halves().save(torch.tensor(turn, dtype=torch.float32), folder)
    about = ModelAbout(family=family, modality="image", space=space_json(space))
    (folder / "volant.json").write_text(about.model_dump_json())
    return Model(folder)


def test_latents_have_unit_spread_and_come_back_as_the_same_picture(tmp_path):
    codec = latent.latent_codec(Pictures(), autoencoder(tmp_path), samples())
    assert codec.space == Grid(4, (4, 4), conditions=3)
    examples = codec.encode_all(samples())
    stacked = np.stack([e.values for e in examples])
    assert stacked.dtype == np.float32 and stacked.shape == (40, 4, 4, 4)
    assert abs(stacked.std() - 1) < 1e-3
    assert examples[4].condition == (1,)
    np.testing.assert_allclose(codec.encode(samples()[7]).values, stacked[7], atol=1e-6)
    for sample, example in zip(samples(), examples, strict=True):
        back = codec.decode(example.values, sample.condition)
        assert (back.media, back.condition) == (sample.media, sample.condition)
    assert codec.condition("c") == (2,) and codec.classes == ("a", "b", "c")
    assert codec.fits(codec.decode(stacked[0], "b"), "b") and not codec.fits(codec.decode(stacked[0], "b"), "a")


def test_it_travels_with_the_model_that_learnt_the_latents(tmp_path):
    codec = latent.latent_codec(Pictures(), autoencoder(tmp_path / "vae"), samples())
    net = flow.build(codec.space, seed=0, width=8)
    flow.save(net, tmp_path / "model")
    assert not latent.has_latents(tmp_path / "model")
    codec.save(tmp_path / "model")
    assert latent.has_latents(tmp_path / "model")
    assert (tmp_path / "model" / "pictures.json").is_file()
    opened = latent.open_latent(Pictures(), tmp_path / "model")
    assert opened.space == codec.space and opened.scale == codec.scale
    made = flow.sample(flow.load(tmp_path / "model"), [(1,)], seed=0, steps=2)[0]
    assert opened.decode(made, "b") == codec.decode(made, "b")


def test_a_dit_over_latents_of_diffusers_is_a_pipeline_of_diffusers(tmp_path):
    from diffusers import AutoencoderKL, DiffusionPipeline

    class Kl(Halves):
        def save(self, net, folder):
            vae = AutoencoderKL(
                in_channels=1, out_channels=1, latent_channels=4, block_out_channels=(8, 8), norm_num_groups=4,
                down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            )  # fmt: skip
            vae.save_pretrained(folder)

    codec = latent.LatentCodec(Pictures(), Kl(), None, shape=[4, 4, 4], scale=0.5)
    net = flow.build(codec.space, seed=0, kind="dit", width=32, depth=1)
    flow.save(net, tmp_path)
    codec.save(tmp_path)
    pipeline = DiffusionPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    assert type(pipeline).__name__ == "DiTPipeline"
    assert pipeline.vae.config.scaling_factor == 0.5
    assert pipeline.transformer.config.num_embeds_ada_norm == 3


def test_what_has_no_latents_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="has no latents"):
        latent.latent_codec(Pictures(), autoencoder(tmp_path / "a", family="flow"), samples())
    with pytest.raises(ArtifactError, match="takes grids of 3"):
        latent.latent_codec(Pictures(), autoencoder(tmp_path / "b", space=Grid(3, (8, 8))), samples())
    with pytest.raises(DataError, match="no sample"):
        latent.latent_codec(Pictures(), autoencoder(tmp_path / "c"), [])
    with pytest.raises(DataError, match="same latents"):
        grey = samples(1)[0].model_copy(update={"media": bytes(64)})
        black = Pictures()
        black.encode = lambda sample: Example(np.zeros((1, 8, 8), np.float32))
        latent.latent_codec(black, autoencoder(tmp_path / "d"), [grey])
    rows = Pictures()
    rows.space = Mixed({})
    with pytest.raises(ArtifactError, match="not of mixed"):
        latent.latent_codec(rows, autoencoder(tmp_path / "e"), samples())


def test_what_cannot_be_decoded_or_opened_is_named(tmp_path):
    codec = latent.latent_codec(Pictures(), autoencoder(tmp_path), samples())
    with pytest.raises(DataError, match="shape"):
        codec.decode(np.zeros((1, 8, 8)))
    with pytest.raises(DataError, match="cannot be decoded"):
        codec.decode(np.full((4, 4, 4), np.nan))
    with pytest.raises(ArtifactError, match=r"latent\.json"):
        latent.open_latent(Pictures(), tmp_path / "none")
