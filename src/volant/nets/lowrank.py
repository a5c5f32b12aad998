"""Low-rank adapters in any network, through PEFT: put in, trained, saved by themselves, merged.

What enters: a network whose named layers (`nn.Linear`, `nn.Conv2d`) get adapters. What leaves: the same
network, trained and merged, with the layers' own names again. Transformers models go through
`finetune.lora`, which PEFT knows as a whole; here it is told layer by layer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from volant.core.errors import SettingError, did_you_mean


def layers(net: nn.Module) -> list[str]:
    """The names of the layers that can get an adapter."""
    return [name for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def adapt(net: nn.Module, *, rank: int, alpha: float, dropout: float, targets: Sequence[str], seed: int) -> list[str]:
    """Put adapters into the named layers and freeze everything else, in place.

    Args:
        net: changed in place.
        rank: columns of the adapter's matrices.
        alpha: strength, as `alpha / rank`; 0 takes twice the rank.
        dropout: share of an adapter's inputs that training leaves out.
        targets: ends of layers' names (`to_q`, `conv1`); empty for all layers.
        seed: of the adapters.

    Returns:
        The names of the layers that got one.

    Raises:
        SettingError: a target ends no layer's name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    known = layers(net)
    chosen = [n for n in known if not targets or any(n == t or n.endswith(f".{t}") for t in targets)]
    for target in targets:
        if not any(n == target or n.endswith(f".{target}") for n in known):
            ends = sorted({n.rpartition(".")[2] for n in known})
            raise SettingError(f"no layer is called {target!r}.", where="targets", fix=did_you_mean(target, ends))
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config: Any = LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, lora_dropout=dropout, target_modules=chosen)  # type: ignore[arg-type]
        inject_adapter_in_model(config, net)
    return chosen


def save(net: nn.Module, folder: Path, *, rank: int, alpha: float) -> None:
    """Write the adapters alone: `adapter_model.safetensors` by PEFT's names, and `adapter_config.json`."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {n: t.detach().cpu().contiguous() for n, t in get_peft_model_state_dict(net).items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    body = {
        "peft_type": "LORA", "r": rank, "lora_alpha": alpha or 2 * rank,
        "target_modules": sorted({n.split(".lora_")[0] for n in tensors}),
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def merge(net: nn.Module) -> None:
    """Add each adapter into its layer and put the plain layer back, in place; all weights train again."""
    for name, module in list(net.named_modules()):
        base = getattr(module, "base_layer", None)
        if base is None or not hasattr(module, "merge"):
            continue
        module.merge(safe_merge=True)
        net.set_submodule(name, module.get_base_layer())
    for parameter in net.parameters():
        parameter.requires_grad_(True)
