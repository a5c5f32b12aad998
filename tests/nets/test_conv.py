"""The judge: it learns classes, tells features and chances, comes back from disk, and refuses what it cannot judge."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from volant.core.artifact import Model, ModelAbout
from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.run import Run
from volant.core.sample import Sample, Source
from volant.core.spaces import Example, Grid, Tokens, space_json
from volant.nets import conv
from volant.nets import pictures as taken
from volant.nets.arrays import array_batch
from volant.testing.families import adam, check_family

SPACE = Grid(1, (8, 8), conditions=2)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def pictures(count, side=8, channels=1, seed=0):
    """uint8 [side, side, channels] and their class: `left` or `right` half lit."""
    rng = np.random.default_rng(seed)
    found = []
    for row in range(count):
        picture = rng.integers(0, 90, (side, side, channels)).astype(np.uint8)
        half = slice(side // 2) if row % 2 == 0 else slice(side // 2, None)
        picture[:, half] += 120
        found.append((picture, ("left", "right")[row % 2]))
    return found


@pytest.fixture
def samples(monkeypatch):
    """Samples whose media are bytes of a plain array; `pixels` of the image modality is its own test's business."""

    def make(count, side=8, channels=1, seed=0, labelled=True):
        source = Source(uri="made:test", licence="CC0-1.0")
        return [
            Sample(
                id=f"{seed}-{i}",
                shape="media",
                source=source,
                media=bytes(p.shape[:2]) + bytes([p.shape[2]]) + p.tobytes(),
                condition=c if labelled else None,
            )
            for i, (p, c) in enumerate(pictures(count, side, channels, seed))
        ]

    def pixels(sample):
        return np.frombuffer(sample.media[3:], np.uint8).reshape(*sample.media[:3])

    for module in (conv, taken):
        monkeypatch.setattr(module, "pictures", lambda samples: [pixels(s) for s in samples])
    return make


def make_run(folder, seed=0):
    return Run(step="judge", out=folder / "out", work=folder / "work", seed=seed)


def as_model(net, folder):
    conv.family.save(net, folder)
    config = net.config
    space = Grid(config["channels"], (config["side"],) * 2, len(net.classes))
    about = ModelAbout(family="conv", modality="image", space=space_json(space))
    (folder / "volant.json").write_text(about.model_dump_json())
    return Model(folder)


def test_contract(tmp_path):
    examples = [Example(p.transpose(2, 0, 1) / 127.5 - 1, (int(c == "right"),)) for p, c in pictures(8)]
    batch = array_batch(examples)
    check_family(
        conv.family,
        SPACE,
        folder=tmp_path,
        size={"width": 8},
        batch=batch,
        learn=adam(conv.family, steps=40, lr=0.003),
        rest=0.4,
    )


def test_a_judge_tells_classes_of_pictures_that_it_has_not_seen(tmp_path, samples):
    net, outcome = conv.fit_judge(make_run(tmp_path), samples(64), steps=30, rows=16, width=8)
    assert outcome.reason == "all 30 steps are done"
    judge = conv.open_judge(as_model(net, tmp_path / "model"))
    fresh = samples(20, seed=5)
    assert judge.classes == ("left", "right")
    assert judge.classify(fresh) == [s.condition for s in fresh]
    chances = judge.probabilities(fresh)
    assert chances.shape == (20, 2)
    np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)
    features = judge.features(fresh)
    assert features.shape == (20, 32) and features.dtype == np.float32
    assert judge.digest == Model(tmp_path / "model").digest
    # A picture's features do not depend on its company.
    np.testing.assert_allclose(judge.features(fresh[3:4])[0], features[3], atol=1e-4)


def test_same_seed_same_judge(tmp_path, samples):
    one, two, other = (
        conv.fit_judge(make_run(tmp_path / str(i), seed), samples(16), steps=3, rows=8, width=8)[0]
        for i, seed in enumerate((0, 0, 1))
    )
    assert all(torch.equal(v, two.state_dict()[n]) for n, v in one.state_dict().items())
    assert not all(torch.equal(v, other.state_dict()[n]) for n, v in one.state_dict().items())


def test_pictures_of_other_sides_and_colours_are_brought_to_the_judges(samples):
    grey = taken.grids(samples(4, side=8), side=8, channels=1)
    large = taken.grids(samples(4, side=24), side=8, channels=1)
    assert grey.shape == large.shape == (4, 1, 8, 8)
    assert grey.min() >= -1 and grey.max() <= 1
    assert (grey[0, 0, :, :4].mean() > grey[0, 0, :, 4:].mean()) and (
        large[1, 0, :, :3].max() < large[1, 0, :, 5:].max()
    )
    colour = taken.grids(samples(2), side=8, channels=3)
    np.testing.assert_array_equal(colour[:, 0], colour[:, 2])
    mean = taken.grids(samples(2, channels=3), side=8, channels=1)
    pixels = pictures(2, channels=3)[0][0]
    np.testing.assert_allclose(mean[0, 0], pixels.mean(2) / 127.5 - 1, atol=1e-5)


def test_training_moves_pictures_by_whole_pixels_and_evaluation_does_not():
    torch.manual_seed(0)
    x = torch.arange(64.0).view(1, 1, 8, 8).repeat(32, 1, 1, 1)
    moved = taken.moved(x, 1)
    inner = moved[:, 0, 1:-1, 1:-1]
    shifts = {float(v) for v in (inner - x[:, 0, 1:-1, 1:-1]).flatten(1).unique()}
    assert shifts <= {float(8 * a + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} and len(shifts) > 4
    assert taken.moved(x, 0) is x
    net = conv.family.build(SPACE, seed=0, width=8)
    batch = array_batch([Example(np.random.default_rng(0).normal(size=(1, 8, 8)), (0,))])
    with torch.no_grad():
        assert float(conv.family.loss(net, batch)) == float(conv.family.loss(net, batch))
    assert net.training


def test_what_cannot_be_judged_is_refused(tmp_path, samples):
    with pytest.raises(DataError, match="too few"):
        conv.fit_judge(make_run(tmp_path), samples(16, labelled=False), steps=1)
    one_each = [s.model_copy(update={"condition": s.id}) for s in samples(6)]
    with pytest.raises(DataError, match="6 labelled samples of 6 classes"):
        conv.fit_judge(make_run(tmp_path), one_each, steps=1)
    for space, error in (
        (Tokens(8, 8), ArtifactError),
        (Grid(1, (8, 9), 2), ArtifactError),
        (Grid(1, (8, 8)), DataError),
    ):
        with pytest.raises(error):
            conv.family.build(space, seed=0)
    with pytest.raises(SettingError):
        conv.family.build(SPACE, seed=0, width=9)
    net = conv.family.build(SPACE, seed=0, width=8)
    with pytest.raises(SettingError, match="makes no pictures"):
        conv.family.sample(net, [()], seed=0)
    with pytest.raises(DataError, match="no sample"):
        conv.Judge(net, "").features([])


def test_a_model_that_is_no_judge_is_named(tmp_path):
    model = as_model(conv.family.build(SPACE, seed=0, width=8), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"side": 8}))
    with pytest.raises(ArtifactError, match="cannot be opened"):
        conv.open_judge(model)
    (tmp_path / "volant.json").write_text(ModelAbout(family="flow", modality="image").model_dump_json())
    with pytest.raises(ArtifactError, match="not flow"):
        conv.open_judge(model)
