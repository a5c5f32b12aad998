"""A language model's tables of tokens in 8 bits while something else is trained: its embedding, and its head.

Enters: a transformer. Leaves: the same network whose embedding and head are frozen and hold an int8 a number beside a
float32 scale a token's row (`int8.by_row`); a table that both share is held once. Embedding makes floats of the rows
that it looks up, head of a piece of rows at a time, and of each again in the backward pass, which needs nothing else:
floats of a large table never lie in memory as a whole. The way back gives plain float32 layers of the numbers that
those bits stand for, tied where they were. What a family keeps of tokens besides (learned positions) stays as it is.

Shape legend: N hidden states, in any number of axes, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from volant.nets import int8

_PIECE_BYTES = 2**24  # of floats that the head makes at a time


class _Table(nn.Module):
    """Rows of int8 and their scales, and the float layer that they stand for, emptied.

    Args:
        layer: the float layer; used up.
        like: one that shares its rows.
    """

    def __init__(self, layer: Any, like: _Table | None = None) -> None:
        super().__init__()
        if like is None:
            numbers_VD, scale_V = _small(layer.weight.detach())
            self.numbers_VD = nn.Parameter(numbers_VD, requires_grad=False)
            self.scale_V = nn.Parameter(scale_V, requires_grad=False)
        else:
            self.numbers_VD, self.scale_V = like.numbers_VD, like.scale_V
        layer.weight = None
        self._layer = [layer]  # in a list, since it is no part of the network now

    @property
    def weight(self) -> torch.Tensor:
        """All rows as floats [V, D], for families that ask what a layer's weight is like."""
        return int8.of_rows(self.numbers_VD, self.scale_V)


class Embedding(_Table):
    """A frozen embedding in 8 bits; one that scales what it looks up still does."""

    def __init__(self, layer: Any, like: _Table | None = None) -> None:
        super().__init__(layer, like)
        self.factor = float(getattr(layer, "embed_scale", 1.0))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The rows of the ids, as floats."""
        found = int8.of_rows(F.embedding(ids, self.numbers_VD), F.embedding(ids, self.scale_V[:, None]).squeeze(-1))
        return found if self.factor == 1 else found * self.factor


class Head(_Table):
    """A frozen head in 8 bits, which makes logits of hidden states."""

    def __init__(self, layer: Any, like: _Table | None = None) -> None:
        super().__init__(layer, like)
        self.bias = layer.bias

    def forward(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """The logits [N, V]."""
        product: Callable[..., torch.Tensor] = _Product.apply
        logits_NV = product(hidden_ND, self.numbers_VD, self.scale_V)
        return logits_NV if self.bias is None else logits_NV + self.bias.to(logits_NV.dtype)


class _Product(torch.autograd.Function):
    """Hidden states times a frozen table, a piece of its rows at a time."""

    @staticmethod
    def forward(context: Any, hidden_ND: torch.Tensor, numbers_VD: torch.Tensor, scale_V: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(numbers_VD, scale_V)
        context.dtype = hidden_ND.dtype
        logits_NV: torch.Tensor | None = None
        for rows, floats in _pieces(numbers_VD, scale_V):
            part = F.linear(hidden_ND, floats.to(hidden_ND.dtype))
            if part.size(-1) == len(numbers_VD):
                return part
            if logits_NV is None:
                logits_NV = part.new_empty(*part.shape[:-1], len(numbers_VD))
            logits_NV[..., rows] = part
        assert logits_NV is not None
        return logits_NV

    @staticmethod
    def backward(context: Any, *gradients: Any) -> tuple[torch.Tensor, None, None]:
        (gradient_NV,) = gradients
        found_ND: torch.Tensor | None = None
        for rows, floats in _pieces(*context.saved_tensors):
            part = gradient_NV[..., rows] @ floats.to(gradient_NV.dtype)
            found_ND = part if found_ND is None else found_ND.add_(part)
        assert found_ND is not None
        return found_ND.to(context.dtype), None, None


def _pieces(numbers_VD: torch.Tensor, scale_V: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Which rows, and their floats."""
    for rows in _cuts(numbers_VD):
        yield rows, int8.of_rows(numbers_VD[rows], scale_V[rows])


def _small(weight_VD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The table in int8 and its scales, a piece at a time."""
    numbers_VD = torch.empty_like(weight_VD, dtype=torch.int8, memory_format=torch.contiguous_format)
    scale_V = torch.empty(len(weight_VD), dtype=torch.float32, device=weight_VD.device)
    for rows in _cuts(weight_VD):
        numbers_VD[rows], scale_V[rows] = int8.by_row(weight_VD[rows])
    return numbers_VD, scale_V


def _cuts(table_VD: torch.Tensor) -> Iterator[slice]:
    many = max(1, _PIECE_BYTES // (4 * table_VD.size(1)))
    yield from (slice(start, start + many) for start in range(0, len(table_VD), many))


def tables(net: Any) -> tuple[Any, Any]:
    """(embedding, head) of a transformer with or without adapters; None where it has none."""
    asked = (getattr(net, name, None) for name in ("get_input_embeddings", "get_output_embeddings"))
    embedding, head = (None if one is None else one() for one in asked)
    return embedding, head


def hold(net: nn.Module, *, but: Callable[[str], bool] = lambda name: False) -> None:
    """Put the embedding and the head into 8 bits, in place.

    Args:
        net: a transformer.
        but: whether a layer of that name stays in floats, such as one that gets an adapter; so does one of a kind that
            is not known, and what shares a table with either.
    """
    embedding, head = tables(net)
    tied = embedding is not None and head is not None and _weight(embedding) is _weight(head)
    names = {layer: name for name, layer in net.named_modules()}
    wanted = [layer for layer in (embedding, head) if _known(layer) and not but(names[layer])]
    if tied and len(wanted) < 2:
        return
    first: _Table | None = None
    for layer in wanted:
        kind = Head if layer is head else Embedding
        small = kind(layer, first if tied else None)
        first = first or small
        _replace(net, layer, small)


def release(net: nn.Module) -> None:
    """Put plain float32 layers of what the bits stand for back, in place; tied ones share them again."""
    made: dict[int, nn.Parameter] = {}
    for small in [layer for layer in net.modules() if isinstance(layer, _Table)]:
        key = id(small.numbers_VD)
        if key not in made:
            made[key] = nn.Parameter(small.weight, requires_grad=False)
        (layer,) = small._layer
        layer.weight = made[key]
        layer.to(small.scale_V.device)
        _replace(net, small, layer)


def _weight(layer: Any) -> Any:
    return getattr(layer, "weight", layer)


def _known(layer: Any) -> bool:
    """Whether a layer does what these do with its weight, which training leaves as it is."""
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and (type(layer) is nn.Embedding or hasattr(layer, "embed_scale"))
    return type(layer) is nn.Linear


def _replace(net: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for name, child in list(net.named_modules(remove_duplicate=False)):  # a family may keep it under two names
        if child is old:
            net.set_submodule(name, new)
