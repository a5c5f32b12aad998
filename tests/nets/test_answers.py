"""Answers to one prompt in one row: the same figures and gradients as in rows of their own, with fewer ids read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForSequenceClassification

from volant.core.spaces import Tokens
from volant.nets import answers
from volant.nets.batches import Batch
from volant.nets.transformer import family


def made(net):
    with torch.no_grad():
        for weight in net.parameters():  # blocks begin at zero, which would hide what they compute
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.05)
    return net.train()


def batch_of(*rows):
    """Rows of (prompt, answer), padded on the right."""
    width = max(len(p) + len(a) for p, a in rows)
    ids, mask, real = torch.zeros(len(rows), width, dtype=torch.int64), *torch.zeros(2, len(rows), width).bool()
    for row, (prompt, answer) in enumerate(rows):
        whole = [*prompt, *answer]
        ids[row, : len(whole)], real[row, : len(whole)] = torch.tensor(whole), True
        mask[row, len(prompt) : len(whole)] = True
    return Batch(ids, mask, real)


FIRST, SECOND = [5, 9, 4, 7, 3, 8], [6, 2, 9, 1]
BATCH = batch_of((FIRST, [11, 12]), (SECOND, [13]), (FIRST, [14, 15, 16]), (FIRST, [12, 11, 10, 9]), (SECOND, [20, 21]))


def with_and_without(figure, net, monkeypatch):
    found = []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(answers, "shared", lambda *_: None)
        net.zero_grad(set_to_none=True)
        told = figure(net, BATCH)
        (told * torch.arange(1.0, 6.0)).sum().backward()
        found.append((told.detach(), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}))
    return found


def test_likelihoods_and_gradients_are_those_of_rows_apart(monkeypatch):
    net = made(family.build(Tokens(vocab=61, length=32), seed=3, depth=2))
    (together, ours), (apart, theirs) = with_and_without(answers.answer_logp, net, monkeypatch)
    assert torch.allclose(together, apart, atol=1e-5) and len(set(apart.tolist())) == 5
    assert ours.keys() == theirs.keys() and all(torch.allclose(ours[n], theirs[n], atol=1e-4) for n in ours)


def test_rewards_are_those_that_transformers_gives(monkeypatch):
    torch.manual_seed(0)
    net = made(Qwen3ForSequenceClassification(Qwen3Config(
        vocab_size=61, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, head_dim=16,
        num_key_value_heads=1, num_labels=1, pad_token_id=0,
    )))  # fmt: skip
    (together, _), (apart, _) = with_and_without(answers.answer_rewards, net, monkeypatch)
    with torch.no_grad():
        theirs = net(input_ids=BATCH.ids, attention_mask=BATCH.real.long()).logits[:, 0]
    assert torch.allclose(together, theirs, atol=1e-5) and torch.allclose(apart, theirs, atol=1e-5)


def test_a_prompt_stands_once_and_rows_grow_no_wider_than_twice_the_widest():
    found = answers.shared(BATCH.ids, BATCH.real, BATCH.mask)
    assert found.ids.shape == (2, len(FIRST) + 2 + 3 + 4)
    assert found.ids[0].tolist() == [*FIRST, 11, 12, 14, 15, 16, 12, 11, 10, 9]
    assert found.place[0, len(FIRST) :].tolist() == [6, 7, 6, 7, 8, 6, 7, 8, 9]
    long = batch_of(*[([5, 9], [10 + n] * 8) for n in range(3)])
    assert answers.shared(long.ids, long.real, long.mask).ids.shape == (2, 18)
    other = batch_of((FIRST, [1]), (SECOND, [1]))
    assert answers.shared(other.ids, other.real, other.mask) is None


@pytest.mark.parametrize("start", [0, 1])
def test_rows_without_a_prompt_of_their_own_stay_as_they_are(start):
    rows = batch_of(*[([7] * start, [n, 3]) for n in (4, 5)])
    found = answers.shared(rows.ids, rows.real, rows.mask)
    assert (found is None) == (start == 0)


def test_two_threads_leave_the_same_gradients_each_time():
    """What many answers share is added up in one order, and not in the one that threads come in."""
    batch = batch_of(*(([5] * 120, [6]) for _ in range(64)))
    drawn = torch.Generator().manual_seed(2)
    pull_BLD = torch.randn(64, 121, 256, generator=drawn)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = []
        for _ in range(20):
            states_SWD = torch.zeros(1, 184, 256, requires_grad=True)
            body = SimpleNamespace(last_hidden_state=states_SWD)
            told = answers._states(lambda body=body, **_: body, batch.ids, batch.real, batch.mask)
            (told * pull_BLD).sum().backward()
            found.append(states_SWD.grad)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found)
