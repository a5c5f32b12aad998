"""Deploying a model that makes pictures: description, receipt, latency of its conditions, packages."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny_models
import toy_content
from volant.core import Model
from volant.core.artifact import payload_digest
from volant.serving import smoke
from volant.stages import deploy
from volant.stages.deploy.packages import imported, requirements

ROUTES = {toy_content.PATH: toy_content.ROUTE}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    kind = toy_content.Modality()
    monkeypatch.setattr("volant.modalities.open_modality", lambda name: kind)
    monkeypatch.setattr("volant.engines.open_model", lambda model, **settings: toy_content.session())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "volant.json").write_text('{"family": "toy", "modality": "toy", "engine": "sampler"}')
    return Model(folder)


def test_serve_asks_the_route_its_example_and_keeps_no_times(model: Model, tmp_path: Path) -> None:
    conditions = ("red", "mauve", "blue")  # the second one the model refuses, which is no answer to be timed
    samples = [
        toy_content.painted((1, 1, 1), c).model_copy(update={"id": c, "split": "validation"}) for c in conditions
    ]
    data = tiny_models.dataset(tmp_path / "data", samples)
    run = tiny_models.run_in(tmp_path / "one")
    about = deploy.serve(run, model, data=data, requests=7).read_json("endpoint.json")
    assert about["routes"] == {toy_content.PATH: "content"} and about["engine"] == "sampler"
    receipt = {r["route"]: r for r in about["receipt"]}[toy_content.PATH]
    # The example with seed 0: what the session itself makes of it.
    sample = next(c.sample for c in toy_content.session().generate([_request(0)]) if c.sample)
    answer = {"data": [{"b64_json": base64.b64encode(sample.media or b"").decode()}]}
    said = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()
    assert receipt == {"route": toy_content.PATH, "status": 200, "answer_sha256": said}
    (score,) = tiny_models.watched(run).scores
    assert score.name == "latency_p95_ms" and score.n == 7
    again = tiny_models.run_in(tmp_path / "two")
    deploy.serve(again, model, requests=1)
    assert payload_digest(again.out)[0] == payload_digest(run.out)[0]


def _request(seed: int) -> Any:
    from volant.core.protocols import Request

    return Request(id="1", prompt="", seed=seed)


def test_the_container_describes_the_routes_and_pins_what_the_model_needs(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start command is left out: the modality is this test's own, and no child process would know it."""
    asked: list[Any] = []
    monkeypatch.setattr(sys.modules["volant.stages.deploy.container"], "_tried", lambda *given: asked.append(given))
    run = tiny_models.run_in(tmp_path / "run")
    about = deploy.container(run, model).read_json("endpoint.json")
    assert about["routes"] == {toy_content.PATH: "content"} and asked[0][2] == ROUTES
    pins = {pin.partition("==")[0] for pin in (run.out / "requirements.txt").read_text().splitlines()}
    assert {"torch", "numpy", "fastapi", "safetensors"} <= pins and not {"trl", "pytest"} & pins


def test_packages_are_read_from_what_the_three_import() -> None:
    found = imported("sampler", "text", "transformer")
    assert {"torch", "transformers", "numpy", "tokenizers"} <= set(found) and not {"trl", "peft", "datasets"} & set(
        found
    )
    assert imported("sampler", "none", "none") == imported("sampler", "nothing", "nothing")
    assert "torch" in requirements("torch", "text", "transformer") and "torch" not in requirements("remote", "", "")


def test_bodies_and_answers_of_a_smoke_test() -> None:
    assert smoke.body_for(toy_content.ROUTE, "red", max_tokens=5) == {"seed": 0, "prompt": "red", "n": 1}
    assert smoke.body_for("chat", "hi", max_tokens=5)["max_tokens"] == 5
    assert smoke.answer_of(toy_content.ROUTE, {"created": 5, "data": [1]}) == '{"data": [1]}'
