"""A VAE for rows of a table: a latent for the whole row, columns one after the other.

What enters: rows as float32 [B, C] (NaN is missing), turned into symbols by a `Layout`. The decoder sees the
latent and the columns before the one that it tells, so that what follows strictly (`education` and its number)
stays strict, and the latent is left with what the columns share (a lossy VAE after Chen and others 2017).
Numbers are symbols for ranges of about as many rows each; within a range their ranks are even.

Shape legend: B rows, C columns, W dense width, H hidden, S symbols of the widest column, Z latents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from volant.core.spaces import Mixed
from volant.nets.arrays import ArrayBatch
from volant.nets.columns import Layout
from volant.nets.draws import Draws
from volant.nets.posterior import Posterior


class RowVae(nn.Module):
    """See the module.

    Args:
        layout: how the columns look.
        z: latents.
        width: hidden units.
        beta: weight of the divergence from the standard normal, 1 for the bound itself.
        dropout: share of the hidden units that is left out in training.
    """

    first_C: torch.Tensor
    barred_CS: torch.Tensor

    def __init__(self, layout: Layout, *, z: int, width: int, beta: float, dropout: float) -> None:
        super().__init__()
        self.layout, self.z, self.beta = layout, z, beta
        self.space: Mixed
        self.size: dict[str, Any] = {}
        counts = layout.counts
        columns, most = len(counts), max(counts)
        self.encoder = nn.Sequential(
            nn.Linear(layout.width, width),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 2 * z),
        )
        self.opening = nn.Linear(z, columns * width)
        self.symbols = nn.Embedding(sum(counts) + 1, width, padding_idx=sum(counts))
        self.inner = nn.Parameter(torch.randn(columns, width, width) / width**0.5)
        self.inner_bias = nn.Parameter(torch.zeros(columns, width))
        self.outer = nn.Parameter(torch.randn(columns, width, most) * 0.1 / width**0.5)
        self.outer_bias = nn.Parameter(torch.zeros(columns, most))
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.symbols.weight, std=0.3)
        first = torch.tensor([0, *np.cumsum(counts)[:-1].tolist()])
        self.register_buffer("first_C", first, persistent=False)
        self.register_buffer("barred_CS", torch.arange(most) >= torch.tensor(counts)[:, None], persistent=False)
        self.posterior = Posterior(z)

    def losses(self, batch: ArrayBatch) -> torch.Tensor:
        """What each row costs in nats [B]: the columns given latent and forerunners, and the divergence."""
        symbol_BC, mean_BZ, spread_BZ = self._encoded(batch)
        z_BZ = mean_BZ + torch.randn_like(mean_BZ) * (spread_BZ / 2).exp()
        logits_BCS = self._logits(self._opened(z_BZ) + self._before(symbol_BC))
        told_BC = F.cross_entropy(logits_BCS.flatten(0, 1), symbol_BC.flatten(), ignore_index=-1, reduction="none")
        apart_B = 0.5 * (mean_BZ.square() + spread_BZ.exp() - spread_BZ - 1).sum(1)
        return told_BC.view(symbol_BC.shape).sum(1) + self.beta * apart_B

    def encode(self, batch: ArrayBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and variances of the latents [B, Z]."""
        _, mean_BZ, spread_BZ = self._encoded(batch)
        return mean_BZ, spread_BZ.exp()

    def draw(self, draws: Draws, condition_BC: torch.Tensor, temperature: float) -> np.ndarray[Any, Any]:
        """Rows float64 [B, C]; `temperature` sharpens each column's choice, 0 takes the likeliest."""
        noise_BZ = draws.normal(self.z).to(self.first_C.device)
        choice_BC = draws.uniform(len(self.layout.slots)).to(noise_BZ.device)
        place_BC = draws.uniform(len(self.layout.slots)).numpy()
        opened_BCH = self._opened(self.posterior(noise_BZ, condition_BC))
        before_BH = torch.zeros_like(opened_BCH[:, 0])
        chosen = []
        for c in range(opened_BCH.size(1)):
            logits_BS = self._logits((opened_BCH[:, c] + before_BH)[:, None], c)[:, 0]
            if temperature:
                sums_BS = (logits_BS / temperature).double().softmax(1).cumsum(1)
                symbol_B = (sums_BS <= (choice_BC[:, c : c + 1] * sums_BS[:, -1:])).sum(1)
                symbol_B = symbol_B.clamp(max=self.layout.counts[c] - 1)
            else:
                symbol_B = logits_BS.argmax(1)
            before_BH = before_BH + self.symbols(symbol_B + self.first_C[c])
            chosen.append(symbol_B)
        return self.layout.rows(torch.stack(chosen, 1).cpu().numpy(), place_BC.astype(np.float64))

    def _encoded(self, batch: ArrayBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        symbol_BC, score_BC = self.layout.split(batch.values.cpu().numpy().astype(np.float64))
        dense_BW = torch.from_numpy(self.layout.dense(symbol_BC, score_BC)).to(self.first_C.device)
        mean_BZ, spread_BZ = self.encoder(dense_BW).float().chunk(2, 1)
        return torch.from_numpy(symbol_BC).to(self.first_C.device), mean_BZ, spread_BZ.clamp(-12, 6)

    def _opened(self, z_BZ: torch.Tensor) -> torch.Tensor:
        """What the latent gives each column [B, C, H]."""
        opened_BCH: torch.Tensor = self.opening(z_BZ).unflatten(1, (len(self.layout.slots), -1))
        return opened_BCH

    def _before(self, symbol_BC: torch.Tensor) -> torch.Tensor:
        """The sum of the embeddings of the columns before each one [B, C, H]."""
        known = torch.where(symbol_BC >= 0, symbol_BC + self.first_C, self.symbols.num_embeddings - 1)
        embedded_BCH = self.symbols(known)
        before_BCH: torch.Tensor = embedded_BCH.cumsum(1) - embedded_BCH
        return before_BCH

    def _logits(self, heard_BCH: torch.Tensor, column: int | None = None) -> torch.Tensor:
        """Logits of all columns [B, C, S], or of one [B, 1, S]; symbols that a column lacks are barred."""
        chosen = slice(None) if column is None else slice(column, column + 1)
        hidden_BCH = self.dropout(F.silu(heard_BCH))
        hidden_BCH = torch.einsum("bch,chk->bck", hidden_BCH, self.inner[chosen]) + self.inner_bias[chosen]
        hidden_BCH = self.dropout(F.silu(hidden_BCH))
        logits_BCS = torch.einsum("bch,chs->bcs", hidden_BCH, self.outer[chosen]) + self.outer_bias[chosen]
        return logits_BCS.float().masked_fill(self.barred_CS[chosen], float("-inf"))
