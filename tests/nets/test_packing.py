"""Documents and examples packed into one row do not see each other; blocks computed twice leave the same gradient."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from volant.core.errors import MachineError
from volant.core.run import Run
from volant.core.spaces import Encoded, Tokens
from volant.nets import masked, memory, qwen3
from volant.nets.batches import Batch, Mixed, Packed, Padded
from volant.nets.packing import Together
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


def short(count=24, longest=30):
    draw = torch.Generator().manual_seed(8)
    lengths = torch.randint(4, longest, (count,), generator=draw).tolist()
    rows = [torch.randint(1, 61, (n,), generator=draw).tolist() for n in lengths]
    return [Encoded(ids, [i >= len(ids) // 2 for i in range(len(ids))]) for ids in rows]


def test_examples_in_one_row_have_the_loss_and_gradient_of_rows_of_their_own():
    net, examples = net_of(), short()
    asked = {"length": 32, "rows": 8, "seed": 0, "pad": 0}
    together, alone = Together(examples, **asked), Padded(examples, **asked)
    for step in range(together.steps):
        packed = together.batch(step)
        padded = alone.collate([examples[i] for i in together._order[1][step]])
        assert packed.size < padded.size and packed.counted == padded.counted and packed.tokens == padded.tokens
        found, wanted = gradients(net, packed), gradients(net, padded)
        assert torch.allclose(found[0], wanted[0], rtol=1e-5)
        assert all(torch.allclose(found[1][n], wanted[1][n], rtol=1e-3, atol=1e-5) for n in found[1])
    for left_out in ({"document": None}, {"place": None, "document": None}):  # the test sees what keeps them apart
        blurred = token_loss(net, dataclasses.replace(packed, **left_out))[0]
        assert not torch.allclose(blurred, found[0], rtol=1e-4)


def test_each_example_is_packed_once_a_pass_and_whole():
    examples = short(21)
    together = Together(examples, length=32, rows=6, seed=1, pad=99)
    found = []
    for step in range(together.steps):
        batch = together.batch(step)
        assert torch.equal(batch.rows(1, 2).place, batch.place[1:2]) and batch.to("meta").place.is_meta
        for row in range(batch.size):
            kept = batch.ids[row][batch.document[row] >= 0].tolist()
            starts = [i for i, place in enumerate(batch.place[row].tolist()[: len(kept)]) if place == 0]
            found += [kept[a:b] for a, b in zip(starts, [*starts[1:], len(kept)], strict=True)]
    assert sorted(found) == sorted(e.ids for e in examples)


def test_a_masked_network_fills_a_document_from_itself_alone():
    net = masked.family.build(SPACE, seed=3, depth=2).train()
    documents = [[*range(1, 9), 0], [*range(20, 30), 0], [*range(40, 50), 0]]
    batch = Packed([Encoded(d, [True] * len(d)) for d in documents], length=29, rows=1, seed=0, both_ways=True).batch(0)
    assert batch.document[0].tolist() == [0] * 9 + [1] * 11 + [2] * 9
    hidden = torch.zeros_like(batch.mask)
    hidden[0, 12] = hidden[0, 19] = True  # in the second document; the last of them is its end mark
    changed = batch.ids.clone()
    changed[0, :9], changed[0, 20:] = (changed[0, :9] + 7) % 61, (changed[0, 20:] + 7) % 61
    for apart, equal in ((batch.document, True), (None, False)):
        both = [
            masked.hidden_loss(net, dataclasses.replace(batch, ids=ids, document=apart), hidden)[0].detach()
            for ids in (batch.ids, changed)
        ]
        assert torch.allclose(both[0], both[1], rtol=1e-6) is equal


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
    assert [line.split(":")[0] for line in run.watcher.lines] == ["memory"]
    monkeypatch.setattr(memory, "free_bytes", lambda device: less)
    assert memory.check_training(run, net, **asked, **told) == less and net.is_activation_checkpointing
    assert any("computed twice" in line for line in run.watcher.lines)
    monkeypatch.setattr(memory, "free_bytes", lambda device: less - 1)
    with pytest.raises(MachineError, match="smaller `depth`"):
        memory.check_training(run, net_of(4), **asked, **told)


def test_a_plan_of_memory_knows_how_long_rows_are():
    """What sees what is a square of the row: of a row of 16,384 tokens it was 1.7 GB, and 0.5 were told."""
    net, asked = net_of(2), {"tokens": 16_384, "counted": 16_384}
    short, long = (memory.training_bytes(net, **asked, row=row) for row in (256, 16_384))
    batch = Batch(torch.zeros(1, 512, dtype=torch.int64), torch.ones(1, 512, dtype=torch.bool))
    apart = dataclasses.replace(batch, document=torch.arange(512, dtype=torch.int32)[None] // 200)
    with torch.profiler.profile(profile_memory=True) as one, torch.no_grad():
        qwen3._bias(apart, torch.zeros(1, 512, 1))
    taken = sum(max(0, event.self_cpu_memory_usage) for event in one.key_averages()) / 512**2
    assert 5 < taken < 1.01 * (long - short) / (16_384 * (16_384 - 256)) < 2 * taken


def test_the_longest_example_makes_the_widest_step():
    lengths = [3] * 60 + [200]
    batches = Padded([Encoded([1] * n, [True] * n) for n in lengths], length=1024, rows=8, seed=0, pad=0)
    assert batches.longest == max(batches.batch(step).width for step in range(batches.steps)) == 224
