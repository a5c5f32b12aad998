"""The VAEs: the family's contract, images of the class that was asked for, rows whose columns hang together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rows_and_digits import DIGITS, TABLE, digits, rows, run, table

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.spaces import Example, Grid, Tokens
from volant.nets import loop
from volant.nets.arrays import Arrays, array_batch
from volant.nets.posterior import Posterior
from volant.nets.vae import family
from volant.testing import check_family

SMALL: dict[str, Any] = {"width": 8, "z": 8}


def trained(
    folder: Path, space: Any, examples: Sequence[Example], *, steps: int, finish: bool = True, **size: Any
) -> Any:
    torch.set_num_threads(1)
    if space is TABLE:
        size["examples"] = examples
    net = family.build(space, seed=0, **size)
    recipe = loop.Recipe(steps=steps, **family.recipe(space, steps=steps, batch=64))
    loop.train(run(folder), net, Arrays(examples, rows=64, seed=0), recipe, loss=family.step_loss)
    if finish:
        family.finish(net, examples, seed=0)
    return net


def test_the_contract_with_images(tmp_path: Path) -> None:
    check_family(family, DIGITS, folder=tmp_path, size=SMALL, batch=array_batch(digits(4)), rest=0.5)


def test_the_contract_with_maps_of_latents(tmp_path: Path) -> None:
    size = {"width": 8, "latent_channels": 2, "down": 1}
    check_family(family, DIGITS, folder=tmp_path, size=size, batch=array_batch(digits(4)), rest=0.5)


def test_the_contract_with_rows(tmp_path: Path) -> None:
    size = {"width": 16, "z": 4, "beta": 0.1, "examples": rows(64)}
    check_family(family, TABLE, folder=tmp_path, size=size, batch=array_batch(rows(4)), rest=0.5)


def test_digits_are_of_the_class_asked_for_and_closer_with_the_posterior(tmp_path: Path) -> None:
    examples = digits()
    net = trained(tmp_path, DIGITS, examples, steps=250, width=16, finish=False)
    asked = [[c] for c in range(10)] * 20
    prior = family.sample(net, asked, seed=1)
    family.finish(net, examples, seed=0)
    made = family.sample(net, asked, seed=1)
    assert made.shape == (200, 1, 8, 8) and made.dtype == np.float32 and np.abs(made).max() <= 1
    pixels = np.stack([e.values.ravel() for e in examples])
    labels = np.array([e.condition[0] for e in examples])

    def named(images: np.ndarray) -> np.ndarray:
        apart = ((images.reshape(len(images), 1, 64) - pixels) ** 2).sum(2)
        return labels[apart.argmin(1)]

    def off(images: np.ndarray) -> float:
        """How far the covariance of the pixels is from the data's."""
        return float(np.linalg.norm(np.cov(images.reshape(len(images), 64).T) - np.cov(pixels.T)))

    assert (named(made) == np.array(asked)[:, 0]).mean() > 0.9
    assert off(made) < off(prior)
    without = family.sample(net, [[]] * 50, seed=1)
    assert len(set(named(without))) > 3  # without a condition, of several classes


def test_columns_hang_together(tmp_path: Path) -> None:
    net = trained(tmp_path, TABLE, rows(), steps=300, width=32)
    made, real = family.sample(net, [[]] * 1000, seed=3), table(1000, seed=9)
    assert made.shape == (1000, 4) and made.dtype == np.float64
    assert (made[:, 0] == made[:, 1]).mean() > 0.97
    np.testing.assert_allclose(np.bincount(made[:, 0].astype(int)) / 1000, 1 / 3, atol=0.08)
    for kind in range(3):
        own, other = made[made[:, 0] == kind], real[real[:, 0] == kind]
        assert own[:, 2].mean() == pytest.approx(other[:, 2].mean(), abs=0.35)
        assert np.isnan(own[:, 3]).mean() == pytest.approx(np.isnan(other[:, 3]).mean(), abs=0.12)
    told = made[~np.isnan(made[:, 3]), 3]
    assert (told == 0).mean() == pytest.approx(0.8, abs=0.1) and (told == np.round(told)).all()
    coldest = family.sample(net, [[]] * 20, seed=3, temperature=0)
    assert len(np.unique(coldest[:, :2], axis=0)) <= 3


@pytest.mark.parametrize("kind", ["digits", "map", "table"])
def test_each_example_depends_on_its_own_seed_alone(kind: str) -> None:
    sizes = {"digits": SMALL, "map": {"width": 8, "latent_channels": 2}, "table": {"width": 16, "examples": rows(64)}}
    space = TABLE if kind == "table" else DIGITS
    net = family.build(space, seed=0, **sizes[kind])
    prompts = [[], [], []] if kind == "table" else [[3], [5], [3]]
    whole = family.sample(net, prompts, seed=0, seeds=[7, 8, 9])
    alone = family.sample(net, prompts[1:2], seed=5, seeds=[8])
    np.testing.assert_allclose(whole[1:2], alone, rtol=1e-4, atol=1e-5)
    again = family.sample(net, prompts[::2], seed=1, seeds=[7, 7])
    np.testing.assert_allclose(again[0], again[1], rtol=1e-4, atol=1e-5)
    assert not np.allclose(whole[0], whole[2], equal_nan=True)
    np.testing.assert_array_equal(*(family.sample(net, prompts, seed=4) for _ in range(2)))
    assert len(family.sample(net, [], seed=0)) == 0


def test_diffusers_opens_a_map_alone_and_latents_come_back(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    examples = digits(300)
    net = trained(tmp_path / "w", DIGITS, examples, steps=60, width=8, latent_channels=4, beta=0.05)
    family.save(net, tmp_path / "m")
    values = torch.from_numpy(np.stack([e.values for e in examples[:16]]))
    alone = AutoencoderKL.from_pretrained(tmp_path / "m")
    latents = family.encode_mean(net, values)
    assert latents.shape == (16, 4, 4, 4) and latents.std() == pytest.approx(1, abs=0.3)
    with torch.no_grad():
        torch.testing.assert_close(alone.encode(values).latent_dist.mean * alone.config.scaling_factor, latents)
    back = family.decode(family.load(tmp_path / "m"), latents)
    torch.testing.assert_close(back, family.decode(net, latents))
    assert (back - values).square().mean() < 0.5 * values.var()
    np.testing.assert_array_equal(*(family.sample(n, [[1]], seed=2) for n in (net, family.load(tmp_path / "m"))))


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    batches = Arrays(digits(200), rows=32, seed=0)
    recipe = loop.Recipe(steps=6, **family.recipe(DIGITS, steps=6, batch=32))
    found = []
    for stop in (0, 3):
        net = family.build(DIGITS, seed=0, **SMALL)
        one = run(tmp_path / str(stop))
        if stop:
            short = Arrays(digits(200), rows=32, seed=0)
            taken = short.batch

            def batch(step: int, *, taken: Any = taken, one: Any = one) -> Any:
                if step == 3:
                    one.stop.set()
                return taken(step)

            short.batch = batch  # type: ignore[method-assign]
            with pytest.raises(Exception, match="stopped|checkpoint"):
                loop.train(one, net, short, recipe, loss=family.step_loss)
            one.stop.clear()
            net = family.build(DIGITS, seed=1, **SMALL)
        loop.train(one, net, batches, recipe, loss=family.step_loss)
        found.append(net.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_weights_of_examples_count() -> None:
    net = family.build(DIGITS, seed=0, **SMALL)
    plain = array_batch(digits(2))
    heavy = array_batch(digits(2), [1.0, 0.0])
    torch.manual_seed(0)
    first = family.step_loss(net, heavy)[0].detach()
    torch.manual_seed(0)
    both = net.losses(plain).detach()
    assert float(first) == pytest.approx(2 * float(both[0]))


def test_sides_that_cannot_be_halved_and_longer_ones() -> None:
    for dims, channels in (((5, 7), 1), ((28, 28), 1), ((16, 8), 3)):
        net = family.build(Grid(channels, dims), seed=0, **SMALL)
        assert family.sample(net, [[]], seed=0).shape == (1, channels, *dims)
    with pytest.raises(SettingError, match="halved 2 times"):
        family.build(Grid(1, (6, 6)), seed=0, down=2)
    with pytest.raises(SettingError, match="sides"):
        family.build(Grid(1, (8,)), seed=0)


def test_captions_of_several_ids() -> None:
    space = Grid(1, (8, 8), conditions=50, condition_length=4)
    net = family.build(space, seed=0, **SMALL)
    net.told.table.weight.data.mul_(20)
    one, other, swapped = family.sample(net, [[3, 9], [3], [9, 3]], seed=0, seeds=[1, 1, 1])
    np.testing.assert_allclose(one, swapped, atol=1e-5)
    assert np.abs(one - other).max() > 1e-4


def test_the_posterior_is_that_of_the_class() -> None:
    torch.manual_seed(0)
    kinds = torch.arange(900)[:, None] % 3
    mixed = torch.tensor([[2.0, 0.0], [1.5, 0.5]])
    means = torch.randn(900, 2) @ mixed.T + 10 * kinds
    posterior = Posterior(2, classes=4)
    posterior.fit(means, torch.full((900, 2), 0.25), kinds)
    drawn = posterior(torch.randn(20_000, 2), torch.full((20_000, 1), 1))
    torch.testing.assert_close(drawn.mean(0), torch.tensor([10.0, 10.0]), atol=0.4, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), mixed @ mixed.T + 0.25 * torch.eye(2), atol=0.7, rtol=0)
    unseen = posterior(torch.randn(5000, 2), torch.full((5000, 1), 3))
    nothing = posterior(torch.randn(5000, 2), torch.full((5000, 1), -1))
    for found in (unseen, nothing):
        assert found.mean() == pytest.approx(10, abs=0.5)
    assert nothing.std() > 2 * unseen.std()  # all classes together spread further than one of unknown spread


def test_a_posterior_of_many_latents_keeps_variances() -> None:
    posterior = Posterior(600)
    posterior.fit(torch.randn(50, 600) * 3, torch.zeros(50, 600), torch.empty(50, 0, dtype=torch.int64))
    assert posterior.root_KZZ.shape == (1, 600)
    assert posterior(torch.randn(200, 600), torch.empty(200, 0, dtype=torch.int64)).std() == pytest.approx(3, abs=0.2)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="without data"):
        family.build(TABLE, seed=0)
    with pytest.raises(ArtifactError, match="tokens"):
        family.build(Tokens(4, 4), seed=0)
    net = family.build(DIGITS, seed=0, **SMALL)
    with pytest.raises(DataError, match="10 condition ids"):
        family.sample(net, [[10]], seed=0)
    with pytest.raises(SettingError, match="guidance"):
        family.sample(net, [[1]], seed=0, guidance=2)
    with pytest.raises(SettingError, match="2 seeds for 1"):
        family.sample(net, [[1]], seed=0, seeds=[1, 2])
    with pytest.raises(ArtifactError, match="map of latents"):
        family.encode_mean(net, torch.zeros(1, 1, 8, 8))
    with pytest.raises(ArtifactError, match="no VAE"):
        family.load(tmp_path)
