"""The GANs: both players move in one step, spectral norms hold, samples come from the average and get closer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rows_and_digits import DIGITS, TABLE, digits, rows, run, table

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.spaces import Grid, Tokens
from volant.nets import adversary, loop
from volant.nets.arrays import Arrays, array_batch
from volant.nets.gan import family
from volant.nets.gan_grid import shifted
from volant.testing import check_family

SMALL: dict[str, Any] = {"width": 8, "z": 8}


def trained(folder: Path, net: Any, space: Any, examples: Any, *, steps: int) -> Any:
    torch.set_num_threads(1)
    recipe = loop.Recipe(steps=steps, **family.recipe(space, steps=steps, batch=32))
    outcome = loop.train(run(folder), net, Arrays(examples, rows=32, seed=0), recipe, loss=family.step_loss)
    assert outcome.steps == steps and outcome.roll_backs == 0
    return net


def closer(space: Any, examples: Any, steps: int) -> Any:
    """Learns a batch in its own way: a GAN's loss need not fall, so what is returned is how far samples are off."""

    def off(net: Any) -> float:
        made = family.sample(net, [e.condition for e in examples], seed=0).reshape(len(examples), -1)
        real = np.stack([e.values.ravel() for e in examples])
        return float(np.nanmean(np.abs(np.nanmean(made, 0) - np.nanmean(real, 0))))

    def learn(net: Any, batch: Any) -> list[float]:
        losses, recipe = [off(net)], family.recipe(space, steps=steps, batch=batch.size)
        optimiser = torch.optim.Adam(net.parameters(), lr=2 * recipe["lr"], betas=recipe["betas"])
        for _ in range(steps):
            total, count = family.step_loss(net, batch)
            optimiser.zero_grad()
            (total / count).backward()
            optimiser.step()
            net.after_step()
        return [*losses, off(net)]

    return learn


def test_the_contract_with_images(tmp_path: Path) -> None:
    examples = digits(8)
    learn = closer(DIGITS, examples, 150)
    check_family(family, DIGITS, folder=tmp_path, size=SMALL, batch=array_batch(examples), learn=learn, rest=0.6)


def test_the_contract_with_rows(tmp_path: Path) -> None:
    examples = rows(64)
    size = {"width": 32, "z": 8, "examples": examples}
    learn = closer(TABLE, examples, 200)
    check_family(family, TABLE, folder=tmp_path, size=size, batch=array_batch(examples), learn=learn, rest=0.6)


def test_one_backward_moves_each_player_by_its_own_loss_alone() -> None:
    net = family.build(DIGITS, seed=0, **SMALL)
    batch = array_batch(digits(8))
    torch.manual_seed(0)
    family.step_loss(net, batch)[0].backward()
    got = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in got} == {"generator", "discriminator"}
    net.zero_grad()
    torch.manual_seed(0)
    made = net.generator(torch.randn(8, net.z), batch.condition_BC)
    real, made = shifted(batch.values), shifted(made)
    judge, asked = net.discriminator, batch.condition_BC
    players = {
        "generator": -judge(made, asked).sum(),
        "discriminator": (1 - judge(real, asked)).relu().sum() + (1 + judge(made.detach(), asked)).relu().sum(),
    }
    for player, loss in players.items():
        part = getattr(net, player)
        wanted = torch.autograd.grad(loss, list(part.parameters()), retain_graph=True)
        for (name, _), grad in zip(part.named_parameters(), wanted, strict=True):
            torch.testing.assert_close(got[f"{player}.{name}"], grad, rtol=1e-3, atol=1e-5)


def test_spectral_norms_hold_and_looking_moves_nothing() -> None:
    net = family.build(DIGITS, seed=0, **SMALL)
    batch = array_batch(digits(16))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    family.loss(net, batch)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    for _ in range(30):
        optimiser.zero_grad()
        family.step_loss(net, batch)[0].backward()
        optimiser.step()
        net.after_step()
    held = [m.held.detach().flatten(1) for m in net.discriminator.modules() if isinstance(m, adversary.Spectral)]
    assert len(held) == 5
    for weight in held:
        assert float(torch.linalg.matrix_norm(weight, 2)) == pytest.approx(4, rel=0.05)


def test_the_average_follows_and_is_what_samples() -> None:
    net = family.build(DIGITS, seed=0, **SMALL)
    first = family.sample(net, [[1]], seed=0)
    with torch.no_grad():
        for parameter in net.generator.parameters():
            parameter.add_(0.3)
    np.testing.assert_array_equal(first, family.sample(net, [[1]], seed=0))
    for _ in range(400):
        net.after_step()
    name = "start.bias"
    torch.testing.assert_close(getattr(net.average, "start-bias"), dict(net.generator.named_parameters())[name])
    assert np.abs(first - family.sample(net, [[1]], seed=0)).max() > 0.01


def test_a_checkpoint_brings_back_the_average(tmp_path: Path) -> None:
    examples = digits(64)
    net = trained(tmp_path, family.build(DIGITS, seed=0, **SMALL), DIGITS, examples, steps=5)
    other = family.build(DIGITS, seed=3, **SMALL)
    trained(tmp_path, other, DIGITS, examples, steps=5)  # done already: nothing but the checkpoint is read
    assert all(torch.equal(other.state_dict()[name], value) for name, value in net.state_dict().items())
    assert int(net.average.steps) == 5


@pytest.mark.slow
def test_digits_of_a_class_come_to_look_like_it(tmp_path: Path) -> None:
    examples = [e for e in digits() if e.condition[0] in (0, 1)]
    net = family.build(DIGITS, seed=0, width=16, z=16)
    trained(tmp_path, net, DIGITS, examples, steps=250)
    made = family.sample(net, [[0]] * 50 + [[1]] * 50, seed=1)
    assert made.shape == (100, 1, 8, 8) and np.abs(made).max() <= 1
    means = [np.mean([e.values.ravel() for e in examples if e.condition[0] == c], 0) for c in (0, 1)]
    apart = np.stack([((made.reshape(100, 64) - m) ** 2).sum(1) for m in means], 1)
    assert (apart.argmin(1) == np.repeat([0, 1], 50)).mean() > 0.85
    assert made.reshape(100, 64)[:50].std(0).mean() > 0.05  # and not all the same one


def test_rows_take_the_data_s_shares(tmp_path: Path) -> None:
    examples = rows()
    net = family.build(TABLE, seed=0, width=64, z=8, average=0.98, examples=examples)
    trained(tmp_path, net, TABLE, examples, steps=400)
    made, real = family.sample(net, [[]] * 600, seed=3), table(600, seed=9)
    assert made.shape == (600, 4) and made.dtype == np.float64
    assert (made[:, 0] == made[:, 1]).mean() > 0.8
    assert np.corrcoef(made[:, 0], made[:, 2])[0, 1] > 0.7
    assert np.nanmean(made[:, 3] == 0) == pytest.approx(np.nanmean(real[:, 3] == 0), abs=0.15)


@pytest.mark.parametrize("space", [DIGITS, TABLE])
def test_each_example_depends_on_its_own_seed_alone(space: Any) -> None:
    size = {**SMALL, "examples": rows(64)} if space is TABLE else SMALL
    net = family.build(space, seed=0, **size)
    prompts = [[], [], []] if space is TABLE else [[3], [5], [3]]
    whole = family.sample(net, prompts, seed=0, seeds=[7, 8, 9])
    np.testing.assert_allclose(family.sample(net, prompts[1:2], seed=5, seeds=[8]), whole[1:2], rtol=1e-4, atol=1e-5)
    assert not np.allclose(whole[0], whole[2], equal_nan=True)
    np.testing.assert_array_equal(*(family.sample(net, prompts, seed=4) for _ in range(2)))
    coldest = family.sample(net, prompts[::2], seed=0, seeds=[1, 2], temperature=0)
    np.testing.assert_allclose(coldest[0], coldest[1], rtol=1e-4, atol=1e-5)


def test_a_shift_moves_whole_images_by_a_pixel_at_most() -> None:
    image = torch.full((40, 1, 8, 8), -1.0)
    image[:, :, 3, 3] = 1.0
    torch.manual_seed(0)
    moved = shifted(image)
    assert (moved.sum((1, 2, 3)) == image[0].sum()).all()
    places = {tuple(p) for p in (moved[:, 0] > 0).nonzero()[:, 1:].tolist()}
    assert places == {(y, x) for y in (2, 3, 4) for x in (2, 3, 4)}


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="without data"):
        family.build(TABLE, seed=0)
    with pytest.raises(ArtifactError, match="tokens"):
        family.build(Tokens(4, 4), seed=0)
    with pytest.raises(SettingError, match="groups"):
        family.build(Grid(1, (8, 8)), seed=0, width=12)
    net = family.build(DIGITS, seed=0, **SMALL)
    with pytest.raises(DataError, match="10 condition ids"):
        family.sample(net, [[10]], seed=0)
    with pytest.raises(SettingError, match="steps"):
        family.sample(net, [[1]], seed=0, steps=2)
    with pytest.raises(ArtifactError, match="no GAN"):
        family.load(tmp_path)
