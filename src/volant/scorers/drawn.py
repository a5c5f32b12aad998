"""Asking a model many things at once: requests by id enter, finished outputs by id leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from volant.core import Run
from volant.core.errors import DataError
from volant.core.sample import content_text

if TYPE_CHECKING:
    from volant.core.protocols import Output, Request

TEMPERATURE = 0.9
_BATCH = 16


def drawn(
    run: Run, session: Any, requests: Mapping[str, Request], *, title: str, batch: int = _BATCH, media_type: str = ""
) -> dict[str, Output]:
    """What the model says to each request; one that it refused is not there.

    Requests of like length go together, so that little is padded; each has a seed of its own, so that neither order
    nor batches matter. What is no text stands in the output twice: as the sample, and as the text that a pair holds.

    Args:
        run: progress, Ctrl-C.
        session: an opened model.
        requests: by id; a request's own `id` is the same.
        title: of the bar.
        batch: requests in one call.
        media_type: of bytes that the model draws.

    Raises:
        DataError: the model failed.
    """
    from volant.core.protocols import Output

    made: dict[str, Output] = {}
    order = sorted(requests, key=lambda id: _length(requests[id]))
    with run.progress(title, len(order), title) as bar:
        for start in range(0, len(order), batch):
            run.check_stop()
            part = order[start : start + batch]
            for chunk in session.generate([requests[id] for id in part]):
                if chunk.finish == "error" and not chunk.refused:
                    raise DataError(f"the model failed: {chunk.error}", where=run.step)
                if chunk.refused:  # no draw was what the condition asks for
                    continue
                output = made.setdefault(chunk.id, Output("", requests[chunk.id]))
                output.sample = chunk.sample
                output.text += content_text(chunk.sample, media_type) if chunk.sample else chunk.text
            bar.advance(len(part))
    if len(made) < len(order):
        run.say(f"the model refused {len(order) - len(made)} of {len(order)} {title}")
    return made


def _length(request: Request) -> int:
    """Characters of what is asked."""
    return sum(len(str(m.get("content", ""))) for m in request.messages) + len(request.prompt or "")
