"""Runs models whose family samples whole examples: images, rows.

What enters: a Model of any family with `sample`. What leaves: a session that draws (`nets/session.py`).
"""

from __future__ import annotations

import torch

from volant.core.artifact import Model
from volant.core.protocols import Session
from volant.nets.opened import opened
from volant.nets.session import DrawSession


class SamplerEngine:
    """Opens a model with its own family and codec."""

    name = "sampler"
    version = 1
    tolerance = 0.0

    def open(self, model: Model, *, threads: int = 1, device: str = "cpu") -> Session:
        """Load the model.

        Raises:
            ArtifactError: it is damaged, or of a family without `sample`.
            MachineError: the device is not there.
        """
        torch.set_num_threads(threads)
        found = opened(model, device=device)
        if isinstance(found.net, torch.nn.Module):
            found.net.eval()
        return DrawSession(found.family, found.net, found.codec, found.controls)


engine = SamplerEngine()
