"""Compiled blocks: the same curve, the same bits after a kill, and a decision that no clock takes part in."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch

from volant.core.run import Run
from volant.core.spaces import Encoded, Tokens
from volant.nets import compiling, qwen3, state
from volant.nets.batches import Batch, Packed
from volant.nets.loop import Recipe, train
from volant.nets.transformer import family, token_loss

RECIPE = Recipe(steps=6, lr=0.01, muon_lr=0.02, warmup=2, decay=3, evaluate_every=2, checkpoint_every=2, bf16=False)


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test catches it."""


class Batches:
    """Two texts, packed; asking for a step beyond `last` kills."""

    def __init__(self, last=99):
        rule = [0]
        for i in range(700):
            rule.append((rule[-1] * 3 + i % 2 + 1) % 40)
        self._packed = Packed([Encoded(rule, [True] * 701)] * 2, length=16, rows=8, seed=0)
        self.steps, self._last = self._packed.steps, last

    def batch(self, step):
        if step > self._last:
            raise Killed
        return self._packed.batch(step)


def trained(folder, recipe, batches):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    run = Run(step="t", out=folder / "out", work=folder / "work", threads=1)
    net = family.build(Tokens(vocab=40, length=16), seed=1, depth=2)
    train(run, net, batches, recipe, validation=[Batches().batch(9).rows(0, 3)])
    return net, [v for n, v, _ in run.watcher.metrics if n == "loss"]


@pytest.mark.parametrize("length", [37, 300])
@pytest.mark.parametrize("kind", ["whole", "padded", "documents", "packed"])
def test_blocks_of_our_own_compute_what_the_network_does(length, kind):
    torch.manual_seed(0)
    net = family.build(Tokens(vocab=40, length=length), seed=1, depth=2, width=32)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))  # outputs of fresh blocks are zero
    ids = torch.randint(0, 40, (3, length))
    real = torch.arange(length) < torch.tensor([[length], [length // 2], [5]]) if kind in ("padded", "packed") else None
    document = (torch.arange(length) // 13).int().expand(3, -1) if kind in ("documents", "packed") else None
    place = (torch.arange(length) % 13).expand(3, -1) if kind == "packed" else None
    mask = torch.ones_like(ids, dtype=torch.bool) if real is None else real
    batch, found = Batch(ids, mask, real, document, place), []
    assert qwen3.fits(net)
    for of_hidden in (None, *(partial(qwen3.hidden, of_block=way) for way in (qwen3.block, qwen3.quick))):
        net.train(of_hidden is not None)  # in evaluation the layers of transformers compute
        loss, _ = token_loss(net, batch, of_hidden=of_hidden)
        found.append([loss, *torch.autograd.grad(loss, list(net.parameters()))])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found[0], found[2], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_compiled_learns_alike_and_resumes_bit_exactly(tmp_path):
    _, plain = trained(tmp_path / "plain", RECIPE, Batches())
    recipe = replace(RECIPE, compiled=True)
    whole, losses = trained(tmp_path / "whole", recipe, Batches())
    assert losses == pytest.approx(plain, abs=1e-4)
    with pytest.raises(Killed):
        trained(tmp_path / "cut", recipe, Batches(last=2))
    torch._dynamo.reset()  # as in a process that has compiled nothing yet
    again, _ = trained(tmp_path / "cut", recipe, Batches())
    assert state.tensors_digest(dict(again.named_parameters())) == state.tensors_digest(dict(whole.named_parameters()))


def test_it_is_bought_only_where_it_comes_back_and_can_be_had(tmp_path, monkeypatch):
    run = Run(step="t", out=tmp_path, work=tmp_path, threads=1)
    net = family.build(Tokens(vocab=40, length=16), seed=1, depth=3)
    monkeypatch.setattr(compiling, "_refused", lambda device: f"no C++ compiler for {device}")
    assert not compiling.pays(run, net, steps=4000, step_tokens=2048)
    assert "no C++ compiler" in run.watcher.lines[-1]
    monkeypatch.setattr(compiling, "_refused", lambda device: "")
    assert not compiling.pays(run, net, steps=4000, step_tokens=2048), "a run that carries on abides by its choice"
    (tmp_path / "compiled").unlink()
    assert not compiling.pays(run, net, steps=440, step_tokens=2048)
    (tmp_path / "compiled").unlink()
    assert compiling.pays(run, net, steps=4000, step_tokens=2048)
    assert compiling.pays(replace(run, threads=64), net, steps=4000, step_tokens=2048)
    gpu = replace(run, device="cuda", work=tmp_path / "gpu")
    assert not compiling.pays(gpu, net, steps=4000, step_tokens=2048), "a network so small is soon done there"
    (gpu.work / "compiled").unlink()
    assert compiling.pays(gpu, net, steps=10**8, step_tokens=2048)
    compiling.never(gpu)
    assert not compiling.pays(gpu, net, steps=10**8, step_tokens=2048)


def test_a_machine_that_cannot_compile_says_why(monkeypatch):
    def fails(*given, **named):
        raise RuntimeError("InvalidCxxCompiler: none works\nmore")

    monkeypatch.setattr(torch, "compile", fails)
    assert compiling._refused("cpu") == "InvalidCxxCompiler: none works"
