"""The engine onnx: it opens what was made for the model, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tiny_converted import content_model, pictures
from tiny_models import dataset, run_in
from volant.core.artifact import Card, Model, payload_digest
from volant.core.errors import ArtifactError, MachineError, SettingError
from volant.core.protocols import Request
from volant.engines import open_model
from volant.stages.compress import onnx


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("onnx")
    model = content_model(folder, "vae", steps=3, z=4, width=8)
    return onnx(run_in(folder / "run"), model, dataset(folder / "data", pictures()), limit=4)


def test_each_request_depends_on_its_own_seed(made: Model) -> None:
    session = open_model(made)
    requests = [Request(id=str(n), prompt="left", seed=n % 2) for n in range(4)]
    media = [c.sample.media for c in session.generate(requests) if c.sample]
    assert media[0] == media[2] != media[1] == media[3]
    with pytest.raises(SettingError, match="no control 'steps'"):
        list(session.generate([Request(prompt="left", controls={"steps": 4})]))
    session.close()


def changed(made: Model, folder: Path) -> Model:
    """A copy whose ONNX file holds one more byte."""
    shutil.copytree(made.path, folder)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    return Model(folder)


def test_a_file_of_another_digest_is_not_opened(made: Model, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not the file that was made with the model"):
        open_model(changed(made, tmp_path / "changed"))


def test_what_the_card_does_not_know_is_not_opened(made: Model, tmp_path: Path) -> None:
    other = changed(made, tmp_path / "changed")
    told = json.loads((other.path / "volant.json").read_text())
    told["extra"]["onnx"]["sha256"] = hashlib.sha256((other.path / "model.onnx").read_bytes()).hexdigest()
    (other.path / "volant.json").write_text(json.dumps(told))
    digest, files = payload_digest(made.path)
    with pytest.raises(ArtifactError, match="not the file that was made with the model"):
        open_model(Model(other.path, Card(kind="Model", digest=digest, files=files)))
    open_model(Model(made.path, Card(kind="Model", digest=digest, files=files))).close()


def test_no_file_and_no_facts_are_said(made: Model, tmp_path: Path) -> None:
    shutil.copytree(made.path, tmp_path / "bare")
    (tmp_path / "bare" / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"has no model\.onnx"):
        open_model(Model(tmp_path / "bare"))
    shutil.copytree(made.path, tmp_path / "mute")
    told = json.loads((tmp_path / "mute" / "volant.json").read_text())
    del told["extra"]["onnx"]["facts"]
    (tmp_path / "mute" / "volant.json").write_text(json.dumps(told))
    with pytest.raises(ArtifactError, match="does not say how a vae asks"):
        open_model(Model(tmp_path / "mute"))


def test_it_runs_on_the_processor_only(made: Model) -> None:
    with pytest.raises(MachineError, match="runs on the processor"):
        open_model(made, device="cuda")
