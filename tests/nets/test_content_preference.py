"""DPO over pictures: the loss is the paper's, the reference is the start, and what moved too far is pulled back."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch

import small_content as tiny
from tiny_models import watched
from volant.core.errors import Interrupted, SettingError
from volant.core.spaces import Example, Grid
from volant.nets import content_preference as preference
from volant.nets import open_family
from volant.nets.arrays import Arrays
from volant.nets.flow import family
from volant.nets.nearness import Start
from volant.nets.pieces import evaluate
from volant.nets.preference import Judged
from volant.nets.state import tensors_digest

SPACE = Grid(1, (8, 8), conditions=3)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def fresh():
    return family.build(SPACE, seed=0, width=8, depth=1, average=0.5)


def pairs(count=24, seed=0):
    """Bright pictures are preferred to dark ones."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(-0.6, 0.2, (count, 1, 8, 8)).astype(np.float32)
    return [Example(np.stack([x + 0.4, x - 0.4]), (n % 3,)) for n, x in enumerate(base)]


class StopsAfter(threading.Event):
    """Is set when it has been looked at so many times."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def is_set(self):
        self.looks -= 1
        return self.looks < 0


def settings(**other):
    return {"steps": 12, "rows": 8, "lr": 4e-4, "beta": 0.5, "anchor": 0.0, "bound": 1e9, **other}


def test_at_the_start_nobody_is_ahead():
    net = fresh()
    start, batches = Start(net), Arrays(pairs(), rows=8, seed=0).in_order()
    plain = evaluate(net, batches, loss=preference.dpo_loss(family, start, beta=0.7, anchor=0.0))
    assert plain == pytest.approx(math.log(2), abs=1e-6)
    judged = preference.judge(family, net, start, batches)
    assert judged.margins == [0.0] * 24 and judged.shift == 0.0


def test_the_loss_is_the_papers():
    net = fresh()
    start = Start(net)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    moved = {n: p.detach().clone() for n, p in net.named_parameters()}
    batch = Arrays(pairs(), rows=24, seed=0).in_order()[0]
    torch.manual_seed(5)
    got, count = preference.dpo_loss(family, start, beta=0.3, anchor=2.0)(net, batch)
    assert all(torch.equal(p, moved[n]) for n, p in net.named_parameters())
    got.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())

    torch.manual_seed(5)  # the same noise, and the sums written out
    noise = torch.randn(24, 1, 8, 8)
    sigma = (torch.randperm(24) + torch.rand(24)) / 24
    reference = fresh().eval()
    reference.average = 0.0
    wrong = {}
    for name, one in (("own", net.eval()), ("reference", reference)):
        for side in range(2):
            x = batch.values[:, side]
            share = sigma[:, None, None, None]
            told = one((1 - share) * x + share * noise, sigma, batch.condition_BC)
            wrong[name, side] = ((noise - x) - told).square().sum((1, 2, 3))
    inside = (wrong["own", 0] - wrong["reference", 0]) - (wrong["own", 1] - wrong["reference", 1])
    wanted = -torch.nn.functional.logsigmoid(-0.3 * inside) + 2.0 * wrong["own", 0] / 64
    assert count == 24 and float(got.detach()) == pytest.approx(float(wanted.detach().sum()), rel=1e-4)


@pytest.mark.slow
def test_it_learns_what_is_preferred_and_goes_back_when_it_went_too_far(tmp_path):
    net, run = fresh(), tiny.content_run(tmp_path / "a", "image")
    outcome, judged = preference.dpo(run, family, net, pairs(), pairs(12, seed=1), **settings())
    assert outcome.steps == 12 and judged is not None
    assert sum(m > 0 for m in judged.margins) >= 11 and judged.shift > 0.2
    assert net.average == 0.5  # as it was
    near, run = fresh(), tiny.content_run(tmp_path / "b", "image")
    _, held = preference.dpo(run, family, near, pairs(), pairs(12, seed=1), **settings(bound=judged.shift / 2))
    assert held is not None and 0 < held.shift <= judged.shift / 2
    assert any("going back to" in line for line in watched(run).lines)


def test_pairs_that_do_not_gain_leave_the_weights(tmp_path):
    net, run = fresh(), tiny.content_run(tmp_path, "image")
    start = tensors_digest(dict(net.named_parameters()))
    turned = [Example(e.values[::-1].copy(), e.condition) for e in pairs(12, seed=1)]
    _, judged = preference.dpo(run, family, net, pairs(), turned, **settings())
    assert any("did not gain" in line for line in watched(run).lines)
    assert tensors_digest(dict(net.named_parameters())) == start and judged is not None and judged.shift == 0


def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path):
    digests, stopped = [], 0
    for name in ("whole", "stopped"):
        run, net = tiny.content_run(tmp_path / name, "image"), fresh()
        if name == "stopped":
            run.stop = StopsAfter(7)
        try:
            preference.dpo(run, family, net, pairs(), pairs(8, seed=1), **settings())
        except Interrupted:
            run.stop, net = threading.Event(), fresh()
            preference.dpo(run, family, net, pairs(), pairs(8, seed=1), **settings())
            stopped += 1
        digests.append(tensors_digest(dict(net.named_parameters())))
    assert digests[0] == digests[1] and stopped == 1


def test_a_vae_learns_by_its_bound(tmp_path):
    vae = open_family("vae")
    net = vae.build(SPACE, seed=0, z=3, width=8)
    run = tiny.content_run(tmp_path, "image")
    _, judged = preference.dpo(run, vae, net, pairs(), pairs(12, seed=1), **settings(beta=0.05, lr=1e-3))
    assert judged is not None and sum(m > 0 for m in judged.margins) >= 10


def test_the_weights_of_the_start_stand_for_a_moment():
    net = torch.nn.Linear(2, 1)
    was = net.weight.detach().clone()
    start = Start(net)
    with torch.no_grad():
        net.weight.add_(1.0)
    with pytest.raises(ValueError, match="meanwhile"), start.standing(net):
        assert torch.equal(net.weight, was) and not torch.is_grad_enabled()
        raise ValueError("meanwhile")
    assert torch.equal(net.weight, was + 1)
    start.pull(net, 0.25)
    torch.testing.assert_close(net.weight.detach(), was + 0.25)
    start.pull(net, 0.0)
    torch.testing.assert_close(net.weight.detach(), was)
    assert isinstance(Judged([0.0]).shift, float)


def test_a_family_without_a_likelihood_is_refused():
    with pytest.raises(SettingError, match="a gan does not tell how likely.*reward_weighted"):
        preference.check_family(open_family("gan"))
