"""Which packages a server needs for a model, and in which versions they are installed here.

What enters: the names of the model's engine, modality and family. What leaves: the lines of a requirements file.
For engines of text the packages are few and known. For any other they are read from the source: what the engine's,
the modality's and the family's files import, and the files that those lean on. So nobody keeps a list of what each
modality needs, and an image holds no package that only training loads.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

# Only what the server loads; training packages stay out of the image.
ROOTS = (
    "fastapi", "uvicorn", "pydantic", "jinja2", "prometheus-client", "psutil", "httpx", "numpy", "SQLAlchemy",
    "tokenizers", "safetensors", "fsspec",
)  # fmt: skip
ENGINE_ROOTS = {"torch": ("torch", "transformers"), "ctranslate2": ("ctranslate2",), "remote": ()}
LAYERS = ("engines", "modalities", "nets")


def requirements(engine: str, modality: str, family: str, *, where: str = "") -> str:
    """Every package that the server needs, with the version that is installed here, one a line.

    Args:
        engine: runs the model.
        modality: of the model.
        family: of the model.
        where: the step, for the message.

    Raises:
        MissingPackage: one of them is not installed here, so its version is not known.
    """
    import importlib.metadata
    from collections import deque

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from volant.core.errors import MissingPackage

    known = ENGINE_ROOTS.get(engine)
    own = imported(engine, modality, family) if known is None else known
    waiting = deque((name, name) for name in (*ROOTS, *own))
    pins: dict[str, str] = {}
    while waiting:
        name, wanted_by = waiting.popleft()
        key = canonicalize_name(name)
        if key in pins:
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            what, fix = f"{wanted_by} needs {name}, which is not installed.", f"Install {name}."
            raise MissingPackage(what, where=where, fix=fix) from None
        # A local label (`+cpu`) says which build was here; no index knows a version by it.
        pins[key] = found.version.partition("+")[0]
        for line in found.requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                waiting.append((need.name, key))
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def imported(engine: str, modality: str, family: str) -> tuple[str, ...]:
    """The packages that Volant's own files for the three import, anywhere in them, sorted.

    What is imported there and not installed here is left out: the model runs here without it.
    """
    import importlib.metadata
    import sys

    waiting = [f"volant.{layer}.{name}" for layer, name in zip(LAYERS, (engine, modality, family), strict=True)]
    seen: set[str] = set()
    outside: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in _imports(module):
            if name.startswith("volant."):
                waiting += [name] if name.split(".")[1] in LAYERS else []
            else:
                outside.add(name.partition(".")[0])
    packages = importlib.metadata.packages_distributions()
    found = {packages[name][0] for name in outside - sys.stdlib_module_names if name in packages}
    return tuple(sorted(found))


def _imports(module: str) -> Iterator[str]:
    """What a module of Volant imports, with names below a package as modules too; nothing where it is no file here."""
    import volant

    place = Path(volant.__file__).parent.joinpath(*module.split(".")[1:])
    file = place.with_suffix(".py")
    if not file.is_file():
        file = place / "__init__.py"
    if not file.is_file():
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
