"""Whether a training on pictures, rows or other content fits into memory, before it starts: found by trying.

What enters: a network of any family, its loss, and a batch. What leaves: bytes, or a `MachineError` that names the
batch that would fit. No formula knows all families, so a few examples go forwards, and what autograd keeps for the way
back is counted; more examples keep as much each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from volant.core.errors import MachineError
from volant.core.run import Run
from volant.nets.memory import REST_BYTES, check_room, free_bytes, told, weight_bytes
from volant.nets.optim import bf16_pays
from volant.nets.recipe import Recipe, rows_at_once
from volant.nets.repeatable import aside

_FEW = 2
_BACK = 1.25  # of what is kept: gradients of what lies between two layers, and what kernels need while they work


def check_memory(
    run: Run, net: Any, loss: Callable[[Any, Any], Any], batch: Any, recipe: Recipe, *, setting: str = "batch"
) -> int:
    """The bytes beyond what is in use that training takes, which the user is told.

    Args:
        run: gives the device.
        net: as it is about to be trained, on the device.
        loss: as `loop.train`'s.
        batch: the first one.
        recipe: how it is trained.
        setting: of the method, that says how many examples a step has.

    Raises:
        MachineError: there is less; the message says how many examples fit.
    """
    torch.set_num_threads(run.threads)
    rows = min(batch.size, rows_at_once(batch.width, recipe.piece_tokens))
    few = max(1, min(_FEW, rows // 2))
    bf16 = recipe.bf16 and bf16_pays(net, run.device)
    free, smaller = free_bytes(run.device), "Take smaller examples or a smaller network."
    try:
        first, twice = (
            kept_bytes(net, loss, batch.rows(0, count).to(run.device), bf16=bf16) for count in (few, min(rows, 2 * few))
        )
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        what = f"{2 * few} examples need more memory than the {told(free)} that are free."
        raise MachineError(what, where=run.step, fix=smaller) from error
    each = _BACK * max(0, twice - first) / few
    fixed = _BACK * first - few * each + weight_bytes(net) + REST_BYTES
    needed = int(fixed + rows * each)
    fits = int((free - fixed) // each) if each else 0
    check_room(run, needed, free, f"`{setting}: {fits}` fits." if fits > 0 else smaller)
    return needed


def kept_bytes(net: Any, loss: Callable[[Any, Any], Any], batch: Any, *, bf16: bool = False) -> int:
    """Bytes that autograd keeps between the way forwards and the way back, weights not counted; nothing is changed.

    Args:
        net, loss, batch: as `check_memory`'s; all rows of the batch go forwards.
        bf16: as the loop computes.
    """
    held = [*net.parameters(), *net.buffers()]
    own = {tensor.untyped_storage().data_ptr() for tensor in held}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    was, buffers = net.training, [(b, b.detach().clone()) for b in net.buffers()]
    net.train()
    with (
        aside(held[0].device.type),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(held[0].device.type, torch.bfloat16, enabled=bf16),
    ):
        loss(net, batch)
    net.train(was)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    return sum(found.values())
