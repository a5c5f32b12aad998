"""Generate, chat and rate, with a session that answers from the prompt so that every word can be checked."""

import base64
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import toy_content
from volant.cli import files, place, rate, sides, talk
from volant.cli.app import app
from volant.core.artifact import Model
from volant.core.protocols import Chunk, Request
from volant.core.sample import Sample


class Echo:
    """Answers `word seed` twice over, chunk by chunk; keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.cancelled: list[str] = []
        self.closed = False
        self.broken = ""
        self.interrupts = False

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        for request in requests:
            self.asked.append(request)
            if self.broken:
                yield Chunk(request.id, "", "error", error=self.broken)
                continue
            last = request.prompt if request.prompt is not None else request.messages[-1]["content"]
            yield Chunk(request.id, f"{last} ")
            if self.interrupts:
                signal.raise_signal(signal.SIGINT)
                yield Chunk(request.id, "", "cancelled", 3, 1)
                continue
            yield Chunk(request.id, f"{request.seed}", "stop", 3, 2)

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        raise NotImplementedError

    def cancel(self, id: str) -> None:
        self.cancelled.append(id)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Echo:
    echo = Echo()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "volant.json").write_text('{"family": "transformer", "modality": "text", "parameters": 1234}')
    (tmp_path / "volant.yaml").write_text("volant: 1\nname: toy\ndevice: cpu\n")
    monkeypatch.chdir(tmp_path)

    def opened(project: Any, name: str, prompt: str = "") -> tuple[Model, Echo]:
        return Model(folder), echo

    monkeypatch.setattr(talk, "open_session", opened)
    monkeypatch.setattr(rate, "open_session", opened)
    return echo


def volant(*words: str, code: int = 0, keys: str | None = None) -> str:
    result = CliRunner().invoke(app, list(words), input=keys)
    assert result.exit_code == code, f"{result.output} {result.exception!r}"
    return result.output


def test_one_prompt_is_streamed(session: Echo) -> None:
    assert volant("generate", "hello", "--max-tokens", "7", "--temperature", "0.5", "--seed", "4") == "hello 4\n"
    request = session.asked[0]
    assert (request.max_tokens, request.temperature, request.seed) == (7, 0.5, 4) and session.closed


def test_several_prompts_as_json(session: Echo) -> None:
    answers = json.loads(volant("generate", "one", "two", "--json"))
    assert [(a["prompt"], a["text"], a["completion_tokens"]) for a in answers] == [
        ("one", "one 0", 2),
        ("two", "two 1", 2),
    ]
    assert "> one\none 0" in volant("generate", "one", "two")


def test_prompt_from_standard_input_and_raw(session: Echo) -> None:
    assert volant("generate", keys="from a pipe") == "from a pipe 0\n"
    volant("generate", "def f(", "--raw")
    assert session.asked[-1].prompt == "def f(" and session.asked[-1].messages == ()
    assert "nothing to ask" in volant("generate", keys=" \n", code=2)


def test_an_engine_error_is_one_message(session: Echo) -> None:
    session.broken = "out of memory"
    assert "out of memory" in volant("generate", "hello", code=2)


@pytest.fixture
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model of pictures in the place of the one that talks."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "volant.json").write_text('{"family": "toy", "modality": "toy", "engine": "sampler"}')
    (tmp_path / "volant.yaml").write_text("volant: 1\nname: toy\ndevice: cpu\n")
    monkeypatch.chdir(tmp_path)
    for module in (talk, rate):
        monkeypatch.setattr(module, "open_session", lambda *_: (Model(folder), toy_content.session()))
    kind = toy_content.Modality()
    monkeypatch.setattr("volant.modalities.open_modality", lambda name: kind)
    return kind


def test_pictures_are_written_to_files(painter: Any, tmp_path: Path) -> None:
    names = volant("generate", "green", "--number", "2", "--out", "made", "--control", "guidance=2").split()
    assert [Path(name).parent.name for name in names] == ["made", "made"] and len(set(names)) == 2
    assert all(Path(name).name.startswith(f"green-{i}-") for i, name in enumerate(names))
    for name in names:
        assert Image.open(tmp_path / name).getpixel((0, 0))[1] > 0
    assert volant("generate", "green", "--number", "2", "--out", "made", "--control", "guidance=2").split() == names
    answers = json.loads(volant("generate", "--seed", "3", "--json"))  # nothing is asked for, and something made
    assert answers[0]["finish"] == "stop" and Path(answers[0]["file"]).exists() and "sample" not in answers[0]


def test_what_cannot_be_made_is_said(painter: Any) -> None:
    assert "no class 'mauve'" in volant("generate", "mauve", code=2)
    assert "not delivered as 'csv'" in volant("generate", "red", "--form", "csv", code=2)
    assert "no control" in volant("generate", "red", "--control", "guidance", code=2)
    assert "has no control 'gidance'" in volant("generate", "red", "--control", "gidance=1", code=2)


def test_a_model_that_makes_pictures_does_not_chat(painter: Any) -> None:
    assert "makes toy and cannot talk" in volant("chat", code=2)


def test_rows_of_one_condition_go_into_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.modalities.open_modality", lambda name: toy_content.Rows())
    asked = [Request(id=str(i), prompt="age > 3" if i < 2 else "", seed=i) for i in range(3)]
    source = toy_content.GENERATED
    rows = [Sample(id=str(i), shape="row", content=json.dumps({"age": i + 4}), source=source) for i in range(3)]
    answers = {r.id: {"sample": s} for r, s in zip(asked, rows, strict=True)}
    files.write("toy_rows", asked, answers, tmp_path / "out")
    first, second, third = (Path(answers[r.id]["file"]) for r in asked)
    assert first == second != third and first.name.startswith("age-3-0-") and first.suffix == ".json"
    assert json.loads(first.read_text()) == [{"age": 4}, {"age": 5}]


def test_chat_keeps_the_conversation(session: Echo) -> None:
    text = volant(
        "chat", "--system", "be brief", keys="first\nsecond\n/again\n/what\n/new\n/again\nthird \\\nline\n/exit\n"
    )
    assert "1,234 parameters" in text and "known: /new" in text and "no answer to make again" in text
    said = [[m["content"] for m in r.messages] for r in session.asked]
    assert said[0] == ["be brief", "first"]
    assert said[1] == ["be brief", "first", "first 0", "second"]
    assert said[2] == said[1] and session.asked[2].seed == 1
    assert said[3] == ["be brief", "third \nline"]
    assert session.closed


def test_chat_goes_on_after_an_error_and_a_cancelled_answer(session: Echo) -> None:
    conversation = talk.Conversation(session, "", {}, 0)
    session.broken = "too long"
    conversation.hear("one")
    assert conversation.turns == []
    session.broken, session.interrupts = "", True
    conversation.hear("two")
    assert session.cancelled == [session.asked[-1].id]
    assert [t["content"] for t in conversation.turns] == ["two", "two "]


def test_ratings_are_kept_in_the_order_shown(session: Echo, tmp_path: Path) -> None:
    from volant.project import Project

    (tmp_path / "prompts.txt").write_text("p one\n\np two\np three\np four\n")
    text = volant("rate", "--prompts", "prompts.txt", "--rater", "ana", keys="x\na\nt\ns\nb\n")
    assert "Kept 3 ratings" in text
    records = Project(tmp_path).records
    marks = records.marks("*")
    from volant.core.outside import Snapshot

    kept = list(records.reader().ratings(Snapshot("records", "*", facts=marks)))
    assert [(r["prompt"], r["choice"], r["rater"]) for r in kept] == [
        ("p one", "a", "ana"), ("p two", "tie", "ana"), ("p four", "b", "ana"),
    ]  # fmt: skip
    assert {kept[0]["a"], kept[0]["b"]} == {"p one 0", "p one 1"}
    records.close()
    text = volant("rate", "--prompts", "prompts.txt", "--rater", "ana", keys="a\n")
    assert "Kept 1 ratings" in text and "p three" in text and "p one" not in text  # the one that she skipped
    assert "Kept 4 ratings" in volant("rate", "--prompts", "prompts.txt", "--rater", "ben", keys="a\na\na\na\n")


def test_rate_ends_on_q_and_needs_prompts(session: Echo, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("p one\np two\n")
    assert "Kept 0" in volant("rate", "--prompts", "prompts.txt", keys="q\n")
    assert "no such file" in volant("rate", "--prompts", "none.txt", code=2)
    (tmp_path / "prompts.txt").write_text("\n")
    assert "no prompt" in volant("rate", "--prompts", "prompts.txt", code=2)
    (tmp_path / "prompts.txt").write_bytes(b"p \xff\xfe\n")
    said = volant("rate", "--prompts", "prompts.txt", code=2)
    assert "prompts.txt: the file is no UTF-8 text. Save it as UTF-8." in said


def test_why_nothing_was_asked_is_said(session: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts.txt").write_text("p one\n")
    assert "rated all" not in volant("rate", "--prompts", "prompts.txt", "--rater", "ana", keys="a\n")
    again = volant("rate", "--prompts", "prompts.txt", "--rater", " ana ", keys="")
    assert "ana has rated all of these pairs before; another --seed" in again
    monkeypatch.setattr(session, "generate", lambda requests: [Chunk(r.id, "same", finish="stop") for r in requests])
    assert "No two answers differed" in volant("rate", "--prompts", "prompts.txt", keys="")
    half = [("half an ans", ""), ("", "error")]
    monkeypatch.setattr(session, "generate", lambda requests: [
        Chunk(r.id, text, finish, error="it broke") for r in requests for text, finish in half
    ])  # fmt: skip
    text = volant("rate", "--prompts", "prompts.txt", keys="a\n")
    assert "('p one': it broke)" in text and "half an ans" not in text


def test_what_a_model_says_does_not_steer_the_terminal(session: Echo, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("p \x1b[2Jone\u202e\n", encoding="utf-8")
    text = volant("rate", "--prompts", "prompts.txt", "--rater", "ana", keys="a\n")
    assert "p [2Jone\n" in text and "\x1b[2J" not in text and "\u202e" not in text


def test_a_user_without_a_name_is_asked_for_one(session: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    (tmp_path / "prompts.txt").write_text("p one\n")
    assert "--rater: this system knows no name of yours. Give one." in volant(
        "rate", "--prompts", "prompts.txt", keys="", code=2
    )


def test_scores_in_the_terminal_make_the_choice(session: Echo, tmp_path: Path) -> None:
    from volant.core.outside import Snapshot
    from volant.project import Project

    (tmp_path / "prompts.txt").write_text("p one\np two\np three\n")
    assert "Kept 2" in volant("rate", "--prompts", "prompts.txt", "--scores", keys="9 1\n4 2\ns\n3,3\n")
    records = Project(tmp_path).records
    kept = list(records.ratings(Snapshot("ratings", "*", facts=records.marks("*"))))
    records.close()
    told = [(r["prompt"], r["choice"], r["a_score"], r["b_score"]) for r in kept]
    assert told == [("p one", "a", 4, 2), ("p three", "tie", 3, 3)]


def test_of_four_prompts_three_are_learnt_from_and_one_is_held_out(
    session: Echo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volant.core.artifact import Dataset
    from volant.core.sample import Source, sample_id
    from volant.scorers.measure import prompt_of
    from volant.store.dataset import writer

    source = Source(uri="test:turns", licence="CC0-1.0")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}]
    known = {}
    with writer(tmp_path / "data") as out:
        for n in range(20):
            said = json.dumps([turns[0], {**turns[1], "content": f"q {n}"}, {"role": "assistant", "content": "Yes."}])
            split = "train" if n < 12 else "validation"
            sample = Sample(id=sample_id(said), shape="messages", source=source, content=said, split=split)
            known[prompt_of(sample)] = split
            out.write(sample)
    monkeypatch.setattr(place, "newest", lambda *_, **__: Dataset(tmp_path / "data"))
    volant("rate", "--count", "8", keys="a\n" * 8)
    asked = session.asked[::2]
    assert all([m["role"] for m in request.messages] == ["system", "user"] for request in asked)  # as a user would
    splits = [known["\n".join(m["content"] for m in request.messages)] for request in asked]
    assert splits.count("train") == 6 and splits.count("validation") == 2 and "validation" in splits[:4]


def test_two_pictures_are_shown_side_by_side_and_the_choice_is_kept(painter: Any, tmp_path: Path) -> None:
    from volant.core.outside import Snapshot
    from volant.project import Project

    (tmp_path / "asked.txt").write_text("red\nmauve\ngreen\nblue\n")
    text = volant("rate", "--prompts", "asked.txt", "--rater", "ana", "--out", "seen", keys="a\nt\nb\n")
    assert "Kept 3 ratings" in text and "no class 'mauve'" in text
    assert "[a] seen/0001-a.png" in text and "[b] seen/0001-b.png" in text and "side by side: seen/pair.html" in text
    page = (tmp_path / "seen" / "pair.html").read_text()
    assert "blue" in page and page.index("<h3>a</h3>") < page.index("<h3>b</h3>")
    records = Project(tmp_path).records
    kept = list(records.reader().ratings(Snapshot("ratings", "*", facts=records.marks("*"))))
    records.close()
    assert [(r["prompt"], r["choice"]) for r in kept] == [("red", "a"), ("green", "tie"), ("blue", "b")]
    for number, row in zip((1, 3, 4), kept, strict=True):
        for side in "ab":
            data = (tmp_path / "seen" / f"{number:04d}-{side}.png").read_bytes()
            assert row[side] == f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_two_rows_are_shown_column_by_column(painter: Any, tmp_path: Path) -> None:
    pair = [
        Sample(id=str(i), shape="row", content=json.dumps({"age": i, "job": "smith"}), source=toy_content.GENERATED)
        for i in range(2)
    ]
    kind = toy_content.Rows()
    kind.preview = lambda samples: samples[0].content or ""  # type: ignore[method-assign]
    told = sides.show(kind, "age > 3", pair, tmp_path / "seen", 7).split("\n")
    assert told[:3] == ["age > 3", "* age  [a] 0        [b] 1", '  job  [a] "smith"  [b] "smith"']
    assert json.loads((tmp_path / "seen" / "0007-b.json").read_text()) == [{"age": 1, "job": "smith"}]


def test_conditions_come_from_the_validation_split(
    painter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volant.core.artifact import Dataset
    from volant.project import Project
    from volant.store.dataset import writer

    project = Project(tmp_path)
    with writer(tmp_path / "data", modality="image") as out:
        for number, name in enumerate(("red", "green", "blue")):
            sample = toy_content.painted((number, 0, 0), name)
            out.write(sample.model_copy(update={"split": "train" if name == "red" else "validation"}))
    monkeypatch.setattr(place, "newest", lambda *_, **__: Dataset(tmp_path / "data"))
    found = sides.conditions(project, 5, 0)
    assert len(found) == 5 and set(found) == {"green", "blue"} and found == sides.conditions(project, 5, 0)


def test_approve_releases_and_refuses(session: Echo, tmp_path: Path) -> None:
    from volant.core.sample import Sample, Source
    from volant.project import Project
    from volant.store.dataset import writer

    project = Project(tmp_path)
    out = project.store.scratch("lines")
    source = Source(uri="test:lines", licence="CC0-1.0", origin="generated")
    with writer(out) as file:
        for number in range(3):
            attrs = {"approval": "pending"} if number < 2 else {}
            sample = Sample(
                id=f"s{number}", shape="completion", source=source, condition="ask", target=f"text {number}"
            )
            file.write(sample.model_copy(update={"attrs": attrs}))
    from volant.core.artifact import Dataset

    digest = project.store.seal(Dataset, out, step="lines").digest
    text = volant("approve", digest, "--by", "Ada", keys="y\nq\n")
    assert "text 0" in text and "text 2" not in text and "1 decisions" in text and "1 still wait" in text
    text = volant("approve", digest, "--by", "Ada", keys="n\n")
    assert "text 0" not in text and "0 still wait" in text
    kept = [json.loads(line) for line in (tmp_path / "approvals.jsonl").read_text().splitlines()]
    assert [(k["id"], k["approved"], k["by"]) for k in kept] == [("s0", True, "Ada"), ("s1", False, "Ada")]
