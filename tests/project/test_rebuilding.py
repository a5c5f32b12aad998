"""A manifest is enough to make the same bytes again, here and in a fresh copy of the project."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from volant.cli.app import app
from volant.core.errors import ArtifactError, DataError
from volant.core.sample import Sample, Source
from volant.project import Project, rebuilding
from volant.store.dataset import writer

SPEC = """\
volant: 1
name: again
device: cpu
threads: 1
goal: {problem: Answer questions, use: research}
steps:
  raw:   {use: collect.files, glob: "data/*.jsonl", licence: CC-BY-NC-4.0}
  dealt: {use: collect.split, data: raw, salt: x}
  clean: {use: collect.clean, data: dealt, min_words: 2}
  mixed: {use: collect.mix, data: [clean], by: source, size: 50, seed: 3}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("again")
    (root / "data").mkdir()
    for name, start in (("a", 0), ("b", 100)):
        said = [
            {"prompt": f"question {i} of {name}", "completion": f"answer {i * 7}"} for i in range(start, start + 40)
        ]
        (root / "data" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, [*said, said[5]])))
    (root / "volant.yaml").write_text(SPEC)
    Project(root).go()
    return root


@pytest.fixture
def project(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "p")
    return Project(tmp_path / "p")


def test_every_step_makes_the_same_bytes_again(project):
    before = project.store.digests(), len(project.records.runs())
    results = rebuilding.rebuild(project, rebuilding.cards_of(project, project.artifact("mixed").digest))
    assert [(r.step, r.same) for r in results] == [("raw", True), ("dealt", True), ("clean", True), ("mixed", True)]
    assert (project.store.digests(), len(project.records.runs())) == before
    assert not [f for f in (project.store.root / "tmp").iterdir() if f.is_dir()]


def test_a_fresh_copy_is_made_from_the_manifest_and_the_files(project, tmp_path):
    told = rebuilding.manifest(project, "mixed")
    about = project.artifact("mixed").about
    assert told["artifacts"][-1]["rows"] == {**about["splits"], "dropped": 2} and about["splits"]["train"] == 50
    fresh = tmp_path / "fresh"
    shutil.copytree(project.root / "data", fresh / "data")
    (fresh / "manifest.json").write_text(json.dumps(told))
    (fresh / ".volant").mkdir()
    said = CliRunner().invoke(app, ["-C", str(fresh), "rebuild", "manifest.json"])
    assert said.exit_code == 0, said.output
    there = Project(fresh).store
    assert set(there.digests()) == {card["digest"] for card in told["artifacts"]}
    assert not any(there.verify(digest) for digest in there.digests())
    assert "at" not in "".join(k for k in told) and json.dumps(told) == json.dumps(
        rebuilding.manifest(project, "mixed")
    )


def test_what_changed_outside_is_named(project):
    (project.root / "data" / "b.jsonl").write_text('{"prompt": "x", "completion": "y"}')
    with pytest.raises(DataError, match=r"1 of what 'glob' names changed since: data/b.jsonl"):
        rebuilding.rebuild(project, rebuilding.cards_of(project, project.artifact("raw").digest))


def test_other_bytes_are_told_by_file(project):
    digest = project.records.runs(step="mixed", limit=1)[0].artifact
    cards = rebuilding.cards_of(project, digest)
    changed = cards[-1].model_copy(update={"seed": 4})
    results = rebuilding.rebuild(project, [*cards[:-1], changed])
    assert [r.same for r in results] == [True, True, True, False]
    assert "data/train-00000-of-00001.parquet" in results[-1].differ and "dataset.json" not in results[-1].differ
    shown = CliRunner().invoke(app, ["-C", str(project.root), "rebuild", "mixed", "--json"])
    assert shown.exit_code == 0 and [r["differ"] for r in json.loads(shown.stdout)] == [[]] * 4


def test_what_no_method_made_says_so(project):
    with writer(project.store.scratch("x")) as out:
        out.write(Sample(id="a", shape="text", content="a", source=Source(uri="u", licence="MIT")))
    data = project.store.seal(type(project.artifact("raw")), out.folder)
    with pytest.raises(ArtifactError, match="no method made it"):
        rebuilding.rebuild(project, rebuilding.cards_of(project, data.digest))


def test_no_manifest(tmp_path):
    for text in ("", "[]", '{"artifacts": [1]}', '{"artifacts": [{"kind": "Dataset"}]}'):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(DataError, match="it is no manifest"):
            rebuilding.read_manifest(tmp_path / "m.json")
