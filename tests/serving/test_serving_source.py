"""What a server follows: aliases, endpoints, digests; what it does when a model fails or the records are away."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_session import EchoSession

from volant.core import Artifact, Dataset, Endpoint, Model, Prompt
from volant.core.errors import ArtifactError, SettingError
from volant.core.protocols import Chunk
from volant.serving.app import create_app
from volant.serving.arguments import parse, written
from volant.serving.limits import Limits
from volant.serving.run import Process
from volant.serving.service import Alias, Fixed, Service, source_for


@dataclass
class Row:
    digest: str


class Shelf:
    """A store and records in one: artifacts by name, one alias."""

    def __init__(self, artifacts: dict[str, Artifact], champion: str | None) -> None:
        self.artifacts, self.champion, self.away = artifacts, champion, False

    def get(self, digest: str) -> Artifact:
        return self.artifacts[digest]

    def alias(self, name: str) -> Row | None:
        if self.away:
            raise OSError("the records are away")
        return Row(self.champion) if self.champion and name == "champion" else None


@pytest.fixture
def shelf(model_at: Any, tmp_path: Path) -> Shelf:
    prompt, endpoint = tmp_path / "prompt", tmp_path / "endpoint"
    prompt.mkdir()
    (prompt / "prompt.json").write_text("{}")
    endpoint.mkdir()
    (endpoint / "endpoint.json").write_text(json.dumps({"model": "aaaaaa", "prompt": "cccccc"}))
    models: dict[str, Artifact] = {"aaaaaa": model_at("a"), "bbbbbb": model_at("b")}
    others: dict[str, Artifact] = {"cccccc": Prompt(prompt), "dddddd": Endpoint(endpoint), "eeeeee": Dataset(endpoint)}
    return Shelf({**models, **others}, "aaaaaa")


def test_an_alias_points_to_a_model_or_to_an_endpoint_with_its_prompt(shelf: Shelf) -> None:
    source = Alias(shelf, shelf, "champion")
    model, prompt = source.load(source.now())
    assert isinstance(model, Model) and prompt is None
    model, prompt = source.load("dddddd")
    assert model == shelf.artifacts["aaaaaa"] and prompt == shelf.artifacts["cccccc"]
    with pytest.raises(ArtifactError, match="is a Dataset, not a Model"):
        source.load("eeeeee")
    shelf.champion = None
    with pytest.raises(ArtifactError, match="nothing was promoted"):
        source.now()
    waiting = source_for(shelf, shelf, "champion", until="bbbbbb")
    assert waiting.name == "champion" and waiting.now() == "bbbbbb", "what was made first is served until a promotion"
    shelf.champion = "aaaaaa"
    assert waiting.now() == "aaaaaa"


def test_a_target_is_an_alias_or_a_digest(shelf: Shelf) -> None:
    assert isinstance(source_for(shelf, shelf, "champion"), Alias)
    fixed = source_for(shelf, shelf, "bbbbbb")
    assert isinstance(fixed, Fixed) and fixed.name == "bbbbbb"
    with pytest.raises(ArtifactError, match="no alias 'champoin'"):
        source_for(shelf, shelf, "champoin")


def test_a_model_that_opens_and_does_not_answer_never_gets_a_request(shelf: Shelf, serving: Any, records: Any) -> None:
    class Mute(EchoSession):
        def generate(self, requests: Any) -> Any:
            yield Chunk(requests[0].id, "", "error", error="NaN")

    made: list[EchoSession] = []

    def open_session(model: Model, prompt: Prompt | None) -> EchoSession:
        made.append(Mute() if model.path.name == "b" else EchoSession(model.path.name))
        return made[-1]

    service: Service = serving(source=Alias(shelf, shelf, "champion"), open=open_session)
    shelf.champion = "bbbbbb"
    assert service.reload() is False
    refused = [body for kind, body in records.told if kind == "swap_refused"]
    assert refused[0]["digest"] == "bbbbbb" and "does not answer" in refused[0]["error"]
    assert made[1].closed and not made[0].closed and service.served.session is made[0]
    time.sleep(0.7)  # two polls: a model that failed is not tried again and again
    assert len(made) == 2
    shelf.champion = "aaaaaa"
    assert service.reload() is True and len(made) == 2
    assert b'volant_swaps_total{result="refused"} 1.0' in service.meter.text()


def test_the_old_model_goes_on_while_the_records_are_away(shelf: Shelf, serving: Any, caplog: Any) -> None:
    service: Service = serving(source=Alias(shelf, shelf, "champion"))
    shelf.away = True
    time.sleep(0.8)
    assert service.ready and caplog.text.count("the records are away") == 1
    shelf.away, shelf.champion = False, "bbbbbb"
    deadline = time.monotonic() + 5
    while service.served.digest != shelf.artifacts["bbbbbb"].digest:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_route_of_an_unknown_kind_is_refused_with_a_hint(serving: Any) -> None:
    service = serving()
    service.routes = {"/v1/images": "chta"}
    with pytest.raises(SettingError, match="Did you mean 'chat'"):
        create_app(service)


def test_a_command_line_gives_back_the_process_that_wrote_it(monkeypatch: Any) -> None:
    process = Process(
        port=81, workload="w", engine="torch", threads=3, allow_hosts=("a.org", "b.org"), require_key=True,
        limits=Limits(queue=3, default_temperature=0.5),
    )  # fmt: skip
    assert parse(written(process)).process == process
    monkeypatch.setenv("VOLANT_HOST", "::1")
    monkeypatch.setenv("VOLANT_PORT", "9")
    assert (parse([]).process.host, parse([]).process.port, parse(["--port", "7"]).process.port) == ("::1", 9, 7)
    for wrong in (["--limits", "{"], ["--limits", '{"quue": 1}'], ["--port", "70000"], ["--threads", "0"]):
        with pytest.raises(SettingError):
            parse(wrong)
