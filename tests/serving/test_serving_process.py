"""A real server process on a real model: alias, swap, rollback, broken model, feedback, SIGTERM, live state."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import tiny_models
from volant.core import Model
from volant.core.errors import MachineError, SettingError
from volant.core.outside import Snapshot
from volant.serving import background
from volant.serving.limits import Limits
from volant.serving.run import Process, live_name, serve_path
from volant.store.blobs import Store
from volant.store.records import Records


class Place:
    """A store with two sealed models and a broken one, and records whose champion is the first."""

    def __init__(self, root: Path, first: Path, second: Path) -> None:
        self.root, self.url = root, f"sqlite:///{root / 'records.db'}"
        root.mkdir()
        self.store, self.records = Store(root), Records.open(f"sqlite:///{root / 'records.db'}")
        self.first, self.second = self.seal("first", first), self.seal("second", second)
        broken = root.parent / "broken"
        shutil.copytree(second, broken)
        (broken / "model.safetensors").write_bytes(b"not weights")
        self.broken = self.seal("broken", broken)
        self.promote(self.first, "0")

    def seal(self, name: str, source: Path) -> str:
        scratch = self.store.scratch(name)
        shutil.copytree(source, scratch, dirs_exist_ok=True)
        return self.store.seal(Model, scratch).digest

    def promote(self, digest: str, key: str) -> None:
        row = self.records.alias("champion")
        self.records.promote("champion", digest, expected=row.digest if row else None, key=key, evidence={})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("models")
    return tiny_models.model(root / "a", steps=0).path, tiny_models.model(root / "b", steps=10).path


@pytest.fixture
def place(tmp_path: Path, models: tuple[Path, Path]) -> Iterator[Place]:
    place = Place(tmp_path / ".volant", *models)
    yield place
    background.stop(place.records, "demo")
    place.records.close()


def until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_the_life_of_a_background_server(place: Place) -> None:
    process = Process(workload="demo", limits=Limits(default_tokens=8, drain_seconds=10))
    child, port = background.start_background(place.root, place.url, "champion", process=process)
    state = background.alive(place.records, "demo")
    assert state and state["pid"] == child.pid and state["model"] == place.first
    with pytest.raises(SettingError, match="served already"):
        background.start_background(place.root, place.url, "champion", process=process)

    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)

    def ask() -> tuple[str, str, str]:
        turn: Any = [{"role": "user", "content": "def add_file(x):"}]
        answer = client.chat.completions.create(model="champion", messages=turn)
        return answer.id, (answer.model_extra or {})["x-volant-model"], answer.choices[0].message.content or ""

    def served() -> str:
        return str((place.records.live(live_name("demo")) or {}).get("model"))

    _, digest, before = ask()
    assert digest == place.first
    place.promote(place.second, "1")
    until(lambda: served() == place.second)
    assert ask()[1] == place.second
    place.promote(place.broken, "2")  # does not open: the old one goes on, and the records say so
    until(lambda: place.records.events("swap_refused"))
    assert ask()[1] == place.second and place.records.events("swap_refused")[0].body["digest"] == place.broken
    place.promote(place.first, "3")  # a rollback is the same path
    until(lambda: served() == place.first)
    id, digest, after = ask()
    assert digest == place.first and after == before

    client.close()
    said = {"request_id": id, "correction": "Add the file.", "rating": -1, "consent": "training"}
    assert httpx.post(f"http://127.0.0.1:{port}/v1/feedback", json=said).status_code == 200
    snapshot = Snapshot("records", "demo", facts=place.records.marks("demo"))
    (row,) = place.records.reader().feedback(snapshot)
    assert row["correction"] == "Add the file." and row["consent"] == "training" and row["model"] == place.first
    assert row["request"]["messages"][0]["content"] == "def add_file(x):"

    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(20) == 0
    assert place.records.live(live_name("demo")) is None
    (told,) = place.records.events("serving")
    assert told.body["requests"] == 4 and told.body["latency_ms"]["p95"] > 0
    assert len(list(place.records.reader().requests(snapshot))) == 4
    assert background.stop(place.records, "demo") is False


def test_a_killed_server_is_no_longer_alive_and_its_state_is_cleaned(place: Place) -> None:
    place.records.set_live(live_name("demo"), {"pid": os.getppid(), "port": 1})  # a live process, but no server
    assert background.alive(place.records, "demo") is None
    assert background.stop(place.records, "demo") is False
    assert place.records.live(live_name("demo")) is None


def test_a_server_that_cannot_start_says_why(place: Place) -> None:
    with pytest.raises(MachineError, match="there is no alias 'champoin'"):
        background.start_background(place.root, place.url, "champoin", process=Process(workload="demo"))


def test_a_taken_port_and_a_changed_model_are_refused_in_one_line(models: tuple[Path, Path], tmp_path: Path) -> None:
    from volant.serving.run import bind, main

    copy = tmp_path / "copy"
    shutil.copytree(models[0], copy)
    digest = Model(copy).digest
    listener = bind("127.0.0.1", 0)
    with pytest.raises(MachineError, match="cannot be used"):
        listener.listen()
        serve_path(copy, process=Process(port=listener.getsockname()[1]), digest=digest)
    listener.close()
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    done = subprocess.run(
        [sys.executable, "-m", "volant.serving.run", "--model", str(copy), "--digest", digest],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "pinned" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert main(["--model", str(copy), "--limits", '{"queue": 0}']) == 2
