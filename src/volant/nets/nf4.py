"""Weights in 4 bits (NormalFloat, Dettmers et al. 2023, "QLoRA"), by bitsandbytes, on processors and GPUs alike.

Enters: a transformer. Leaves: the same network whose matrices hold 4 bits a number, blocks of 64 sharing a scale, which
is itself in 8 bits, and whose embedding and head hold 8 (`int8_tables`); computing happens in float32. The way back
gives the numbers that those bits stand for, so what was trained on them is what is saved.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from volant.core.errors import MissingPackage
from volant.nets import int8_tables


def _library() -> Any:
    """bitsandbytes.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        import bitsandbytes
    except ImportError:
        what = "4-bit weights need bitsandbytes, which is not installed."
        raise MissingPackage(what, where="finetune.qlora", fix="pip install 'volant[qlora]'.") from None
    return bitsandbytes


def quantise(net: nn.Module, *, but: Callable[[str], bool] = lambda name: False) -> None:
    """Put every matrix of the blocks into 4 bits, embedding and head into 8, in place; norms and biases stay.

    Args:
        net: a transformer.
        but: whether an embedding or a head of that name stays in floats.

    Raises:
        MissingPackage: bitsandbytes is not installed.
    """
    library = _library()
    _, head = int8_tables.tables(net)
    for name, layer in list(net.named_modules()):
        if not isinstance(layer, nn.Linear | Conv1D) or layer is head:
            continue
        weight = layer.weight.detach()
        weight = weight.T.contiguous() if isinstance(layer, Conv1D) else weight
        small = library.nn.Linear4bit(
            *reversed(weight.shape), bias=layer.bias is not None, compute_dtype=torch.float32,
            compress_statistics=True, quant_type="nf4", device="meta",
        )  # fmt: skip
        small.weight = library.nn.Params4bit(
            weight.float().cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True, module=small
        )
        small.bias = layer.bias
        small.turned = isinstance(layer, Conv1D)
        # bitsandbytes would repack weights for bfloat16 in evaluation, which computes something else than training did.
        small.support_avx512bf16_for_cpu = False
        net.set_submodule(name, small.to(weight.device))
    int8_tables.hold(net, but=but)


def merged(adapted: Any) -> nn.Module:
    """The network without its adapters: plain float32 layers of what the bits stand for plus what was learnt.

    Args:
        adapted: a PEFT model of a network that went through `quantise`; used up.
    """
    library = _library()
    for name, layer in list(adapted.named_modules()):
        inner = getattr(layer, "base_layer", layer)
        if not isinstance(inner, library.nn.Linear4bit) or name.endswith("base_layer"):
            continue
        value = library.functional.dequantize_4bit(inner.weight.data, inner.weight.quant_state).float()
        if inner is not layer:
            value = value + layer.get_delta_weight("default").float()
        adapted.set_submodule(name, _plain(value, inner.bias, inner.turned))
    int8_tables.release(adapted)
    net: nn.Module = adapted.merge_and_unload(safe_merge=True)  # an adapter of the embedding or the head
    return net


def _plain(value: torch.Tensor, bias: Any, turned: bool) -> nn.Module:
    """The float32 layer of a matrix; `turned` for GPT-2's, which lies the other way."""
    kind: Any = Conv1D if turned else partial(nn.Linear, bias=bias is not None, device="meta")
    rows, columns = value.shape
    plain: nn.Module = kind(rows, columns) if turned else kind(columns, rows)
    plain.weight = nn.Parameter(value.T.contiguous() if turned else value, requires_grad=False)
    plain.bias = bias
    return plain


def weight_bytes(net: nn.Module) -> int:
    """Bytes that the weights take, scales of 4-bit ones included; tied ones once."""
    total, seen = 0, set[int]()
    for parameter in net.parameters():
        if parameter.data_ptr() in seen:
            continue
        seen.add(parameter.data_ptr())
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            scales = [state.absmax, *([state.state2.absmax] if state.nested else [])]
            total += sum(s.numel() * s.element_size() for s in scales)
    return total
