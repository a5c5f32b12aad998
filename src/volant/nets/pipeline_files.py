"""What a directory of a diffusers pipeline may hold, told from its `model_index.json` and its files' names alone.

What enters: the index and the names. What leaves: the files to take, or an error. Weights are safetensors. Classes
are those of diffusers and transformers: diffusers imports whatever library an index names, so an index is checked
before anything is opened. No file of code is ever taken.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from volant.core.errors import ArtifactError

INDEX = "model_index.json"
_WEIGHTS = re.compile(r"(diffusion_pytorch_model|pytorch_model|model)(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_BESIDE = ("*.json", "merges.txt", "vocab.txt", "*.model", "*.jinja")
_ROOT = (INDEX, "LICENSE*")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
_CONFIGURED = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "Extractor", "Processing", "FeatureExtractor")


def read_index(file: Path) -> dict[str, Any]:
    """The parsed `model_index.json`, or a part's configuration.

    Raises:
        ArtifactError: it is missing or no JSON object.
    """
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(body, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
        fix = "Name a directory that `save_pretrained` of diffusers wrote."
        raise ArtifactError(f"no readable {file.name}: {error}", fix=fix) from error
    return body


def components(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Name to (library, class) of each part that a pipeline consists of.

    Raises:
        ArtifactError: the pipeline or a part is of a class that neither diffusers nor transformers has.
    """
    import diffusers

    named = index.get("_class_name")
    made = getattr(diffusers, named, None) if isinstance(named, str) else None
    fix = "Use a pipeline of a class that the installed diffusers has."
    if not (isinstance(made, type) and issubclass(made, diffusers.DiffusionPipeline)):
        raise ArtifactError(f"its pipeline {named!r} is code of its own, which Volant never runs.", fix=fix)
    found = {}
    for name, value in index.items():
        if name.startswith("_") or not (isinstance(value, list) and len(value) == 2) or value == [None, None]:
            continue
        library, kind = value
        if not name.isidentifier() or not _known(library, kind):
            raise ArtifactError(f"its part {name!r} is {library}.{kind}, which Volant does not open.", fix=fix)
        found[name] = (str(library), str(kind))
    return found


def _known(library: Any, kind: Any) -> bool:
    """Whether a class is one of diffusers (or of one of its pipelines' folders) or of transformers."""
    import diffusers
    import transformers

    if not (isinstance(library, str) and isinstance(kind, str) and library.isidentifier()):
        return False
    if library in ("diffusers", "transformers"):
        return isinstance(getattr(diffusers if library == "diffusers" else transformers, kind, None), type)
    # `stable_diffusion` of a safety checker is diffusers.pipelines.stable_diffusion; diffusers looks there first.
    return importlib.util.find_spec(f"diffusers.pipelines.{library}") is not None


def chosen(index: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The files to take: of each part its configuration, and its weights where there are several kinds the plain ones.

    Args:
        index: `model_index.json`.
        names: all files, relative to the directory, with `/`.

    Raises:
        ArtifactError: a part is missing, or its weights are no safetensors.
    """
    there = sorted(names)
    taken = [name for name in there if "/" not in name and any(fnmatch.fnmatch(name, p) for p in _ROOT)]
    for part, (_, kind) in components(index).items():
        inside = [name for name in there if name.startswith(f"{part}/") and name.count("/") == 1]
        if not inside:
            raise ArtifactError(f"its part {part!r} is missing.", fix="Fetch the whole directory.")
        mine = [name for name in inside if _is_taken(name.rpartition("/")[2])]
        if not kind.endswith(_CONFIGURED) and not any(name.endswith(".safetensors") for name in mine):
            raise _no_weights(part, inside)
        taken += mine
    return taken


def patterns(index: Mapping[str, Any]) -> list[str]:
    """What to ask a hub for: patterns in which `*` stands for any characters, as the hub's client has it."""
    weights = [f"{name}*.safetensors" for name in ("diffusion_pytorch_model", "pytorch_model", "model")]
    return [*_ROOT, *(f"{part}/{name}" for part in components(index) for name in (*_BESIDE, *weights))]


# A hub's repository often holds the same weights again in other kinds of numbers, which are not taken.
LEFT_OUT = ("*.fp16.*", "*.bf16.*", "*.non_ema.*", "*.ema.*")


def _is_taken(name: str) -> bool:
    if ".safetensors" in name:
        return _WEIGHTS.fullmatch(name) is not None
    # The index of weights in another format names files that are not taken.
    return not name.endswith(".bin.index.json") and any(fnmatch.fnmatch(name, p) for p in _BESIDE)


def _no_weights(part: str, inside: list[str]) -> ArtifactError:
    pickled = [name for name in inside if name.endswith(_PICKLES)]
    other = [name.rpartition("/")[2] for name in inside if name.endswith(".safetensors")]
    if other:
        fix = "Save the pipeline once with diffusers, without a `variant`, then name the result."
        return ArtifactError(f"the weights of {part!r} are there as {other[0]} alone.", fix=fix)
    fix = "Convert it to safetensors where you trust it, then name the result."
    if pickled:
        what = f"the weights of {part!r} are a pickle ({pickled[0]}), which can run code when it is read."
        return ArtifactError(what, fix=fix)
    return ArtifactError(f"there are no weights in safetensors for {part!r}.", fix=fix)


def forget_places(folder: Path) -> None:
    """Take the names of the directories that parts were loaded from out of all their configurations."""
    for file in sorted(folder.rglob("*.json")):
        try:
            body = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(body, dict) and (body.pop("_name_or_path", None) is not None or body.pop("name_or_path", None)):
            file.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_configs(folder: Path, index: Mapping[str, Any]) -> None:
    """Refuse configurations that ask for code of their own.

    Raises:
        ArtifactError: a part's configuration has `auto_map`.
    """
    for part in components(index):
        for file in sorted((folder / part).glob("*config.json")):
            if "auto_map" in read_index(file):
                what = f"{part}/{file.name} asks for code of its own (`auto_map`), which Volant never runs."
                raise ArtifactError(what, fix="Use a pipeline of classes that diffusers and transformers have.")
