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

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def bf16_here(device: str = "cpu") -> bool:
    """Whether bfloat16 arithmetic is fast on the device; on a CPU that means AVX512-BF16 or AMX."""
    if device == "cpu":
        known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(known.get("avx512_bf16") or known.get("amx_bf16") or known.get("amx_tile"))
    return bool(device == "cuda" and torch.cuda.is_bf16_supported())


def wsd(step: int, steps: int, *, warmup: int, decay: int) -> float:
    """Factor of the rate at `step` (from 0): linear warm-up, stable, linear decay to zero over the last `decay`.

    >>> [wsd(s, 10, warmup=2, decay=4) for s in (0, 1, 5, 6, 9)]
    [0.5, 1.0, 1.0, 1.0, 0.25]
    """
    up = min(1.0, (step + 1) / max(1, warmup))
    down = min(1.0, (steps - step) / max(1, decay))
    return max(0.0, min(up, down))


@torch.no_grad()
def orthogonalise(update_NRC: torch.Tensor, *, bf16: bool, rounds: int = 5) -> torch.Tensor:
    """Each matrix of the stack with its singular values pulled towards 1, by a quintic Newton-Schulz iteration."""
    x = update_NRC.to(torch.bfloat16 if bf16 else torch.float32)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # Of a long matrix only the small square is iterated; that needs float32, where squaring loses nothing that counts.
    x = _by_gram(x, rounds) if x.size(-1) >= 2 * x.size(-2) and not bf16 else _by_itself(x, rounds)
    result: torch.Tensor = (x.mT if tall else x).to(update_NRC.dtype)
    return result


def _by_itself(x_NRC: torch.Tensor, rounds: int) -> torch.Tensor:
    a, b, c = _NEWTON_SCHULZ
    for _ in range(rounds):
        gram = x_NRC @ x_NRC.mT
        x_NRC = a * x_NRC + (b * gram + c * (gram @ gram)) @ x_NRC
    return x_NRC


def _by_gram(x_NRC: torch.Tensor, rounds: int) -> torch.Tensor:
    """The same through products of R x R alone: each round is a polynomial of the Gram matrix, and these commute."""
    a, b, c = _NEWTON_SCHULZ
    gram_NRR = x_NRC @ x_NRC.mT
    whole_NRR: torch.Tensor | None = None
    for number in range(rounds):
        factor_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        factor_NRR.diagonal(dim1=-2, dim2=-1).add_(a)
        if number < rounds - 1:
            gram_NRR = factor_NRR @ (gram_NRR @ factor_NRR)
        whole_NRR = factor_NRR if whole_NRR is None else factor_NRR @ whole_NRR
    return x_NRC if whole_NRR is None else whole_NRR @ x_NRC


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
        tables.add(id(head.weight))
    found = trainable(net)
    matrices = {n: p for n, p in found.items() if p.ndim == 2 and id(p) not in tables}
    return matrices, {n: p for n, p in found.items() if n not in matrices}
