"""What a training on pictures will take of memory: nothing is moved by asking, more rows need more, and what does not
fit is refused with a batch that does."""

import numpy as np
import pytest
import torch

from volant.core.errors import MachineError
from volant.core.run import Run
from volant.core.spaces import Example, Grid
from volant.nets import flow, gan, memory_content, vae
from volant.nets.arrays import Arrays
from volant.nets.recipe import Recipe

SPACE = Grid(1, (16, 16), conditions=2)
RECIPE = Recipe(steps=1, lr=1e-3, bf16=False)


def batch(rows):
    rng = np.random.default_rng(0)
    examples = [Example(rng.standard_normal((1, 16, 16)).astype(np.float32), (i % 2,)) for i in range(rows)]
    return Arrays(examples, rows=rows, seed=0).batch(0)


def needed(tmp_path, family, net, rows):
    run = Run(step="fit", out=tmp_path, work=tmp_path)
    return memory_content.check_memory(run, net, family.step_loss, batch(rows), RECIPE)


@pytest.mark.parametrize("module", [flow, vae, gan])
def test_asking_moves_nothing_and_each_row_needs_as_much(tmp_path, module):
    net = module.family.build(SPACE, seed=0)
    torch.manual_seed(3)
    state, before = torch.random.get_rng_state(), {n: t.clone() for n, t in net.state_dict().items()}
    few, more, most = (needed(tmp_path, module.family, net, rows) for rows in (16, 32, 64))
    assert most - more == pytest.approx(2 * (more - few), rel=0.01) and more > few
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_what_is_kept_is_what_autograd_holds_beside_the_weights():
    net = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 1))
    x = torch.zeros(8, 10)
    kept = memory_content.kept_bytes(net, lambda net, x: net(x).sum(), x)
    assert kept == 4 * 8 * (10 + 20)  # the input, and what ReLU and the second map share


def test_what_does_not_fit_is_refused_with_a_batch_that_does(tmp_path, monkeypatch):
    net = vae.family.build(SPACE, seed=0)
    enough = needed(tmp_path, vae.family, net, 64)
    monkeypatch.setattr(memory_content, "free_bytes", lambda device: enough)
    with pytest.raises(MachineError, match=r"needs about .* of memory and .* are free\. `batch: 6[34]` fits"):
        needed(tmp_path, vae.family, net, 256)
    needed(tmp_path, vae.family, net, 63)  # as it said
    monkeypatch.setattr(memory_content, "free_bytes", lambda device: 2**20)
    with pytest.raises(MachineError, match="Take smaller examples or a smaller network"):
        needed(tmp_path, vae.family, net, 8)


def test_of_four_rows_two_are_said_to_fit(tmp_path, monkeypatch):
    net = flow.family.build(SPACE, seed=0)
    one, two, four = (needed(tmp_path, flow.family, net, rows) for rows in (1, 2, 4))
    assert one < two < four
    monkeypatch.setattr(memory_content, "free_bytes", lambda device: (two + four) // 2)
    with pytest.raises(MachineError, match=r"`batch: [23]` fits"):
        needed(tmp_path, flow.family, net, 4)


def test_what_does_not_fit_even_once_is_told_as_that(tmp_path):
    """Real: a loss that asks for a petabyte."""
    net = vae.family.build(SPACE, seed=0)
    run = Run(step="fit", out=tmp_path, work=tmp_path)
    with pytest.raises(MachineError, match="4 examples need more memory than the"):
        memory_content.check_memory(run, net, lambda net, batch: torch.empty(2**50), batch(8), RECIPE)
    with pytest.raises(RuntimeError, match="of its own"):
        memory_content.check_memory(run, net, lambda net, batch: _raised(), batch(8), RECIPE)


def _raised():
    raise RuntimeError("of its own")
