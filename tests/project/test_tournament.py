"""A tournament: who wins by paired tests, who is no different, and all of it as one command with page and JSON."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import tiny_models
from volant.cli.app import app
from volant.core import Dataset, Model, Run
from volant.core.score import Score
from volant.project import Project
from volant.project.tournament import Entrant, decided
from volant.project.tournament_page import tournament_page

PAIRS = list(range(40))


def entrant(name, values, seconds=1.0):
    score = Score(name="bits", value=sum(values) / len(values), low=0, high=9, n=len(values), direction="lower")
    return Entrant(name, "d" * 64, {"bits": score}, {"bits": values}, cpu_seconds=seconds, seconds=seconds)


def test_a_winner_beats_each_other_one():
    base, lora = [2.0 + i % 7 / 10 for i in PAIRS], [1.5 + i % 5 / 10 for i in PAIRS]
    full = [value - 0.1 for value in lora]
    found = decided([entrant("base", base, 0), entrant("lora", lora), entrant("full", full, 5)], "bits", "lower")
    assert found.winner == found.choice == "full" and "wins" in found.said and found.level == 0.025
    assert found.against["lora"].verdict == "better"


def test_no_difference_is_said_and_the_cheapest_is_named():
    base, lora = [2.0 + i % 7 / 10 for i in PAIRS], [1.5 + i % 5 / 10 for i in PAIRS]
    full = [value + (0.1 if i % 2 else -0.11) for i, value in enumerate(lora)]
    found = decided([entrant("base", base, 0), entrant("lora", lora), entrant("full", full, 5)], "bits", "lower")
    assert found.best == "full" and found.winner == "" and found.choice == "lora"
    assert found.said.startswith("No difference between full and lora by bits")
    page = tournament_page(found)
    assert "<svg" in page and "No difference" in page and "take this" in page


def base(run: Run) -> Model:
    """The tiny model, which knows nothing yet."""
    made = tiny_models.model(run.work / "tiny", steps=0)
    shutil.copytree(made.path, run.out, dirs_exist_ok=True)
    return Model(run.out)


def pairs(run: Run) -> Dataset:
    """The tiny task."""
    return tiny_models.dataset(run.out, tiny_models.samples())


@pytest.mark.slow
def test_one_command_makes_measures_and_keeps_all_ways(tmp_path, monkeypatch):
    (tmp_path / "volant.yaml").write_text("volant: 1\nname: toy\nsteps: {}\n")
    project = Project(tmp_path, threads=1, device="cpu")
    project.step("base").run(base)
    project.step("pairs").run(pairs)
    monkeypatch.chdir(tmp_path)
    words = ["tournament", "base", "pairs", "--epochs", "8", "--device", "cpu", "--threads", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / ".volant" / "pages" / "tournament.json").read_text())
    rows = {row["name"]: row for row in found["entrants"]}
    assert list(rows) == ["base", "few-shot", "lora", "full"] and found["n"] == 12
    assert all(rows[name]["cpu_seconds"] > 0 and rows[name]["peak_bytes"] > 0 for name in ("few-shot", "lora", "full"))
    assert 0 < rows["lora"]["kept_bytes"] < rows["full"]["kept_bytes"] and rows["base"]["kept_bytes"] == 0
    bits = {name: row["scores"][0]["value"] for name, row in rows.items()}
    assert min(bits["lora"], bits["full"]) < bits["base"] and found["choice"] in ("lora", "full")
    again = CliRunner().invoke(app, [*words, "--json"])
    told = json.loads(again.stdout)
    assert [e["digest"] for e in told["entrants"]] == [e["digest"] for e in found["entrants"]]
    assert [e["cpu_seconds"] for e in told["entrants"]] == [
        e["cpu_seconds"] for e in found["entrants"]
    ]  # kept, not made
