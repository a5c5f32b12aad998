"""Weights in 4 bits (NormalFloat, Dettmers et al. 2023, "QLoRA"), by bitsandbytes, on processors and GPUs alike.

Enters: a transformer. Leaves: the same network whose matrices hold 4 bits a number, blocks of 64 sharing a scale, which
is itself in 8 bits; computing happens in float32. The way back gives the numbers that those bits stand for, so what was
trained on them is what is saved.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from volant.core.errors import MissingPackage


def _library() -> Any:
    """bitsandbytes.

    Raises:
        MissingPackage: it is not installed.
    """
    # It tells every user of a processor about a kernel from a hub that is not fetched.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes
    except ImportError:
        what = "4-bit weights need bitsandbytes, which is not installed."
        raise MissingPackage(what, where="finetune.qlora", fix="pip install 'volant[qlora]'.") from None
    return bitsandbytes


def quantise(net: nn.Module) -> None:
    """Put every matrix of the blocks into 4 bits, in place; embeddings, norms and the head stay as they are.

    Raises:
        MissingPackage: bitsandbytes is not installed.
    """
    library = _library()
    for name, layer in list(net.named_modules()):
        if not isinstance(layer, nn.Linear) or name.endswith("lm_head"):
            continue
        small = library.nn.Linear4bit(
            layer.in_features, layer.out_features, bias=layer.bias is not None, compute_dtype=torch.float32,
            compress_statistics=True, quant_type="nf4", device="meta",
        )  # fmt: skip
        weight = layer.weight.detach()
        small.weight = library.nn.Params4bit(
            weight.float().cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True, module=small
        )
        small.bias = layer.bias
        # bitsandbytes would repack weights for bfloat16 in evaluation, which computes something else than training did.
        small.support_avx512bf16_for_cpu = False
        _put(net, name, small.to(weight.device))


def merged(adapted: Any) -> nn.Module:
    """The network without its adapters: plain float32 layers of what the 4 bits stand for plus what was learnt.

    Args:
        adapted: a PEFT model of a network that went through `quantise`; used up.
    """
    library = _library()
    for name, layer in list(adapted.named_modules()):
        inner = getattr(layer, "base_layer", layer)
        if not isinstance(inner, library.nn.Linear4bit) or name.endswith("base_layer"):
            continue
        plain = nn.Linear(inner.in_features, inner.out_features, bias=inner.bias is not None, device="meta")
        value = library.functional.dequantize_4bit(inner.weight.data, inner.weight.quant_state).float()
        if inner is not layer:
            value = value + layer.get_delta_weight("default").float()
        plain.weight = nn.Parameter(value, requires_grad=False)
        plain.bias = inner.bias
        _put(adapted, name, plain)
    net: nn.Module = adapted.get_base_model()
    return net


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


def _put(net: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, layer)
