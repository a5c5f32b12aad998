"""Wrong input to the whole command: one readable message with place and mend, exit code 2, nothing written."""

import json

import pytest
from typer.testing import CliRunner

GOOD = """\
volant: 1
name: wrong
device: cpu
steps:
  raw:   {use: collect.files, glob: "data/*.jsonl", licence: MIT}
  clean: {use: collect.clean, data: raw}
  base:  {use: pretrain.transformer, data: clean, depth: 1}
"""
RECORD = json.dumps({"prompt": "What is one?", "completion": "The first number."})


@pytest.fixture(autouse=True)
def _back_again(monkeypatch, tmp_path):
    """`-C` changes the directory of the process; the test's end takes it back."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("depth: 1", "dpeth: 1", ["volant.yaml:7", "no setting 'dpeth'", "Did you mean 'depth'?"]),
        ("depth: 1", "depth: deep", ["volant.yaml:7", "'deep'"]),
        ("data/*.jsonl", "data/*.json1", ["volant.yaml:5", "no file matches", "check the name"]),
        ("pretrain.transformer", "pretrain.transfomer", ["volant.yaml:7", "Did you mean 'pretrain.transformer'?"]),
        ("licence: MIT}", "licence: MIT, licence: MIT}", ["volant.yaml:5", "stands twice"]),
        ("data: raw", "data: base", ["volant.yaml:6", "takes a Dataset", "raw"]),
        ("licence: MIT}", "licence: CC-BY-NC-4.0}", ["CC-BY-NC-4.0", "commercial"]),
        ("licence: MIT}", "licence: MTI}", ["MTI"]),
        ("volant: 1", "volant: 2", ["volant.yaml:1"]),
    ],
)
def test_a_wrong_project_file(tmp_path, old, new, said):
    assert old in GOOD
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text("\n".join([RECORD] * 20))
    (tmp_path / "volant.yaml").write_text(GOOD.replace(old, new))
    told(tmp_path, said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RECORD, ["1 record", "three"]),
        ("", ["data/a.jsonl"]),
        ("{broken\n" * 9, ["data/a.jsonl:1"]),
        ('{"nothing": "known"}\n' * 9, ["data/a.jsonl:1"]),
    ],
)
def test_wrong_data(tmp_path, text, said):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text(text)
    (tmp_path / "volant.yaml").write_text(GOOD)
    told(tmp_path, said)


def told(root, said):
    from volant.cli.app import app

    result = CliRunner().invoke(app, ["-C", str(root), "run"])
    assert result.exit_code == 2, result.output
    for words in said:
        assert words in " ".join(result.output.split()), result.output
    assert "Traceback" not in result.output
    artifacts = root / ".volant" / "artifacts"
    assert not artifacts.exists() or not list(artifacts.iterdir())
