"""Gaussians by class: the moments are those of the data, the density is right, draws follow their seeds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.stats import multivariate_normal

from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.spaces import Example, Grid, Mixed
from volant.nets import gaussian
from volant.nets.arrays import array_batch
from volant.nets.gaussian import family, shrinkage

SPACE = Grid(1, (2, 3), conditions=3)


def examples(rows: int, seed: int = 0, classes: int = 3) -> list[Example]:
    """Classes of different means, values that hang together."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).normal(0, 0.06, (6, 6))
    return [
        Example((mixing @ rng.normal(size=6) + 0.3 * (i % classes - 1)).reshape(1, 2, 3), (i % classes,))
        for i in range(rows)
    ]


def fitted(known: list[Example] | None = None, **size):
    return family.estimate(family.build(SPACE, seed=0, **size), known or examples(900), seed=0)


def covariance(group) -> np.ndarray:
    """The whole covariance that a group stands for."""
    directions = group.directions_ED.astype(float)
    others = np.eye(6) - directions.T @ directions
    return directions.T @ np.diag(group.spread_E.astype(float) ** 2) @ directions + group.rest**2 * others


def test_draws_have_the_moments_of_their_class() -> None:
    net = fitted()
    real = np.stack([e.values.ravel() for e in examples(900) if e.condition == (2,)])
    made = family.sample(net, [[2]] * 4000, seed=1).reshape(4000, 6)
    assert np.abs(made.mean(0) - real.mean(0)).max() < 0.02
    assert np.abs(np.cov(made.T) - np.cov(real.T)).max() < 0.02
    free = family.sample(net, [[]] * 3000, seed=1).reshape(3000, 6).mean(1)
    assert free.std() > 1.2 * made.mean(1).std()


def test_the_covariance_is_that_of_ledoit_and_wolf() -> None:
    from sklearn.covariance import LedoitWolf

    for rows in (12, 60, 900):
        known = examples(rows, classes=1)
        values = np.stack([e.values.ravel() for e in known])
        theirs = LedoitWolf().fit(values)
        assert shrinkage(values - values.mean(0)) == pytest.approx(theirs.shrinkage_, abs=1e-9)
        assert np.allclose(covariance(fitted(known).groups[0]), theirs.covariance_, atol=1e-5)


def test_fewer_directions_keep_the_whole_variance() -> None:
    known = examples(900, classes=1)
    whole, cut = covariance(fitted(known).groups[0]), covariance(fitted(known, directions=2).groups[0])
    assert np.trace(cut) == pytest.approx(np.trace(whole), rel=1e-5)
    assert fitted(known, directions=2).groups[0].directions_ED.shape == (2, 6)


def test_logp_is_the_density_and_loss_its_mean() -> None:
    net, batch = fitted(), array_batch(examples(30, seed=4))
    got = family.logp(net, batch).numpy()
    groups = {g.condition: g for g in net.groups}
    rows = batch.values.numpy().astype(float).reshape(30, 6)
    dense = {k: multivariate_normal(g.mean_D.astype(float), covariance(g)) for k, g in groups.items()}
    assert got == pytest.approx([dense[(i % 3,)].logpdf(rows[i]) for i in range(30)], abs=1e-3)
    assert float(family.loss(net, batch)) == pytest.approx(-got.mean())
    free = array_batch([Example(e.values) for e in examples(30, seed=4)])
    mixed = np.log(np.mean([np.exp(d.logpdf(rows)) for d in dense.values()], axis=0))
    assert family.logp(net, free).numpy() == pytest.approx(mixed, abs=1e-3)


def test_each_example_depends_on_its_own_seed_alone() -> None:
    net = fitted()
    prompts = [[i % 3] for i in range(30)]
    whole = family.sample(net, prompts, seed=0, seeds=range(30))
    alone = family.sample(net, [[2], [1]], seed=8, seeds=[5, 22])
    assert np.allclose(alone, whole[[5, 22]], atol=1e-6)
    assert np.array_equal(family.sample(net, prompts, seed=3), family.sample(net, prompts, seed=3))
    assert not np.array_equal(family.sample(net, prompts, seed=3), family.sample(net, prompts, seed=4))


def test_digits_are_told_apart_by_their_class() -> None:
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    data = load_digits()
    known = [Example((x / 8 - 1)[None], (int(c),)) for x, c in zip(data.images, data.target, strict=True)]
    net = family.estimate(family.build(Grid(1, (8, 8), 10), seed=0), known[:1297], seed=0)
    made = family.sample(net, [[i % 10] for i in range(500)], seed=0)
    assert made.min() >= -1 and made.max() <= 1
    told = KNeighborsClassifier(3).fit(np.stack([e.values.ravel() for e in known]), data.target)
    assert (told.predict(made.reshape(500, -1)) == np.arange(500) % 10).mean() > 0.93


def test_wide_grids_cost_no_square_of_their_size() -> None:
    rng = np.random.default_rng(0)
    known = [Example(rng.uniform(-1, 1, (3, 64, 64)).astype(np.float32)) for _ in range(24)]
    net = family.estimate(family.build(Grid(3, (64, 64)), seed=0), known, seed=0)
    assert net.groups[0].directions_ED.shape == (23, 3 * 64 * 64)
    assert family.sample(net, [[]] * 2, seed=0).shape == (2, 3, 64, 64)


def test_captions_find_the_nearest_that_was_seen_and_unknown_classes_are_refused() -> None:
    rng = np.random.default_rng(0)
    known = [
        Example(np.full((1, 2, 3), 0.5 * sign) + rng.normal(0, 0.01, (1, 2, 3)), (4, 5 + (sign > 0)))
        for sign in (-1, 1)
        for _ in range(20)
    ]
    net = family.estimate(family.build(Grid(1, (2, 3), 9, condition_length=2), seed=0), known, seed=0)
    assert family.sample(net, [[6, 8]], seed=0).mean() > 0.4 > -0.4 > family.sample(net, [[5]], seed=0).mean()
    with pytest.raises(DataError, match="condition like 7"):
        family.sample(fitted(), [[7]], seed=0)


def test_a_class_of_one_shares_with_the_rest_and_one_example_is_enough() -> None:
    rare = [*examples(300), Example(np.zeros((1, 2, 3)), (9,))]
    assert () in [g.condition for g in fitted(rare).groups]
    one = fitted([Example(np.full((1, 2, 3), 0.25), (0,))])
    assert np.abs(family.sample(one, [[0]], seed=0) - 0.25).max() < 0.05
    with pytest.raises(DataError, match="n=0"):
        family.estimate(family.build(SPACE, seed=0), [], seed=0)
    with pytest.raises(ArtifactError, match="fitted"):
        family.sample(family.build(SPACE, seed=0), [[0]], seed=0)


def test_saved_and_loaded_bit_exactly_and_damage_is_an_error(tmp_path) -> None:
    net = fitted()
    family.save(net, tmp_path / "a")
    again = family.load(tmp_path / "a")
    assert np.array_equal(family.sample(net, [[1]] * 9, seed=2), family.sample(again, [[1]] * 9, seed=2))
    family.save(again, tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert net.state_dict().keys() == again.state_dict().keys()
    arrays = load_file(tmp_path / "a" / "model.safetensors")
    for name in ("mean", "directions", "spread"):
        save_file({**arrays, name: arrays[name][:-1].copy()}, tmp_path / "b" / "model.safetensors")
        with pytest.raises(ArtifactError, match="cannot be read"):
            family.load(tmp_path / "b")
    (tmp_path / "b" / "config.json").write_text(json.dumps({"space": {"type": "mixed", "columns": {}}}))
    with pytest.raises(ArtifactError, match="cannot be read"):
        family.load(tmp_path / "b")


def test_other_spaces_and_sizes_are_refused() -> None:
    with pytest.raises(ArtifactError, match="mixed"):
        family.build(Mixed({}), seed=0)
    with pytest.raises(SettingError, match="directions"):
        family.build(SPACE, seed=0, directions=0)
    with pytest.raises(DataError, match="n=0"):
        gaussian.fit([])
