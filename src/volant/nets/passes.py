"""Norms and rotary positions in few passes over memory, gradients written out, for blocks that are not compiled.

What enters: activations. What leaves: what the plain forms of `qwen3` give, to rounding. Where blocks are narrow,
reading and writing activations takes longer than the products between, and the gradient that torch makes of an RMS norm
passes ten times over them where six do. Compiled blocks keep the plain forms, of which the compiler makes one pass.

Shape legend: D the last dimension; B rows, L length in tokens, H heads, E width of a head, R width of half a head.
"""

from __future__ import annotations

from typing import Any

import torch


class _Norm(torch.autograd.Function):
    """y = w x / r with r^2 = mean(x^2) + eps (Zhang and Sennrich 2019).

    With n = x / r and g = w dy, its gradients are dx = (g - n mean(g n)) / r and dw = sum(n dy).
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
        whole = x.float()
        inverse = torch.linalg.vector_norm(whole, dim=-1, keepdim=True).square_().div_(x.size(-1)).add_(eps).rsqrt_()
        scaled = whole * inverse
        ctx.save_for_backward(scaled, inverse, weight_D)
        ctx.kind = x.dtype
        made: torch.Tensor = scaled * weight_D
        return made

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        scaled, inverse, weight_D = ctx.saved_tensors
        (grad,) = grads
        both, inner = grad * scaled, grad * weight_D
        # Not the product of `both` and the weights: MKL promises the same bits for equally aligned memory alone, and a
        # resumed run has to have them.
        mean = (inner * scaled).mean(-1, keepdim=True)
        inner = inner.addcmul_(scaled, mean, value=-1).mul_(inverse)
        return inner.to(ctx.kind), both.flatten(0, -2).sum(0), None


class _Turned(torch.autograd.Function):
    """Each pair of numbers of the two halves turned by its angle; the gradient turns the other way."""

    @staticmethod
    def forward(ctx: Any, x_BLHE: torch.Tensor, cos_LE: torch.Tensor, sin_LE: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos_LE, sin_LE)
        return torch.addcmul(x_BLHE * cos_LE, x_BLHE.roll(x_BLHE.size(-1) // 2, -1), sin_LE)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        cos_LE, sin_LE = ctx.saved_tensors
        (grad,) = grads
        return torch.addcmul(grad * cos_LE, grad.roll(grad.size(-1) // 2, -1), sin_LE, value=-1), None, None


def norm(x: torch.Tensor, weight_D: torch.Tensor, eps: float) -> torch.Tensor:
    """RMS norm over the last dimension, in float32."""
    return _Norm.apply(x, weight_D, eps)  # type: ignore[no-any-return, no-untyped-call]


def turned(x_BLHE: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions.

    Args:
        cos, sin: [., L, 1, 1, R] and signed [., L, 1, 2, R].
    """
    return _Turned.apply(x_BLHE, cos.expand_as(sin).flatten(3), sin.flatten(3))  # type: ignore[no-any-return, no-untyped-call]
