"""The HTTP application: guard, routes of the modality, models, feedback, health, metrics, a small page.

What enters: a `Service`. What leaves: a FastAPI application that any ASGI server runs. It fetches
nothing, keeps no state of its own, and every error that it answers with has OpenAI's shape.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jinja2
from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from volant import __version__
from volant.core.errors import SettingError, did_you_mean
from volant.core.protocols import Route
from volant.serving import feedback, metrics
from volant.serving.auth import Guard
from volant.serving.content import content, examples
from volant.serving.exchange import client_of, consent_of
from volant.serving.limits import FeedbackBody
from volant.serving.routes import KINDS, Handler
from volant.serving.service import Service, kinds
from volant.serving.shapes import ApiError

log = logging.getLogger("volant.serving")


def create_app(service: Service) -> FastAPI:
    """The application of one service.

    Raises:
        SettingError: a route of the modality names a kind of handler that there is none of.
    """
    app = FastAPI(title="Volant", version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.service = service
    app.add_middleware(Guard, door=service.door, refused=lambda error: service.meter.error(error.code))
    for path, kind in service.routes.items():
        app.add_api_route(path, _handler(service, path, kind), methods=["POST"], response_model=None)
    _add_models(app, service)
    _add_operations(app, service)
    _add_page(app, service)
    _add_errors(app, service)
    return app


def _handler(service: Service, path: str, kind: str | Route) -> Handler:
    if isinstance(kind, Route):
        return content(service, kind)
    if kind not in KINDS:
        raise SettingError(f"no handler kind {kind!r} for {path}.", where="api", fix=did_you_mean(kind, KINDS))
    return KINDS[kind](service)


def _add_models(app: FastAPI, service: Service) -> None:
    def entry() -> dict[str, Any]:
        return {
            "id": service.name, "object": "model", "created": service.started_at, "owned_by": "volant",
            "x-volant-model": service.served.digest,
        }  # fmt: skip

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The one model that is served."""
        return {"object": "list", "data": [entry()]}

    @app.get("/v1/models/{model:path}")
    async def retrieve_model(model: str) -> dict[str, Any]:
        """What is known of it."""
        if model not in (service.name, service.served.digest):
            raise ApiError(404, "There is no such model here.", code="model_not_found", param="model")
        return entry()

    @app.post("/v1/feedback", response_model=None)
    async def give_feedback(request: HttpRequest, body: FeedbackBody) -> dict[str, object]:
        """Rate or correct an answer."""
        client, consent = client_of(request, body.user), consent_of(request)
        return await asyncio.to_thread(feedback.give, service, body, client=client, consent=consent)


def _add_operations(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        """Requests are taken."""
        ready = service.ready
        return JSONResponse({"status": "ready" if ready else "stopping"}, 200 if ready else 503)

    @app.get("/metrics")
    def prometheus() -> Response:
        """Figures for a scraper."""
        return Response(service.meter.text(), media_type=metrics.MEDIA_TYPE)

    @app.get("/status")
    def status() -> dict[str, Any]:
        """Figures for the page: what is served, and how it does."""
        return {**about(service), **service.meter.snapshot()}

    @app.post("/reload")
    def reload() -> JSONResponse:
        """Look for a new model now, and not at the next poll."""
        ok = service.reload()
        return JSONResponse({"served": service.served.digest, "current": ok}, 200 if ok else 409)


def about(service: Service) -> dict[str, Any]:
    """What is served, in a few words."""
    served = service.served
    return {
        "name": service.name, "workload": service.workload, "model": served.digest, "engine": served.engine,
        "prompt": served.prompt_digest, "routes": kinds(service.routes), "version": __version__, "ready": service.ready,
    }  # fmt: skip


def _add_page(app: FastAPI, service: Service) -> None:
    @app.get("/")
    async def page() -> HTMLResponse:
        """What is served, live figures, and a box to try it in."""
        nonce = secrets.token_urlsafe(16)
        html = _template().render(
            nonce=nonce, limits=service.limits, records=service.records is not None,
            examples=examples(service.routes), **about(service),
        )  # fmt: skip
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
        }
        return HTMLResponse(html, headers=headers)


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    source = files("volant.serving").joinpath("page.html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)


def _add_errors(app: FastAPI, service: Service) -> None:
    def answer(request: HttpRequest, error: ApiError) -> JSONResponse:
        if not error.counted:
            service.meter.error(error.code)
        return JSONResponse(error.body, error.status, headers=error.headers)

    @app.exception_handler(ApiError)
    async def refused(request: HttpRequest, error: ApiError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: HttpRequest, error: RequestValidationError) -> JSONResponse:
        return answer(request, _first_of(error))

    @app.exception_handler(HTTPException)
    async def unrouted(request: HttpRequest, error: HTTPException) -> JSONResponse:
        text = {404: "There is no such route.", 405: "The route does not take this method."}
        code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "malformed_body")
        message = text.get(error.status_code, "The body could not be read.")
        return answer(request, ApiError(error.status_code, message, code=code))

    @app.exception_handler(Exception)
    async def broken(request: HttpRequest, error: Exception) -> JSONResponse:
        log.error("unexpected error on %s", request.url.path, exc_info=error)
        return answer(request, ApiError(500, "Something went wrong on the server.", code="internal"))


def _first_of(error: RequestValidationError) -> ApiError:
    """The first thing that is wrong with a body; its own words are not repeated back."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")[:128] or None
    if first["type"] == "json_invalid":
        return ApiError(400, "The body is no valid JSON.", code="malformed_body")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unrecognized request argument: {place}.", code="unknown_parameter", param=place)
    return ApiError(400, f"{place or 'body'}: {first['msg']}.", code="invalid_value", param=place)
