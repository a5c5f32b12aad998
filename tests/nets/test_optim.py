"""Muon, the grouping of parameters, and the schedule."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from volant.core.spaces import Tokens
from volant.nets import optim
from volant.nets.transformer import family


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_doctests():
    assert doctest.testmod(optim).failed == 0


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("shape", [(3, 32, 64), (2, 64, 32)])
def test_orthogonalise_pulls_singular_values_to_one_and_keeps_directions(shape, bf16):
    torch.manual_seed(0)
    update = torch.randn(shape)
    result = optim.orthogonalise(update, bf16=bf16)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5 and values.max() < 1.4
    u, _, v = torch.linalg.svd(update, full_matrices=False)
    # Against the exact polar factor: the same directions.
    assert torch.nn.functional.cosine_similarity((u @ v).flatten(1), result.flatten(1)).min() > 0.95


@pytest.mark.parametrize("shape", [(3, 32, 96), (2, 200, 40)])
@pytest.mark.parametrize("least", [1.0, 1e-5])
def test_a_long_matrix_iterated_by_its_small_square_comes_to_the_same(shape, least):
    """Also where nearly all of the update lies in one direction, as late in a training."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    update = u @ torch.diag(torch.logspace(0, math.log10(least), min(shape[1:]))) @ v
    long = update if shape[2] > shape[1] else update.mT
    whole = optim._by_itself(*optim._bounded(long))
    result = optim.orthogonalise(update, bf16=False)
    torch.testing.assert_close(result if shape[2] > shape[1] else result.mT, whole, atol=2e-4, rtol=0)


@pytest.mark.parametrize("bf16", [False, True])
def test_one_direction_alone_and_nothing_at_all_stay_within_bounds(bf16):
    """Where the bound is the singular value itself, rounding must not carry it to where the quintics run away."""
    torch.manual_seed(0)
    for shape in ((40, 40), (24, 96)):
        one = torch.randn(50, shape[0], 1) @ torch.randn(50, 1, shape[1])
        assert torch.linalg.matrix_norm(optim.orthogonalise(one, bf16=bf16), 2).sub(1).abs().max() < 0.4
        assert not optim.orthogonalise(torch.zeros(1, *shape), bf16=bf16).any()


def test_matrices_of_blocks_go_to_muon_and_tables_to_adamw():
    net = family.build(Tokens(50, 16), seed=0, depth=1)
    matrices, others = optim.split_parameters(net)
    assert "model.embed_tokens.weight" in others
    assert {n.split(".")[-2] for n in matrices} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert all(p.ndim == 1 or "embed" in n for n, p in others.items())


def test_a_stack_steps_like_single_matrices():
    torch.manual_seed(0)
    one, two = (torch.nn.Parameter(torch.randn(16, 24)) for _ in range(2))
    together = [torch.nn.Parameter(p.detach().clone()) for p in (one, two)]
    apart = [optim.Muon([one], lr=0.1), optim.Muon([two], lr=0.1)]
    stack = optim.Muon(together, lr=0.1)
    for _ in range(3):
        for p, q in zip((one, two), together, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        for o in (*apart, stack):
            o.step()
    for p, q in zip((one, two), together, strict=True):
        assert torch.allclose(p, q, atol=1e-5)


def test_state_comes_back_and_goes_on_bit_exactly():
    def grads(net, step):
        for i, p in enumerate(net.parameters()):
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + i))

    nets = [family.build(Tokens(50, 16), seed=0, depth=1) for _ in range(2)]
    first, second = (optim.Optimisers(n, lr=0.01, muon_lr=0.02, weight_decay=0.1) for n in nets)
    for step in range(2):
        grads(nets[0], step)
        first.step(0.5)
    with torch.no_grad():
        for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
            q.copy_(p)
    second.load(first.tensors())
    for optimiser, net in zip((first, second), nets, strict=True):
        grads(net, 7)
        optimiser.step(1.0)
    for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(p, q)


def test_factor_scales_the_rate():
    p = torch.nn.Parameter(torch.zeros(1, 4))
    net = torch.nn.Module()
    net.weight = p
    optimiser = optim.Optimisers(net, lr=0.1)
    p.grad = torch.ones_like(p)
    optimiser.step(0.5)
    assert torch.allclose(p, torch.full_like(p, -0.05), atol=1e-4)
