"""Networks that give an answer one number: sequence classifiers of transformers with a single label.

Enters: a directory of a causal language model (to start from) or of a reward model. Leaves: the network. A file of
its own, because the family `transformer` is about networks that write.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from volant.core.errors import ArtifactError, SettingError
from volant.nets.transformer import check_files, quiet


def fresh(folder: Path, *, seed: int, pad: int) -> Any:
    """A causal language model's body with a new head; its weights are zero, so all answers start with one reward.

    Raises:
        SettingError: transformers has no classifier of this architecture.
    """
    torch.manual_seed(seed)
    try:
        net = _load(folder, num_labels=1)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).split("\n", maxsplit=1)[0]
        raise SettingError(f"the model cannot carry a reward head: {first}.", where="model") from error
    net.config.pad_token_id = pad
    head = getattr(net, "score", None)
    if head is not None:
        torch.nn.init.zeros_(head.weight)
    return net


def load(folder: Path) -> Any:
    """A reward model as `align.reward` saved it.

    Raises:
        ArtifactError: it is damaged, or no classifier with one label.
    """
    try:
        net = _load(folder)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).split("\n", maxsplit=1)[0]
        raise ArtifactError(f"the reward model cannot be opened: {first}.", where=str(folder)) from error
    if net.config.num_labels != 1:
        what = f"the model has {net.config.num_labels} labels; a reward model has one"
        raise ArtifactError(what + ".", where=str(folder), fix="Name a step that uses `align.reward`.")
    return net.eval()


def _load(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    check_files(folder)
    quiet()
    # transformers prints a table to say that the head is new, which here is the point.
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False, **options
        )
    finally:
        logging.set_verbosity(level)
