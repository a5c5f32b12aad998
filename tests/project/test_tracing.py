"""From a record to all that learnt from it and back; what forgetting it means, and that it is forgotten."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from volant.cli.app import app
from volant.core.artifact import Dataset
from volant.core.errors import DataError, SpecError
from volant.core.sample import Sample, Source, sample_id
from volant.project import Project, forgetting, keeping, tracing
from volant.stages import collect
from volant.store import record_index
from volant.store.dataset import dropped, rows, writer

SPEC = """\
volant: 1
name: traced
device: cpu
threads: 1
steps:
  raw:    {use: collect.files, glob: "data/*.jsonl", licence: MIT}
  other:  {use: collect.files, glob: "more/*.jsonl", licence: CC0-1.0}
  clean:  {use: collect.clean, data: raw, more: [other]}
  base:   {use: "traced_toys:learn", data: clean}
  tuned:  {use: "traced_toys:tune", model: base}
  report: {use: "traced_toys:judge", model: tuned, data: clean}
"""
TOYS = '''
from volant.core import Dataset, Model, Report, Run


def learn(run: Run, data: Dataset) -> Model:
    """Learn."""
    from volant.store.dataset import rows

    (run.out / "volant.json").write_text('{"family": "toy", "modality": "text"}')
    (run.out / "seen.txt").write_text("\\n".join(s.text for s in rows(data, "train")))
    return Model(run.out)


def tune(run: Run, model: Model) -> Model:
    """Tune."""
    (run.out / "volant.json").write_text('{"family": "toy", "modality": "text", "parameters": 1}')
    (run.out / "seen.txt").write_text((model.path / "seen.txt").read_text())
    return Model(run.out)


def judge(run: Run, model: Model, data: Dataset) -> Report:
    """Judge."""
    (run.out / "report.json").write_text(str(len((model.path / "seen.txt").read_text())))
    return Report(run.out)
'''


def lines(count, start, mail=-1):
    said = [
        {"prompt": f"question {i} about {i * 7} things of kind {i % 5}", "completion": f"the answer is number {i}"}
        for i in range(start, start + count)
    ]
    if mail >= 0:
        said[mail]["completion"] = "write to ann.smith@post.net about number nine"
    return "\n".join(map(json.dumps, said))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose steps have all run."""
    root = tmp_path_factory.mktemp("traced")
    for name in ("data", "more"):
        (root / name).mkdir()
    (root / "data" / "a.jsonl").write_text(lines(40, 0, mail=5) + "\n" + lines(2, 3))
    (root / "more" / "b.jsonl").write_text(lines(20, 100))
    (root / "volant.yaml").write_text(SPEC)
    (root / "traced_toys.py").write_text(TOYS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        Project(root).go()
        yield root


@pytest.fixture
def traced(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "traced")
    return tmp_path / "traced"


def masked(project):
    return next(s for s in rows(project.artifact("clean")) if "masked" in s.attrs)


def steps(found, how):
    return {one.step for one in found.touched if one.how == how}


def test_a_record_leads_to_its_models_and_reports(traced):
    project = Project(traced)
    kept = next(s for s in rows(project.artifact("clean"), "train") if s.source.licence == "MIT")
    found = tracing.trace(project, [kept.id])
    assert steps(found, "holds") == {"raw", "clean"} and not steps(found, "dropped")
    assert steps(found, "learnt") == {"base", "report"} and steps(found, "made") == {"tuned"}
    assert found.held[0].source.uri.startswith("data/a.jsonl") and found.held[0].source.licence == "MIT"


def test_a_test_record_shapes_no_model(traced):
    project = Project(traced)
    held_out = next(s for s in rows(project.artifact("clean"), "test"))
    found = tracing.trace(project, [held_out.id])
    # the toy methods belong to no stage that sees the test split
    assert {one.step for one in found.touched} <= {"raw", "other", "clean"}


def test_a_dropped_record_says_by_which_rule_and_reaches_nothing(traced):
    project = Project(traced)
    gone = next(s for s in dropped(project.artifact("clean")) if s.drop.startswith("exact"))
    twice = tracing.trace(project, [gone.id])
    assert {row.rule for row in twice.held if row.drop} == {"exact_duplicate"}
    alone = Sample(
        id="alone", shape="text", content="x", source=Source(uri="u", licence="MIT"), drop="short: 1 against 5"
    )
    kept = alone.model_copy(update={"id": "kept", "drop": ""})
    store = project.store
    with writer(store.scratch("d")) as out:
        out.write_all([alone, kept])
    data = store.seal(type(project.artifact("clean")), out.folder)
    run = project.records.start_run("m", "traced_toys:learn", "k", "c", {}, 0, {"data": [data.digest]}, {})
    project.records.end_run(run, "done", project.artifact("base").digest)
    assert [(one.how, one.records) for one in tracing.trace(project, ["alone"]).touched] == [("dropped", ["alone"])]
    assert steps(tracing.trace(project, ["kept"]), "learnt") == {"base"}


def test_a_masked_record_is_followed_through_its_change(traced):
    project = Project(traced)
    changed = masked(project)
    (before,) = changed.parents
    found = tracing.trace(project, [before])
    assert [row.id for row in found.below] == [changed.id]
    assert {one.step for one in found.touched} >= {"raw", "clean", "base", "tuned"}
    back = tracing.trace(project, [changed.id])
    assert [row.id for row in back.above] == [before] and not back.below


def test_an_unknown_record_is_an_error(traced):
    with pytest.raises(DataError, match="no dataset here holds the record 'nobody'"):
        tracing.trace(Project(traced), ["nobody"])


def test_back_from_a_model(traced):
    found = tracing.origins(Project(traced), "tuned")
    assert [(o.step, o.licences, o.settings["glob"]) for o in found] == [
        ("raw", {"MIT": 42}, "data/*.jsonl"), ("other", {"CC0-1.0": 20}, "more/*.jsonl"),
    ]  # fmt: skip


def test_what_is_forgotten_is_gone_after_the_next_run(traced):
    project = Project(traced)
    changed = masked(project)
    found = forgetting.forget(project, [changed.id])
    assert found.records == [changed.id, *changed.parents]
    assert [s.step for s in found.steps] == ["raw", "other", "clean", "base", "tuned", "report"]
    assert found.steps[1].why.startswith("looks") and found.seconds > 0 and not found.unplanned
    assert forgetting.apply(project, found, "asked") == found.records and forgetting.apply(project, found) == []

    again = Project(traced)
    before = {name: again.artifact(name).digest for name in ("other",)}
    results = again.go()
    assert [name for name, done in results.items() if done.fresh] == []
    assert results["other"].artifact.digest == before["other"]
    raw = results["raw"].artifact
    assert not set(found.records) & {s.id for s in rows(raw)}
    (shell,) = [s for s in dropped(raw) if s.drop.startswith("forgotten")]
    assert shell.id == changed.parents[0] and shell.text == "" and shell.source == changed.source
    assert "number nine" not in (results["tuned"].artifact.path / "seen.txt").read_text()
    keeping.collect_garbage(again)
    left = b"".join(file.read_bytes() for file in again.store.root.rglob("seen.txt"))
    assert b"number nine" not in left
    assert len(list((again.store.root / "cache" / "records").iterdir())) == 3
    assert all(done.fresh for done in Project(traced).go().values())
    over = forgetting.forget(Project(traced), changed.parents)
    assert not [step for step in over.steps if "dropped" in step.why or "holds" in step.why] and not over.touched


def test_cleaning_alone_leaves_out_what_a_harvested_dataset_still_holds(traced):
    project = Project(traced)
    target = next(rows(project.artifact("other"), "train"))
    forgetting.apply(project, forgetting.forget(project, [target.id]))
    clean = project.step("again").run(collect.clean, project.artifact("raw"), project.artifact("other"))
    assert target.id not in {s.id for s in rows(clean)}
    assert [s.text for s in dropped(clean) if s.id == target.id] == [""]


def test_a_bad_line_in_the_list_names_its_place(traced):
    (traced / "forgotten.jsonl").write_text('{"id": "a"}\n\n{"name": "b"}\n')
    with pytest.raises(SpecError, match=r"forgotten.jsonl:3"):
        _ = Project(traced).forgotten


def test_ids_of_any_length_are_found_and_collisions_are_not_believed(tmp_path, monkeypatch):
    names = ["", "a", "é", "x" * 7, "x" * 8, "x" * 9, "y" * 300, *(sample_id(str(i)) for i in range(50))]
    source = Source(uri="u", licence="MIT")
    with writer(tmp_path / "d") as out:
        out.write_all(
            Sample(id=name, shape="text", content="c", source=source, parents=names[: k % 3])
            for k, name in enumerate(names)
        )
    data = Dataset(tmp_path / "d")
    index = record_index.RecordIndex(tmp_path / "i")
    assert [held.id for held in index.find(data, names)] == names
    assert len(index.find(data, [""], children=True)) == sum(k % 3 > 0 for k in range(len(names)))
    assert index.find(data, ["nobody"]) == [] == index.find(data, [])
    monkeypatch.setattr(record_index, "_chained", lambda words, length: words[:, 0] * 0)
    crowded = record_index.RecordIndex(tmp_path / "j")
    assert [held.id for held in crowded.find(data, ["a", "nobody"])] == ["a"]


def test_on_the_command_line(traced, monkeypatch):
    monkeypatch.chdir(traced)
    changed = masked(Project(traced))
    run = CliRunner().invoke
    shown = run(app, ["trace", changed.id]).stdout
    assert changed.source.uri in shown and "learnt" in shown and changed.parents[0] in shown
    body = json.loads(run(app, ["trace", changed.id, "--json"]).stdout)
    assert body["above"][0]["id"] == changed.parents[0] and body["held"][0]["source"]["licence"] == "MIT"
    assert "data/*.jsonl" in run(app, ["trace", "tuned"]).stdout
    planned = run(app, ["forget", changed.id]).stdout
    assert "Nothing was changed" in planned and not (traced / "forgotten.jsonl").exists()
    assert "2 ids written" in run(app, ["forget", changed.id, "--apply", "--reason", "asked"]).stdout
    assert json.loads((traced / "forgotten.jsonl").read_text().splitlines()[1])["reason"] == "asked"
    assert run(app, ["trace", "nothing-of-that-name"]).exit_code == 2
