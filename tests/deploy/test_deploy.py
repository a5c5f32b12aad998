"""`deploy.serve` and `deploy.container` on a real small model: description, receipt, start command, answers."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import tiny_models
from volant.core import Endpoint, Model, Report
from volant.core.artifact import payload_digest
from volant.core.errors import ArtifactError
from volant.core.method import method_of
from volant.core.protocols import Request
from volant.engines import open_model
from volant.serving.background import child_at
from volant.serving.smoke import answer_of, body_for
from volant.stages import deploy


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return tiny_models.model(tmp_path_factory.mktemp("deploy"), steps=10)


def direct(model: Model, text: str, tokens: int) -> str:
    session = open_model(model)
    request = Request(id="1", messages=({"role": "user", "content": text},), max_tokens=tokens)
    said = "".join(chunk.text for chunk in session.generate([request]))
    session.close()
    return said


def test_serve_describes_the_service_and_keeps_no_times(model: Model, tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.json").write_text('{"verdict": "retrain"}')
    data = tiny_models.dataset(tmp_path / "data", tiny_models.samples())
    run = tiny_models.run_in(tmp_path / "one")
    endpoint = deploy.serve(run, model, report=Report(report), data=data, requests=5, tokens=6, alias="best")
    about = endpoint.read_json("endpoint.json")
    assert isinstance(endpoint, Endpoint) and sorted(p.name for p in run.out.iterdir()) == ["endpoint.json"]
    assert about["model"] == model.digest and about["alias"] == "best" and about["engine"] == "torch"
    assert about["verdict"] == "retrain" and about["limits"]["max_tokens"] == 512
    assert about["routes"] == {"/v1/chat/completions": "chat", "/v1/completions": "completion"}
    assert {r["route"]: r["status"] for r in about["receipt"]} == dict.fromkeys(
        ["/healthz", "/readyz", "/v1/models", "/metrics", "/", *about["routes"]], 200
    )
    watcher = tiny_models.watched(run)
    assert any("retrain" in line for line in watcher.lines)
    (score,) = watcher.scores
    assert score.name == "latency_p95_ms" and score.unit == "ms" and score.direction == "lower" and score.n == 5
    assert 0 < score.low <= score.value <= score.high
    again = tiny_models.run_in(tmp_path / "two")
    deploy.serve(again, model, report=Report(report), data=data, requests=1, tokens=6, alias="best")
    assert payload_digest(again.out)[0] == payload_digest(run.out)[0]


def test_serve_refuses_a_model_that_does_not_open(model: Model, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "volant.json").write_bytes((model.path / "volant.json").read_bytes())
    with pytest.raises(ArtifactError):
        deploy.serve(tiny_models.run_in(tmp_path / "run"), Model(broken))


def test_both_are_methods_with_documented_settings() -> None:
    for function in (deploy.serve, deploy.container):
        method = method_of(function)
        assert method.returns is Endpoint and set(method.fields) <= set(method.setting_docs)


@pytest.fixture(scope="module")
def built(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tiny_models.run_in(tmp_path_factory.mktemp("container"))
    return deploy.container(run, model, allow_hosts=["api.example.org"], threads=1).path


def dockerfile(built: Path) -> list[tuple[str, str]]:
    lines = [line for line in (built / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_copies_what_is_there_and_runs_without_root(built: Path) -> None:
    steps = dockerfile(built)
    words = [word for word, _ in steps]
    assert steps[0] == ("FROM", "python:3.11-slim") and words[-1] == "CMD" and "HEALTHCHECK" in words
    for word, rest in steps:
        if word == "COPY":
            assert (built / rest.split()[0]).exists()
    assert dict(steps)["USER"] == "10001:10001" and words.index("USER") < words.index("CMD")
    command = json.loads(dict(steps)["CMD"])
    assert command[:3] == ["python", "-m", "volant.serving.run"]
    assert command == json.loads((built / "endpoint.json").read_text())["command"]
    pins = (built / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin) for pin in pins)
    assert {"torch", "transformers", "fastapi", "uvicorn", "starlette"} <= {pin.split("==")[0] for pin in pins}
    assert not {"trl", "peft", "datasets", "pytest"} & {pin.split("==")[0] for pin in pins}


def test_the_compose_file_shuts_the_container_in(built: Path) -> None:
    service = yaml.safe_load((built / "compose.yaml").read_text())["services"]["model"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"] and service["user"] == "10001:10001"
    assert service["ports"] == ["127.0.0.1:8000:8000"] and service["volumes"] == ["records:/data"]
    assert service["environment"]["VOLANT_API_KEY"].startswith("${VOLANT_API_KEY:?")


def test_the_build_pins_the_model_and_holds_no_card_and_no_cache(built: Path, model: Model) -> None:
    assert payload_digest(built / "model")[0] == model.digest
    names = [p.name for p in built.rglob("*")]
    assert "artifact.json" not in names and "__pycache__" not in names
    assert model.digest in json.loads(dict(dockerfile(built))["CMD"])


def test_the_receipt_is_of_the_start_command_and_the_answer_is_the_engine_s(built: Path, model: Model) -> None:
    receipt = {r["route"]: r for r in json.loads((built / "endpoint.json").read_text())["receipt"]}
    said = hashlib.sha256(direct(model, "Hello", 16).encode()).hexdigest()
    assert receipt["/v1/chat/completions"]["answer_sha256"] == said


@pytest.mark.slow
def test_the_exact_start_command_answers_as_the_engine_does(built: Path, model: Model, tmp_path: Path) -> None:
    command: list[str] = json.loads(dict(dockerfile(built))["CMD"])
    text = "def add_file(x):"
    with child_at(built, command, log=tmp_path / "log") as url:
        answer: Any = httpx.post(f"{url}/v1/chat/completions", json=body_for("chat", text, max_tokens=12)).json()
        assert httpx.get(f"{url}/status", headers={"host": "api.example.org"}).status_code == 401
    assert answer_of("chat", answer) == direct(model, text, 12)
    assert "__pycache__" not in [p.name for p in built.rglob("*")]


@pytest.mark.slow
def test_the_pinned_packages_are_enough(built: Path, model: Model, tmp_path: Path) -> None:
    """The start command runs where there is nothing but what `requirements.txt` names."""
    site = tmp_path / "site"
    site.mkdir()
    for pin in (built / "requirements.txt").read_text().split():
        found = importlib.metadata.distribution(pin.partition("==")[0])
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(found.locate_file(top))).resolve())
    command: list[str] = json.loads(dict(dockerfile(built))["CMD"])
    records = tmp_path / "records.db"
    environment = {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "VOLANT_RECORDS": f"sqlite:///{records}"}
    child = subprocess.Popen(
        [sys.executable, "-S", *command[1:]], cwd=built, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        ready, url = child.stdout.readline().split()
        answer = httpx.post(f"{url}/v1/chat/completions", json=body_for("chat", "def add_file(x):", max_tokens=12))
        assert ready == "ready" and answer_of("chat", answer.json()) == direct(model, "def add_file(x):", 12)
    finally:
        child.terminate()
        child.communicate(timeout=60)
    assert child.returncode == 0 and records.exists()
