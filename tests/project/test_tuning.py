"""`volant tune`: ranges checked with their lines, the same trials after a kill, pruning, what is written."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from typer.testing import CliRunner

from volant.cli.app import app
from volant.core.errors import Interrupted, SettingError, SpecError
from volant.core.score import Score
from volant.core.spec import Goal
from volant.project import Project
from volant.project.looking import headline, is_quality
from volant.project.ranges import Choice
from volant.project.spec_edit import write_settings
from volant.project.spec_file import load_spec
from volant.project.trials import Search, Trial, draw, unlike
from volant.project.tuning import search
from volant.project.tuning_page import tuning_page

HILLS = '''
"""Methods whose best settings are known."""

import json
import time
from typing import Any

from volant.core import Model, Report, Run, Score
from volant.core.errors import DataError


def hill(
    run: Run, *, x: float = 0.1, depth: int = 3, kind: str = "flat", unused: float = 1.0, pause: float = 0.0,
    size: dict[str, Any] | None = None, slopes: dict[str, float] | None = None,
) -> Model:
    """Best at x = 0.01, depth 5 and kind tall.

    Args:
        x: above 0.
        depth: whole.
        kind: flat, tall or broken.
        unused: changes nothing.
        pause: seconds a look.
        size: best with a width of 48 and a slope of 0.5.
        slopes: best with 2 as `a`.
    """
    import math

    if kind == "broken":
        raise DataError("it is broken.", fix="Choose another kind.")
    miss = abs(math.log10(x) + 2) + abs(depth - 5) / 5 + (kind != "tall")
    if size:
        miss += abs(size["width"] - 48) / 48 + abs(size.get("slope", 0.5) - 0.5)
    if slopes:
        miss += abs(slopes["a"] - 2)
    mark = run.work / "look"
    first = int(mark.read_text()) if mark.exists() else 0
    for look in range(first, 4):
        time.sleep(pause)
        run.metric("validation_loss", miss + 1 / (look + 1), look)
        mark.write_text(str(look + 1))
        if run.stopping:
            run.interrupt()
    (run.out / "model.json").write_text(json.dumps([x, depth, kind]))
    (run.out / "volant.json").write_text(json.dumps({"family": "hill", "modality": "text"}))
    run.score(Score.exact("height", 4 - miss))
    return Model(run.out)


def judge(run: Run, model: Model) -> Report:
    """Judge a hill.

    Args:
        none: none.
    """
    x, depth, kind = model.read_json("model.json")
    (run.out / "report.json").write_text("{}")
    run.score(Score.exact("cost", depth + 10 * x, direction="lower"))
    return Report(run.out)
'''

SPEC = """\
volant: 1
name: hills
threads: 1
device: cpu
steps:
  # the hill
  top:
    use: hills:hill   # of our own
    depth: 3
    search:
      x: {range: [1e-4, 1], log: true}
      depth: {range: [1, 9]}
      kind: {any: [flat, tall]}
  seen: {use: "hills:judge", model: top}
"""


@pytest.fixture
def hills(tmp_path, monkeypatch):
    code = tmp_path / "code"
    code.mkdir()
    (code / "hills.py").write_text(dedent(HILLS))
    monkeypatch.syspath_prepend(str(code))
    sys.modules.pop("hills", None)
    root = tmp_path / "project"
    root.mkdir()
    (root / "volant.yaml").write_text(SPEC)
    monkeypatch.chdir(root)
    yield root
    sys.modules.pop("hills", None)


def edit(root: Path, old: str, new: str) -> None:
    text = (root / "volant.yaml").read_text()
    assert old in text
    (root / "volant.yaml").write_text(text.replace(old, new))


def drawn(found):
    return [(t.values, t.state, t.score) for t in found.trials]


def test_the_best_is_found_and_what_changes_nothing_matters_little(hills):
    edit(hills, "kind: {any", "unused: {range: [0, 1]}\n      kind: {any")
    found = search(Project(hills), "top", trials=40)
    assert found.metric == "height" and found.direction == "higher"
    assert found.trials[0].values == {"x": 0.1, "depth": 3, "unused": 1.0, "kind": "flat"}  # as the file stands
    best = found.best
    assert best.values["kind"] == "tall" and best.score > 3.4 > found.trials[0].score
    assert {type(t.values["depth"]) for t in found.trials} == {int}
    assert all(1e-4 <= t.values["x"] <= 1 and 1 <= t.values["depth"] <= 9 for t in found.trials)
    assert min(found.importance, key=found.importance.get) == "unused"
    assert abs(sum(found.importance.values()) - 1) < 0.01
    page = tuning_page(found)
    assert "ended early" in page and "What matters" in page and page.count("<svg") >= 4


def test_what_the_file_takes_is_tried_first_as_it_is_written_and_only_where_it_could_be_drawn(hills):
    edit(hills, "kind: {any: [flat, tall]}", "unused: {any: [1, 2, 3]}")  # a setting of floats: it takes 1.0 now
    edit(hills, "depth: {range: [1, 9]}", "depth: {range: [2, 8], step: 2}")  # takes 3, which is none of the four
    found = search(Project(hills), "top", trials=3)
    assert found.trials[0].values["unused"] == 1 and found.trials[0].values["x"] == 0.1
    assert {t.values["depth"] for t in found.trials} <= {2, 4, 6, 8}
    assert [t.state for t in found.trials] == ["done"] * 3


def test_trials_are_the_same_again_and_after_a_stop_and_other_with_another_seed(hills, tmp_path):
    whole = drawn(search(Project(hills), "top", trials=14))
    assert any(state == "pruned" for _, state, _ in whole)
    assert drawn(search(Project(hills), "top", trials=14)) == whole  # all out of the records
    assert len(Project(hills).records.events("trial", limit=100)) == 14
    assert not any((hills / ".volant" / "work").glob("*/look"))  # what was ended early leaves nothing
    (hills / ".volant").rename(tmp_path / "first")
    search(Project(hills), "top", trials=5)
    project = Project(hills)
    at = 0

    class Stops:
        def __getattr__(self, name):
            return lambda *a, **k: self

        def metric(self, step, name, value, where):
            nonlocal at
            at += 1
            if at == 6:
                project.stop.set()

    project.watcher = Stops()
    with pytest.raises(Interrupted):
        search(project, "top", trials=14)
    assert drawn(search(Project(hills), "top", trials=14)) == whole
    assert drawn(search(Project(hills), "top", trials=6, seed=1)) != whole[:6]


def test_a_killed_search_carries_on_to_the_same_trials(hills, tmp_path):
    edit(hills, "    depth: 3\n", "    depth: 3\n    pause: 0.02\n")
    whole = drawn(search(Project(hills), "top", trials=8))
    (hills / ".volant").rename(tmp_path / "first")
    path = os.pathsep.join([str(hills.parent / "code"), *(p for p in sys.path if p)])
    words = [sys.executable, "-m", "volant.cli", "tune", "top", "--trials", "8"]
    child = subprocess.Popen(words, cwd=hills, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.DEVNULL)
    records = hills / ".volant" / "records.db"
    end = time.monotonic() + 60
    while time.monotonic() < end and child.poll() is None:
        if records.exists() and len(Project(hills).records.events("trial", limit=10)) >= 3:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert drawn(search(Project(hills), "top", trials=8)) == whole


def test_a_figure_of_a_later_step_counts_and_its_direction_is_its_own(hills):
    found = search(Project(hills), "top", trials=12, goal="seen.cost")
    assert found.direction == "lower" and found.best.score == min(t.score for t in found.trials if t.score is not None)
    with pytest.raises(SettingError, match=r"'seen' states no figure 'price'.*cost"):
        search(Project(hills), "top", trials=1, goal="seen.price")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "x: {range: [1e-4, 1], log: true}",
            "y: {range: [1, 2]}",
            "volant.yaml:11 top: 'y' is no setting",
        ),
        ("depth: {range: [1, 9]}", "depth.low: {range: [1, 9]}", "volant.yaml:12 top: 'depth' is 3, so that"),
        ("depth: {range: [1, 9]}", "depths.low: {range: [1, 9]}", "volant.yaml:12 top: 'depths.low' is no setting"),
        (
            "depth: {range: [1, 9]}",
            "size.a: {range: [1, 9]}\n      size: {any: [{a: 1}, {a: 2}]}",
            "volant.yaml:12 top: 'size.a' is inside 'size'",
        ),
        ("depth: {range: [1, 9]}", "size..a: {range: [1, 9]}", "volant.yaml:12 top: 'size..a' is no setting"),
        ("    depth: 3\n", "    size: 3\n", "volant.yaml:9 top: hills:hill does not take 3 for 'size'"),
        ("[1e-4, 1]", "[1, 1e-4]", "volant.yaml:11: 'steps.top.search.x' cannot be"),
        ("[1e-4, 1]", "[0, 1]", "`log` needs a lowest above 0"),
        ("{range: [1, 9]}", "{range: [1, 9], step: 0.5}", "volant.yaml:12 top: 'depth' takes whole numbers"),
        ("{range: [1, 9]}", "{rnage: [1, 9]}", "Did you mean 'range'?"),
        ("{range: [1, 9]}", "{any: [1, two]}", "volant.yaml:12 top: hills:hill does not take 'two' for 'depth'"),
        ("    depth: 3\n", "    depth: {range: [1, 9]}\n", "volant.yaml:9 top: hills:hill does not take"),
    ],
)
def test_a_wrong_range_is_told_with_its_line_before_anything_runs(hills, old, new, said):
    edit(hills, old, new)
    for words in (["run"], ["tune", "top"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2 and said in result.output
    assert not (hills / ".volant" / "artifacts").exists() or not any((hills / ".volant" / "artifacts").iterdir())


def test_other_errors_name_the_way_out(hills):
    for words, said in (
        (["tune", "seen"], "has no ranges to search. Give it some"),
        (["tune", "tpo"], "Did you mean 'top'?"),
        (["tune", "top", "--for", "top.heigth", "--trials", "1"], "Did you mean 'height'?"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2 and said in result.output, result.output
    edit(hills, "[flat, tall]", "[broken, tall]")
    edit(hills, "    depth: 3\n", "    depth: 3\n    kind: broken\n")
    found = search(Project(hills), "top", trials=1)
    assert found.trials[0].state == "failed" and "it is broken" in found.trials[0].error and found.best is None
    edit(hills, "[broken, tall]", "[broken, bricks]")
    edit(hills, "    kind: broken\n", "    kind: bricks\n")
    (hills.parent / "code" / "hills.py").write_text(HILLS.replace('kind == "broken"', "True"))
    sys.modules.pop("hills")
    with pytest.raises(SpecError, match="3 trials in a row failed, the last one so: top: it is broken"):
        search(Project(hills), "top", trials=6)


def test_the_test_split_chooses_nothing(hills):
    from volant.project import tuning

    text = (hills / "volant.yaml").read_text()
    report = "  report: {use: evaluate.suite, model: top, data: all, split: test}\n"
    data = "  all: {use: collect.python_sources}\n"
    (hills / "volant.yaml").write_text(text + data + report)
    planned = Project(hills).plan()
    found = tuning._begun(planned, "top", "report.relevance", 0)
    with pytest.raises(SpecError, match=r"volant.yaml:16 report: a search that looks at 'report'.*`split: validation`"):
        tuning._check_sealed(planned, planned, found)
    edit(hills, "split: test", "split: validation")
    planned = Project(hills).plan()
    tuning._check_sealed(planned, planned, found)


def test_a_run_takes_what_stands_and_says_that_there_are_ranges(hills):
    result = CliRunner().invoke(app, ["run"])
    assert result.exit_code == 0
    assert "depth 3" in result.output and "`volant tune top` searches" in result.output


def test_the_best_is_written_and_everything_else_stays(hills):
    result = CliRunner().invoke(app, ["tune", "top", "--trials", "12", "--write"])
    assert result.exit_code == 0, result.output
    score = float(re.search(r"Best: trial \d+, height ([0-9.]+)\.", result.output)[1])
    text = (hills / "volant.yaml").read_text()
    assert "# of our own" in text and "Written into volant.yaml." in result.output
    again = search(Project(hills), "top", trials=1).trials[
        0
    ]  # another file, another search: it begins with what stands
    assert again.score == pytest.approx(score, abs=1e-3) and set(again.values) == {"x", "depth", "kind"}


def test_write_keeps_comments_in_both_styles(tmp_path):
    path = tmp_path / "volant.yaml"
    path.write_text(SPEC + '  flow: {use: "hills:hill", x: 1.0, depth: 2}  # one line\n')
    write_settings(path, "top", {"depth": 7, "kind": "tall", "x": 1e-05})
    write_settings(path, "flow", {"x": 0.25, "kind": "1e3"})
    text = path.read_text()
    assert "# the hill" in text and "# of our own" in text and "# one line" in text
    steps = load_spec(path).steps
    assert steps["top"].arguments == {"depth": 7, "kind": "tall", "x": 1e-05} and steps["top"].search
    assert steps["flow"].arguments == {"x": 0.25, "depth": 2, "kind": "1e3"}
    assert [line for line in text.splitlines() if line not in (SPEC + path.read_text()).splitlines()] == []
    more = "  in: {use: 'hills:hill', size: {width: 16}}\n  out:\n    use: hills:hill\n    size:\n      width: 16\n"
    path.write_text(SPEC + more)
    for step in ("in", "out", "top"):
        write_settings(path, step, {"size.width": 32, "size.inner.a": 1, "size.inner.b": 2})
        size = {"width": 32, "inner": {"a": 1, "b": 2}}
        assert load_spec(path).steps[step].arguments["size"] == size
    path.write_text(SPEC + "  empty:\n    use: hills:hill\n    size:  # none yet\n    depth:\n")
    write_settings(path, "empty", {"size.width": 32, "depth": 2})
    assert load_spec(path).steps["empty"].arguments == {"size": {"width": 32}, "depth": 2}
    assert "# none yet" in path.read_text()
    path.write_text(SPEC + "  in: {use: 'hills:hill', size: [1, 2]}\n")
    with pytest.raises(SettingError, match="'size' is"):
        write_settings(path, "in", {"size.width": 32})
    assert "size: [1, 2]" in path.read_text()
    (tmp_path / "odd.yaml").write_text(SPEC.replace("    depth: 3\n", "    unused:\n      - 1\n"))
    with pytest.raises(SpecError):
        write_settings(tmp_path / "odd.yaml", "top", {"unused": 0.5})
    assert "- 1" in (tmp_path / "odd.yaml").read_text()


def test_a_setting_inside_a_mapping_is_searched_and_written(hills):
    edit(hills, "    depth: 3\n", "    depth: 3\n    size: {width: 16}  # small\n")
    edit(
        hills,
        "depth: {range: [1, 9]}",
        "size.width: {range: [16, 64], step: 16}\n      size.slope: {range: [0.0, 1.0]}",
    )
    result = CliRunner().invoke(app, ["tune", "top", "--trials", "30", "--write"])
    assert result.exit_code == 0, result.output
    found = search(Project(hills), "top", trials=1).trials[0].values  # as the file stands now
    assert found["size.width"] == 48 and isinstance(found["size.width"], int) and abs(found["size.slope"] - 0.5) < 0.3
    text = (hills / "volant.yaml").read_text()
    assert f"size: {{slope: {found['size.slope']}, width: 48}}  # small" in text
    ran = CliRunner().invoke(app, ["run", "top", "--set", "top.size.width=64"])
    assert ran.exit_code == 0 and "64" in ran.output, ran.output


def test_a_mapping_of_floats_is_searched_in_floats_whatever_stands(hills):
    edit(hills, "    depth: 3\n", "    depth: 3\n    slopes: {a: 1.5}\n")
    edit(hills, "depth: {range: [1, 9]}", "slopes.a: {range: [1, 3]}")
    found = search(Project(hills), "top", trials=6)
    assert found.trials[0].values["slopes.a"] == 1.5
    assert {type(t.values["slopes.a"]) for t in found.trials} == {float}
    edit(hills, "slopes.a: {range: [1, 3]}", "size.width: {range: [16, 64]}")
    edit(hills, "slopes: {a: 1.5}", "size: {width: 16.5}")
    trials = search(Project(hills), "top", trials=3).trials  # what stands is no whole number: it is passed over
    assert {type(t.values["size.width"]) for t in trials} == {int}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("top.depth.low=3", "'depth' is 3, so that there is no 'low' inside it"),
        ("top.seed.x=1", "a seed is a whole number, not {'x': 1}"),
        ("top.seed=one", "a seed is a whole number, not 'one'"),
        ("top.seed=-1", "a seed is from 0 to 9223372036854775807, not -1"),
        ("top.seed=18446744073709551616", "a seed is from 0 to 9223372036854775807, not 18446744073709551616"),
        ("top.size.=3", "'top.size.' names no setting"),
        ("top.sizes.width=3", "has no setting 'sizes'"),
    ],
)
def test_what_cannot_be_set_is_told(hills, words, said):
    result = CliRunner().invoke(app, ["run", "--set", words])
    assert result.exit_code == 2 and said in " ".join(result.output.split()), result.output


def test_json_is_whole(hills):
    result = CliRunner().invoke(app, ["tune", "top", "--trials", "5", "--json"])
    told = json.loads(result.stdout)
    assert len(told["trials"]) == 5 and told["best"] and Path(told["page"]).is_file()


def test_a_count_is_nothing_to_aim_at(hills):
    counts = [Score.exact("parameters", 9, direction="lower"), Score.exact("training_tokens", 8)]
    bits = Score.exact("bits_per_byte", 2, direction="lower")
    assert headline([*counts, bits], Goal()) is bits and headline(counts, Goal()) is counts[0]
    assert not any(is_quality(Score.exact(name, 1)) for name in ("merge_difference", "weights_share", "logratio"))
    code = hills.parent / "code" / "hills.py"
    height = 'run.score(Score.exact("height", 4 - miss))'
    many = 'run.score(Score.exact("parameters", depth, direction="lower"))'
    code.write_text(HILLS.replace(height, f"{many}\n    {height}"))
    assert search(Project(hills), "top", trials=2).metric == "height"
    code.write_text(HILLS.replace(height, many))
    sys.modules.pop("hills")
    (hills / ".volant").rename(hills / "first")
    said = r"no figure that 'top' states says how good it is: parameters\..*--for top.parameters"
    with pytest.raises(SettingError, match=said):
        search(Project(hills), "top", trials=2)
    assert search(Project(hills), "top", trials=2, goal="top.parameters").direction == "lower"


def tried(*choices: Choice) -> Search:
    """Five trials that are over, each with three looks."""
    raw = {c.name: json.dumps(c.values[0]) if c.values else c.low for c in choices}
    done = [Trial(n, {}, raw, "done", 1.0, (3.0, 2.0, 1.0)) for n in range(5)]
    return Search("top", "top", choices, "height", {c.name: None for c in choices}, 0, trials=done)


def test_no_trial_is_ended_at_its_last_look():
    behind = draw(tried(Choice("lr", low=1, high=2))).behind
    assert [behind([9.0] * n) for n in (1, 2, 3)] == [True, True, False]


@pytest.mark.parametrize("name", ["vocab", "beta", "margin", "anchor", "weight", "size.beta", "codec.side", "size"])
def test_curves_that_count_something_else_end_no_trial(name):
    choice = Choice(name, values=({"beta": 1}, {"beta": 2})) if name == "size" else Choice(name, low=1, high=2)
    found = tried(Choice("lr", low=1, high=2), choice)
    behind = draw(found).behind
    assert unlike(found) == [name] and not any(behind([9.0] * n) for n in (1, 2))


def test_that_none_is_ended_early_is_said_once(hills):
    text = HILLS.replace("unused: float", "beta: float = 1.0, unused: float")
    (hills.parent / "code" / "hills.py").write_text(
        text.replace("unused: changes", "beta: b.\n        unused: changes")
    )
    edit(hills, "kind: {any", "beta: {range: [0, 1]}\n      kind: {any")
    result = CliRunner().invoke(app, ["tune", "top", "--trials", "14"])
    assert result.exit_code == 0 and result.output.count("no trial is ended early: with another beta") == 1
    found = search(Project(hills), "top", trials=14)
    assert {t.state for t in found.trials} == {"done"} and "No trial is ended early" in tuning_page(found)
