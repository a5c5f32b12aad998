"""The commands that turn the wheel and look at it, driven as a person drives them."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from volant.cli.app import app
from volant.project import turning

SPEC = """volant: 1
name: toy
device: cpu
goal: {problem: count, accept: {relevance: ">= 0.35"}}
steps:
  some: {use: "cli_toys:numbers", size: 3}
  sum: {use: "cli_toys:total", report: some}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "volant.yaml").write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def volant(*words: str, code: int = 0, keys: str | None = None) -> str:
    """Run a command; returns what it wrote, standard error included."""
    result = CliRunner().invoke(app, list(words), input=keys)
    assert result.exit_code == code, f"{result.exit_code}: {result.output} {result.exception!r}"
    return result.output


def ran(text: str) -> dict[str, bool]:
    return {name: not step["fresh"] for name, step in json.loads(text).items()}


def out_of(*words: str) -> str:
    """Standard output alone."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def test_second_run_says_that_all_is_fresh(folder: Path) -> None:
    first = volant("run")
    assert "2 of 2 steps ran" in first and "wrote 3 numbers" in first and "relevance 0.3" in first
    assert "All steps are fresh (2)" in volant("run")


def test_set_runs_what_depends_on_it_and_nothing_else(folder: Path) -> None:
    assert ran(out_of("run", "--json")) == {"some": True, "sum": True}
    assert ran(out_of("run", "--json", "--set", "sum.plus=2")) == {"some": False, "sum": True}
    assert ran(out_of("run", "--json", "--set", "some.size=4")) == {"some": True, "sum": True}
    assert ran(out_of("run", "--json")) == {"some": False, "sum": False}


def test_only_the_named_step_and_what_it_needs(folder: Path) -> None:
    assert ran(out_of("run", "some", "--json")) == {"some": True}
    assert ran(out_of("run", "some", "--refresh", "--json")) == {"some": True}


@pytest.mark.parametrize(
    ("outcome", "champion", "said"),
    [
        ("kept", "c" * 64, "The champion stays: cccccccccccc\n"),
        ("kept", "", "Not promoted: aaaaaaaaaaaa\n"),
        ("promoted", "c" * 64, "Promoted: aaaaaaaaaaaa\n"),
    ],
)
def test_a_turn_names_the_model_that_is_in_use_after_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, outcome: turning.Outcome, champion: str, said: str
) -> None:
    result = turning.TurnResult(outcome, "a" * 64, champion, "relevance")
    monkeypatch.setattr(turning, "turn", lambda project: result)
    assert volant("turn").startswith(said)


def test_status_shows_figure_beside_target(folder: Path) -> None:
    before = volant("status")
    assert "never run" in before and "○" in before
    volant("run")
    text = volant("status")
    assert "fresh" in text and "relevance 0.3 missed" in text and ">= 0.35" in text
    rows = json.loads(out_of("status", "--json"))["steps"]
    assert [(r["step"], r["state"], r["met"]) for r in rows] == [("some", "fresh", False), ("sum", "fresh", None)]
    (folder / "volant.yaml").write_text(SPEC.replace("size: 3", "size: 4"))
    text = volant("status")
    assert "stale: size 3 -> 4" in text and "waits for some" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "sim"], "there is no step 'sim'. Did you mean 'sum'?"),
        (
            ["run", "--set", "some.sise=3"],
            "volant.yaml:6 some: cli_toys:numbers has no setting 'sise'. Did you mean 'size'?",
        ),
        (["run", "--set", "some.size=many"], "does not take 'many' for 'size'"),
        (["run", "--set", "size"], "--set takes STEP.NAME=VALUE"),
        (["show", "nobody"], "nothing is called 'nobody'"),
        (["methods", "finetune.lroa"], "there is no method"),
        (["turn"], "no loop"),
        (["rollback"], "no earlier model"),
        (["chat"], "no Model was made here yet"),
        (["serve"], "no Model was made here yet"),
        (["down"], "no server of workload 'default' runs"),
        (["compare", "some", "sum"], "no figure in common"),
    ],
)
def test_wrong_input_is_one_message_and_code_2(folder: Path, words: list[str], said: str) -> None:
    if words[0] == "compare":
        volant("run")
    text = volant(*words, code=2)
    assert said in text and text.count("error:") == 1 and "Traceback" not in text


def test_wrong_spec_writes_nothing(folder: Path) -> None:
    (folder / "volant.yaml").write_text(SPEC.replace("size: 3", "sise: 3"))
    assert "volant.yaml:6 some" in volant("run", code=2)
    (folder / "volant.yaml").write_text(SPEC + "  some: {use: x.y}\n")
    assert "volant.yaml:8" in volant("run", code=2)
    assert not list((folder / ".volant").rglob("artifacts/*"))


def test_outside_of_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "volant init" in volant("status", code=2)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "volant.yaml").write_text(SPEC)
    assert "never run" in volant("-C", "here", "status")


def test_below_the_project_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(folder / "deep" / "er")
    volant("run")
    assert (folder / ".volant").is_dir() and not (folder / "deep" / "er" / ".volant").exists()


def test_show_names_what_made_it(folder: Path) -> None:
    volant("run")
    text = volant("show", "sum", "--files")
    some = json.loads(out_of("show", "some", "--json"))
    assert "cli_toys:total as 'sum', seed 0" in text and some["digest"][:12] in text and "report.json" in text
    assert some["settings"] == {"size": 3, "path": ""} and some["scores"][0]["name"] == "relevance"
    assert "kind" in volant("show", some["digest"][:10])


def test_page_opens_and_a_missing_one_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    volant("run")
    assert "index.html" in volant("show", "some", "--page")
    assert opened[0].startswith("file://") and opened[0].endswith("index.html")
    assert "has no page" in volant("show", "sum", "--page", code=2)


def test_lineage_goes_both_ways(folder: Path) -> None:
    volant("run")
    both = json.loads(out_of("lineage", "some", "--json"))
    assert both["ancestors"] == [] and len(both["descendants"]) == 1
    assert "report" in volant("lineage", "sum", "--made") and "sum" in volant("lineage", "some", "--fed")
    assert "nothing" in volant("lineage", "some", "--made")


def test_diff_names_the_setting(folder: Path) -> None:
    volant("run")
    first = json.loads(out_of("show", "some", "--json"))["digest"]
    (folder / "volant.yaml").write_text(SPEC.replace("size: 3", "size: 5"))
    volant("run")
    text = volant("diff", first[:12], "some")
    assert "settings.size" in text and "scores.relevance" in text
    assert "same" in volant("diff", "some", "some")
    changes = json.loads(out_of("diff", first[:12], "some", "--json"))["changes"]
    assert changes["settings.size"] == [3, 5]


def test_compare_says_better_only_where_intervals_part(folder: Path) -> None:
    volant("run")
    first = json.loads(out_of("show", "some", "--json"))["digest"]
    (folder / "volant.yaml").write_text(SPEC.replace("size: 3", "size: 5"))
    volant("run")
    rows = json.loads(out_of("compare", first, "some", "--json"))
    assert rows[0]["verdict"] == "better" and rows[0]["before"] == 0.3
    assert "worse" in volant("compare", "some", first)


def test_verify_finds_a_flipped_byte(folder: Path) -> None:
    volant("run")
    assert "all are whole" in volant("verify")
    file = Path(json.loads(out_of("show", "sum", "--json"))["path"]) / "report.json"
    file.chmod(0o644)
    file.write_text("[9]")
    assert "report.json" in volant("verify", code=1)
    volant("verify", "some")


def test_gc_frees_what_nothing_needs(folder: Path) -> None:
    volant("run", "--set", "some.size=9")
    volant("run")
    dry = json.loads(out_of("gc", "--dry-run", "--json"))
    assert len(dry["digests"]) == 2 and dry["bytes"] > 0
    assert "2 artifacts" in volant("gc") and json.loads(out_of("gc", "--json"))["digests"] == []
    assert "All steps are fresh" in volant("run")


def test_push_and_pull(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volant("run")
    there = folder / "there"
    digests = json.loads(out_of("push", str(there), "sum", "--json"))
    assert len(digests) == 2
    other = folder / "other"
    other.mkdir()
    (other / "volant.yaml").write_text(SPEC)
    assert "2 artifacts came" in volant("-C", str(other), "pull", str(there), *digests)
    monkeypatch.chdir(other)
    assert "Report" in volant("show", digests[0])


def test_version_and_completion(folder: Path) -> None:
    from volant import __version__
    from volant.cli import complete

    assert volant("--version").strip() == __version__
    assert complete.steps("s") == ["some", "sum"] and complete.things("su") == ["sum"]
    assert "finetune" in complete.methods("fine")
    (folder / "volant.yaml").write_text("steps: [")
    assert complete.steps("s") == []


LOOP = """  got: {use: collect.files, glob: "*.txt", licence: CC0-1.0}
  tidy: {use: collect.clean, data: got}
loop: {into: tidy, candidate: tidy}
"""


def test_the_loop_counts_as_the_stage_it_is(folder: Path) -> None:
    unlooped = volant("status").replace("\n", " ")
    assert "improve" in unlooped.split("Stages without a step here:")[1]
    (folder / "a.txt").write_text("some words")
    (folder / "volant.yaml").write_text(SPEC + LOOP)
    text = volant("status").replace("\n", " ")
    assert "The loop turns improve.harvest into tidy." in text
    assert "improve" not in text.split("Stages without a step here:")[1].split(".")[0]


def test_help_shows_what_is_in_brackets() -> None:
    """Every extra that a docstring names, which rich would take for a word of its own."""
    import typer

    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        said = [command.callback.__doc__ or "", *(getattr(p, "help", "") or "" for p in command.params)]
        named = re.findall(r"\[[a-z#/@][^\[\]]*\]", " ".join(said))
        shown = volant(name, "--help") if named else ""
        assert all(word in shown for word in named), (name, named)
    assert "'volant[tensorboard]'" in volant("metrics-export", "--help")
