"""`volant init`: what it writes is a project, what is wrong is said before anything is written."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from volant.cli.app import app
from volant.cli.init import check_data

RECORDS = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "ShareGPT": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "prompt/completion": {"prompt": "q", "completion": "a"},
    "Alpaca": {"instruction": "q", "input": "", "output": "a"},
}


def volant(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, f"{result.output} {result.exception!r}"
    return result.output


def jsonl(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


@pytest.mark.parametrize("shape", RECORDS)
def test_shapes_are_recognised(shape: str, tmp_path: Path) -> None:
    assert check_data(jsonl(tmp_path / "d.jsonl", *[RECORDS[shape]] * 3)) == f"3 records, shape {shape}"


def test_finetune_with_own_data_and_local_base(tmp_path: Path) -> None:
    from volant.project.spec_file import load_spec

    data = jsonl(tmp_path / "my.jsonl", RECORDS["Alpaca"])
    base = tmp_path / "model"
    (base / "sub").mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "sub" / "weights").write_text("w")
    text = volant("init", str(tmp_path / "my first"), "--data", str(data), "--base", str(base), "--licence", "MIT")
    folder = tmp_path / "my first"
    assert "1 record, shape Alpaca" in text and "volant run" in text
    spec = load_spec(folder / "volant.yaml")
    assert spec.name == "my-first" and spec.steps["files"].arguments["licence"] == "MIT"
    assert (folder / "base" / "sub" / "weights").read_text() == "w" and not (folder / "base").is_symlink()
    assert [f.name for f in (folder / "data").iterdir()] == ["my.jsonl"]


def test_finetune_alone_brings_example_data(tmp_path: Path) -> None:
    volant("init", str(tmp_path / "p"), "--base", "owner/model")
    assert "60 records, shape messages" in check_data(tmp_path / "p" / "data" / "example.jsonl")
    assert "owner/model" in (tmp_path / "p" / "volant.yaml").read_text()


def test_the_example_starts_from_the_box_or_from_scratch_and_is_the_same_otherwise(tmp_path: Path) -> None:
    from volant.project import Project

    volant("init", str(tmp_path / "box"), "--template", "docstrings")
    volant("init", str(tmp_path / "own"), "--template", "docstrings", "--from-scratch")
    box, own = Project(tmp_path / "box"), Project(tmp_path / "own")
    assert box.plan() and own.plan()
    boxed, trained = box.need_spec(), own.need_spec()
    assert boxed.steps["base"].arguments == {"source": "volant/docstrings"}
    assert trained.steps["base"].use == "pretrain.transformer"
    assert boxed.goal == trained.goal and boxed.loop == trained.loop
    assert list(boxed.steps) == [name for name in trained.steps if name not in ("library", "text")]
    differ = {name for name, step in boxed.steps.items() if step != trained.steps[name]}
    assert differ == {"functions", "base", "few", "tuned", "choices", "taste", "report"}
    assert "max_chars" not in trained.steps["functions"].arguments and trained.steps["text"].use == "collect.clean"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from-scratch"], "belongs to the template docstrings"),
        (["--template", "finetun"], "Did you mean 'finetune'?"),
        (["--template", "docstrings", "--base", "x/y"], "belong to the template finetune"),
        (["--data", "nowhere.jsonl"], "there is no such file"),
        (["--base", "./nowhere"], "neither a folder nor a hub name"),
        (["--base", "empty"], "holds no config.json"),
        (["--data", "empty"], "this is a folder"),
    ],
)
def test_wrong_words_write_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert said in volant("init", str(tmp_path / "p"), *words, code=2)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no record"),
        ('{"a": 1}\n', "bad.jsonl:1: no known shape (found: a)"),
        ('{"prompt": "q", "completion": "a"}\nnot json\n', "bad.jsonl:2: this line by itself is no JSON"),
        ('{"prompt": "q", "completion": "a"}\n{"messages": []}\n', "bad.jsonl:2: this record is messages"),
        ("[1]\n", "bad.jsonl:1: this line is a list, no JSON object"),
        ("[" * 100_000, "bad.jsonl:1: this line by itself is no JSON"),
        ('{"prompt": "q", "completion": "a"}\n{"prompt": "caf\udce9"}\n', "bad.jsonl:2: no UTF-8"),
        ("\udcff\udcfe{\0", "bad.jsonl:1: no UTF-8"),
        ("prompt,completion\r\nq,a\r\n", "leave --data out"),
    ],
)
def test_bad_data_is_named_by_line(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert said in volant("init", str(tmp_path / "p"), "--data", str(tmp_path / "bad.jsonl"), code=2)
    assert not (tmp_path / "p").exists()


def test_a_project_that_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "volant.yaml").write_text("mine")
    assert "is there already" in volant("init", str(tmp_path), code=2)
    assert (tmp_path / "volant.yaml").read_text() == "mine"


def test_data_of_another_ending_are_what_the_project_reads(tmp_path: Path) -> None:
    from volant.project import Project

    data = jsonl(tmp_path / "my.json", RECORDS["Alpaca"])
    volant("init", str(tmp_path / "p"), "--data", str(data))
    Project(tmp_path / "p").plan()
    assert [f.name for f in (tmp_path / "p" / "data").iterdir()] == ["my.jsonl"]


def test_what_lies_in_the_folder_already_is_used_and_nothing_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "base", "other"):
        (tmp_path / folder).mkdir()
    for folder in ("base", "other"):
        (tmp_path / folder / "config.json").write_text(f'{{"of": "{folder}"}}')
    jsonl(tmp_path / "data" / "my.jsonl", RECORDS["Alpaca"])
    jsonl(tmp_path / "my.jsonl", RECORDS["messages"])
    assert "is there already" in volant("init", "--data", "my.jsonl", code=2)
    assert "is there already" in volant("init", "--base", "./other", code=2)
    assert not (tmp_path / "volant.yaml").exists()
    assert "shape Alpaca" in volant("init", "--data", "data/my.jsonl", "--base", "./base")
    assert "instruction" in (tmp_path / "data" / "my.jsonl").read_text()
    assert "base" in (tmp_path / "base" / "config.json").read_text()
