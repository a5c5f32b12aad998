"""Write everything that another machine needs to serve one pinned model, and prove that it starts.

What enters: a Model, a Prompt, a Report. What leaves: an Endpoint whose directory is a container build:
Dockerfile, compose file, requirements with versions, the server's own source, the model, and
`endpoint.json` with the start command. That exact command is run once from the directory and asked.
No container engine is needed to make it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from volant.core import Endpoint, Model, Prompt, Report, Run

if TYPE_CHECKING:
    from volant.core.protocols import Route
    from volant.serving.limits import Limits

PORT = 8000
USER = 10_001


def container(
    run: Run,
    model: Model,
    *,
    report: Report | None = None,
    prompt: Prompt | None = None,
    alias: str = "champion",
    engine: str = "",
    base_image: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$")] = "python:3.11-slim",
    allow_hosts: list[str] | None = None,
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] = 512,
    queue: Annotated[int, Field(ge=1, le=10_000)] = 64,
    batch: Annotated[int, Field(ge=1, le=256)] = 8,
    threads: Annotated[int, Field(ge=1, le=256)] = 2,
) -> Endpoint:
    """Write a container build that serves this one model, and run its start command once.

    Args:
        run: where and with what.
        model: copied into the build and pinned by its digest; the server refuses to start with another.
        report: cited in the endpoint.
        prompt: copied too; the server puts it before every request.
        alias: the name that clients use as `model`.
        engine: runs the model in place of the one that it names; empty for its own.
        base_image: of the Dockerfile; name it with a digest (`@sha256:...`) for builds that repeat exactly.
        allow_hosts: names that clients reach the container by (`api.example.org`), beside localhost.
        max_tokens: of one answer; a request for more is refused with 400.
        queue: requests that may wait; more are refused with 429 and a time to come again.
        batch: requests that run together; more serves more people in sum and each of them more slowly.
        threads: of the engine in the container; set it to the processors that the container is given.

    Raises:
        MissingPackage: a package that the server needs is not installed here, so its version is not known.
        RemoteError: the start command did not bring up a server that answers.
    """
    from volant.serving.limits import Limits
    from volant.serving.service import kinds, modality_routes
    from volant.stages.deploy.packages import requirements

    limits = Limits(max_tokens=max_tokens, default_tokens=min(64, max_tokens), queue=queue, batch=batch)
    about, digest = model.about, model.digest
    runs_on = engine or about.engine
    pins = requirements(runs_on, about.modality, about.family, where=run.step)
    command = _command(alias, digest, engine, threads, limits, allow_hosts or [], prompt is not None)
    _copy_payload(model.path, run.out / "model")
    if prompt:
        _copy_payload(prompt.path, run.out / "prompt")
    _copy_source(run.out / "volant")
    (run.out / "requirements.txt").write_text(pins, encoding="utf-8")
    (run.out / "Dockerfile").write_text(_dockerfile(base_image, command, prompt is not None), encoding="utf-8")
    (run.out / "compose.yaml").write_text(_compose(alias), encoding="utf-8")
    routes = modality_routes(model)
    receipt = _tried(run, command, routes, digest)
    endpoint: dict[str, Any] = {
        "alias": alias, "model": digest, "prompt": prompt.digest if prompt else "", "engine": runs_on,
        "modality": about.modality, "limits": limits.model_dump(), "routes": kinds(routes),
        "report": report.digest if report else "", "command": command, "base_image": base_image, "receipt": receipt,
    }  # fmt: skip
    (run.out / "endpoint.json").write_text(json.dumps(endpoint, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    run.say("container build written; `docker compose up --build` in its directory starts it")
    return Endpoint(run.out)


def _command(
    alias: str, digest: str, engine: str, threads: int, limits: Limits, hosts: list[str], prompt: bool
) -> list[str]:
    """What the container starts; address, port and records come from the environment."""
    command = ["python", "-m", "volant.serving.run", "--model", "model", "--name", alias, "--digest", digest]
    command += ["--threads", str(threads)]
    command += ["--engine", engine] if engine else []
    command += ["--prompt", "prompt"] if prompt else []
    for host in ("localhost", *hosts):
        command += ["--allow-host", host]
    bounds = limits.model_dump_json(exclude_defaults=True)
    return [*command, "--limits", bounds] if bounds != "{}" else command


def _copy_payload(source: Path, target: Path) -> None:
    """The payload without its card: a card has a time, and the digest is pinned in the command."""
    from volant.core.artifact import CARD

    shutil.copytree(source, target, ignore=lambda folder, names: [CARD] if Path(folder) == source else [])


def _copy_source(target: Path) -> None:
    """The server's own source, as it is installed here."""
    import volant

    skip = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(Path(volant.__file__).parent, target, ignore=skip)


def _dockerfile(base_image: str, command: list[str], prompt: bool) -> str:
    copied = "COPY prompt prompt\n" if prompt else ""
    check = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{PORT}/readyz', timeout=3)"
    return f"""\
FROM {base_image}
# The index of a smaller build of torch, for one without GPU; empty for the default index.
ARG EXTRA_INDEX_URL=""
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
ENV HF_HUB_OFFLINE=1 HF_HOME=/tmp/hf
WORKDIR /srv
COPY requirements.txt .
RUN pip install ${{EXTRA_INDEX_URL:+--extra-index-url "$EXTRA_INDEX_URL"}} -r requirements.txt
COPY volant volant
COPY model model
{copied}RUN mkdir /data && chown {USER}:{USER} /data
ENV VOLANT_HOST=0.0.0.0 VOLANT_PORT={PORT} VOLANT_RECORDS=sqlite:////data/records.db
USER {USER}:{USER}
VOLUME /data
EXPOSE {PORT}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD {json.dumps(["python", "-c", check])}
CMD {json.dumps(command)}
"""


def _compose(alias: str) -> str:
    return f"""\
# A key is needed: the container is not localhost to its clients. VOLANT_API_KEY=$(openssl rand -hex 24)
services:
  model:
    build: .
    image: volant-{"".join(c if c.isalnum() else "-" for c in alias.lower()).strip("-") or "model"}
    init: true
    read_only: true
    user: "{USER}:{USER}"
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    tmpfs: [/tmp]
    volumes: ["records:/data"]
    environment:
      VOLANT_API_KEY: ${{VOLANT_API_KEY:?set a key of 16 characters or more}}
    ports: ["127.0.0.1:{PORT}:{PORT}"]
    stop_grace_period: 40s
    restart: unless-stopped
volumes:
  records:
"""


def _tried(run: Run, command: list[str], routes: dict[str, str | Route], digest: str) -> list[dict[str, Any]]:
    """Run the start command from the written directory on a free loopback port, ask it, and stop it."""
    from volant.serving import smoke
    from volant.serving.background import child_at

    with child_at(run.out, command, log=run.work / "container.log") as url:
        return smoke.receipt(url, routes, text="Hello", max_tokens=16, digest=digest)
