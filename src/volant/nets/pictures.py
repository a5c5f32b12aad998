"""Pictures as the judge takes them: grids of one side, and moved about in training.

What enters: image samples. What leaves: float32 arrays in [-1, 1].

Shape legend: B pictures, C channels, S side, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from volant.core.sample import Sample


def grids(samples: Sequence[Sample], *, side: int, channels: int) -> npt.NDArray[np.float32]:
    """Pictures as float32 [n, channels, side, side] in [-1, 1]: stretched to a square, smoothed where made smaller."""
    found = np.empty((len(samples), channels, side, side), np.float32)
    for row, picture in enumerate(pictures(samples)):
        x_CHW = torch.from_numpy(picture[:, :, :3].astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
        if x_CHW.size(0) == 2:  # grey with alpha
            x_CHW = x_CHW[:1]
        if x_CHW.size(0) != channels:
            x_CHW = x_CHW.mean(0, keepdim=True) if channels == 1 else x_CHW.expand(channels, -1, -1)
        if x_CHW.shape[1:] != (side, side):
            x_CHW = F.interpolate(x_CHW[None], (side, side), mode="bilinear", antialias=True)[0]
        found[row] = x_CHW.numpy()
    return found


def pictures(samples: Sequence[Sample]) -> list[npt.NDArray[np.uint8]]:
    """Pixels [H, W, C] of each sample."""
    from volant.modalities import image

    return [image.pixels(sample) for sample in samples]


def moved(x_BCSS: torch.Tensor, most: int) -> torch.Tensor:
    """Each picture of the batch moved by up to `most` pixels, its edge drawn out."""
    if most < 1:
        return x_BCSS
    size, (height, width) = x_BCSS.size(0), x_BCSS.shape[-2:]
    by_2B = torch.randint(0, 2 * most + 1, (2, size)).to(x_BCSS.device)
    padded = F.pad(x_BCSS, (most,) * 4, mode="replicate")
    rows_BH = by_2B[0][:, None] + torch.arange(height, device=x_BCSS.device)
    columns_BW = by_2B[1][:, None] + torch.arange(width, device=x_BCSS.device)
    batch = torch.arange(size, device=x_BCSS.device)[:, None, None]
    return padded[batch, :, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)
