"""The spike guard, checkpoints that a kill cannot halve, and batches as a function of the step."""

from __future__ import annotations

import errno
import json
import math
import os

import numpy as np
import pytest
import torch

from volant.core.errors import DataError, MachineError
from volant.core.spaces import Encoded
from volant.nets import state
from volant.nets.batches import Packed, Padded, fit, shorten
from volant.nets.guard import Guard, odd


def text(n, start=0):
    return Encoded(list(range(start, start + n)), [True] * n)


# --- guard ---


def test_nan_and_infinite_gradient_count_at_once():
    assert "nan" in Guard().check(math.nan, 1.0)
    assert "gradient" in Guard().check(2.0, math.inf)


def test_one_odd_batch_is_tolerated_and_a_lasting_jump_is_found_within_five_steps():
    guard = Guard()
    for i in range(40):
        assert guard.check(3.0 - i * 0.02, 1.0) == ""
    assert guard.check(9.0, 1.0) == "" and not guard.calm
    assert guard.check(2.2, 1.0) == "" and guard.calm
    found = [guard.check(9.0, 1.0) for _ in range(5)]
    assert any(found) and next(i for i, why in enumerate(found) if why) < 5


@pytest.mark.parametrize("after", [1, 3, 6, 8, 12, 30])
def test_a_jump_is_found_however_early_and_however_fast_the_loss_falls(after):
    guard = Guard(ceiling=math.log(300))
    for i in range(after):
        assert guard.check(1 + 6.1 * 0.7**i, 1.0) == ""
    found = [guard.check(13.0, 1.0) for _ in range(5)]
    assert any(found) and next(i for i, why in enumerate(found) if why) < 5 and guard.high == 5


def test_a_first_loss_far_above_what_a_guess_has_counts_as_a_jump():
    assert any(Guard(ceiling=math.log(300)).check(30.0, 1.0) for _ in range(3)) is False
    guard = Guard(ceiling=math.log(300))
    assert [bool(guard.check(30.0, 1.0)) for _ in range(3)] == [False, False, True]
    unbounded = Guard()
    assert not any(unbounded.check(30.0, 1.0) for _ in range(3))


@pytest.mark.parametrize(("seed", "spread"), [(0, 0.3), (1, 1.0), (2, 1.0), (3, 0.3)])
def test_random_losses_are_no_jump(seed, spread):
    noise = np.random.default_rng(seed)
    guard = Guard()
    assert not any(guard.check(6 + spread * float(noise.standard_normal()), 1.0) for _ in range(500))


@pytest.mark.parametrize(
    ("losses", "rise", "told"),
    [
        ([2, 2.1, 1.9, 9, 9.5, 9.2], 7, "broken"),  # with good weights they stand out as well
        ([2, 2.1, 1.9, 2.2, 2.0, 1.8], 7, ""),  # they do not: the weights had gone wrong
        ([7, 7.1, 6.9, 7.0, 7.0, 7.1], 5.4, ""),  # the good weights are old and bad at all of them
        ([1, 4, 2.5, 4.2, 4.1, 4.4], 1.6, "harder"),  # losses are as wide apart as that
        ([2, 2, 2, math.nan, 2, 2], 0, "broken"),
    ],
)
def test_good_weights_tell_whether_batches_are_to_blame(losses, rise, told):
    assert odd(range(3, 6), lambda step: (losses[step], 1.0), rise, math.inf) == told


def test_a_loss_with_a_scale_of_its_own_is_watched_on_that_scale():
    """An error of pixels of 0.1 that is four times as large is as wrong as eight nats of text where two are usual."""
    noise = np.random.default_rng(0)
    usual = [0.1 * (1 + 0.15 * float(noise.standard_normal())) for _ in range(400)]
    own, nats = Guard(least=None), Guard()
    assert not any(guard.check(loss, 1.0) for loss in usual for guard in (own, nats))
    assert [bool(own.check(0.4, 1.0)) for _ in range(3)] == [False, False, True]
    assert not any(nats.check(0.4, 1.0) for _ in range(3))
    jumped = [0.1, 0.11, 0.09, 0.4, 0.42, 0.38]
    told = [odd(range(3, 6), lambda step: (jumped[step], 1.0), 0.3, math.inf, least=least) for least in (None, 1.0)]
    assert told == ["broken", "harder"]


def test_noise_is_no_jump():
    guard = Guard()
    assert not any(guard.check(2.0 + 0.4 * math.sin(i * 1.7), 1.0) for i in range(300))


def test_guard_state_survives_json():
    one, two = Guard(), Guard()
    for i in range(12):
        one.check(2.0 + i / 7, 1.0)
    one.check(50.0, 1.0)
    two.load(json.loads(json.dumps(one.facts())))
    assert two.facts() == one.facts() and not two.calm


# --- checkpoints ---


def tensors(value):
    return {"net/a": torch.full((3,), float(value)), "random/cpu": torch.get_rng_state()}


def test_checkpoint_comes_back_and_old_ones_go(tmp_path):
    for step in (1, 2, 3):
        state.save(tmp_path, step, tensors(step), {"x": 0.1 + step})
    found = state.latest(tmp_path)
    assert found.step == 3 and found.facts == {"x": 3.1}
    assert torch.equal(found.part("net")["a"], torch.full((3,), 3.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000002", "000000003"]


def test_same_state_same_bytes(tmp_path):
    a = state.save(tmp_path / "a", 1, tensors(1), {"b": 1, "a": 2})
    b = state.save(tmp_path / "b", 1, tensors(1), {"a": 2, "b": 1})
    for name in ("state.json", "tensors.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


@pytest.mark.parametrize("harm", ["flip", "cut", "no state", "half json"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, harm):
    state.save(tmp_path, 1, tensors(1), {})
    place = state.save(tmp_path, 2, tensors(2), {})
    file = place / "tensors.safetensors"
    body = bytearray(file.read_bytes())
    if harm == "flip":
        body[-1] ^= 1
        file.write_bytes(body)
    elif harm == "cut":
        file.write_bytes(body[:-8])
    elif harm == "no state":
        (place / "state.json").unlink()
    else:
        (place / "state.json").write_text('{"step": 2')
    assert state.latest(tmp_path).step == 1


def test_a_kill_during_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    state.save(tmp_path, 1, tensors(1), {})

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(state, "_sync", die)
    with pytest.raises(KeyboardInterrupt):
        state.save(tmp_path, 2, tensors(2), {})
    monkeypatch.undo()
    assert state.latest(tmp_path).step == 1
    state.save(tmp_path, 2, tensors(2), {})
    assert state.latest(tmp_path).step == 2


@pytest.mark.parametrize(("number", "mend"), [(errno.ENOSPC, "volant gc"), (errno.EROFS, "can be written")])
def test_what_to_do_follows_from_why_it_cannot_be_written(tmp_path, monkeypatch, number, mend):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(state, "save_file", refuse)
    with pytest.raises(MachineError, match="step 3 cannot be written") as error:
        state.save(tmp_path, 3, tensors(3), {})
    assert mend in error.value.fix and ("gc" in error.value.fix) is (number == errno.ENOSPC)
    assert "begins anew" in error.value.fix
    assert not error.value.where  # the project puts the step there


def test_digest_tells_states_apart():
    one = {"a": torch.zeros(2), "b": torch.ones(1)}
    assert state.tensors_digest(one) == state.tensors_digest(dict(reversed(one.items())))
    assert state.tensors_digest(one) != state.tensors_digest({**one, "b": torch.zeros(1)})


# --- batches ---


def test_packed_windows_cover_the_text_once_a_pass():
    packed = Packed([text(40), text(61, 40)], length=10, rows=2, seed=1)
    assert packed.steps == 5 and packed.tokens == 101
    seen = torch.cat([packed.batch(s).ids.flatten() for s in range(packed.steps)])
    assert sorted(seen.tolist()) == list(range(100))


def test_packed_is_a_function_of_seed_and_step():
    one, two, other = (Packed([text(400)], length=10, rows=4, seed=s) for s in (1, 1, 2))
    for step in (7, 0, 25, 7):
        assert torch.equal(one.batch(step).ids, two.batch(step).ids)
    assert not torch.equal(one.batch(0).ids, other.batch(0).ids)
    assert not torch.equal(one.batch(0).ids, one.batch(one.steps).ids)


def test_too_little_text_says_so():
    with pytest.raises(DataError, match="needs 11"):
        Packed([text(5)], length=10, rows=2, seed=0)


def test_padded_shows_each_example_once_a_pass():
    examples = [Encoded([i] * (3 + i % 5), [False] + [True] * (2 + i % 5)) for i in range(23)]
    padded = Padded(examples, length=16, rows=4, seed=3, pad=99)
    batches = [padded.batch(s) for s in range(padded.steps)]
    assert padded.steps == 6
    assert sorted(int(row[0]) for b in batches for row in b.ids) == list(range(23))
    for b in batches:
        if b.real is not None:
            assert bool((b.ids[~b.real] == 99).all()) and not bool(b.mask[~b.real].any())
    again = Padded(examples, length=16, rows=4, seed=3, pad=99)
    assert torch.equal(again.batch(9).ids, padded.batch(9).ids)


def test_all_masked_is_an_error_that_says_why():
    with pytest.raises(DataError, match="loss mask of all 2 examples is empty"):
        Padded([Encoded([1, 2], [False, False])] * 2, length=8, rows=2, seed=0, pad=0)
    with pytest.raises(DataError, match="no example"):
        Padded([], length=8, rows=2, seed=0, pad=0)


def test_fit_keeps_the_answer_and_both_ends_of_the_prompt():
    example = Encoded(list(range(100)), [False] * 90 + [True] * 10)
    fitted = fit(example, 40)
    assert len(fitted.ids) == 40 and fitted.ids[-10:] == list(range(90, 100))
    assert fitted.ids[0] == 0 and fitted.ids[29] == 89 and sum(fitted.mask) == 10
    assert fit(Encoded(list(range(50)), [True] * 50), 20).ids == list(range(20))
    assert shorten([1, 2, 3], 5) == [1, 2, 3]


def test_fit_uses_all_of_the_room_and_never_more():
    for first in range(1, 40):
        for rest in range(1, 40):
            example = Encoded(list(range(first + rest)), [False] * first + [True] * rest)
            for length in range(1, 50):
                fitted = fit(example, length)
                assert len(fitted.ids) == len(fitted.mask) == min(length, first + rest)
                prompt = fitted.mask.index(True) if any(fitted.mask) else len(fitted.ids)
                assert fitted.ids[prompt:] == example.ids[first:][: len(fitted.ids) - prompt]
                assert prompt == first or sum(fitted.mask) == min(rest, length // 2)


def test_batches_are_not_to_blame_for_a_loss_that_was_no_number():
    guard = Guard()
    for loss in (1.0, 1.1, 1.0, 1.1, 1.0, 1.1, 1.0, 1.1, 9.0, 9.0):
        assert not guard.check(loss, 1.0)
    assert guard.rise > 7 and guard.check(float("nan"), 1.0) and (guard.rise, guard.high) == (0, 1)
    told = {step: (1.0 + step / 100, 1.0) for step in range(12)}
    assert odd([11], told.__getitem__, guard.rise, 5.0) == ""  # a little harder than those before is no reason


def test_batches_that_were_skipped_say_nothing_of_what_is_usual():
    told = {step: (6.0 if step in (8, 9, 11) else 1.0, 1.0) for step in range(12)}
    assert odd([11], told.__getitem__, 5.0, 9.0) == "harder"
    assert odd([11], told.__getitem__, 5.0, 9.0, skipped=(8, 9)) == "broken"
