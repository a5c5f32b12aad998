"""`volant doctor`: can this machine do the work, and what to install where it cannot.

Enters: nothing but the machine. Leaves: a table of checks, each with a mend. Heavy packages are found by
their metadata and not imported, except torch, whose answers (threads, bf16, devices) only it can give.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from volant.cli import present

OPTIONAL = {
    "psycopg": "records in Postgres: pip install 'volant[postgres]'",
    "s3fs": "push to and pull from S3: pip install 'volant[s3]'",
    "openai": "the official client, for trying the server: pip install openai",
}
NEEDED_GB = 4.0


@dataclass(frozen=True)
class Check:
    """One finding: `ok`, `note` (works, but ...), or `bad` (mend it first)."""

    name: str
    state: Literal["ok", "note", "bad"]
    found: str
    mend: str = ""


def doctor(json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False) -> None:
    """Check this machine: Python, torch, threads, bf16, memory, disk, SQLite, optional packages.

    Ends with exit code 1 if something has to be mended first.

    Example:  `volant doctor`
    """
    checks = [*_python(), *_torch(), *_machine(), *_sqlite(), *_packages()]
    if json:
        present.as_json(checks)
    else:
        marks = {"ok": "ok", "note": "note", "bad": "MEND"}
        present.table(["", "check", "found", "what to do"], [(marks[c.state], c.name, c.found, c.mend) for c in checks])
    if any(c.state == "bad" for c in checks):
        raise typer.Exit(1)


def _python() -> Iterator[Check]:
    version = sys.version.split()[0]
    inside = sys.prefix != sys.base_prefix
    yield Check("python", "ok", version)
    mend = "" if inside else "python3 -m venv .venv && . .venv/bin/activate"
    yield Check("virtual environment", "ok" if inside else "note", "yes" if inside else "no", mend)


def _torch() -> Iterator[Check]:
    try:
        import torch
    except ImportError as error:
        yield Check("torch", "bad", f"does not import: {error}", "pip install torch")
        return
    yield Check("torch", "ok", torch.__version__)
    cores = os.cpu_count() or 1
    yield Check("threads", "ok", f"{torch.get_num_threads()} of {cores} cores")
    fast = _bf16(torch.backends.cpu.get_cpu_capability())
    yield Check("bf16 on the CPU", "ok" if fast else "note", "yes" if fast else "no, float32 is used")
    devices = ["cpu"]
    devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    yield Check("devices", "ok", ", ".join(devices))


def _bf16(capability: str) -> bool:
    """Whether the processor multiplies bf16 itself; emulated bf16 is slower than float32."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags or " bf16" in flags or "SVE" in capability


def _machine() -> Iterator[Check]:
    import psutil

    memory = psutil.virtual_memory()
    enough = memory.available / 1e9 >= NEEDED_GB * 0.75
    found = f"{present.size(memory.available)} free of {present.size(memory.total)}"
    mend = "" if enough else f"the default example needs {NEEDED_GB:.0f} GB; close other programs"
    yield Check("memory", "ok" if enough else "note", found, mend)
    free = shutil.disk_usage(Path.cwd()).free
    roomy = free >= 2e9
    yield Check(
        "disk here", "ok" if roomy else "bad", f"{present.size(free)} free", "" if roomy else "free 2 GB or more"
    )


def _sqlite() -> Iterator[Check]:
    safe = sqlite3.sqlite_version_info >= (3, 51, 3)
    note = "" if safe else "before 3.51.3 it has a WAL-reset bug; Volant works around it with a lock"
    yield Check("sqlite", "ok" if safe else "note", sqlite3.sqlite_version, note)


def _packages() -> Iterator[Check]:
    for name in ("transformers", "tokenizers", "peft", "trl", "datasets", "ctranslate2"):
        version = _version(name)
        yield Check(name, "ok" if version else "bad", version or "missing", "" if version else f"pip install {name}")
    if (
        _version("torchvision")
        and "+cpu" in (_version("torch") or "")
        and "+cpu" not in (_version("torchvision") or "")
    ):
        mend = "it breaks `import transformers` beside a CPU torch: pip uninstall torchvision"
        yield Check("torchvision", "bad", _version("torchvision") or "", mend)
    for name, use in OPTIONAL.items():
        version = _version(name)
        yield Check(name, "ok" if version else "note", version or "not installed", "" if version else use)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
