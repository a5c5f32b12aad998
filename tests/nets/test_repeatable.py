"""The same bits on an accelerator: what torch is told, and what becomes of what the device cannot do, without one."""

from dataclasses import replace

import pytest
import torch
from test_loop import RECIPE, batches, digest, fresh, make_run

from volant.nets.loop import _Training, train
from volant.nets.repeatable import given_up, repeatable
from volant.nets.transformer import token_loss


def told():
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def test_torch_is_told_for_as_long_as_it_lasts():
    before = told()
    with repeatable("cuda"):
        assert told() == (True, False)
        assert not given_up(ValueError("no deterministic way")) and not given_up(RuntimeError("out of memory"))
        assert told() == (True, False)
        assert given_up(RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set"))
        assert told() == (True, True)
    assert told() == before
    with repeatable("cpu"):
        assert told() == before


def test_a_training_is_the_same_with_it(tmp_path):
    nets = [fresh(0.1) for _ in range(2)]
    for place, net in enumerate(nets):
        with repeatable(("cpu", "cuda")[place]):
            train(make_run(tmp_path / str(place)), net, batches(), RECIPE)
    assert digest(nets[0]) == digest(nets[1])


class CompilerError(Exception):
    """Stands for what torch's compiler raises."""

    __module__ = "torch._dynamo.exc"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("index_add has no deterministic form"),
            "not come to the same bits each time: index_add has",
        ),
        (CompilerError("no triton\nmore"), "not compiled after all: no triton"),
        (RuntimeError("CUDA out of memory"), None),
    ],
)
def test_what_the_device_cannot_do_is_done_without(error, said, tmp_path):
    run, net, calls = make_run(tmp_path), fresh(0.1), []

    def loss(net, batch):
        calls.append(1)
        if len(calls) == 1:
            raise error
        return token_loss(net, batch)

    run.work.mkdir()
    recipe = replace(RECIPE, compiled=True)
    with repeatable("cuda"):
        training = _Training(run, net, batches(), recipe, [], loss, run.work / "train")
        state = torch.get_rng_state()
        if said is None:
            with pytest.raises(RuntimeError, match="out of memory"):
                training._try_device()
            return
        training._try_device()
        assert told() == (True, isinstance(error, RuntimeError))
    assert torch.equal(torch.get_rng_state(), state), "a try draws nothing that the training draws"
    assert said in run.watcher.lines[-1] and all(p.grad is None for p in net.parameters())
    assert (training.loss_of is token_loss) == isinstance(error, CompilerError)
    assert (run.work / "compiled").exists() == isinstance(error, CompilerError)
