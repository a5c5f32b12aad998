"""The job most users come for: one's own JSONL, a local base, run, talk, serve, turn."""

import json
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from volant.cli.app import app


def volant(*words: str, code: int = 0, keys: str | None = None) -> str:
    result = CliRunner().invoke(app, list(words), input=keys)
    assert result.exit_code == code, f"{result.output} {result.exception!r}"
    return result.stdout


def local_base(folder: Path) -> Path:
    """A tiny transformers model as somebody else would have saved it: nothing of Volant's in it."""
    import tiny_models

    made = tiny_models.model(folder / "made", steps=5).path
    (made / "volant.json").unlink()
    return made


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["messages", "prompt/completion", "Alpaca", "ShareGPT"])
def test_own_data_and_a_local_base(shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = local_base(tmp_path)
    folder, data = tmp_path / "mine", tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(record(shape, n)) + "\n" for n in range(60)))
    volant("init", str(folder), "--template", "finetune", "--data", str(data), "--base", str(base))
    monkeypatch.chdir(folder)
    if shape != "messages":
        text = volant("run", "tuned", "--threads", "1")
        assert "example 3" in text and "[[" in text
        return
    text = volant("run", "--threads", "1")
    assert "example 3" in text and "[[" in text, "three examples are shown with the loss mask"
    assert "All steps are fresh" in volant("run")
    rows = {row["step"]: row for row in json.loads(volant("status", "--json"))["steps"]}
    assert all(row["state"].startswith("fresh") for row in rows.values()) and rows["report"]["target"] == ">= 0.5"
    assert rows["tuned"]["estimated_seconds"] is not None
    assert json.loads(volant("compare", "base", "tuned", "--json"))
    assert json.loads(volant("generate", "What is 1?", "--max-tokens", "4", "--json"))[0]["completion_tokens"] > 0
    assert "parameters" in volant("chat", "--max-tokens", "4", keys="hello\n/exit\n")
    state = json.loads(volant("up", "--port", "0", "--json"))
    try:
        with urllib.request.urlopen(f"{state['url']}/v1/models", timeout=20) as answer:
            served = json.load(answer)["data"][0]
        first = json.loads(volant("turn", "--json"))
        assert first["outcome"] == "first", "served before, under the name that its clients will go on using"
        assert served["id"] == "champion" and served["x-volant-model"] == first["candidate"]
        assert json.loads(volant("status", "--json"))["serving"]["pid"] == state["pid"]
    finally:
        volant("down")
    assert json.loads(volant("status", "--json"))["serving"] is None


def record(shape: str, n: int) -> dict[str, object]:
    """One record of a small task, in one of the four shapes."""
    question, answer = f"What is the name of number {n}?", f"Number {n} is called the {n}th of them all."
    return {
        "messages": {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]},
        "prompt/completion": {"prompt": question, "completion": answer},
        "Alpaca": {"instruction": question, "input": "", "output": answer},
        "ShareGPT": {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]},
    }[shape]
