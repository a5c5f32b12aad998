"""The losses of preference learning, checked by hand, and the loop's promises: resume, bound, best weights."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny_models import model, pairs, run_in, watched
from volant.core.artifact import Model
from volant.core.errors import DataError, Interrupted
from volant.core.run import Run, Silent
from volant.core.spaces import Encoded
from volant.modalities import open_modality
from volant.nets import pair_losses, preference
from volant.nets.pieces import in_pieces
from volant.nets.preference import Pair, PairBatch, Pairs
from volant.nets.state import tensors_digest
from volant.nets.transformer import family

DPO = pair_losses.dpo_loss(beta=0.1, anchor=0.1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return model(tmp_path_factory.mktemp("losses"), steps=30)


def test_of_a_dialogue_only_the_last_answer_is_compared(base: Model) -> None:
    codec: Any = open_modality("text").open_codec(base.path)
    turns = [{"role": r, "content": c} for r, c in (("user", "a b"), ("assistant", "one"), ("user", "c"))]
    pair = pairs()[0].model_copy(update={"condition": None, "content": json.dumps(turns)})
    ((chosen, rejected),) = preference.encoded(codec, [pair])
    start = len(codec.encode_prompt(turns))
    for side, text in ((chosen, pair.target), (rejected, pair.rejected)):
        assert side.mask.index(True) == start and all(side.mask[start : sum(side.mask) + start])
        assert codec.decode([i for i, counts in zip(side.ids, side.mask, strict=True) if counts]).strip() == text
    alone = pairs()[0]
    assert preference.answer(codec, alone) == codec.encode(alone)


@pytest.mark.parametrize(("length", "tokens"), [(100, 8 * 2 * 100), (1500, 2 * 2 * 1500), (5000, 2 * 5000)])
def test_the_plan_of_memory_counts_the_pairs_of_a_piece_whole(
    monkeypatch: pytest.MonkeyPatch, length: int, tokens: int
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(preference, "check_training", lambda run, net, **asked: told.append(asked))
    long, short = (Encoded([1] * n, [False] * (n - 1) + [True]) for n in (length, 9))
    data = Pairs([Pair(short, long), *[Pair(short, short)] * 20], rows=8, seed=0, pad=0)
    preference._check_memory(None, None, data, reference=False)  # type: ignore[arg-type]
    assert (told[0]["tokens"], told[0]["row"]) == (tokens, length)


def opened(base: Model) -> tuple[Any, Any, list[Pair], list[Pair]]:
    codec: Any = open_modality("text").open_codec(base.path)
    both = [
        preference.fitted(preference.encoded(codec, [s for s in pairs() if s.split == split]), 128)
        for split in ("train", "validation")
    ]
    return family.load(base.path), codec, both[0], both[1]


def learn(run: Run, base: Model, **changed: Any) -> tuple[str, Any, Any]:
    net, codec, train, held = opened(base)
    settings = {"steps": 12, "rows": 6, "lr": 3e-4, "bound": 100.0, "pad": codec.pad_id, "loss": DPO}
    _, judged = preference.prefer(run, net, train, held, **{**settings, **changed})
    return tensors_digest(dict(net.named_parameters())), judged, net


def test_answer_logp_is_the_sum_over_the_answer_only(base: Model) -> None:
    net, codec, train, _ = opened(base)
    batch = Pairs(train, rows=3, seed=0, pad=codec.pad_id).in_order()[0]
    got = preference.pair_logp(net, batch).detach()
    for row, pair in enumerate(train[:3]):
        for side, example in enumerate((pair.chosen, pair.rejected)):
            logits = net(input_ids=torch.tensor([example.ids])).logits[0].detach().log_softmax(-1)
            want = sum(logits[i - 1, example.ids[i]] for i in range(1, len(example.ids)) if example.mask[i])
            assert float(got[row, side]) == pytest.approx(float(want), abs=1e-3)


def test_dpo_starts_at_ln_2_and_falls_with_the_margin(base: Model) -> None:
    net, codec, train, _ = opened(base)
    data = Pairs(train, rows=8, seed=0, pad=codec.pad_id)
    batch = data.in_order()[0]
    logp = preference.pair_logp(net, batch).detach()
    plain = pair_losses.dpo_loss(beta=0.5, anchor=0.0)
    at_start, count = plain(net, replace_reference(batch, logp))
    assert count == 8 and at_start.item() / 8 == pytest.approx(math.log(2), abs=1e-5)
    ahead = logp - torch.tensor([[3.0, 1.0]])
    later, _ = plain(net, replace_reference(batch, ahead))
    assert later.item() / 8 == pytest.approx(math.log(1 + math.exp(-0.5 * 2.0)), abs=1e-4)


def test_simpo_and_orpo_by_hand(base: Model) -> None:
    """Per-token means of the two answers, put into the papers' equations one pair at a time."""
    net, codec, train, _ = opened(base)
    batch = Pairs(train, rows=4, seed=0, pad=codec.pad_id).in_order()[0]
    logp = preference.pair_logp(net, batch).detach().tolist()
    tokens = [[sum(side.mask[1:]) for side in (pair.chosen, pair.rejected)] for pair in train[:4]]
    means = [[p / n for p, n in zip(*both, strict=True)] for both in zip(logp, tokens, strict=True)]
    wanted = sum(math.log1p(math.exp(-(2.0 * (good - bad) - 0.7))) for good, bad in means)
    simpo, count = pair_losses.simpo_loss(beta=2.0, margin=0.7)(net, batch)
    assert count == 4 and simpo.item() == pytest.approx(wanted, rel=1e-4)
    odds = [[m - math.log(1 - math.exp(m)) for m in both] for both in means]
    leads = sum(math.log1p(math.exp(-(good - bad))) for good, bad in odds)
    orpo, _ = pair_losses.orpo_loss(weight=0.3)(net, batch)
    assert orpo.item() == pytest.approx(0.3 * leads - sum(good for good, _ in means), rel=1e-4)


def kto(net: Any, batch: PairBatch, *, rows: int, beta: float = 0.5) -> tuple[torch.Tensor, int]:
    """The loss of a batch in pieces of so many rows; its gradient is left in the weights."""
    net.zero_grad()
    total, count = torch.zeros(()), 0
    for part, _, many in in_pieces(net, pair_losses.KtoLoss(beta=beta), batch, rows, device="cpu", bf16=False):
        part.backward()
        total, count = total + part.detach(), count + many
    return total, count


def answers_rated_one_by_one(base: Model) -> tuple[Any, Pairs, torch.Tensor]:
    net, codec, train, _ = opened(base)
    pairs, worth = preference.rated([p.chosen for p in train[:4]], [p.rejected for p in train[:2]], 128)
    assert len(pairs) == 6 and worth == pytest.approx([0.75] * 4 + [-1.5] * 2)
    data = Pairs(pairs, rows=6, seed=0, pad=codec.pad_id, worth=worth)
    return net, data, preference.pair_logp(net, data.in_order()[0]).detach()


def test_kto_by_hand(base: Model) -> None:
    net, data, logp = answers_rated_one_by_one(base)
    data.reference = logp
    at_start, count = kto(net, data.in_order()[0], rows=6)
    assert count == 6 and at_start.item() == pytest.approx(data.worth.abs().sum().item() / 2, abs=1e-4)
    data.reference = logp - torch.tensor([[3.0, 1.0]])  # ahead by 3 on the rated, by 1 on the others
    later, _ = kto(net, data.in_order()[0], rows=6)
    ahead = 1 / (1 + math.exp(-0.5 * 2.0))
    assert later.item() == pytest.approx(4 * 0.75 * (1 - ahead) + 2 * 1.5 * ahead, abs=1e-3)
    data.reference = logp - torch.tensor([[3.0, -4.0]])  # an estimate below 0 counts as 0
    bounded, _ = kto(net, data.in_order()[0], rows=6)
    ahead = 1 / (1 + math.exp(-0.5 * 3.0))
    assert bounded.item() == pytest.approx(4 * 0.75 * (1 - ahead) + 2 * 1.5 * ahead, abs=1e-3)


def test_kto_in_pieces_measures_its_distance_over_the_whole_batch(base: Model) -> None:
    net, data, logp = answers_rated_one_by_one(base)
    others = torch.tensor([4.0, -3.0, 2.0, 0.0, 1.0, 5.0])  # any two of them have another mean than all
    data.reference = logp - torch.stack([torch.full((6,), 1.0), others], dim=1)
    found = []
    for rows in (6, 2, 1):
        loss, count = kto(net, data.in_order()[0], rows=rows)
        found.append((loss.item(), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}))
        assert count == 6
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for name, whole in found[0][1].items():
            assert torch.allclose(gradient[name], whole, rtol=1e-3, atol=1e-5), name


def test_a_rated_answer_stands_beside_another_prompts() -> None:
    one = Encoded([1, 2, 9], [False, False, True])
    same = Encoded([1, 2, 8], [False, False, True])
    two = Encoded([3, 4, 5, 7], [False, False, True, True])
    pairs, worth = preference.rated([one], [same, two], 8)
    assert [p.rejected.ids for p in pairs] == [[1, 2, 5, 7], [1, 2, 5, 7], [3, 4, 9]] and worth == [1.5, -0.75, -0.75]
    assert preference.rated([one], [same], 8) == ([], [])  # one prompt alone: nothing to estimate from


def replace_reference(batch: PairBatch, reference: torch.Tensor) -> PairBatch:
    return replace(batch, reference=reference)


def test_training_prefers_the_chosen_on_held_out_pairs(base: Model, tmp_path: Path) -> None:
    run = run_in(tmp_path)
    _, judged, _ = learn(run, base)
    assert sum(m > 0 for m in judged.margins) >= 0.9 * len(judged.margins) and judged.shift > 0
    assert {name for name, _, _ in watched(run).metrics} >= {"loss", "validation_loss"}


def test_the_bound_pulls_back_and_zero_steps_of_gain_leave_the_weights(base: Model, tmp_path: Path) -> None:
    run = run_in(tmp_path / "a")
    _, free, _ = learn(run_in(tmp_path / "b"), base)
    _, bounded, _ = learn(run, base, bound=free.shift * 0.6)
    assert bounded.shift <= free.shift * 0.6 and any("bound" in line for line in watched(run).lines)
    digest, still, _ = learn(run_in(tmp_path / "c"), base, bound=1e-9)
    assert still.shift == 0 and digest == tensors_digest(dict(family.load(base.path).named_parameters()))


class StopsAt(Silent):
    """Presses Ctrl-C when the bar reaches a step."""

    def __init__(self, run: Run, at: int) -> None:
        super().__init__()
        self.run, self.left = run, at

    def bar(self, *args: Any) -> Any:
        return self

    def advance(self, n: float = 1, **fields: Any) -> None:
        self.left -= int(n)
        if self.left <= 0:
            self.run.stop.set()


def test_a_stopped_run_ends_with_the_same_bits(base: Model, tmp_path: Path) -> None:
    whole, _, _ = learn(run_in(tmp_path / "whole"), base)
    run = run_in(tmp_path / "part")
    run.watcher = StopsAt(run, 5)
    with pytest.raises(Interrupted):
        learn(run, base)
    again = run_in(tmp_path / "part")
    resumed, _, _ = learn(again, base)
    assert resumed == whole and any("carrying on" in line for line in watched(again).lines)
    other, _, _ = learn(run_in(tmp_path / "other", seed=1), base)
    assert other != whole


def test_pairs_without_a_difference_are_left_out() -> None:
    one, two = Encoded([1, 2, 3], [False, True, True]), Encoded([1, 4, 5], [False, True, True])
    unmasked = Encoded([1, 2, 9], [False, False, False])
    assert preference.fitted([(one, two), (one, one), (one, unmasked)], 8) == [Pair(one, two)]
    with pytest.raises(DataError, match="no pair"):
        Pairs([], rows=2, seed=0, pad=0)


def test_every_pair_is_met_once_a_pass() -> None:
    made = [Pair(Encoded([n, 1], [False, True]), Encoded([n, 2], [False, True])) for n in range(7)]
    data = Pairs(made, rows=3, seed=4, pad=0)
    for epoch in range(2):
        seen = [int(i) for s in range(data.steps) for i in data.batch(epoch * data.steps + s).ids[:, 0]]
        assert sorted(seen) == list(range(7))
