"""The training loop: it learns, resumes bit-exactly, goes back when it goes wrong, and says why it ended."""

from __future__ import annotations

import math
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from volant.core.errors import ArtifactError, DataError, Interrupted, MachineError
from volant.core.run import Run, Silent
from volant.core.spaces import Encoded, Tokens
from volant.nets import state
from volant.nets.batches import Packed
from volant.nets.loop import Recipe, train
from volant.nets.pieces import evaluate
from volant.nets.transformer import family, token_loss

SPACE = Tokens(vocab=40, length=16)
RECIPE = Recipe(steps=12, lr=0.01, muon_lr=0.02, warmup=2, decay=6, checkpoint_every=4, piece_tokens=64)


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test catches it."""


def text():
    rule = [0]
    for i in range(1500):
        rule.append((rule[-1] * 3 + i % 2 + 1) % 40)
    return [Encoded(rule, [True] * len(rule))]


def batches(seed=0):
    return Packed(text(), length=16, rows=8, seed=seed)


def fresh(dropout=0.0):
    net = family.build(SPACE, seed=1, depth=1)
    for layer in net.model.layers:
        layer.self_attn.attention_dropout = dropout
    return net


def make_run(folder, **more):
    (folder / "out").mkdir(parents=True, exist_ok=True)
    return Run(step="t", out=folder / "out", work=folder / "work", threads=1, **more)


def digest(net):
    return state.tensors_digest(dict(net.named_parameters()))


def test_learns_and_tells(tmp_path):
    run, net = make_run(tmp_path), fresh()
    outcome = train(run, net, batches(), replace(RECIPE, steps=60), validation=[batches(9).batch(0)])
    losses = [v for n, v, _ in run.watcher.metrics if n == "loss"]
    assert len(losses) == 60 and losses[0] > 3.0 and outcome.loss < 1.0
    assert outcome.validation == pytest.approx(evaluate(net, [batches(9).batch(0)], bf16=True), abs=0.05)
    assert outcome.tokens == 60 * 8 * 16 and outcome.reason == "all 60 steps are done"
    assert any("training ended" in line for line in run.watcher.lines)


def test_same_seed_same_weights(tmp_path):
    nets = [fresh(0.1) for _ in range(2)]
    for place, net in enumerate(nets):
        train(make_run(tmp_path / str(place), seed=5), net, batches(), RECIPE)
    assert digest(nets[0]) == digest(nets[1])


@pytest.mark.parametrize("at", [0, 3, 4, 9, 11])
def test_a_kill_at_any_step_resumes_bit_exactly(tmp_path, at):
    looks = [batches(9).batch(0)]
    recipe = replace(RECIPE, evaluate_every=3, patience=50)
    whole = fresh(0.1)
    reference = train(make_run(tmp_path / "whole"), whole, batches(), recipe, validation=looks)
    calls = 0

    def deadly(net, batch):
        nonlocal calls
        calls += net.training
        if calls > at * 2:
            raise Killed
        return token_loss(net, batch)

    # Two pieces a step, and validation is not counted: the kill falls into step `at`.
    with pytest.raises(Killed):
        train(make_run(tmp_path / "cut"), fresh(0.1), batches(), recipe, validation=looks, loss=deadly)
    torch.manual_seed(777)
    again, run = fresh(0.1), make_run(tmp_path / "cut")
    outcome = train(run, again, batches(), recipe, validation=looks)
    assert any("carrying on" in line for line in run.watcher.lines)
    assert digest(again) == digest(whole)
    assert outcome == reference


def test_a_finished_training_is_not_done_again(tmp_path):
    first = fresh()
    train(make_run(tmp_path), first, batches(), RECIPE)
    run, second = make_run(tmp_path), fresh()
    train(run, second, batches(), RECIPE)
    assert digest(first) == digest(second)
    assert not run.watcher.metrics


def test_a_checkpoint_of_other_settings_is_left_aside(tmp_path):
    train(make_run(tmp_path), fresh(), batches(), RECIPE)
    run, net, clean = make_run(tmp_path), fresh(), fresh()
    train(run, net, batches(), replace(RECIPE, lr=0.02))
    train(make_run(tmp_path / "clean"), clean, batches(), replace(RECIPE, lr=0.02))
    assert any("left aside" in line for line in run.watcher.lines)
    assert digest(net) == digest(clean)


def test_ctrl_c_makes_a_checkpoint_and_the_next_run_ends_the_same(tmp_path):
    whole = fresh()
    train(make_run(tmp_path / "whole"), whole, batches(), RECIPE)
    run = make_run(tmp_path / "cut")

    def stop_at_six(net, batch):
        if len(run.watcher.metrics) or state.latest(run.work / "train").step >= 4:
            run.stop.set()
        return token_loss(net, batch)

    with pytest.raises(Interrupted) as caught:
        train(run, fresh(), batches(), RECIPE, loss=stop_at_six)
    assert caught.value.exit_code == 130
    assert state.latest(run.work / "train").step == 5
    net = fresh()
    train(make_run(tmp_path / "cut"), net, batches(), RECIPE)
    assert digest(net) == digest(whole)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_nan_goes_back_to_the_last_good_checkpoint_with_half_the_rate(tmp_path, bad):
    run, net, spoilt = make_run(tmp_path), fresh(), []

    def once(net, batch):
        total, n = token_loss(net, batch)
        done = state.latest(run.work / "train").step
        if done == 8 and not spoilt:
            spoilt.append(done)
            return total * bad, n
        return total, n

    outcome = train(run, net, batches(), RECIPE, loss=once)
    assert outcome.roll_backs == 1 and outcome.steps == 12 and math.isfinite(outcome.loss)
    assert any("back to step 8 with 0.5 times the rate" in line for line in run.watcher.lines)
    assert all(bool(p.isfinite().all()) for p in net.parameters())


def test_a_loss_that_stays_nan_ends_with_a_reason(tmp_path):
    with pytest.raises(DataError, match=r"went wrong at 4 of 12 steps, last: the loss is nan. No step gave a number"):
        train(make_run(tmp_path), fresh(), batches(), RECIPE, loss=lambda n, b: (token_loss(n, b)[0] * math.nan, 1))


def test_a_rate_that_no_half_of_it_mends_ends_with_a_reason(tmp_path):
    with pytest.raises(DataError, match="3 times back did not help. Lower `lr`"):
        train(make_run(tmp_path), fresh(), batches(), replace(RECIPE, lr=1e30, muon_lr=1e30, warmup=1))


class Planted:
    """Batches of which those of some steps are others: noise, or what gives no number."""

    def __init__(self, steps, *, once=False, easy=()):
        self.steps, self.bad, self.once, self.easy, self.asked = 70, steps, once, easy, []

    def batch(self, step):
        self.asked.append(step)
        good = batches().batch(step)
        if step in self.easy:
            return replace(good, ids=torch.zeros_like(good.ids))
        if step in self.bad and (not self.once or self.asked.count(step) == 1):
            noise = torch.randint(0, 40, good.ids.shape, generator=torch.Generator().manual_seed(step))
            return replace(good, ids=noise)
        return good


def test_a_spike_among_the_first_steps_is_found_and_the_rate_is_lowered(tmp_path):
    run, net, high = make_run(tmp_path), fresh(), []

    def spiky(net, batch):
        total, n = token_loss(net, batch)
        high.append(net.training and len(high) in range(2, 5))  # steps 1, 2 and 3, once
        return total * (90 if high[-1] else 1), n

    outcome = train(run, net, batches(), replace(RECIPE, piece_tokens=4096), loss=spiky)
    assert outcome.roll_backs == 1 and outcome.steps == 12 and outcome.reason == "all 12 steps are done"
    told = next(line for line in run.watcher.lines if "the loss jumped" in line)
    assert told.startswith("step 4:") and "back to step 0 with 0.5 times the rate" in told


def test_batches_that_give_no_number_are_skipped_and_said_and_a_resumed_run_ends_the_same(tmp_path):
    class Broken(Planted):
        def batch(self, step):
            good = batches().batch(step)
            mark = torch.where(torch.arange(good.ids.size(1)) == 0, 41, good.ids)
            return replace(good, ids=mark) if step in self.bad else good

    def loss(net, batch):
        marked = int(batch.ids[0, 0]) == 41
        total, n = token_loss(net, replace(batch, ids=batch.ids.clamp(max=39)))
        return total * (math.nan if marked else 1), n

    run, net = make_run(tmp_path), fresh()
    outcome = train(run, net, Broken([2, 6, 9]), replace(RECIPE, checkpoint_every=3), loss=loss)
    assert outcome.reason == "all 12 steps are done; 3 of them were skipped, since their batches are broken"
    assert sum("its batch is to blame, also with good weights, and skipped" in line for line in run.watcher.lines) == 3
    rates = [value for name, value, _ in run.watcher.metrics if name == "rate"]
    assert max(rates) == pytest.approx(0.02)
    for folder in (tmp_path / "work" / "train").glob("000000012"):
        shutil.rmtree(folder)
    again = fresh()
    assert (
        train(make_run(tmp_path), again, Broken([2, 6, 9]), replace(RECIPE, checkpoint_every=3), loss=loss) == outcome
    )
    assert digest(again) == digest(net)


def test_a_stretch_of_noise_in_the_data_is_skipped_and_the_rate_stays(tmp_path):
    run = make_run(tmp_path)
    recipe = replace(RECIPE, steps=70, checkpoint_every=10, decay=30)
    outcome = train(run, fresh(), Planted(range(52, 55)), recipe)
    assert outcome.roll_backs == 1 and "3 of them were skipped" in outcome.reason and outcome.loss < 1.5
    told = next(line for line in run.watcher.lines if "the loss jumped" in line)
    assert "the batches of steps 52 to 54 are to blame" in told


def test_ctrl_c_in_a_jump_leaves_the_last_good_checkpoint(tmp_path):
    recipe = replace(RECIPE, steps=70, checkpoint_every=10, decay=30)
    whole = fresh()
    undisturbed = train(make_run(tmp_path / "whole"), whole, Planted(range(52, 55)), recipe)
    run, net = make_run(tmp_path / "stopped"), fresh()

    class Stopping(Planted):
        def batch(self, step):
            if step == 53 and 53 not in self.asked:
                run.stop.set()
            return super().batch(step)

    with pytest.raises(Interrupted):
        train(run, net, Stopping(range(52, 55)), recipe)
    net = fresh()
    again = train(make_run(tmp_path / "stopped"), net, Planted(range(52, 55)), recipe)
    assert again == undisturbed and digest(net) == digest(whole)


def test_an_odd_batch_is_said_and_an_easy_beginning_is_no_spike(tmp_path):
    run = make_run(tmp_path)
    outcome = train(run, fresh(), Planted([52], easy=(0, 1, 2)), replace(RECIPE, steps=70, checkpoint_every=0))
    assert outcome.steps == 70 and outcome.loss < 2
    assert any(line.startswith("step 52: the loss was") and "is back" in line for line in run.watcher.lines)
    assert sum("harder than those before, and taken as they are" in line for line in run.watcher.lines) <= 1


def test_a_loss_that_leads_far_from_its_reference_is_taken_back(tmp_path):
    run, seen = make_run(tmp_path), []

    def loss(net, batch):
        seen.append(len(seen) in range(5, 8))  # in steps 5, 6 and 7, once
        return token_loss(net, batch)

    loss.far = lambda: 3.0 if seen[-1] else 0.01
    outcome = train(run, fresh(), batches(), replace(RECIPE, piece_tokens=4096), loss=loss)
    assert outcome.roll_backs == 1 and outcome.steps == 12
    told = next(line for line in run.watcher.lines if "divergence" in line)
    assert told.startswith("step 7: the divergence from the start in nats a token jumped from about 0.01 to 3.00")
    assert "back to step 4 with 0.5 times the rate" in told


def test_where_the_distance_is_looked_at_once_in_several_steps_one_look_is_enough(tmp_path):
    run, seen = make_run(tmp_path), []

    def loss(net, batch):
        seen.append(len(seen))
        return token_loss(net, batch)

    loss.far = lambda: None if seen[-1] % 4 else 3.0 if seen[-1] == 8 else 0.01
    loss.far_patience = 1
    outcome = train(run, fresh(), batches(), replace(RECIPE, piece_tokens=4096), loss=loss)
    assert outcome.roll_backs == 1 and outcome.steps == 12


def test_the_loss_that_is_told_is_the_mean_of_what_is_counted(tmp_path):
    def half(net, batch):
        total, count = token_loss(net, batch)
        return total / 2, count // 2  # as where half of the tokens are hidden and counted

    curves = []
    for name, loss in (("all", token_loss), ("half", half)):
        run = make_run(tmp_path / name)
        train(run, fresh(), batches(), replace(RECIPE, steps=1), loss=loss)
        curves.append([value for name, value, _ in run.watcher.metrics if name == "loss"])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_where_the_start_counts_its_weights_are_kept_when_no_look_is_better(tmp_path):
    other = Packed([Encoded([7, 9, 11, 30] * 40, [True] * 160)], length=16, rows=4, seed=0)
    net = fresh()
    train(make_run(tmp_path / "base"), net, other, replace(RECIPE, steps=40))
    before, run = digest(net), make_run(tmp_path / "tuned")
    recipe = replace(RECIPE, evaluate_every=3, start_counts=True)
    outcome = train(run, net, batches(), recipe, validation=[other.batch(0)])
    assert "whose weights are kept" in outcome.reason and outcome.steps == 12 and digest(net) == before
    assert "no look was better than the start" in outcome.reason and outcome.reason in run.watcher.lines[-1]


def test_a_network_that_is_broken_before_its_first_step_is_named(tmp_path):
    net = fresh()
    net.model.layers[0].mlp.up_proj.weight.data[0, 0] = math.nan
    with pytest.raises(ArtifactError, match=r"'model.layers.0.mlp.up_proj.weight' holds NaN or infinity. Take another"):
        train(make_run(tmp_path), net, batches(), RECIPE)


def test_early_stopping_keeps_the_best_weights(tmp_path):
    other = Packed([Encoded([7, 9, 11, 30] * 40, [True] * 160)], length=16, rows=4, seed=0)
    run, net = make_run(tmp_path), fresh()
    recipe = replace(RECIPE, steps=200, evaluate_every=2, patience=3)
    outcome = train(run, net, batches(), recipe, validation=[other.batch(0)])
    looks = [v for n, v, _ in run.watcher.metrics if n == "validation_loss"]
    assert outcome.steps < 200 and "not improved for 3 looks" in outcome.reason
    still = replace(RECIPE, steps=4, evaluate_every=3, patience=1, lr=0.0, muon_lr=0.0)  # nothing left to stop
    whole = train(make_run(tmp_path / "whole"), fresh(), batches(), still, validation=[other.batch(0)])
    assert whole.reason == "all 4 steps are done"
    assert outcome.validation == min(looks) and looks[-1] > min(looks)
    assert evaluate(net, [other.batch(0)]) == pytest.approx(min(looks), abs=0.03)


class Averaged(torch.nn.Module):
    """One weight that training drives up, and its running average, which is what counts in evaluation."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("average", torch.zeros(1))

    def after_step(self):
        self.average.lerp_(self.weight.detach(), 0.5)


def test_the_average_that_was_judged_best_is_kept_with_the_weights(tmp_path):
    def off(net, batch):
        now = net.weight if net.training else net.average
        wanted = 1.0 if net.training else 0.1  # what is held out is passed by on the way
        return ((now - wanted) ** 2).sum() * 8, 8

    recipe = replace(RECIPE, steps=40, lr=0.02, muon_lr=0.0, evaluate_every=1, bf16=False, weight_decay=0.0)
    run, net = make_run(tmp_path), Averaged()
    outcome = train(run, net, batches(), recipe, validation=[batches().batch(0)], loss=off)
    looks = [v for n, v, _ in run.watcher.metrics if n == "validation_loss"]
    assert outcome.validation == min(looks) < looks[-1]
    assert evaluate(net, [batches().batch(0)], loss=off) == pytest.approx(min(looks))


def test_pieces_add_up_to_the_batch(tmp_path):
    nets = [fresh(), fresh()]
    for place, (net, piece) in enumerate(zip(nets, (16, 4096), strict=True)):
        train(make_run(tmp_path / str(place)), net, batches(), replace(RECIPE, steps=3, piece_tokens=piece, bf16=False))
    for a, b in zip(*(n.parameters() for n in nets), strict=True):
        assert torch.allclose(a, b, atol=2e-3)


@pytest.mark.slow
def test_sigkill_at_random_moments(tmp_path):
    """A real kill -9, several times over, until the work is done; the weights are those of an undisturbed run."""
    program = textwrap.dedent(
        """
        import sys, pathlib
        sys.path[:0] = [sys.argv[2]]
        import test_loop as t
        from dataclasses import replace
        from volant.nets.loop import train
        net = t.fresh(0.1)
        train(t.make_run(pathlib.Path(sys.argv[1])), net, t.batches(), replace(t.RECIPE, steps=300, checkpoint_every=3))
        print(t.digest(net))
        """
    )
    here = str(Path(__file__).parent)

    def start(folder):
        return subprocess.Popen(
            [sys.executable, "-c", program, str(folder), here], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    whole = start(tmp_path / "whole").communicate(timeout=200)[0].strip()
    assert len(whole) == 64
    for reached in (9, 60, 110):
        process = start(tmp_path / "cut")
        places = tmp_path / "cut" / "work" / "train"

        def done(places=places):
            return max((int(p.name) for p in places.glob("*") if p.name.isdigit()), default=0)

        while process.poll() is None and done() < reached:
            time.sleep(0.01)
        time.sleep(random.Random(reached).random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(tmp_path / "cut")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err.decode()
    assert out.strip() == whole


def test_a_gradient_that_is_no_number_is_found_before_it_reaches_the_weights(tmp_path):
    run, net, spoilt = make_run(tmp_path), fresh(), []

    def spoil(gradient):
        if state.latest(run.work / "train").step == 8 and not spoilt:
            spoilt.append(8)
            return gradient * math.nan
        return gradient

    net.model.norm.weight.register_hook(spoil)
    outcome = train(run, net, batches(), RECIPE)
    assert spoilt and outcome.roll_backs == 1 and outcome.steps == 12
    assert any("step 8: the gradient's norm is nan" in line for line in run.watcher.lines)
    assert all(bool(p.isfinite().all()) for p in net.parameters())


def test_planted_batches_that_drive_the_loss_up_are_survived_within_five_steps(tmp_path):
    run, net = make_run(tmp_path), fresh()
    recipe = replace(RECIPE, steps=70, checkpoint_every=10, decay=30)

    outcome = train(run, net, Planted(range(52, 56), once=True), recipe)  # what reads it again is well
    told = next(line for line in run.watcher.lines if "the loss jumped" in line)
    found = int(told.split(":")[0].removeprefix("step "))
    assert 52 <= found < 57 and "back to step 50 with 0.5 times the rate" in told
    assert outcome.roll_backs == 1 and outcome.steps == 70 and outcome.loss < 1.5


def test_a_disk_that_fills_leaves_the_last_checkpoint_and_says_so(tmp_path, monkeypatch):
    whole = fresh()
    train(make_run(tmp_path / "whole"), whole, batches(), RECIPE)
    real = state.save_file

    def full(tensors, file):
        if "/8.new" in str(file):
            file.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        real(tensors, file)

    monkeypatch.setattr(state, "save_file", full)
    run = make_run(tmp_path / "cut")
    with pytest.raises(MachineError, match=r"checkpoint of step 8 .*No space left.*step 4 is kept.*carries on"):
        train(run, fresh(), batches(), RECIPE)
    assert sorted(p.name for p in (run.work / "train").iterdir()) == ["000000000", "000000004"]
    monkeypatch.setattr(state, "save_file", real)
    net = fresh()
    train(make_run(tmp_path / "cut"), net, batches(), RECIPE)
    assert digest(net) == digest(whole)


def test_what_is_watched_is_kept_with_the_run_and_shown(tmp_path):
    shown = []

    class Shown(Silent):
        def bar(self, *_):
            return self

        def advance(self, n=1, **fields):
            shown.append(fields)

    run = make_run(tmp_path, watcher=Shown())
    train(run, fresh(), batches(), replace(RECIPE, steps=50))
    kept = {}
    for name, value, at in run.watcher.metrics:
        kept.setdefault(name, []).append((at, value))
    assert {"loss", "gradient_norm", "rate"} <= kept.keys() and len(kept["gradient_norm"]) == 50
    assert [at for at, _ in kept["tokens_per_second"]] == [25, 50]
    assert all(0 < value < 2 for _, value in kept["peak_share"])
    assert all(value > 2**26 for _, value in kept["memory_bytes"])
    assert {"loss", "tokens_s", "norm", "rate", "peak", "memory", "left"} == shown[-1].keys()
    assert kept["rate"][0][1] == pytest.approx(0.01) and kept["rate"][10][1] == pytest.approx(0.02)


def test_the_gradient_in_pieces_is_the_gradient(tmp_path):
    from volant.nets.loop import _Training

    found = []
    whole = batches().batch(0)
    mask = whole.mask.clone()
    mask[0, :12] = mask[3, 5:] = False  # pieces that count unequally
    for piece in (4096, 16, 48):
        net = fresh()
        training = _Training(
            make_run(tmp_path / str(piece)), net, batches(), replace(RECIPE, piece_tokens=piece, bf16=False), [],
            token_loss, tmp_path / "none",
        )  # fmt: skip
        value = training._gradients(replace(whole, mask=mask))
        found.append((value, {n: p.grad for n, p in net.named_parameters() if p.grad is not None}))
    for value, gradient in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-6)
        for name, whole_gradient in found[0][1].items():
            assert torch.allclose(gradient[name], whole_gradient, rtol=1e-4, atol=1e-7), name
