"""Where the encoder of a trained VAE puts the data: a Gaussian a class, to draw latents from.

The encoder's means never fill the standard normal prior evenly, least of all with a small weight on the
divergence; drawing from what they fill in fact is the second stage of Dai and Wipf (2019) and of Ghosh and others
(2020), with a Gaussian in place of a second network. Its covariance is that of the means plus the encoder's own
mean variance, drawn towards the covariance of all classes where a class has few examples.

Shape legend: N examples, B rows, Z latents, K classes (the last one: no condition).
"""

from __future__ import annotations

import torch
from torch import nn

_WIDEST = 512  # latents up to which covariances are kept; beyond, variances
_MOST = 2**24  # numbers in all covariances together


class Posterior(nn.Module):
    """Gaussians over latents, standard normal until `fit`. Buffers only, so that they travel with the weights.

    Args:
        latents: Z.
        classes: how many class ids have a Gaussian of their own; 0 where conditions are no single classes.
    """

    mean_KZ: torch.Tensor
    root_KZZ: torch.Tensor

    def __init__(self, latents: int, classes: int = 0) -> None:
        super().__init__()
        self._full = latents <= _WIDEST and (classes + 1) * latents**2 <= _MOST
        self._classes = classes if (classes + 1) * latents * (latents if self._full else 1) <= _MOST else 0
        known = self._classes + 1
        self.register_buffer("mean_KZ", torch.zeros(known, latents))
        one = torch.eye(latents) if self._full else torch.ones(latents)
        self.register_buffer("root_KZZ", one.expand(known, *one.shape).clone())

    @torch.no_grad()
    def fit(self, mean_NZ: torch.Tensor, variance_NZ: torch.Tensor, condition_NC: torch.Tensor) -> None:
        """Estimate from the encoder's means and variances of the training examples."""
        mean_NZ, variance_NZ = mean_NZ.double().cpu(), variance_NZ.double().cpu()
        kind_N = self._kind(condition_NC.cpu())
        last = self._classes
        parts = [mean_NZ[kind_N == k] for k in range(last)]
        about = torch.stack([p.mean(0) if len(p) else mean_NZ.mean(0) for p in parts] + [mean_NZ.mean(0)])
        pooled = self._spread(mean_NZ - about[kind_N]) if self._classes else self._spread(mean_NZ - about[last])
        for k in range(last + 1):
            chosen = kind_N == k if k < last else torch.ones_like(kind_N, dtype=torch.bool)
            count, spread = int(chosen.sum()), pooled
            if count and k < last:
                # As if so many examples as there are latents had been seen with the covariance of all classes.
                own, weight = self._spread(mean_NZ[chosen] - about[k]), mean_NZ.size(1)
                spread = (count * own + weight * pooled) / (count + weight)
            elif count:
                spread = self._spread(mean_NZ - about[last])
            noise = variance_NZ[chosen].mean(0) if count else variance_NZ.mean(0)
            spread = spread + (torch.diag(noise + 1e-6) if self._full else noise + 1e-6)
            root = torch.linalg.cholesky(spread) if self._full else spread.sqrt()
            self.mean_KZ[k].copy_(about[k].float())
            self.root_KZZ[k].copy_(root.float())

    def forward(self, noise_BZ: torch.Tensor, condition_BC: torch.Tensor) -> torch.Tensor:
        """Standard normal noise as latents [B, Z]."""
        kind_B = self._kind(condition_BC)
        root = self.root_KZZ[kind_B]
        spread_BZ = torch.einsum("bij,bj->bi", root, noise_BZ) if self._full else root * noise_BZ
        return self.mean_KZ[kind_B] + spread_BZ

    def _spread(self, off_NZ: torch.Tensor) -> torch.Tensor:
        """Covariance [Z, Z], or variances [Z]."""
        count = max(1, len(off_NZ))
        return off_NZ.T @ off_NZ / count if self._full else off_NZ.square().sum(0) / count

    def _kind(self, condition_BC: torch.Tensor) -> torch.Tensor:
        """The Gaussian of each row [B]: of its class, or the last one."""
        if not self._classes or not condition_BC.size(1):
            return torch.full((condition_BC.size(0),), self._classes, device=condition_BC.device)
        kind_B = condition_BC[:, 0]
        return torch.where((kind_B >= 0) & (kind_B < self._classes), kind_B, self._classes)
