"""Checkpoints: whole or not there, without pickle, and bit-exact to come back to.

What enters: tensors (weights, optimiser, random state) and small facts (step, best loss). What
leaves: `<folder>/<step>/` with `tensors.safetensors` and `state.json`. It is written beside, synced
and renamed, so a kill leaves the old one; `state.json` holds the sha256 of the tensors, because
safetensors does not notice a flipped bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from volant.core.artifact import file_sha256
from volant.core.errors import MachineError
from volant.store.disk import is_full

_TENSORS, _FACTS = "tensors.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back."""

    step: int
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, torch.Tensor]:
        """The tensors under `prefix/`, with the prefix taken off."""
        return {n.removeprefix(f"{prefix}/"): t for n, t in self.tensors.items() if n.startswith(f"{prefix}/")}


def save(folder: Path, step: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any], *, keep: int = 2) -> Path:
    """Write the checkpoint of `step` and remove all but the newest `keep`.

    Args:
        keep: two, so that one that does not read back leaves another to go to.

    Raises:
        MachineError: the disk is full, or refuses; the checkpoints from before are untouched.
    """
    beside, target = folder / f"{step}.new", folder / f"{step:09d}"
    try:
        _write(beside, step, tensors, facts)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        kept = _found(folder)
        held = f"; the one of step {int(kept[0].name)} is kept" if kept else ""
        full = is_full(error)
        what = f"{'the disk is full: ' if full else ''}the checkpoint of step {step} cannot be written: {error}{held}."
        mend = "Make room (`volant gc`)" if full else "See that the folder can be written and its disk is sound"
        on = "carries on from there" if kept else "begins anew"
        fix = f"{mend}, then run again: it {on}."
        raise MachineError(what, fix=fix) from error
    if target.exists():
        shutil.rmtree(target)
    beside.rename(target)
    _sync(folder)
    for old in _found(folder)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _write(beside: Path, step: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
    """All of a checkpoint, synced."""
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    plain = {n: t.detach().to("cpu").contiguous() for n, t in tensors.items()}
    save_file(plain, beside / _TENSORS)
    body = {"step": step, "sha256": file_sha256(beside / _TENSORS), "facts": facts}
    (beside / _FACTS).write_text(json.dumps(body, sort_keys=True), encoding="utf-8")
    for file in (beside / _TENSORS, beside / _FACTS, beside):
        _sync(file)


def latest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that reads back whole; damaged ones are passed over."""
    for place in _found(folder):
        try:
            body = json.loads((place / _FACTS).read_text(encoding="utf-8"))
            if file_sha256(place / _TENSORS) != body["sha256"]:
                continue
            return Checkpoint(int(body["step"]), load_file(place / _TENSORS), body["facts"])
        except (OSError, ValueError, KeyError):
            continue
    return None


def clear(folder: Path) -> None:
    """Remove all checkpoints of the folder."""
    shutil.rmtree(folder, ignore_errors=True)


def random_state(device: str) -> dict[str, torch.Tensor]:
    """The state of torch's random generators, as tensors."""
    found = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def set_random_state(states: dict[str, torch.Tensor]) -> None:
    """Put a state from `random_state` back."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def tensors_digest(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 over names, types, shapes and bytes; two states are the same iff this is."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu").contiguous()
        total.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\n".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _found(folder: Path) -> list[Path]:
    """Complete checkpoints, newest first."""
    return sorted((p for p in folder.glob("*") if p.name.isdigit()), key=lambda p: p.name, reverse=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
