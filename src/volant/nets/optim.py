"""The optimisers and the learning-rate schedule.

What enters: a network. What leaves: Muon for the weight matrices of its blocks, AdamW for the rest
(embeddings, output head, norms, biases), stepped as one, with states under stable names.
Muon because it needs about a third of the compute of AdamW to the same loss at this size
(measured: 46 against 140 CPU seconds); embeddings are lookup tables, not maps, so it does not suit them.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import torch

from volant.nets.team import ALONE, Alone

# Each round is the odd quintic that brings what the last one left closest to 1, the first from [0.008, 1] (as in Amsel
# et al. 2025, "The Polar Express"); together they raise small singular values 86-fold and leave the rest within 0.34.
_ROUNDS = ((8.1743, -23.9397, 17.7000), (3.7415, -2.7974, 0.5451), (2.8273, -2.1111, 0.4675))
# Their large coefficients cancel, which bfloat16 is too coarse for; there, four rounds of a quintic with smaller ones.
_ROUNDS_BF16 = ((3.4445, -4.7750, 2.0315),) * 4
_LEAST_BF16 = 1_000_000
_MARGIN = 1.02  # beyond 1 the first quintic soon runs away


def bf16_here(device: str = "cpu") -> bool:
    """Whether bfloat16 arithmetic is fast on the device; on a CPU that means AVX512-BF16 or AMX."""
    if device == "cpu":
        known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("amx_tile"))
    return bool(device == "cuda" and torch.cuda.is_bf16_supported())


def bf16_pays(net: torch.nn.Module, device: str = "cpu") -> bool:
    """Whether a network trains faster in bfloat16: where that is fast, and on a CPU not where it is so small that
    making such numbers takes longer than they save (0.83 of float32's speed at 0.8 million weights, 1.2 at 1.1)."""
    size = sum(p.numel() for p in net.parameters())
    return bf16_here(device) and (device != "cpu" or size >= _LEAST_BF16)


def wsd(step: int, steps: int, *, warmup: int, decay: int) -> float:
    """Factor of the rate at `step` (from 0): linear warm-up, stable, linear decay to zero over the last `decay`.

    >>> [wsd(s, 10, warmup=2, decay=4) for s in (0, 1, 5, 6, 9)]
    [0.5, 1.0, 1.0, 1.0, 0.25]
    """
    up = min(1.0, (step + 1) / max(1, warmup))
    down = min(1.0, (steps - step) / max(1, decay))
    return max(0.0, min(up, down))


@torch.no_grad()
def orthogonalise(update_NRC: torch.Tensor, *, bf16: bool) -> torch.Tensor:
    """Each matrix of the stack with its singular values pulled towards 1, by rounds of Newton-Schulz."""
    x_NRC = update_NRC.to(torch.bfloat16 if bf16 else torch.float32)
    tall = x_NRC.size(-2) > x_NRC.size(-1)
    x_NRC = x_NRC.mT if tall else x_NRC
    x_NRC, gram_NRR = _bounded(x_NRC)
    # Of a long matrix only the small square is iterated; that needs float32, where squaring loses nothing that counts.
    long = x_NRC.size(-1) >= 2 * x_NRC.size(-2) and not bf16
    x_NRC = _factor(gram_NRR) @ x_NRC if long else _by_itself(x_NRC, gram_NRR)
    result: torch.Tensor = (x_NRC.mT if tall else x_NRC).to(update_NRC.dtype)
    return result


def _bounded(x_NRC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled so that no singular value is above 1, and its Gram matrix.

    The root of the Gram matrix's norm bounds them far closer than the norm itself, which is worth an iteration.
    """
    x_NRC = x_NRC / (x_NRC.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram_NRR = x_NRC @ x_NRC.mT
    bound_N11 = (_MARGIN**2 * gram_NRR.norm(dim=(-2, -1), keepdim=True)).clamp_min(1e-7)
    return x_NRC * bound_N11.rsqrt(), gram_NRR / bound_N11


def _by_itself(x_NRC: torch.Tensor, gram_NRR: torch.Tensor) -> torch.Tensor:
    """The rounds, each by the Gram matrix of what the last one gave."""
    rounds = _ROUNDS_BF16 if x_NRC.dtype == torch.bfloat16 else _ROUNDS
    for number, (a, b, c) in enumerate(rounds):
        gram_NRR = x_NRC @ x_NRC.mT if number else gram_NRR
        x_NRC = torch.baddbmm(x_NRC, torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c), x_NRC, beta=a)
    return x_NRC


def _factor(gram_NRR: torch.Tensor) -> torch.Tensor:
    """What the matrix is multiplied with: each round is a polynomial of the Gram matrix, and these commute."""
    whole_NRR: torch.Tensor | None = None
    for number, (a, b, c) in enumerate(_ROUNDS):
        factor_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        factor_NRR.diagonal(dim1=-2, dim2=-1).add_(a)
        if number < len(_ROUNDS) - 1:
            gram_NRR = factor_NRR @ (gram_NRR @ factor_NRR)
        whole_NRR = factor_NRR if whole_NRR is None else factor_NRR @ whole_NRR
    assert whole_NRR is not None
    return whole_NRR


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are orthogonalised; for 2-D weights only.

    Args:
        lr: the spectral size of a step; 0.02 suits most.
        bf16: do the iteration in bfloat16, which loses nothing measurable and is faster where supported.
        together: whose parts of the weights these are.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        bf16: bool = False,
        together: Alone = ALONE,
    ) -> None:
        self._team = together
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "bf16": bf16})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; matrices of one shape are iterated as one stack."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for weights in by_shape.values():
                self._step_stack(weights, group)

    def _step_stack(self, weights: list[torch.Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if "momentum" not in self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        own = self._team.own
        grads = torch.stack([own(w.grad) for w in weights if w.grad is not None])
        momenta = [own(self.state[w]["momentum"]) for w in weights]
        torch._foreach_lerp_(momenta, list(grads.unbind()), 1 - group["momentum"])
        # Nesterov: look ahead by one more lerp of the gradient towards the momentum.
        ahead = torch.lerp(grads, torch.stack(momenta), group["momentum"])
        rows, columns = weights[0].shape
        updates = self._team.on_whole(ahead, rows, partial(orthogonalise, bf16=group["bf16"]))
        size = group["lr"] * max(1.0, rows / columns) ** 0.5
        parts = [own(w) for w in weights]
        if group["weight_decay"]:
            torch._foreach_mul_(parts, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parts, list(updates.unbind()), alpha=-size)


class Optimisers:
    """Muon and AdamW over one network, as one.

    Args:
        net: its trainable parameters are taken.
        lr: AdamW's rate.
        muon_lr: Muon's rate; 0 leaves everything to AdamW (right for fine-tuning every weight).
        together: the processes that share the network, where they are several.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        *,
        lr: float,
        muon_lr: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        bf16: bool = False,
        together: Alone = ALONE,
    ) -> None:
        self._team = together
        matrices, others = split_parameters(net) if muon_lr else ({}, trainable(net))
        self._named = {**matrices, **others}
        self._parts: list[torch.optim.Optimizer] = []
        if others:
            fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in others.values())
            # Decay pulls only on maps; a norm's scale has no reason to be small.
            groups = [
                {"params": [p for p in others.values() if p.ndim >= 2], "weight_decay": weight_decay},
                {"params": [p for p in others.values() if p.ndim < 2], "weight_decay": 0.0},
            ]
            kept = [g for g in groups if g["params"]]
            self._parts.append(torch.optim.AdamW(kept, lr=lr, betas=betas, eps=1e-10, fused=fused))
        if matrices:
            self._parts.append(
                Muon(list(matrices.values()), lr=muon_lr, weight_decay=weight_decay, bf16=bf16, together=together)
            )
        self._base = [[float(g["lr"]) for g in part.param_groups] for part in self._parts]

    def step(self, factor: float) -> None:
        """One update at `factor` times the rates."""
        for part, rates in zip(self._parts, self._base, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            part.step()

    def zero(self) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state as `parameter.key` to tensor."""
        found: dict[str, torch.Tensor] = {}
        for name, parameter in self._named.items():
            for part in self._parts:
                for key, value in part.state.get(parameter, {}).items():
                    found[f"{name}.{key}"] = value.detach()
        return found

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put a state from `tensors()` back, bit by bit."""
        for part in self._parts:
            part.state.clear()
        owner = {id(p): part for part in self._parts for g in part.param_groups for p in g["params"]}
        for full, value in tensors.items():
            name, _, key = full.rpartition(".")
            parameter = self._named[name]
            owner[id(parameter)].state[parameter][key] = self._team.part(value, parameter)


def trainable(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters that take a gradient, by name; tied ones once."""
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


def split_parameters(net: torch.nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(matrices for Muon, everything else for AdamW), by name."""
    tables = {id(m.weight) for m in net.modules() if isinstance(m, torch.nn.Embedding)}
    head = getattr(net, "get_output_embeddings", lambda: None)()
    if head is not None:
        tables.update(id(p) for p in head.parameters(recurse=False))
    found = trainable(net)
    matrices = {n: p for n, p in found.items() if p.ndim == 2 and id(p) not in tables}
    return matrices, {n: p for n, p in found.items() if n not in matrices}
