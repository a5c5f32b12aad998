"""Whether a training fits into memory, before it starts.

What enters: a network, which of its weights are trained, and the size of a step. What leaves: bytes,
or a `MachineError` that names the way out. An estimate from above for transformers; it exists so
that a run ends with a sentence instead of the kernel's out-of-memory kill an hour later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from volant.core.errors import MachineError

# Kept for the backward pass for each token, layer and unit of width: norms, projections, gates, attention.
_ACTIVATIONS = 34
_REST_BYTES = 400 * 2**20


def training_bytes(net: Any, *, tokens: int, counted: int) -> int:
    """Bytes beyond what is in use already.

    Args:
        net: a transformers model; parameters with `requires_grad` are the trained ones.
        tokens: in one piece of a step.
        counted: how many of them the loss counts; each needs a row of logits.
    """
    config: Any = net.config
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    # Gradient, two moments, the best weights so far, and a copy while a checkpoint is written.
    weights = 4 * trained * 5
    activations = 4 * _ACTIVATIONS * tokens * int(config.num_hidden_layers) * int(config.hidden_size)
    logits = 4 * 3 * min(counted * int(config.vocab_size), 64 * 2**20)
    return int(weights + activations + logits + _REST_BYTES)


def free_bytes(device: str) -> int:
    """Memory that can still be taken: the machine's, the container's limit, or the accelerator's."""
    import psutil
    import torch

    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    free = int(psutil.virtual_memory().available)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        inactive = Path("/sys/fs/cgroup/memory.stat").read_text().split("inactive_file ")[1].split()[0]
    except (OSError, ValueError, IndexError):
        return free
    return free if limit == "max" else min(free, int(limit) - used + int(inactive))


def check_training(net: Any, *, tokens: int, counted: int, device: str, where: str, fix: str) -> int:
    """The bytes that training needs.

    Raises:
        MachineError: there is less; the message says how much, and `fix` what to do instead.
    """
    needed, free = training_bytes(net, tokens=tokens, counted=counted), free_bytes(device)
    if needed > free:
        what = f"training needs about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free"
        raise MachineError(what, where=where, fix=fix)
    return needed
