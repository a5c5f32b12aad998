"""A page that people answer on in a browser of this machine: how its text is filled in, and how it is served.

Enters: an HTML file with `{{names}}`, an app, a port. Leaves: the page, with the style and the script that all such
pages share (`local_page.css`, `local_page.js`), under a policy that lets nothing in from elsewhere, and a server on the
loopback address until Ctrl-C.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import HTMLResponse
from pydantic import StringConstraints

_SHARED = Path(__file__)
Rater = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"\S")]
"""Who answers, as they typed it."""
Skipped = Annotated[str, Query(max_length=60_000)]
"""What they passed, with commas."""


def filled(file: Path, **words: str) -> HTMLResponse:
    """The page with its words, escaped, and a nonce of its own."""
    nonce = secrets.token_urlsafe(16)
    text = file.read_text(encoding="utf-8").replace("{{nonce}}", nonce)
    for name, suffix in (("style", ".css"), ("shared", ".js")):
        text = text.replace("{{" + name + "}}", _SHARED.with_suffix(suffix).read_text(encoding="utf-8"))
    for name, word in words.items():
        text = text.replace("{{" + name + "}}", html.escape(word))
    rules = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": rules, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(text, headers=headers)


def serve(app: Any, port: int, ready: Callable[[str], None]) -> None:
    """Serve on this machine alone until Ctrl-C; `ready` hears the address.

    Raises:
        MachineError: the port is taken or not allowed.
    """
    import uvicorn

    from volant.serving.run import LOOPBACK, bind

    listener = bind(LOOPBACK, port)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none", proxy_headers=False
    )
    listener.listen()  # who opens the address at once waits, and is not refused
    ready(f"http://{LOOPBACK}:{listener.getsockname()[1]}")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
