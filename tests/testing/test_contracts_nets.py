"""The transformer, the baselines' sessions, both local engines and the text modality keep their contracts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import small_content
from tiny_models import dataset, model, run_in, samples
from volant.core.artifact import Card, Model, payload_digest
from volant.core.errors import SettingError
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal
from volant.core.spaces import Column, Grid, Mixed, Tokens
from volant.engines.ctranslate2 import engine as ctranslate2
from volant.engines.sampler import engine as sampler
from volant.engines.torch import TorchEngine
from volant.engines.torch import engine as torch_engine
from volant.modalities import open_modality
from volant.modalities.text import Text, modality
from volant.modalities.text_shapes import sample_of
from volant.nets import flow, gaussian, masked, neighbour, ngram, tree, vae
from volant.nets.transformer import Transformer, family
from volant.stages.compress import quantise
from volant.stages.pretrain import fit
from volant.testing import (
    check_content_engine,
    check_content_session,
    check_engine,
    check_family,
    check_modality,
    check_session,
    tasks,
)
from volant.testing.families import adam
from volant.testing.poison_texts import poisoned_texts

SPACE = Tokens(vocab=61, length=16)
SIZE = {"depth": 1, "width": 32, "heads": 2, "mlp": 64}


def test_transformer(tmp_path):
    losses = check_family(family, SPACE, folder=tmp_path, size=SIZE)
    assert len(losses) == 81


GRID = Grid(1, (4, 4), conditions=3)
WIDE = Grid(3, (8, 8), conditions=2)
ROWS = Mixed(
    {
        "age": Column("integer", low=18, high=90),
        "city": Column("categorical", categories=3),
        "weight": Column("numeric", low=40.5, high=120.0, missing=True),
        "day": Column("date", low=18_000, high=18_700),
    }
)
FLOW = {"width": 8, "depth": 1}
FAMILIES = {
    "flow": (flow.family, GRID, FLOW, 40, 0.7),
    "vae": (vae.family, GRID, {"width": 8, "z": 4, "sigma": 0.5}, 120, 0.6),
    "vae of colours": (vae.family, WIDE, {"width": 8, "z": 4, "sigma": 0.5}, 120, 0.7),
    "vae with a map": (vae.family, replace(WIDE, conditions=0), {"latent_channels": 2, "width": 16}, 60, 0.7),
    "vae of rows": (vae.family, ROWS, {"width": 16, "z": 4, "ranges": 4, "dropout": 0.0}, 120, 0.5),
    "tree of rows": (tree.family, ROWS, {"leaf": 2}, 0, 0.99),
    "tree of pixels": (tree.family, GRID, {"leaf": 2}, 0, 0.99),
    "gaussian": (gaussian.family, GRID, {}, 0, 0.99),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_family(name, tmp_path):
    family, space, size, steps, rest = FAMILIES[name]
    check_family(family, space, folder=tmp_path, size=size, learn=adam(family, steps=steps), rest=rest)


class Unseeded(Transformer):
    def build(self, space, *, seed, **size):
        return super().build(space, seed=torch.seed() % 1000, **size)


class Deaf(Transformer):
    def loss(self, net, batch):
        return super().loss(net, batch) + 0.0 * sum(p.sum() for p in net.parameters()) + 100


class Shifted(Transformer):
    def logp(self, net, batch):
        return super().logp(net, batch) - 0.1


class Rounded(Transformer):
    def load(self, folder, **options):
        net = super().load(folder)
        with torch.no_grad():
            next(net.parameters()).mul_(1.0001)
        return net


class Hungry(Transformer):
    accepts = ("tokens",)

    def build(self, space, *, seed, **size):
        return super().build(space if isinstance(space, Tokens) else SPACE, seed=seed, **size)


class Random(Transformer):
    def sample(self, net, prompts, *, seed, **controls):
        return super().sample(net, prompts, seed=torch.seed() % 1000, **controls)


@pytest.mark.parametrize(
    "broken, sentence",
    [
        (Unseeded, "other weights from the same seed"), (Deaf, "by heart"), (Shifted, "differ by more than"),
        (Rounded, "bit by bit"), (Hungry, "has to refuse the space grid"), (Random, "samples differently"),
    ],
)  # fmt: skip
def test_broken_family(broken, sentence, tmp_path):
    with pytest.raises(AssertionError, match=sentence):
        check_family(broken(), SPACE, folder=tmp_path, size=SIZE)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Trained on the tasks for a moment, so that it writes on and does not stop at once."""
    return model(tmp_path_factory.mktemp("nets"), steps=4)


@pytest.fixture(scope="module")
def converted(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("converted")
    made = quantise(run_in(folder), tiny, dataset(folder / "data", samples()), bits=32, limit=2)
    digest, files = payload_digest(made.path)
    return Model(made.path, Card(kind="Model", digest=digest, files=files))


def test_torch_engine(tiny, tmp_path):
    check_engine(torch_engine, tiny, folder=tmp_path)


def test_ctranslate2_engine(tiny, converted, tmp_path):
    check_engine(ctranslate2, converted, reference=tiny, folder=tmp_path)


def test_baselines_are_sessions():
    check_session(ngram.fit(tasks(40), order=4), tokens=8)
    check_session(neighbour.fit(tasks(40)))


@pytest.mark.parametrize("name", ["flow", "vae"])
def test_sampler_engine_on_pictures(name, shelf, tmp_path):
    check_content_engine(sampler, getattr(shelf, name), folder=tmp_path, asked=("left", "right", ""), unknown="a whale")


@pytest.mark.parametrize("family", ["tree", "transformer"])
def test_sampler_engine_on_rows(family, shelf, tmp_path):
    size = {"tree": {"leaf": 5}, "transformer": {"depth": 1, "width": 32}}[family]
    run = small_content.content_run(tmp_path / "run", "table")
    made = fit(run, shelf.people, family=family, steps=60, batch=20, size=size)
    (tmp_path / "check").mkdir()
    asked = ("", "job = cook", "age > 30 and sex = f")
    check_content_engine(sampler, made, folder=tmp_path / "check", asked=asked, unknown="shoe_size = 44")


def test_baselines_of_content_are_sessions():
    pictures, people = open_modality("image"), open_modality("table")
    check_content_session(gaussian.fit(small_content.pictures()), pictures, asked=("left", "right"), unknown="a whale")
    check_content_session(
        tree.fit(small_content.people(), leaf=5), people, asked=("", "job = cook"), unknown="shoe_size = 44"
    )


class Wrapped:
    """A session whose stream goes through `change`."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


class Doubles(Wrapped):
    def generate(self, requests):
        for chunk in self.session.generate(requests):
            yield chunk
            if chunk.finish:
                yield chunk


class NeverCancels(Wrapped):
    def cancel(self, id):
        pass


class NoStops(Wrapped):
    def generate(self, requests):
        return self.session.generate([replace(r, stop=()) for r in requests])


class OneSeed(Wrapped):
    def generate(self, requests):
        return self.session.generate([replace(r, seed=7) for r in requests])


class Miscounts(Wrapped):
    def generate(self, requests):
        for chunk in self.session.generate(requests):
            yield replace(chunk, completion_tokens=0)


class Optimistic(Wrapped):
    def logprobs(self, pairs):
        return [[p * 0.99 for p in row] for row in self.session.logprobs(pairs)]


@pytest.mark.parametrize(
    "broken, sentence",
    [
        (Doubles, "comes after its last one"), (NeverCancels, "has to say so"), (NoStops, "does not end the text"),
        (OneSeed, "every seed gives the same text"), (Miscounts, "counts no token"), (Optimistic, "differs from torch"),
    ],
)  # fmt: skip
def test_broken_engine(broken, sentence, tiny, tmp_path):
    class Broken(TorchEngine):
        def open(self, model, **options):
            return broken(super().open(model, **options))

    with pytest.raises(AssertionError, match=sentence):
        check_engine(Broken(), tiny, folder=tmp_path, tokens=16)


class Moody(Wrapped):
    """Draws that depend on how many are asked for."""

    def generate(self, requests):
        return self.session.generate([replace(r, seed=r.seed + len(requests)) for r in requests])


class Alike(Wrapped):
    def generate(self, requests):
        return self.session.generate([replace(r, seed=1) for r in requests])


class Silent(Wrapped):
    def generate(self, requests):
        for chunk in self.session.generate(requests):
            yield replace(chunk, refused=False)


class Broken(Wrapped):
    def generate(self, requests):
        for chunk in self.session.generate(requests):
            media = chunk.sample and chunk.sample.model_copy(update={"media": b"rubbish"})
            yield replace(chunk, sample=media)


class Deafened(Wrapped):
    def cancel(self, id):
        pass


class Talks(Wrapped):
    def logprobs(self, pairs):
        return [[-1.0] for _ in pairs]


@pytest.mark.parametrize(
    "broken, sentence",
    [
        (Moody, "depends on what else is asked for"), (Alike, "every seed gives the same sample"),
        (Silent, "refused with a reason"), (Broken, "image refuses what"), (Deafened, "has to say so"),
        (Talks, "no log-probabilities"), (Doubles, "comes after its last one"), (Miscounts, "counts none"),
    ],
)  # fmt: skip
def test_broken_content_session(broken, sentence):
    session = broken(gaussian.fit(small_content.pictures()))
    with pytest.raises(AssertionError, match=sentence):
        check_content_session(session, open_modality("image"), asked=("left", "right"), unknown="a whale")


class Far(flow.Flow):
    """Draws that depend on their place in the batch."""

    def sample(self, net, prompts, *, seed, seeds=None, **controls):
        drawn = super().sample(net, prompts, seed=seed, seeds=seeds, **controls)
        return drawn + np.arange(len(drawn), dtype=np.float32)[:, None, None, None]


class Narrow(flow.Flow):
    controls = {**flow.Flow.controls, "swing": (0.0, 1.0)}


class Even(flow.Flow):
    def step_loss(self, net, batch):
        return super().step_loss(net, replace(batch, weights_B=None))


@pytest.mark.parametrize(
    "broken, sentence",
    [
        (Far, "depend on what else is in the batch"), (Narrow, "has to take 0"), (Even, "does not weigh examples"),
    ],
)  # fmt: skip
def test_broken_family_of_grids(broken, sentence, tmp_path):
    family = broken()
    with pytest.raises(AssertionError, match=sentence):
        check_family(family, GRID, folder=tmp_path, size=FLOW, learn=adam(family, steps=20), rest=0.95)


SAMPLES = [
    *tasks(4),
    tasks(5)[4].model_copy(update={"shape": "text", "content": "A text of its own, with <angles> & signs.",
                                   "condition": None, "target": None}),
]  # fmt: skip
CODEC = {"vocab": 320, "length": 128}


def test_text(tmp_path):
    check_modality(modality, SAMPLES, folder=tmp_path, codec=CODEC, poisons=poisoned_texts())


class Trusting(Text):
    def load(self, file, source, **options):
        text = file.path.read_text(errors="replace") or " "
        yield sample_of({"text": text.replace(chr(0), " ") + "."}, source)


class Careless(Text):
    def preview(self, samples):
        return "".join(s.text for s in samples)


class Forgetful(Text):
    def deliver(self, samples, form):
        return super().deliver(samples[:-1], form)


class Unique(Text):
    def fingerprint(self, sample):
        return [hash((sample.text, i)) for i in range(128)]


class Stops(Text):
    def load(self, file, source, **options):
        for found in super().load(file, source, **options):
            yield found
            if isinstance(found, Refusal):
                return


class Elsewhere(Text):
    def api(self):
        return {"/v1/paint": "painting"}


class Raises(Text):
    def load(self, file, source, **options):
        file.path.read_bytes().decode()
        yield from super().load(file, source, **options)


@pytest.mark.parametrize(
    "broken, sentence",
    [
        (Trusting, "for good samples|changed|lost the content"),
        (Careless, "runs what the data says"), (Forgetful, "changed|lost the content"), (Unique, "alike only"),
        (Stops, "the good records have to stay"), (Elsewhere, "cannot build the routes"), (Raises, "was raised"),
    ],
)  # fmt: skip
def test_broken_modality(broken, sentence, tmp_path):
    with pytest.raises(AssertionError, match=sentence):
        check_modality(broken(), SAMPLES, folder=tmp_path, codec=CODEC, huge_bytes=200_000)


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".json", ".csv"])
def test_an_unknown_encoding_is_refused(ending, tmp_path):
    file = tmp_path / f"a{ending}"
    file.write_text('{"text": "a b c"}\n')
    about = OutsideFile(file, file.name, file.stat().st_size, "")
    for encoding in ("latin-99", "hex"):  # the latter is none of texts
        with pytest.raises(SettingError, match=encoding):
            list(modality.load(about, SAMPLES[0].source, encoding=encoding))


def test_masked(tmp_path):
    losses = check_family(
        masked.family, SPACE, folder=tmp_path, size=SIZE, rest=0.1, learn=adam(masked.family, steps=300)
    )
    assert len(losses) == 301
