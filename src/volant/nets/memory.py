"""Whether a training fits into memory, before it starts.

What enters: a network, which of its weights are trained, and the size of a step. What leaves: bytes,
or a `MachineError` that names the way out. An estimate from above for transformers; it exists so
that a run ends with a sentence instead of the kernel's out-of-memory kill an hour later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from volant.core.errors import MachineError
from volant.core.run import Run

# Kept for the backward pass for each token, layer and unit of width: norms, projections, gates, attention.
_ACTIVATIONS = 34
REST_BYTES = 400 * 2**20  # of the process, whatever it trains
_SEEN = 7  # bytes for each pair of positions of a row: whether one sees the other, as numbers and as truths
RANK = 12  # of the adapters of text where none is named
_FOUR_BITS = 0.52  # bytes a number in 4 bits takes with its share of the scales


def training_bytes(
    net: Any, *, tokens: int, counted: int, row: int = 0, recomputed: bool = False, processes: int = 1
) -> int:
    """Bytes beyond what is in use already.

    Args:
        net: a transformers model; parameters with `requires_grad` are the trained ones.
        tokens: in one piece of a step.
        counted: how many of them the loss counts; each needs a row of logits.
        row: the tokens of its longest row, where rows are padded or hold several documents.
        recomputed: blocks are computed again in the backward pass; only one keeps more than its input.
        processes: among which the weights are divided; the bytes are those of one of them.
    """
    config: Any = net.config
    weights = weight_bytes(net) // processes
    layers = int(config.num_hidden_layers)
    kept = _ACTIVATIONS + layers if recomputed else _ACTIVATIONS * layers
    activations = 4 * kept * tokens * int(config.hidden_size)
    logits = 4 * 3 * min(counted * int(config.vocab_size), 64 * 2**20)
    return int(weights + activations + logits + _SEEN * tokens * row + REST_BYTES)


def weight_bytes(net: Any) -> int:
    """Bytes for the trained weights beside themselves.

    Gradient, two moments, the best weights so far, and a copy while a checkpoint is written.
    """
    return 4 * 5 * sum(int(p.numel()) for p in net.parameters() if p.requires_grad)


def ways(net: Any, *, tokens: int, counted: int, row: int = 0, rank: int = RANK) -> dict[str, int]:
    """Bytes beyond what is in use that each way to fine-tune a network takes, the dearest first.

    Args:
        net: as it is about to be trained: with all its weights, or with adapters, in float or in 4 bits.
        tokens, counted, row: as `training_bytes`.
        rank: of the adapters that the network does not have yet.
    """
    own = training_bytes(net, tokens=tokens, counted=counted, row=row)
    tables = _tables(net)
    # By their weights: a layer with an adapter shows its own once more.
    matrices = {
        id(m.weight): (m.weight.numel(), _sides(m), m.weight.element_size())
        for name, m in net.named_modules()
        if _sides(m) and "lora_" not in name and m not in tables and hasattr(m, "weight")
    }.values()
    freed = sum(int(numbers * (size - _FOUR_BITS)) for numbers, _, size in matrices if size > 1)
    floats = {id(w): w for table in tables for w in table.parameters(recurse=False) if w.ndim == 2}.values()
    if freed > 0:  # else those that are in floats stay so
        freed += sum(w.numel() * (w.element_size() - 1) - 4 * len(w) for w in floats)
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    if trained < sum(p.numel() for p in net.parameters()):
        return {"lora": own, "qlora": own - freed} if freed > 0 else {"qlora": own}
    adapters = rank * sum(both for _, both, _ in matrices)
    lora = own - 4 * 5 * (trained - adapters)
    return {"full": own, "lora": lora, "qlora": lora - freed}


def _sides(layer: Any) -> int:
    """Rows and columns of a layer's matrix, GPT-2's kind included; 0 for other layers."""
    kinds = (("in_features", "out_features"), ("nx", "nf"))
    return next((getattr(layer, a) + getattr(layer, b) for a, b in kinds if hasattr(layer, a)), 0)


def _tables(net: Any) -> list[Any]:
    """The embedding and the head of a transformer, with adapters or without, where it has them."""
    from volant.nets.int8_tables import tables

    return [table for table in tables(net) if table is not None]


def check_ways(run: Run, net: Any, *, tokens: int, counted: int, row: int = 0, rank: int = RANK) -> str:
    """The plan of a fine-tuning's memory, in a sentence.

    Args:
        run: gives the device, and the processes that share the way that is about to be taken.
        net, tokens, counted, row, rank: as `ways`.

    Raises:
        MachineError: it does not fit; the message names the way that does.
    """
    needed, free = ways(net, tokens=tokens, counted=counted, row=row, rank=rank), free_bytes(run.device)
    (own, bytes_), *others = needed.items()
    if run.processes > 1:
        bytes_ = _of_all(run, net, tokens, counted, row)
    others = [(name, max(n, REST_BYTES // 4)) for name, n in others]
    said = ", ".join(f"finetune.{name} about {told(n)}" for name, n in others)
    beside = f" ({said})" if said else ""
    if bytes_ <= free:
        return f"memory: {own} takes about {told(bytes_)}{beside}, {told(free)} are free"
    what = f"training needs about {told(bytes_)} of memory and {told(free)} are free{beside}."
    fits = next((name for name, n in others if n <= free), "")
    fix = f"Use `finetune.{fits}`, which fits." if fits else "Nothing fits: take a smaller `batch`, `context` or base."
    raise MachineError(what, where=run.step, fix=fix)


def told(size: int) -> str:
    """Bytes as people read them, fine enough that what is needed and what is free do not look the same."""
    return f"{size / 2**20:,.0f} MiB" if size < 10 * 2**30 else f"{size / 2**30:,.1f} GiB"


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


def check_room(run: Run, needed: int, free: int, fix: str) -> None:
    """Say how many bytes a training takes of those that are free.

    Raises:
        MachineError: there are less.
    """
    if needed > free:
        what = f"training needs about {told(needed)} of memory and {told(free)} are free."
        raise MachineError(what, where=run.step, fix=fix)
    run.say(f"memory: training takes about {told(needed)}, {told(free)} are free")


def check_training(
    run: Run, net: Any, *, tokens: int, counted: int, fix: str, row: int = 0, reference: bool = False
) -> int:
    """The bytes that training needs; where they are not there, the network's blocks are computed twice instead.

    That (activation checkpointing; Chen et al. 2016) keeps one block's activations in place of all; the user is told,
    and `net` says so in `is_activation_checkpointing`.

    Args:
        run: gives the device and hears what is done about short memory.
        net: as it is about to be trained.
        tokens, counted, row: as `training_bytes`.
        fix: what the user can do where nothing fits.
        reference: a copy of the weights as they are now is kept.

    Raises:
        MachineError: there is less; the message says how much, and `fix` what to do instead.
    """
    kept = sum(4 * p.numel() for p in net.parameters() if p.requires_grad) if reference else 0
    needed, free = kept + _of_all(run, net, tokens, counted, row), free_bytes(run.device)
    if needed > free and getattr(net, "supports_gradient_checkpointing", False):
        net.activation_checkpointing_enable()
        needed = kept + _of_all(run, net, tokens, counted, row, recomputed=True)
    check_room(run, needed, free, fix)
    if getattr(net, "is_activation_checkpointing", False):
        run.say("memory is short: each block is computed twice, which takes longer")
    return needed


def _of_all(run: Run, net: Any, tokens: int, counted: int, row: int, *, recomputed: bool = False) -> int:
    """Bytes of a process's own accelerator, or of the memory that all processes share, each with the network whole."""
    many = run.processes
    of_one = training_bytes(net, tokens=tokens, counted=counted, row=row, recomputed=recomputed, processes=many)
    if many == 1 or run.device != "cpu":
        return of_one
    whole = 4 * sum(int(p.numel()) for p in net.parameters())
    return many * (of_one + whole)
