"""Weights in 8 bits: a quarter of the size, whatever the family; here on disk, in `int8_tables` in memory.

What enters: a model directory with safetensors. What leaves: the same directory in which each of those files is
replaced by one of int8 weights with a scale for each row of the first axis (a layer's output), and back: `restored`
gives a directory with float weights, which the family opens as it opens any other. Arithmetic stays float32, so
this saves disk and transfer, not time. What has less than two axes (biases, norms), is small, or is no float of a
network's stays as it is: float64 is data (the edges of a column's ranges), which no training would forgive.

A tensor `w` is kept as `w` (int8), with its scales as `scale_of/w` (float32); its type before is in the metadata.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from volant.core.errors import ArtifactError

SUFFIX = ".int8.safetensors"
_SCALE, _TYPES = "scale_of/", "int8"
_SMALLEST = 64  # numbers; below it the scales eat what is saved


def packed(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors by name with the matrices among them in int8, each beside its scales."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if not _packs(tensor):
            found[name] = tensor.contiguous()
            continue
        found[name], found[_SCALE + name] = by_row(tensor)
    return found


def by_row(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor of at least two axes as int8, and the float32 scale of each row of its first axis."""
    rows = tensor.float().flatten(1)
    scale = rows.abs().amax(1) / 127
    whole = torch.where(scale > 0, scale, torch.ones_like(scale))  # a row of zeros
    return torch.round(rows / whole[:, None]).clamp(-127, 127).to(torch.int8).reshape(tensor.shape), scale


def of_rows(numbers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The floats that int8 numbers stand for; `scale` has the first of their axes, or the first few."""
    return numbers * scale.view(*scale.shape, *[1] * (numbers.dim() - scale.dim()))


def unpacked(tensors: Mapping[str, torch.Tensor], types: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """The way back from `packed`; `types` names the float type of each that was packed.

    Raises:
        ValueError: scales are missing, or of another length than the tensor.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith(_SCALE):
            continue
        if name not in types:
            found[name] = tensor
            continue
        scale = tensors.get(_SCALE + name)
        if scale is None or tensor.dim() < 2 or scale.shape != tensor.shape[:1] or types[name] not in _FLOATS:
            raise ValueError(f"the scales of {name} are missing or do not fit")
        found[name] = of_rows(tensor, scale).to(_FLOATS[types[name]])
    return found


def pack_folder(source: Path, target: Path) -> tuple[int, int]:
    """Copy a model directory with its safetensors in int8; bytes of weights after and before.

    A file in which nothing is packed is copied as it is.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    after = before = 0
    for file in _files(source):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != ".safetensors":
            shutil.copyfile(file, place)
            continue
        tensors = load_file(file)
        with safe_open(file, "pt") as opened:
            metadata = dict(opened.metadata() or {})
        types = {n: _name(t.dtype) for n, t in tensors.items() if _packs(t)}
        if types:
            place = place.with_name(file.name.removesuffix(".safetensors") + SUFFIX)
            save_file(packed(tensors), place, metadata={**metadata, _TYPES: json.dumps(types, sort_keys=True)})
        else:
            shutil.copyfile(file, place)
        after, before = after + place.stat().st_size, before + file.stat().st_size
    return after, before


@contextmanager
def restored(folder: Path) -> Iterator[Path]:
    """A directory with float weights: the folder itself, or a temporary one where it holds int8.

    Raises:
        ArtifactError: a file is damaged.
    """
    small = {f for f in _files(folder) if f.name.endswith(SUFFIX)}
    if not small:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="volant-int8-") as place:
        whole = Path(place)
        for file in _files(folder):
            target = whole / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file in small:
                _restore(file, target.with_name(file.name.removesuffix(SUFFIX) + ".safetensors"))
            else:
                shutil.copyfile(file, target)
        yield whole


def _restore(file: Path, target: Path) -> None:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save_file

    try:
        with safe_open(file, "pt") as opened:
            metadata = dict(opened.metadata() or {})
        types = json.loads(metadata.pop(_TYPES, "{}"))
        save_file(unpacked(load_file(file), types), target, metadata=metadata or None)
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        first = str(error).strip().split("\n")[0]
        what = f"the int8 weights cannot be opened: {first}"
        raise ArtifactError(what, where=str(file), fix="Run `volant verify`.") from error


_FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _packs(tensor: torch.Tensor) -> bool:
    return tensor.dim() >= 2 and tensor.numel() >= _SMALLEST and _name(tensor.dtype) in _FLOATS


def _files(folder: Path) -> list[Path]:
    """Plain files below a folder, sorted; the card is none of the payload."""
    return sorted(f for f in folder.rglob("*") if f.is_file() and f.relative_to(folder).as_posix() != "artifact.json")
