"""Modules of diffusers as files, without the place that they were read from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def save_module(module: Any, folder: Path) -> None:
    """Write `config.json` and safetensors, as diffusers does.

    Diffusers notes in the configuration from which folder a module came. No payload names a place of one machine, and
    the same weights have to give the same digest wherever they were.
    """
    module.save_pretrained(folder, safe_serialization=True)
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
