"""The one handler of every `core.protocols.Route`: content that comes whole, whatever it is.

What enters: a body that the route's own model has checked. What leaves: `n` requests for the engine, each with a
seed of its own, and the answer that the route makes of the samples. A condition that the model does not know, or
that no draw meets, is answered with 400 and the reason; what fails inside stays inside.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError

from volant.core.errors import VolantError
from volant.core.protocols import Chunk, Request, Route
from volant.core.sample import Sample
from volant.serving.engine import Job
from volant.serving.exchange import Exchange, check_model, client_of, consent_of
from volant.serving.limits import Limits
from volant.serving.service import Service
from volant.serving.shapes import ApiError

# What may be kept of a body whose client forbids to keep its content: settings, no words.
FIGURES = ("model", "n", "seed")
PREFIX = "content-"

Handler = Callable[..., Awaitable[Response]]


def example_body(route: Route, condition: str = "") -> dict[str, Any]:
    """The route's example, with a fixed seed where the route takes one, and asking for `condition` where it can.

    Args:
        route: its example is taken.
        condition: what to ask for in words; empty: what the example asks for.
    """
    seeded = {"seed": 0} if "seed" in route.body.model_fields else {}
    body = {**seeded, **route.example}
    name = condition_field(route)
    return {**body, name: condition} if condition and name else body


def condition_field(route: Route) -> str:
    """The field of the body that carries the condition, found by trying; empty where no field takes plain words.

    The server knows no field's name: it puts a word into one after the other and sees which is asked for.
    """
    fields: Iterable[str] = route.body.model_fields
    for name in fields:
        stated = route.example.get(name)
        probe = stated if isinstance(stated, str) and stated else "x"
        try:
            asked, _, _ = route.asked(route.body.model_validate({**route.example, name: probe}))
        except (ValidationError, VolantError):
            continue
        if asked == probe:
            return name
    return ""


@dataclass(kw_only=True)
class Making(Exchange):
    """A request for content on its way.

    Attributes:
        route: its functions turn samples into the answer.
        samples: by the generation's index.
        answer: the route's answer, once there is one.
    """

    route: Route
    samples: dict[int, Sample] = field(default_factory=dict)
    answer: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"prompt_tokens": 0, "completion_tokens": 0})

    def take(self, index: int, chunk: Chunk) -> None:
        """Keep the sample that the chunk brings.

        Raises:
            ApiError: the generation ended well and brought none.
        """
        if chunk.sample is not None:
            self.samples[index] = chunk.sample
        elif chunk.finish in ("stop", "length"):
            raise ApiError(500, "The model could not answer this request.", code="engine")
        self.counts["prompt_tokens"] += chunk.prompt_tokens
        self.counts["completion_tokens"] += chunk.completion_tokens

    @property
    def usage(self) -> dict[str, int]:
        """What the engine counted: one a sample."""
        return self.counts

    def payloads(self, answered: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Body and answer; with consent `none` only the settings of the one, and when the other was made."""
        body: dict[str, Any] = self.body.model_dump(mode="json", exclude_unset=True)
        if self.consent == "none":
            figures = {name: value for name, value in body.items() if name in FIGURES}
            return figures, {"created": self.created} if answered else None
        return body, self.answer if answered else None

    async def made(self) -> dict[str, Any]:
        """The whole answer.

        Raises:
            ApiError: 400; the body asks for a form that the route cannot give of what was made (another `size`).
        """
        async for _ in self.chunks():
            pass
        samples = [self.samples[index] for index in sorted(self.samples)]
        # In a thread: packing a dozen images takes long enough to hold up every other client.
        try:
            answer = await asyncio.to_thread(self.route.answer, samples, self.body)
        except VolantError as error:
            raise _refused(error) from None
        self.answer = {**answer, "created": self.created}
        return self.answer


def requests_of(route: Route, body: Any, id: str, limits: Limits) -> list[Request]:
    """The generations that a body asks for: seeds count up from the body's, or are random where it names none.

    Raises:
        ApiError: 400; it asks for what cannot be asked, or in too many words.
    """
    try:
        condition, controls, n = route.asked(body)
    except VolantError as error:
        raise _refused(error) from None
    if n < 1:
        raise ApiError(400, "At least one has to be asked for.", code="invalid_value")
    if len(condition) > limits.max_characters:
        what = f"The prompt has {len(condition)} characters; this server takes {limits.max_characters}."
        param = condition_field(route) or None
        raise ApiError(400, what, code="context_length_exceeded", param=param)
    seed = getattr(body, "seed", None)
    seeds = [secrets.randbits(31) if seed is None else (int(seed) + i) % 2**63 for i in range(n)]
    return [Request(id=f"{id}.{i}", prompt=condition, controls=controls, seed=s) for i, s in enumerate(seeds)]


def _refused(error: VolantError) -> ApiError:
    """What a route says to whoever asked; where it was found stays inside."""
    return ApiError(400, f"{error.what} {error.fix}".strip(), code="invalid_value")


async def answer(service: Service, route: Route, request: HttpRequest, body: Any) -> Response:
    """Serve one request for content."""
    consent = consent_of(request)
    check_model(service, getattr(body, "model", None) or "")
    id = PREFIX + secrets.token_hex(12)
    requests = requests_of(route, body, id, service.limits)
    job = Job(id, requests, deadline=time.monotonic() + service.limits.deadline_seconds)
    client, path = client_of(request, getattr(body, "user", None)), request.url.path
    making = Making(service=service, route=route, body=body, job=job, path=path, client=client, consent=consent)
    making.queue()
    whole = await making.until(making.made(), request)
    making.note(200)
    return JSONResponse(whole, headers=making.headers)


def content(service: Service, route: Route) -> Handler:
    """The handler of a route."""

    async def create(request: HttpRequest, body: Any) -> Response:
        """Make content."""
        return await answer(service, route, request, body)

    # The body's model is known only now; this is where FastAPI looks for it.
    create.__annotations__ = {**create.__annotations__, "body": route.body}
    return create


def examples(routes: Mapping[str, str | Route]) -> dict[str, dict[str, Any]]:
    """For the page, by path: the example of each route for content, and the field that its words go into."""
    found = {}
    for path, route in routes.items():
        if isinstance(route, Route):
            body = {name: value for name, value in route.example.items() if name != "seed"}  # each time another one
            found[path] = {"body": body, "field": condition_field(route)}
    return found
