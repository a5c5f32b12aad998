import json
import os

import pytest

import volant
from volant.core.artifact import Dataset, Model
from volant.core.errors import DataError, Interrupted, MachineError, MissingPackage, PathError, SettingError, SpecError
from volant.core.method import method_of
from volant.core.run import Silent
from volant.project import Project, planning
from volant.project.looking import difference, status
from volant.stages import align, finetune, pretrain


def ran(results):
    return [name for name, done in results.items() if not done.fresh]


def edit(root, old, new):
    text = (root / "volant.yaml").read_text()
    assert old in text
    (root / "volant.yaml").write_text(text.replace(old, new))


def test_a_run_makes_everything_once(toy):
    first = Project(toy).go()
    assert ran(first) == ["raw", "clean", "tuned", "report", "live"]
    assert first["tuned"].artifact.read_json("model.json")["value"] == 1 + 2 + 4 + 5 + 8
    card = first["tuned"].artifact.card
    assert card.licences == ["MIT"] and card.parents == {"data": [first["clean"].artifact.digest]}
    assert [s.name for s in card.scores] == ["relevance"]
    assert ran(Project(toy).go()) == []


def test_one_changed_setting_runs_its_step_and_what_depends_on_it(toy):
    project = Project(toy)
    project.go()
    assert ran(project.go(settings={"tuned.rank": 16})) == ["tuned", "report", "live"]
    assert ran(project.go(settings={"tuned.rank": 16})) == [] and ran(project.go()) == []
    assert ran(project.go(settings={"tuned.seed": 1})) == ["tuned", "report", "live"]


def test_an_edited_file_makes_its_step_stale_and_says_so(toy):
    Project(toy).go()
    (toy / "data" / "n.txt").write_text("1 2 3 4 5 7")
    rows = {row.step: row for row in status(Project(toy))}
    assert rows["raw"].state == "stale" and "outside path changed" in rows["raw"].why
    assert rows["tuned"].state == "stale" and rows["tuned"].why == "waits for clean"
    # the sixth number is a test record, absent from the view of `clean`: the same bytes come out, the rest is fresh
    assert ran(Project(toy).go()) == ["raw", "clean"]


def test_an_edit_in_the_users_method_runs_it_again_but_not_a_docstring(toy):
    Project(toy).go()
    code = toy.parent / "code" / "toymethods.py"
    text = code.read_text()
    code.write_text(text.replace("Read numbers, one a line.", "Read the numbers."))
    assert ran(Project(toy).go()) == []
    code.write_text(text.replace("int(line) * times", "times * int(line)"))
    assert "raw" in ran(Project(toy).go())


def test_status_tells_number_beside_target_and_never_run(toy):
    project = Project(toy)
    assert {row.state for row in status(project)} == {"never run"}
    project.go(["tuned"])
    rows = {row.step: row for row in status(project)}
    assert rows["tuned"].target == ">= 3" and rows["tuned"].met and rows["report"].state == "never run"
    assert json.dumps([row.as_json() for row in rows.values()])
    assert rows["tuned"].seconds is not None and rows["live"].score is None


def test_a_failed_step_keeps_what_was_made_and_is_shown(toy):
    project = Project(toy)
    with pytest.raises(RuntimeError, match="boom"):
        project.go(settings={"tuned.crash": True})
    edit(toy, "rank: 8", "rank: 8\n    crash: true")
    rows = {row.step: row for row in status(Project(toy))}
    assert rows["clean"].state == "fresh" and rows["tuned"].state == "failed" and "boom" in rows["tuned"].why


def test_ctrl_c_keeps_a_checkpoint_and_the_next_run_carries_on(toy):
    project = Project(toy)
    project.go(["clean"])
    project.stop.set()
    with pytest.raises(Interrupted):
        project.go()
    rows = {row.step: row for row in status(Project(toy))}
    assert rows["tuned"].state == "stopped"
    assert list((toy / ".volant" / "work").glob("*/state.json"))
    resumed = Project(toy)
    points = []

    class Counting(Silent):
        def metric(self, step, name, value, at):
            points.append(at)

    resumed.watcher = Counting()
    assert resumed.go()["tuned"].artifact.read_json("model.json")["value"] == 20
    assert points == [1, 2, 3]  # the first number was not added again
    assert not list((toy / ".volant" / "work").glob("*/state.json"))


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        (
            "rank: 8",
            "rnak: 8",
            SettingError,
            "volant.yaml:12 tuned: toymethods:total has no setting 'rnak'. Did you mean 'rank'?",
        ),
        ("rank: 8", "rank: lots", SettingError, "volant.yaml:12 tuned: toymethods:total does not take 'lots'"),
        (
            "data: clean\n",
            "data: claen\n",
            SpecError,
            "volant.yaml:11 tuned: there is no step 'claen'. Did you mean 'clean'?",
        ),
        ("data: clean\n", "data: 3\n", SpecError, "takes the name of a step, not 3"),
        (
            "model: tuned, data: clean",
            "model: clean, data: clean",
            SpecError,
            "'model' takes a Model, but 'clean' makes a Dataset",
        ),
        ("toymethods:total", "finetune.lorra", SettingError, "there is no method 'finetune.lorra'"),
        ("toymethods:total", "nomodule:total", SettingError, "cannot import 'nomodule:total'"),
        ("data/*.txt", "date/*.txt", DataError, "no file matches 'date/*.txt'"),
        ("data/*.txt", "../code/*.py", PathError, "outside of the project"),
        ("into: clean", "into: claen", SpecError, "there is no step 'claen'"),
        ("into: clean", "into: tuned", SpecError, "takes no further datasets"),
        ("candidate: tuned, ", "", SpecError, "does not say which model"),
        ("data: raw", "data: clean", SpecError, "go in a circle: clean -> clean"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(toy, old, new, error, said):
    edit(toy, old, new)
    with pytest.raises(error) as caught:
        Project(toy).go()
    assert said in str(caught.value), str(caught.value)
    assert Project(toy).records.runs() == []


def test_wrong_overrides_steps_and_a_missing_file_are_said(toy, tmp_path):
    with pytest.raises(SpecError, match="there is no step 'tunde'"):
        Project(toy).go(settings={"tunde.rank": 1})
    with pytest.raises(SpecError, match="there is no step 'tunde'"):
        Project(toy).go(["tunde"])
    with pytest.raises(SpecError, match=r"there is no volant.yaml"):
        Project(tmp_path / "empty").go()


def test_a_missing_package_is_named_before_anything_runs(toy, monkeypatch):
    code = toy.parent / "code" / "toymethods.py"
    code.write_text(code.read_text().replace("import time\n", "import time\n\ndef _f():\n    import nopackage\n", 1))
    planning._installed.cache_clear()
    with pytest.raises(MissingPackage, match="needs the package 'nopackage'. Install it: pip install nopackage"):
        Project(toy).go()


@pytest.mark.parametrize("seed", [-1, 2**63, "a", True, 1.0])
def test_what_is_no_seed_is_told_before_anything_runs(toy, seed):
    import toymethods

    project = Project(toy)
    with pytest.raises(SettingError, match="tuned.seed: a seed is") as caught:
        project.step("tuned", seed=seed)
    assert caught.value.fix == "As in: seed=1"
    with pytest.raises(SettingError, match="a seed is"):
        project.call("raw", method_of(toymethods.numbers), {"path": "data/*.txt"}, seed=seed)
    assert not project.records.runs()


def test_the_largest_seed_is_kept_with_its_run(toy):
    import toymethods

    raw = Project(toy).step("raw", seed=2**63 - 1).run(toymethods.numbers, path="data/*.txt")
    assert raw.card.seed == 2**63 - 1


def test_eager_calls_are_the_same_calls(toy):
    import toymethods

    project = Project(toy)
    results = project.go()
    raw = project.run(toymethods.numbers, path="data/*.txt")
    assert raw.digest == results["raw"].artifact.digest
    clean = project.run(toymethods.join, raw)
    again = project.step("tuned", seed=0).run(toymethods.total, clean, rank=8)
    assert again.card.run == results["tuned"].artifact.card.run
    other = project.step("tuned", seed=1, refresh=True).run(toymethods.total, data=clean)
    assert other.card.seed == 1
    joined = project.run(toymethods.join, raw, raw, raw)
    assert len(joined.card.parents["more"]) == 2
    with pytest.raises(SettingError, match="no setting 'rnak'"):
        project.run(toymethods.total, clean, rnak=1)
    with pytest.raises(SettingError, match="takes a Dataset"):
        project.run(toymethods.total, again)
    assert volant.Project is Project
    with pytest.raises(AttributeError):
        volant.nothing


def test_names_are_found_by_step_digest_and_alias(toy):
    project = Project(toy)
    made = project.go()["tuned"].artifact
    project.records.promote("champion", made.digest, expected=None, key="k", evidence={})
    for name in ("tuned", "champion", made.digest, made.digest[:10]):
        assert project.artifact(name).digest == made.digest
    with pytest.raises(volant.core.VolantError, match="nothing is called 'chmpion' here. Did you mean 'champion'"):
        project.artifact("chmpion")
    edit(toy, "steps:\n", "steps:\n  later: {use: collect.python_sources}\n")
    with pytest.raises(volant.core.VolantError, match="step 'later' has made nothing yet. Run `volant run later`"):
        Project(toy).artifact("later")
    project.go(settings={"tuned.rank": 16})
    assert project.artifact("tuned").digest == made.digest  # what the file says, not what ran last
    changed = difference(project, "tuned", project.records.runs(step="tuned", status="done", limit=1)[0].artifact)
    assert changed.changes["settings.rank"] == (8, 16)


def test_refresh_runs_what_is_named(toy):
    project = Project(toy)
    project.go()
    assert ran(project.go(["tuned"], refresh=True)) == ["tuned"]
    assert ran(project.go(refresh=True)) == []


def test_a_device_that_is_not_there_is_refused(toy):
    edit(toy, "device: cpu", "device: mps")
    with pytest.raises(MachineError, match="no device 'mps' here"):
        Project(toy).go()
    assert Project(toy, device="cpu").device == "cpu" and Project(toy, device="auto").device in ("cpu", "cuda")


def test_more_processes_than_cores_can_serve_are_refused_before_they_start(toy):
    project = Project(toy, processes=1000)
    shared, alone = method_of(pretrain.transformer), method_of(align.dpo)
    with pytest.raises(MachineError, match="1000 processes are too many for [0-9]+ cores"):
        project.processes(shared)
    assert project.processes(alone) == 1 and Project(toy, processes=3).processes(shared) == 3


def test_far_more_threads_than_cores_are_refused(toy, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert Project(toy, threads=8).threads == 8
    with pytest.raises(MachineError, match=r"9999 threads are too many for 2 cores.*Take 2"):
        Project(toy, threads=9999).go()
    edit(toy, "threads: 1", "threads: 64")
    with pytest.raises(MachineError, match="64 threads"):
        Project(toy).go()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert Project(toy, threads=2).threads == 2  # what a project was made with goes on with one core


def test_a_full_disk_is_said_and_nothing_is_lost(toy, monkeypatch):
    project = Project(toy)
    project.go(["clean"])

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(project.store), "seal", full)
        with pytest.raises(MachineError, match="disk"):
            project.go()
    assert ran(project.go()) == ["tuned", "report", "live"]


def test_a_method_that_returns_something_else_is_refused(toy):
    code = toy.parent / "code" / "toymethods.py"
    code.write_text(code.read_text().replace("return Endpoint(run.out)", "return Endpoint(run.work)"))
    with pytest.raises(DataError, match=r"Return Endpoint\(run.out\)"):
        Project(toy).go()


def test_python_is_told_what_it_gave_in_place_of_artifacts_and_functions(tmp_path):
    project = Project(tmp_path)
    dataset = Dataset(tmp_path)
    for call, said in (
        (
            lambda: project.run(finetune.lora, "base", dataset),
            r"a Model as 'model', not 'base'.*artifact\('base'",
        ),
        (lambda: project.run(finetune.lora, 3, dataset), "takes a Model as 'model', not 3"),
        (lambda: project.run("finetune.lora", dataset), "'finetune.lora' is no function.*import finetune"),
        (lambda: project.step("tuned").run("finetune.lora", dataset), "'finetune.lora' is no function"),
        (
            lambda: project.run(finetune.lora, Model(tmp_path), dataset, 8, 8, 8),
            "4 artifacts by position",
        ),
    ):
        with pytest.raises(SettingError, match=said):
            call()
