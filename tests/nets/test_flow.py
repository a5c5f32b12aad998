"""Flow matching: it learns, follows its seeds, averages its weights, and opens with diffusers alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from volant.core.errors import ArtifactError, SettingError
from volant.core.run import Run
from volant.core.spaces import Example, Grid, Tokens
from volant.nets.arrays import NONE, ArrayBatch, Arrays
from volant.nets.flow import family
from volant.nets.loop import train
from volant.nets.recipe import Recipe
from volant.nets.velocity import stratified
from volant.testing.families import adam, check_family

SPACE = Grid(1, (8, 8), conditions=4)
WORDS = replace(SPACE, conditions=20, condition_length=3)
SMALL = {"width": 8, "depth": 1}
DIT = {"kind": "dit", "width": 32, "depth": 1}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def bars(count=32):
    """Class 0 has its left half lit, class 1 its right half."""
    rng = np.random.default_rng(0)
    found = []
    for row in range(count):
        values = np.full((1, 8, 8), -1.0, np.float32)
        side = row % 2
        values[:, :, 4 * side : 4 * side + 4] = 1.0
        found.append(Example(values + rng.normal(0, 0.05, values.shape).astype(np.float32), (side,)))
    return found


def trained(folder, steps=60, **size):
    net = family.build(SPACE, seed=1, average=0.9, **{**SMALL, **size})
    run = Run(step="t", out=folder / "out", work=folder / "work", threads=1)
    recipe = Recipe(**family.recipe(SPACE, steps=steps, batch=16), checkpoint_every=0, bf16=False)
    outcome = train(run, net, Arrays(bars(), rows=16, seed=0), recipe, loss=family.step_loss)
    return net, outcome


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """One network that knows the two sides, for the tests that do not change it."""
    torch.set_num_threads(1)
    net, outcome = trained(tmp_path_factory.mktemp("learnt"), steps=100, width=8)
    assert outcome.loss < 0.6
    return net


def side_of(grids):
    """The lit half of each."""
    return [int(g[:, :, 4:].mean() > g[:, :, :4].mean()) for g in grids]


@pytest.mark.parametrize(("space", "size"), [(SPACE, SMALL), (WORDS, SMALL), (SPACE, DIT)])
def test_contract(tmp_path, space, size):
    rng = torch.Generator().manual_seed(0)
    conditions = torch.tensor([[0], [1], [2], [NONE]])
    if space is WORDS:
        conditions = torch.tensor([[0, 1, 2], [3, 4, NONE], [19, NONE, NONE], [NONE, NONE, NONE]])
    batch = ArrayBatch(torch.rand((4, 1, 8, 8), generator=rng) * 2 - 1, conditions)
    check_family(
        family, space, folder=tmp_path, size=size, batch=batch, learn=adam(family, steps=40, lr=0.005), rest=0.6
    )


def test_a_condition_decides_what_is_made_and_the_average_makes_it(tmp_path, learnt):
    net = learnt
    asked = [0, 1] * 8
    made = family.sample(net, [(c,) for c in asked], seed=3, steps=8)
    assert made.shape == (16, 1, 8, 8) and made.dtype == np.float32
    assert sum(a == b for a, b in zip(side_of(made), asked, strict=True)) >= 15
    assert side_of(family.sample(net, [(c,) for c in asked], seed=3, steps=8, guidance=3.0, order=2)) == asked
    free = side_of(family.sample(net, [()] * 16, seed=3, steps=8))
    assert 0 < sum(free) < 16  # without a condition both sides come
    raw = {n: p.detach() for n, p in net.named_parameters()}
    averaged = net.averages()
    assert any(not torch.equal(raw[n], averaged[n]) for n in averaged)
    # What is saved is the average, and it makes the same.
    family.save(net, tmp_path / "model")
    back = family.load(tmp_path / "model")
    assert all(torch.equal(p, averaged[n]) for n, p in back.named_parameters())
    assert torch.equal(back.seen, net.seen) and net.seen.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(family.sample(back, [(c,) for c in asked], seed=3, steps=8), made)


def test_each_example_follows_its_own_seed():
    net = family.build(SPACE, seed=0, **SMALL)
    together = family.sample(net, [(0,), (1,), ()], seed=0, seeds=[5, 6, 7], steps=3, guidance=2.0)
    alone = family.sample(net, [(1,)], seed=9, seeds=[6], steps=3, guidance=2.0)
    np.testing.assert_allclose(together[1], alone[0], atol=1e-5)
    first, again, other = (family.sample(net, [(0,)] * 2, seed=s, steps=3) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other) and not np.allclose(first[0], first[1])
    assert family.sample(net, [], seed=0).shape == (0, 1, 8, 8)


def test_guidance_one_is_the_plain_condition_and_nought_is_none():
    net = family.build(SPACE, seed=0, **SMALL)
    calls = []
    net.core.register_forward_hook(lambda *_: calls.append(1))
    plain = family.sample(net, [(0,)], seed=0, steps=4, order=1)
    assert len(calls) == 4
    calls.clear()
    family.sample(net, [(0,)], seed=0, steps=4, guidance=1.5, order=1)
    assert len(calls) == 8
    none = family.sample(net, [()], seed=0, steps=4, order=1)
    np.testing.assert_allclose(family.sample(net, [(0,)], seed=0, steps=4, order=1, guidance=0.0), none, atol=1e-6)
    assert not np.allclose(plain, none)


def test_heun_is_nearer_to_many_steps_than_euler(learnt):
    net, ask = learnt, [(0,), (1,)] * 4
    fine = family.sample(net, ask, seed=1, steps=64)
    euler, heun = (family.sample(net, ask, seed=1, steps=8, order=o) for o in (1, 2))
    assert np.abs(heun - fine).mean() < np.abs(euler - fine).mean()


def test_an_euler_loop_of_diffusers_makes_the_same_image(tmp_path):
    plain = Grid(1, (8, 8))
    net = family.build(plain, seed=0, **SMALL)
    family.save(net, tmp_path)
    ours = family.sample(net, [()], seed=0, seeds=[11], steps=6, order=1)

    from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel

    unet = UNet2DModel.from_pretrained(tmp_path / "unet", low_cpu_mem_usage=False)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "scheduler")
    scheduler.set_timesteps(sigmas=[(6 - i) / 6 for i in range(6)])
    x = torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t).sample, t, x).prev_sample
    np.testing.assert_allclose(x.numpy(), ours, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
def test_diffusers_opens_the_folder_and_makes_a_picture_of_a_class(tmp_path, learnt):
    family.save(learnt, tmp_path / "model")
    ours = family.sample(learnt, [(1,)], seed=0, seeds=[11], steps=10, order=1)

    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "model", low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(11)
    made = pipeline(class_labels=[1], num_inference_steps=10, output_type="pt", generator=seed).images
    np.testing.assert_allclose(made.numpy(), (ours / 2 + 0.5).clip(0, 1), atol=0.02)
    assert not list((tmp_path / "model").rglob("*.bin"))


def test_a_new_class_starts_from_the_mean_of_the_known_ones(tmp_path):
    for size in ({}, DIT):
        net, _ = trained(tmp_path / str(len(size)), steps=3, **size)
        before = net.averages()
        family.adopt(net, [2])
        tables = net.tables()
        assert tables
        for table in tables:
            torch.testing.assert_close(table[2], (table[0] + table[1]) / 2)
            assert not torch.allclose(table[3], table[2])
        # The average became the weights and a new one begins.
        assert torch.equal(net.get_parameter("core." + _first(net)), before["core." + _first(net)])
        assert float(net.average_mass) == 0
    with pytest.raises(SettingError, match="no condition 4"):
        family.adopt(net, [4])


def _first(net):
    return next(n for n, p in net.core.named_parameters() if p.ndim == 4)


def test_resumed_training_has_the_same_average(tmp_path):
    """The average lies in buffers, so the checkpoint of a stopped run brings it back bit by bit."""
    recipe = Recipe(steps=6, lr=1e-3, checkpoint_every=3, bf16=False)

    def go(folder, stop_at=None):
        net = family.build(SPACE, seed=1, average=0.9, **SMALL)
        run = Run(step="t", out=folder, work=folder / "work", threads=1)
        batches = Arrays(bars(), rows=16, seed=0)

        class Stopping:
            steps = batches.steps

            def batch(self, step):
                if step == stop_at:
                    raise KeyboardInterrupt
                return batches.batch(step)

        train(run, net, Stopping(), recipe, loss=family.step_loss)
        return net

    whole = go(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "b", stop_at=4)
    resumed = go(tmp_path / "b")
    assert int(whole.average_steps) == 6
    state = resumed.state_dict()
    assert all(torch.equal(v, state[n]) for n, v in whole.state_dict().items())


def test_a_batch_holds_every_level_of_noise():
    torch.manual_seed(0)
    drawn = stratified(64)
    assert sorted((drawn * 64).long().tolist()) == list(range(64))
    assert (drawn.diff() < 0).any()  # and in no order


@pytest.mark.parametrize(
    ("space", "size", "error"),
    [
        (Tokens(16, 8), {}, ArtifactError),
        (Grid(1, (8,)), {}, ArtifactError),
        (SPACE, {"kind": "gan"}, SettingError),
        (SPACE, {"width": 12}, SettingError),
        (SPACE, {"kind": "dit", "width": 40}, SettingError),
        (WORDS, {"kind": "dit"}, SettingError),
        (Grid(1, (8, 16), 4), {"kind": "dit"}, SettingError),
    ],
)
def test_what_does_not_fit_is_refused(space, size, error):
    with pytest.raises(error) as caught:
        family.build(space, seed=0, **size)
    assert caught.value.fix


@pytest.mark.parametrize("dims", [(7, 7), (8, 16), (28, 28), (30, 30), (5, 9), (2, 2)])
def test_sides_of_all_kinds(dims):
    net = family.build(Grid(3, dims, 2), seed=0, width=8)
    assert family.sample(net, [(1,)], seed=0, steps=1).shape == (1, 3, *dims)


def test_a_damaged_folder_is_named(tmp_path):
    family.save(family.build(SPACE, seed=0, **SMALL), tmp_path)
    (tmp_path / "flow.json").write_text(json.dumps({"kind": "unet"}))
    with pytest.raises(ArtifactError, match="cannot be opened"):
        family.load(tmp_path)
