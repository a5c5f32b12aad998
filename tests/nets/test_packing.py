"""Documents packed into one window do not see each other; blocks computed twice leave the same gradient."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from volant.core.errors import MachineError
from volant.core.run import Run
from volant.core.spaces import Encoded, Tokens
from volant.nets import memory
from volant.nets.batches import Batch, Mixed, Packed
from volant.nets.transformer import family, token_loss

SPACE = Tokens(vocab=61, length=32)


def net_of(depth=2):
    net = family.build(SPACE, seed=3, depth=depth)
    with torch.no_grad():
        for weight in net.parameters():  # blocks begin at zero, which would hide what they compute
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return net.train()


def windows(lengths=(9, 5, 14, 3, 40)):
    draw = torch.Generator().manual_seed(5)
    documents = [[*torch.randint(1, 61, (n,), generator=draw).tolist(), 0] for n in lengths]
    return Packed([Encoded(d, [True] * len(d)) for d in documents], length=16, rows=4, seed=0)


def gradients(net, batch):
    net.zero_grad(set_to_none=True)
    total, count = token_loss(net, batch)
    (total / count).backward()
    return total.detach(), {n: p.grad.clone() for n, p in net.named_parameters()}


def test_no_id_sees_the_document_beside_its_own():
    net, batch = net_of(), windows().batch(0)
    row, at = next(
        (r, a) for r in range(batch.size) for a in range(4, 12) if batch.document[r, a] != batch.document[r, a - 1]
    )
    later = Batch(batch.ids, torch.zeros_like(batch.mask), None, batch.document)
    later.mask[row, at + 1 :] = True  # what is predicted from the document that begins at `at`
    changed = batch.ids.clone()
    changed[row, :at] = (changed[row, :at] + 7) % 61
    together = [token_loss(net, dataclasses.replace(later, ids=ids))[0] for ids in (batch.ids, changed)]
    assert torch.allclose(together[0], together[1], rtol=1e-6)
    joined = [token_loss(net, dataclasses.replace(later, ids=ids, document=None))[0] for ids in (batch.ids, changed)]
    assert not torch.allclose(joined[0], joined[1], rtol=1e-4)


def test_a_document_begins_with_the_end_mark_before_it():
    batches = windows()
    assert list(batches._owner[:11]) == [0] * 9 + [1] * 2  # nine ids, their end mark, the first of the next
    mixed = Mixed([batches, Packed([Encoded([5] * 90, [True] * 90)], length=16, rows=2, seed=0)]).batch(0)
    assert mixed.document.shape == mixed.ids.shape and mixed.rows(4, 6).document.unique().numel() == 1


def test_blocks_computed_again_leave_the_same_gradient_and_keep_less():
    batch = windows().batch(0)
    kept: list[int] = []

    def count(value):
        kept[-1] += value.numel()
        return value

    found = []
    for again in (False, True):
        net = net_of(4)
        if again:
            net.activation_checkpointing_enable()
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
            found.append(gradients(net, batch))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(found[0][1][n], found[1][1][n]) for n in found[0][1])
    assert kept[1] < 0.5 * kept[0]


def test_short_memory_makes_blocks_compute_twice_before_it_refuses(monkeypatch, tmp_path):
    run = Run(step="base", out=tmp_path, work=tmp_path)
    net = net_of(4)
    asked = {"tokens": 4096, "counted": 4096}
    whole, less = (memory.training_bytes(net, **asked, recomputed=again) for again in (False, True))
    assert less < whole
    told = {"fix": "Choose a smaller `depth`."}
    monkeypatch.setattr(memory, "free_bytes", lambda device: whole)
    assert memory.check_training(run, net, **asked, **told) == whole and not net.is_activation_checkpointing
    assert not run.watcher.lines
    monkeypatch.setattr(memory, "free_bytes", lambda device: less)
    assert memory.check_training(run, net, **asked, **told) == less and net.is_activation_checkpointing
    assert any("computed twice" in line for line in run.watcher.lines)
    monkeypatch.setattr(memory, "free_bytes", lambda device: less - 1)
    with pytest.raises(MachineError, match="smaller `depth`"):
        memory.check_training(run, net_of(4), **asked, **told)
