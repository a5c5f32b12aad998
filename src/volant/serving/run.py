"""A serving process: port, readiness, SIGTERM, live state; also as `python -m volant.serving.run`.

What enters: a service, or the names from which one is made. What leaves: nothing; it ends when told to.
On SIGTERM or Ctrl-C readiness goes off and new requests get 503 while the listener still answers, so that
a load balancer sees it; requests in flight end, up to `Limits.drain_seconds`; then the process exits 0.
Uvicorn's own handler would end by the signal and close the listener first.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from volant.core import Prompt
from volant.core.errors import ArtifactError, MachineError, VolantError
from volant.serving.app import create_app
from volant.serving.arguments import parse
from volant.serving.connection import PromptProtocol
from volant.serving.engine import Served
from volant.serving.process import LOOPBACK as LOOPBACK
from volant.serving.process import Process as Process
from volant.serving.service import Fixed, Service, model_at, source_for

if TYPE_CHECKING:
    from volant.store.records import Records

# After the drain, for the last bytes of answers to leave the socket.
LAST_BYTES_SECONDS = 2

Ready = Callable[[str, int], None]


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, so that the port is known before the server starts.

    Raises:
        MachineError: the port is taken or not allowed.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise MachineError(f"port {port} cannot be used: {error.strerror}", where=host, fix="Name another.") from error
    return listener


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _listen(service: Service, listener: socket.socket, stop: threading.Event, ready: Ready | None) -> None:
    config = uvicorn.Config(
        create_app(service), log_config=None, access_log=False, server_header=False, lifespan="off", ws="none",
        http=PromptProtocol,
        # X-Forwarded-For must not make a stranger a local client.
        proxy_headers=False, timeout_graceful_shutdown=LAST_BYTES_SECONDS,
        limit_concurrency=service.limits.queue * 2 + 256,
    )  # fmt: skip
    server = _Server(config)
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not (server.started or task.done()):
        await asyncio.sleep(0.005)
    host, port = listener.getsockname()[:2] if not task.done() else ("", 0)
    if ready and not task.done():
        ready(host, port)
    while not (stop.is_set() or task.done()):
        await asyncio.sleep(0.05)
    service.draining = True
    deadline = loop.time() + service.limits.drain_seconds
    while service.in_flight and loop.time() < deadline and not task.done():
        await asyncio.sleep(0.02)
    server.should_exit = True
    await task


def listen(service: Service, listener: socket.socket, *, stop: threading.Event, ready: Ready | None = None) -> None:
    """Serve until `stop` is set (or SIGTERM, in the main thread), drain, and close the service."""
    try:
        asyncio.run(_listen(service, listener, stop, ready))
    finally:
        listener.close()
        service.close()


@contextlib.contextmanager
def running(service: Service, *, host: str = LOOPBACK, port: int = 0) -> Iterator[str]:
    """The service in a thread, for a smoke test or a notebook; gives its base URL, and stops it in the end."""
    listener = bind(host, port)
    stop, up = threading.Event(), threading.Event()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            listen(service, listener, stop=stop, ready=lambda host, port: up.set())
        except BaseException as error:
            failure.append(error)
        finally:
            up.set()

    port = listener.getsockname()[1]
    thread = threading.Thread(target=work, name="volant-http")
    thread.start()
    try:
        up.wait(30)
        if failure:
            raise failure[0]
        yield f"http://{host}:{port}"
    finally:
        stop.set()
        thread.join(service.limits.drain_seconds + 30)


def live_name(workload: str) -> str:
    """Under which name the live state of a workload's server is kept."""
    return f"serve:{workload}"


def serve(
    root_store: Path,
    records_url: str,
    target: str,
    *,
    process: Process | None = None,
    prompt: str = "",
    until: str = "",
    ready: Ready | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve what an alias points to, in the foreground, until SIGTERM, Ctrl-C or `stop`.

    Args:
        root_store: `<project>/.volant`.
        records_url: SQLAlchemy URL of the records.
        target: an alias to follow, or a model's digest.
        process: address, workload, engine, threads, limits.
        prompt: digest of a Prompt that goes before every request.
        until: digest of the model that is served until something is promoted to the alias.
        ready: told host and port once requests are taken.

    Raises:
        VolantError: nothing to serve, an unsafe address, a port that is taken.
    """
    from volant.store.blobs import Store
    from volant.store.records import Records

    process = process or Process()
    process.door()  # an unsafe address is refused before a model is opened
    store, records = Store(root_store), Records.open(records_url)
    found = store.get(prompt) if prompt else None
    if found is not None and not isinstance(found, Prompt):
        raise ArtifactError(f"{prompt[:16]} is a {found.kind}, not a Prompt", where="prompt", fix="Name a Prompt.")
    source = source_for(store, records, target, found, until=until)
    listener = bind(process.host, process.port)
    try:
        service = process.service(source, records)
    except BaseException:
        listener.close()
        raise
    _serve_live(service, process, records, listener, ready, stop or threading.Event())


def _serve_live(
    service: Service,
    process: Process,
    records: Records,
    listener: socket.socket,
    ready: Ready | None,
    stop: threading.Event,
) -> None:
    """Listen, and keep pid, port and current model in the records for as long as it lasts."""
    state: dict[str, Any] = {
        "pid": os.getpid(), "host": process.host, "port": listener.getsockname()[1], "workload": process.workload,
        "target": service.name, "started_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }  # fmt: skip

    def publish(served: Served) -> None:
        current = {"model": served.digest, "engine": served.engine, "prompt": served.prompt_digest}
        records.set_live(live_name(process.workload), {**state, **current})

    def up(host: str, port: int) -> None:
        publish(service.served)
        service.on_swap = publish
        if ready:
            ready(host, port)

    try:
        listen(service, listener, stop=stop, ready=up)
    finally:
        records.clear_live(live_name(process.workload))


def serve_path(
    path: Path,
    *,
    process: Process | None = None,
    name: str = "champion",
    digest: str = "",
    prompt: Path | None = None,
    records_url: str = "",
    ready: Ready | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Serve the model in a directory, in the foreground; what a container runs.

    Args:
        digest: the model must hash to it.
        prompt: the directory of a Prompt.
        records_url: where requests and feedback go; empty keeps none.

    Raises:
        VolantError: no model there, or another one than pinned; else as `serve`.
    """
    process = process or Process()
    process.door()
    source = Fixed(model_at(path), Prompt(prompt) if prompt else None, name=name, pinned=digest)
    listener = bind(process.host, process.port)
    stop = stop or threading.Event()
    records: Records | None = None
    try:
        if records_url:
            from volant.store.records import Records

            records = Records.open(records_url)
        service = process.service(source, records)
    except BaseException:
        listener.close()
        raise
    if records is not None:
        _serve_live(service, process, records, listener, ready, stop)
    else:
        listen(service, listener, stop=stop, ready=ready)


def _end_with(parent: int) -> None:
    """End when the parent does: a smoke test that is killed without a word must leave no server behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.25)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="volant-parent", daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m volant.serving.run`; 0 after an orderly end, 2 with one line for what the user can mend."""

    def announce(host: str, port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"ready http://{shown}:{port}\n")
        sys.stdout.flush()

    if parent := os.environ.get("VOLANT_PARENT", ""):
        _end_with(int(parent))
    try:
        asked = parse(arguments)
        if asked.model:
            serve_path(
                asked.model, process=asked.process, name=asked.name, digest=asked.digest, prompt=asked.prompt_path,
                records_url=asked.records, ready=announce,
            )  # fmt: skip
        else:
            serve(
                asked.store, asked.records, asked.target, process=asked.process, prompt=asked.prompt,
                until=asked.until, ready=announce,
            )  # fmt: skip
    except VolantError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before an engine loads OpenMP: waiting threads sleep
    sys.exit(main())
