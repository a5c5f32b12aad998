"""A served fake model: `Service` and app in process; a stand-in for the records that keeps rows in lists."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_session import EchoSession

from volant.core import Model, Prompt
from volant.serving.limits import Limits
from volant.serving.service import Fixed, Service

ROUTES = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}


class ListRecords:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.marks: list[dict[str, Any]] = []
        self.told: list[tuple[str, dict[str, Any]]] = []

    def add_request(self, workload: str, client: str, request: Any, response: Any, **row: Any) -> str:
        self.rows.append({"workload": workload, "client": client, "request": request, "response": response, **row})
        return str(row["id"])

    def add_feedback(self, request_id: str, **row: Any) -> int:
        if request_id not in {r["id"] for r in self.rows}:
            raise LookupError(request_id)
        self.marks.append({"request_id": request_id, **row})
        return len(self.marks)

    def event(self, kind: str, body: dict[str, Any]) -> None:
        self.told.append((kind, body))


@pytest.fixture
def model_at(tmp_path: Path) -> Callable[[str], Model]:
    def make(name: str) -> Model:
        path = tmp_path / name
        path.mkdir()
        about = {"family": "transformer", "modality": "text", "engine": "torch", "extra": {"name": name}}
        (path / "volant.json").write_text(json.dumps(about))
        return Model(path)

    return make


@pytest.fixture
def records() -> ListRecords:
    return ListRecords()


@pytest.fixture
def serving(model_at: Callable[[str], Model], records: ListRecords) -> Iterator[Callable[..., Service]]:
    """A factory of services over `EchoSession`; the session is `service.session`."""
    made: list[Service] = []

    def make(session: EchoSession | None = None, **settings: Any) -> Service:
        session = session or EchoSession()
        settings.setdefault("limits", Limits(deadline_seconds=10))
        settings.setdefault("records", records)
        source = settings.pop("source", None) or Fixed(model_at(f"model{len(made)}"), name="champion")

        def open_session(model: Model, prompt: Prompt | None) -> EchoSession:
            return session

        settings.setdefault("open", open_session)
        settings.setdefault("routes", ROUTES)
        service = Service(source, **settings)
        service.session = session  # type: ignore[attr-defined]
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()
