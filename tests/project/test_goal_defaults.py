"""What the file leaves open follows from the modality; what it names stays, and is complained of by its line."""

from pathlib import Path

import pytest

from volant.core.errors import SettingError
from volant.project import Project
from volant.project.spec_file import load_spec

LOOP = "loop: {from: improve.harvest, into: raw}\n"


def spec(folder: Path, goal: str):
    (folder / "volant.yaml").write_text(
        f"volant: 1\nname: x\ngoal: {goal}\nsteps:\n  raw: {{use: collect.files, glob: '*.csv'}}\n{LOOP}"
    )
    found = Project(folder).spec
    return found.goal.metric, found.goal.baseline, found.loop.promote.metric


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ("{modality: image}", ("frechet_ratio", "gaussian", "frechet_ratio")),
        ("{modality: table}", ("c2st", "cart", "c2st")),
        ("{modality: table, metric: tstr}", ("tstr", "cart", "tstr")),
        ("{modality: table, baseline: marginals}", ("c2st", "marginals", "c2st")),
        ("{modality: text}", ("relevance", "nearest_neighbour", "relevance")),
        ("{problem: words}", ("relevance", "nearest_neighbour", "relevance")),
    ],
)
def test_the_modality_fills_in_what_is_open(tmp_path, goal, expected):
    assert spec(tmp_path, goal) == expected
    assert load_spec(tmp_path / "volant.yaml").goal.baseline in ("nearest_neighbour", "marginals")  # the file stays


def test_no_such_modality(tmp_path):
    with pytest.raises(SettingError, match=r"^volant.yaml:3 goal.modality: there is no modality 'imgae'"):
        spec(tmp_path, "{modality: imgae}")


def test_an_unknown_option_of_the_reading_names_file_line_and_step(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "volant.yaml").write_text(
        "volant: 1\nname: x\ngoal: {modality: table}\nsteps:\n"
        "  raw: {use: collect.files, glob: '*.csv', licence: MIT, reading: {keys: [a]}}\n"
    )
    with pytest.raises(SettingError, match=r"^volant.yaml:5 raw keys: a table has no option 'keys'\. Did you mean"):
        Project(tmp_path).go()
    (tmp_path / "volant.yaml").write_text(
        (tmp_path / "volant.yaml").read_text().replace("reading: {keys: [a]}", "encoding: utf-9")
    )
    with pytest.raises(SettingError, match=r"^volant.yaml:5 raw encoding: there is no encoding 'utf-9'\."):
        Project(tmp_path).go()
