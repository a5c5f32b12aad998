"""The base in the box: found by its name, whole, opened by transformers alone, and what it was not trained on."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from volant.core.errors import ArtifactError, SettingError
from volant.core.sample import split_of
from volant.project import Project
from volant.store import shipped

BOX = "volant/docstrings"


@pytest.fixture
def project(tmp_path):
    steps = f"{{base: {{use: pretrain.base, source: {BOX}}}}}"
    (tmp_path / "volant.yaml").write_text(f"volant: 1\nname: t\ngoal: {{problem: A test}}\nsteps: {steps}\n")
    return Project(tmp_path, device="cpu", threads=1)


def test_the_box_is_taken_by_name_and_answers(project, monkeypatch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from volant.core.protocols import Request
    from volant.engines import open_model

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    project.go()
    model = project.artifact("base")
    net = AutoModelForCausalLM.from_pretrained(model.path)
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    assert len(tokenizer) == net.config.vocab_size
    turns = ({"role": "user", "content": "def is_empty(self):\n    return len(self._items) == 0"},)
    said = "".join(c.text for c in open_model(model).generate([Request(messages=turns, max_tokens=24)]))
    assert 2 <= len(said.split()) <= 24 and said.isascii()


def test_a_name_that_does_not_ship_and_a_damaged_file_are_named(project, tmp_path, monkeypatch):
    with pytest.raises(SettingError, match="Did you mean 'volant/docstrings'"):
        shipped.folder_of("volant/docstring")
    copy = tmp_path / "copy"
    shutil.copytree(shipped.folder_of(BOX), copy)
    with (copy / "config.json").open("a") as file:
        file.write(" ")
    monkeypatch.setattr(shipped, "folder_of", lambda name, where="": copy)
    with pytest.raises(ArtifactError, match=r"config\.json of the model that comes with Volant is damaged"):
        project.go()


def test_the_manifest_lists_no_held_out_name_and_no_other_licence():
    from volant.stages.collect._licence_stated import permissive

    folder = shipped.folder_of(BOX)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20e6
    body = json.loads((folder / "manifest.json").read_text())
    for step in ("packages", "documented"):
        for name, entry in body[step]["packages"].items():
            assert permissive(entry["licence"]) and entry["split"] == split_of(name) and len(entry["sha256"]) == 64
    for step in ("text", "tasks"):
        assert all(split_of(name) == "train" for name in body[step]["trained_on"] if name != "python")
        assert {one["name"] for one in body[step]["leakage"]} == {"test", "validation", "functions"}
    for split, names in body["python"]["held_out"].items():
        assert names and all(split_of(name) == split for name in names)


def test_no_module_that_the_example_is_measured_on_was_trained_on(tmp_path):
    from volant.core.run import Run
    from volant.stages.collect import python_sources
    from volant.store.dataset import rows

    library = json.loads((shipped.folder_of(BOX) / "manifest.json").read_text())["python"]
    trained = set(library["trained_on"]["text"])
    assert len(trained) > 200 and not library["trained_on"]["tasks"]  # the library's pairs are the example's own task
    (tmp_path / "out").mkdir()
    functions = python_sources(Run(step="functions", out=tmp_path / "out", work=tmp_path / "work"), what="pairs")
    measured = {split: {s.group for s in rows(functions, split)} for split in ("test", "validation")}
    for split, groups in measured.items():
        assert groups and not groups & trained
        if library["version"].startswith("{}.{}.".format(*sys.version_info)):
            assert groups <= set(library["held_out"][split])


def test_the_readme_shows_the_samples_as_they_were_given(monkeypatch):
    root = Path(__file__).resolve().parents[2]
    monkeypatch.syspath_prepend(str(root / "tools"))
    import samples

    given = json.loads(samples.KEPT.read_text(encoding="utf-8"))
    assert len(given) == samples.MANY and all(s["model"] and s["author"] for s in given)
    assert samples.page(given) == samples.PAGE.read_text(encoding="utf-8")
