"""Serving: `volant serve` in this terminal, `volant up` and `volant down` in the background.

Enters: an alias or a model. Leaves: an OpenAI-compatible server on 127.0.0.1 that follows the alias, and
its live state in the records, so that `volant status` and `volant down` find it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from volant.cli import complete, place, present
from volant.core.artifact import Model, Prompt
from volant.core.errors import ArtifactError

if TYPE_CHECKING:
    from volant.project import Project
    from volant.serving.run import Process

Target = Annotated[
    str,
    typer.Argument(
        help="Alias, step or digest; the champion, else the newest model, by default.", autocompletion=complete.things
    ),
]
PromptName = Annotated[str, typer.Option("--prompt", help="A Prompt (step or digest) to put before every request.")]
Host = Annotated[str, typer.Option(help="Anything but 127.0.0.1 needs a key: set VOLANT_API_KEY.")]
Port = Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)]
Engine = Annotated[str, typer.Option(help="torch, ctranslate2 ...; the model's own by default.")]
Workload = Annotated[str, typer.Option(help="Under which name requests are recorded.")]
Threads = Annotated[int, typer.Option(help="Threads of the engine; 0: the project file's, else all cores.", min=0)]
Hosts = Annotated[list[str] | None, typer.Option("--allow-host", help="A further Host name that it answers to.")]
Guarded = Annotated[bool, typer.Option("--require-key", help="Ask this machine's own requests for a key too.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def serve(
    target: Target = "",
    host: Host = "127.0.0.1",
    port: Port = 8000,
    prompt: PromptName = "",
    engine: Engine = "",
    workload: Workload = "default",
    threads: Threads = 0,
    allow_host: Hosts = None,
    require_key: Guarded = False,
) -> None:
    """Serve a model with the OpenAI-compatible API until Ctrl-C; it follows promotions and rollbacks by itself.

    Examples:

        volant serve

        volant serve tuned --port 8080

        curl localhost:8000/v1/chat/completions -H 'content-type: application/json'
        -d '{"model": "champion", "messages": [{"role": "user", "content": "hello"}]}'
    """
    opened = place.project(threads=threads)
    from volant.serving import run

    process = _process(opened, host, port, engine, workload, allow_host, require_key)

    def ready(host: str, port: int) -> None:
        present.say(
            f"Serving at {address(host, port)}; Ctrl-C ends it. OpenAI clients: base_url={address(host, port)}/v1"
        )

    name, until = _target(opened, target)
    run.serve(
        opened.store.root, opened.records.database.url, name,
        process=process, prompt=_prompt(opened, prompt), until=until, ready=ready,
    )  # fmt: skip


def up(
    target: Target = "",
    host: Host = "127.0.0.1",
    port: Port = 8000,
    prompt: PromptName = "",
    engine: Engine = "",
    workload: Workload = "default",
    threads: Threads = 0,
    allow_host: Hosts = None,
    require_key: Guarded = False,
    json: Json = False,
) -> None:
    """Start the server in the background and wait until it is ready; `volant down` ends it.

    Example:  volant up && volant status
    """
    opened = place.project(threads=threads)
    from volant.serving import background

    name, until = _target(opened, target)
    child, bound = background.start_background(
        opened.store.root, opened.records.database.url, name, until=until,
        process=_process(opened, host, port, engine, workload, allow_host, require_key), prompt=_prompt(opened, prompt),
    )  # fmt: skip
    child.returncode = 0  # it outlives this process on purpose; nobody is to wait for it
    if json:
        present.as_json({"url": address(host, bound), "pid": child.pid, "workload": workload})
        return
    present.say(f"Serving at {address(host, bound)} (pid {child.pid}). `volant down` ends it.")


def down(workload: Workload = "default", json: Json = False) -> None:
    """Stop the background server; requests in flight are finished first.

    Example:  volant down
    """
    opened = place.project()
    from volant.serving import background

    if not background.stop(opened.records, workload):
        raise ArtifactError(f"no server of workload {workload!r} runs.", where="down", fix="`volant up` starts one.")
    if json:
        present.as_json({"stopped": workload})
        return
    present.say("Stopped the server.")


def address(host: str, port: int) -> str:
    """The base URL for a client on this machine."""
    name = "127.0.0.1" if host in ("0.0.0.0", "") else f"[{host}]" if ":" in host else host  # noqa: S104 - only compared
    return f"http://{name}:{port}"


def _process(
    opened: Project, host: str, port: int, engine: str, workload: str, hosts: list[str] | None, guarded: bool
) -> Process:
    from volant.serving.run import Process

    return Process(
        host=host, port=port, workload=workload, engine=engine, threads=opened.threads, device=opened.device,
        allow_hosts=tuple(hosts or ()), require_key=guarded,
    )  # fmt: skip


def _target(opened: Project, name: str) -> tuple[str, str]:
    """An alias as it is, so that the server follows it; a step or a digest as the digest of a model.

    Where there is no champion yet, the second is the newest model: it is served under the champion's name until
    the first promotion, which a server that runs already follows as well.
    """
    if name and opened.records.alias(name) is not None:
        return name, ""
    if name:
        return place.artifact(opened, name, Model).digest, ""
    if opened.records.alias("champion") is not None:
        return "champion", ""
    return "champion", place.newest(opened, Model).digest


def _prompt(opened: Project, name: str) -> str:
    return place.artifact(opened, name, Prompt).digest if name else ""


def live(opened: Project) -> dict[str, Any] | None:
    """What the default workload's server wrote, if there is one; with its URL."""
    state = opened.records.live("serve:default")
    return {**state, "url": address(str(state["host"]), int(state["port"]))} if state else None
