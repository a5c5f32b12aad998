"""The command line of `python -m volant.serving.run`, both ways: parsed here, and written for a child.

One file for both, so that a background process and a container get exactly the settings that were meant.
A container gives address, port and records by VOLANT_HOST, VOLANT_PORT and VOLANT_RECORDS; an option goes
before them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from volant.core.errors import SettingError
from volant.serving.limits import Limits
from volant.serving.process import Process


@dataclass(frozen=True)
class Asked:
    """What the command line says: a target in a store, or a model's directory."""

    process: Process
    store: Path = Path(".volant")
    records: str = ""
    target: str = "champion"
    prompt: str = ""
    model: Path | None = None
    name: str = "champion"
    digest: str = ""
    prompt_path: Path | None = None
    until: str = ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m volant.serving.run", description="Serve a model over HTTP.")
    records, host = os.environ.get("VOLANT_RECORDS", ""), os.environ.get("VOLANT_HOST", "127.0.0.1")
    port = os.environ.get("VOLANT_PORT", "0")
    parser.add_argument("--store", type=Path, default=Path(".volant"), help="the project's .volant directory")
    parser.add_argument(
        "--records",
        default=records,
        help="SQLAlchemy URL; with --model: empty keeps no records",
    )
    parser.add_argument("--target", default="champion", help="alias to follow, or a digest")
    parser.add_argument("--until", default="", help="digest to serve until something is promoted to the alias")
    parser.add_argument("--prompt", default="", help="digest of a Prompt; with --model: its directory")
    parser.add_argument("--model", type=Path, help="serve the model in this directory, without a store")
    parser.add_argument("--name", default="champion", help="what clients call it (with --model)")
    parser.add_argument("--digest", default="", help="refuse a model that does not hash to this (with --model)")
    parser.add_argument(
        "--host",
        default=host,
        help="address to bind to; others than loopback need a key",
    )
    parser.add_argument("--port", type=int, default=port, help="0 for a free one")
    parser.add_argument("--workload", default="default", help="under which name requests are recorded")
    parser.add_argument("--engine", default="", help="another engine than the model's own")
    parser.add_argument("--threads", type=int, default=1, help="for the engine's arithmetic")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--allow-host", action="append", default=[], help="further Host name to answer to")
    parser.add_argument("--require-key", action="store_true", help="ask for a key on localhost too")
    parser.add_argument("--limits", default="{}", help="JSON of limits that differ from the defaults")
    return parser


def parse(arguments: Sequence[str] | None = None) -> Asked:
    """Read a command line.

    Raises:
        SettingError: limits that are none, or a port or thread count out of range.
    """
    given = _parser().parse_args(arguments)
    try:
        limits = Limits.model_validate_json(given.limits)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise SettingError(f"{place}: {first['msg']}.", where="--limits", fix="Write JSON of known limits.") from error
    if not (0 <= given.port <= 65_535 and 1 <= given.threads <= 1_024):
        raise SettingError("port or threads out of range.", where="--port, --threads", fix="Ports end at 65535.")
    process = Process(
        host=given.host, port=given.port, workload=given.workload, engine=given.engine, threads=given.threads,
        device=given.device, allow_hosts=tuple(given.allow_host), require_key=given.require_key, limits=limits,
    )  # fmt: skip
    prompt_path = Path(given.prompt) if given.model and given.prompt else None
    return Asked(
        process,
        given.store,
        given.records,
        given.target,
        given.prompt,
        given.model,
        given.name,
        given.digest,
        prompt_path,
        given.until,
    )


def written(process: Process) -> list[str]:
    """The options that give `process` again, those at their default left out."""
    plain = {
        "--host": process.host, "--port": str(process.port), "--workload": process.workload, "--engine": process.engine,
        "--threads": str(process.threads), "--device": process.device,
    }  # fmt: skip
    options = [part for name, value in plain.items() if value for part in (name, value)]
    options += [part for host in process.allow_hosts for part in ("--allow-host", host)]
    options += ["--require-key"] if process.require_key else []
    limits = process.limits.model_dump_json(exclude_defaults=True)
    return options if limits == "{}" else [*options, "--limits", limits]
