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
from volant.nets.memory import REST_BYTES, free_bytes, told, weight_bytes
from volant.nets.optim import bf16_pays
from volant.nets.recipe import Recipe

_FEW = 2
_BACK = 1.25  # of what is kept: gradients of what lies between two layers, and what kernels need while they work


def check_content(run: Run, net: Any, loss: Callable[[Any, Any], Any], batch: Any, recipe: Recipe) -> int:
    """The bytes beyond what is in use that training takes, which the user is told.

    Args:
        run: gives the device.
        net: as it is about to be trained, on the device.
        loss: as `loop.train`'s.
        batch: the first one.
        recipe: how it is trained.

    Raises:
        MachineError: there is less.
    """
    rows = min(batch.size, max(1, recipe.piece_tokens // batch.width))
    few = min(_FEW, rows)
    bf16 = recipe.bf16 and bf16_pays(net, run.device)
    fixed, each = _BACK * kept_bytes(net, loss, batch.rows(0, few).to(run.device), bf16=bf16), 0.0
    if rows > 2 * few:
        twice = _BACK * kept_bytes(net, loss, batch.rows(0, 2 * few).to(run.device), bf16=bf16)
        each = max(0.0, (twice - fixed) / few)
        fixed -= few * each
    else:
        fixed *= rows / few
    fixed += weight_bytes(net) + REST_BYTES
    needed, free = int(fixed + rows * each), free_bytes(run.device)
    if needed > free:
        fits = int((free - fixed) // each) if each else 0
        fix = f"`batch: {fits}` fits." if fits > 0 else "Take a smaller `size`, or smaller pictures."
        what = f"training needs about {told(needed)} of memory and {told(free)} are free."
        raise MachineError(what, where=run.step, fix=fix)
    run.say(f"memory: training takes about {told(needed)}, {told(free)} are free")
    return needed


def kept_bytes(net: Any, loss: Callable[[Any, Any], Any], batch: Any, *, bf16: bool = False) -> int:
    """Bytes that autograd keeps between the way forwards and the way back, weights not counted; nothing is changed."""
    held = [*net.parameters(), *net.buffers()]
    own = {tensor.untyped_storage().data_ptr() for tensor in held}
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    was, buffers = net.training, [(b, b.detach().clone()) for b in net.buffers()]
    cuda = [torch.cuda.current_device()] if held[0].is_cuda else []
    net.train()
    with (
        torch.random.fork_rng(devices=cuda),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(held[0].device.type, torch.bfloat16, enabled=bf16),
    ):
        loss(net, batch)
    net.train(was)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    return sum(found.values())
