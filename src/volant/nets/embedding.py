"""Texts as vectors by a model that reads them: the mean of its last hidden states.

What enters: a Model of tokens (a transformer, a masked one, or any local directory that `pretrain.base` took) and
texts. What leaves: unit vectors, less what all of them have in common, for hidden states of such models all point into
one direction (Mu and Viswanath 2018); their products say how alike two texts are to the model.

Shape legend: N texts, B rows at once, L length in tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from volant.core.artifact import Model
from volant.core.errors import ArtifactError
from volant.modalities import open_modality
from volant.nets import open_family

_AT_ONCE = 16


def embedded(
    model: Model, texts: Sequence[str], *, device: str = "cpu", advance: Callable[[int], None] = lambda count: None
) -> npt.NDArray[np.float32]:
    """Unit vectors of texts, float32 [N, D]; of a long text its first tokens, as many as the model reads.

    Args:
        model: whose weights are in its own files.
        texts: in any order; each vector depends on its text and on the mean of all.
        device: where the model runs.
        advance: told how many texts are done.

    Raises:
        ArtifactError: the model does not read tokens, or is damaged.
    """
    if model.about.space.get("type") != "tokens" or model.about.family not in ("transformer", "masked"):
        what = f"a {model.about.family!r} model reads no text."
        raise ArtifactError(what, where=str(model.path), fix="Take a transformer: `pretrain.base` opens a directory.")
    codec = open_modality("text").open_codec(model.path)
    net = open_family(model.about.family).load(model.path).to(device).eval()
    longest = int(getattr(net.config, "max_position_embeddings", 0) or codec.space.length)
    found = []
    for first in range(0, len(texts), _AT_ONCE):
        ids = [codec.encode_text(text)[:longest] or [0] for text in texts[first : first + _AT_ONCE]]
        found.append(_means(net, ids))
        advance(len(ids))
    vector_ND = np.concatenate(found) if found else np.zeros((0, 1), np.float32)
    vector_ND = vector_ND - vector_ND.mean(0, keepdims=True) if len(vector_ND) > 1 else vector_ND
    length_N1 = np.linalg.norm(vector_ND, axis=1, keepdims=True)
    return np.asarray(vector_ND / np.where(length_N1 > 0, length_N1, 1), np.float32)


@torch.no_grad()
def _means(net: torch.nn.Module, ids: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
    """The mean hidden state of each row of ids, float32 [B, D]."""
    device = next(net.parameters()).device
    width = max(map(len, ids))
    row_BL = torch.tensor([[*row, *[0] * (width - len(row))] for row in ids], device=device)
    real_BL = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=device)
    reader = getattr(net, "base_model", net)
    state_BLD = reader(input_ids=row_BL, attention_mask=real_BL).last_hidden_state.float()
    weight_BL1 = real_BL[..., None].float()
    return np.asarray(((state_BLD * weight_BL1).sum(1) / weight_BL1.sum(1)).cpu().numpy(), np.float32)
