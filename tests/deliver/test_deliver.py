import json
from pathlib import Path

import pytest

from volant.core.artifact import Card, Dataset, Model, payload_digest
from volant.core.errors import DataError, PathError, RemoteError, SettingError
from volant.core.outside import OutsideFile, Snapshot
from volant.core.paths import Resolver
from volant.core.protocols import Chunk
from volant.core.run import Run, Silent
from volant.stages.deliver import approval, generate, publish
from volant.stages.deliver.editing import Edits, edited, read_prompts
from volant.store.dataset import dropped, rows


class FakeSession:
    """Answers with what `write` makes of a request, in two chunks."""

    def __init__(self, write):
        self.write, self.seen, self.closed = write, [], False

    def generate(self, requests):
        for request in requests:
            self.seen.append(request)
            text = self.write(request)
            if isinstance(text, Exception):
                yield Chunk(request.id, "", "error", error=str(text))
                continue
            yield Chunk(request.id, text[:3])
            yield Chunk(request.id, text[3:], "stop", 3, 4)

    def close(self):
        self.closed = True


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    return Model(tmp_path / "model", Card(kind="Model", digest="d" * 64, files=[], licences=["MIT"]))


@pytest.fixture
def made(tmp_path, monkeypatch, model):
    """Runs `generate` with a fake session; returns (dataset, watcher, session)."""

    def call(write, *, files=None, seed=0, **settings):
        session = FakeSession(write)
        monkeypatch.setattr("volant.engines.open_model", lambda *a, **k: session)
        run = make_run(tmp_path, seed=seed)
        if files is not None:
            run.outside["prompts"] = Snapshot("files", "p", files=tuple(outside(tmp_path, files)))
        return generate(run, model, **settings), run.watcher, session

    return call


def make_run(folder: Path, **fields) -> Run:
    out = folder / f"out{len(list(folder.iterdir()))}"
    out.mkdir()
    resolver = Resolver.for_project(folder)
    return Run(step="g", out=out, work=folder, watcher=Silent(), resolver=resolver, **fields)


def outside(folder: Path, files: dict[str, str]) -> list[OutsideFile]:
    found = []
    for name, text in files.items():
        (folder / name).write_text(text)
        found.append(OutsideFile(folder / name, name, len(text), "0"))
    return found


def labels(sample) -> dict[str, str]:
    return {label.name: label.value for label in sample.labels}


def test_conditions_are_asked_for_and_checked(made):
    data, watcher, session = made(
        lambda r: "Sort the list now." if "a" in r.messages[-1]["content"] else "Do it at once or never at all.",
        ask=["a", "b"], max_words=5, keywords=["list"], comply=1.0,
    )  # fmt: skip
    system = session.seen[0].messages[0]
    assert system["role"] == "system" and "at most 5 words" in system["content"] and "list" in system["content"]
    kept = list(rows(data))
    assert [s.target for s in kept] == ["Sort the list now."]
    assert labels(kept[0]) == {"max_words": "met", "keyword list": "met"}
    assert kept[0].source.origin == "generated" and kept[0].source.licence == "MIT"
    lost = next(iter(dropped(data)))
    assert lost.drop.startswith("conditions: 0.00 kept against 1") and labels(lost)["max_words"] == "not met"
    assert "1 of 2 texts kept; dropped: 1 conditions" in watcher.lines and session.closed


def test_below_the_bar_content_is_only_labelled_when_asked(made):
    data, _, _ = made(lambda r: "one two three", ask=["a"], max_words=2, comply=0.0)
    assert labels(next(rows(data))) == {"max_words": "not met"}


def test_of_several_samples_the_one_that_keeps_most_stays(made):
    texts = ["x", "two words", "", "kill yourself now", "three good words"]
    data, _, session = made(
        lambda r: texts[int(r.id.split("/")[1])], ask=["a"], samples=5, temperature=1.0, min_words=3
    )
    assert [s.target for s in rows(data)] == ["three good words"]
    assert len({r.seed for r in session.seen}) == 5


def test_a_json_schema_goes_to_the_engine_and_is_checked(made):
    schema = {"type": "object", "required": ["name"]}
    data, _, session = made(
        lambda r: r.messages[-1]["content"], ask=['{"name": 1}', '{"nam": 1}', "x"], json_schema=schema
    )
    assert session.seen[0].schema == schema
    assert [s.condition for s in rows(data)] == ['{"name": 1}']


def test_empty_and_repeated_texts_stay_behind_and_the_prompt_is_no_leak(made):
    data, _, _ = made(lambda r: r.messages[-1]["content"][2:], ask=["1 fine", "2 mail ann@firm.org", "3 ", "1 fine"])
    assert [s.target for s in rows(data)] == ["fine", "mail ann@firm.org"]
    assert sorted(s.drop.split(":")[0] for s in dropped(data)) == ["empty", "repeated"]


def test_the_safety_filter_can_be_seen_to_work(made):
    def write(request):
        return "mail ann@firm.org"

    data, _, _ = made(write, ask=["a"])
    assert next(iter(dropped(data))).drop == "unsafe: e-mail address"
    assert len(list(rows(made(write, ask=["a"], safety=False)[0]))) == 1


def test_editing():
    assert edited("  One. Two th", Edits(), unfinished=True) == "One."
    assert edited("no end here", Edits(), unfinished=True) == "no end here"
    assert edited("One. Two", Edits()) == "One. Two"
    assert edited("a cat", Edits(replace={"cat": "dog", "": "x"})) == "a dog"
    assert edited("hello brave world", Edits(limit=13)) == "hello brave"
    assert edited("hello brave world", Edits(limit=11)) == "hello brave"
    assert edited("abcdef", Edits(limit=3)) == "abc"
    assert edited(" x ", Edits(trim=False)) == " x "


def test_prompts_come_from_every_kind_of_file(tmp_path):
    files = {
        "a.txt": "one\n\ntwo\n",
        "b.txt": "def f():\n    pass\n---\ndef g(): ...\n",
        "c.jsonl": '{"prompt": "p"}\n"q"\n\n{"messages": [{"role": "system"}, {"role": "user", "content": "u"}]}\n',
        "d.json": '[{"instruction": "i"}, {"text": "t"}]',
    }
    found = list(read_prompts(outside(tmp_path, files)))
    assert found == ["one", "two", "def f():\n    pass", "def g(): ...", "p", "q", "u", "i", "t"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"x": 1}\n', "a.jsonl:1: the record has no prompt"),
        ("a.jsonl", "{\n", "a.jsonl:1: this is no JSON"),
    ],
)
def test_bad_prompt_files_are_named_with_their_line(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        list(read_prompts(outside(tmp_path, {name: text})))


def test_wrong_calls_are_refused(made, tmp_path):
    with pytest.raises(DataError, match="no prompt"):
        made(lambda r: "x")
    with pytest.raises(SettingError, match="temperature 0"):
        made(lambda r: "x", ask=["a"], samples=2)
    with pytest.raises(SettingError, match="min_words 5 is above"):
        made(lambda r: "x", ask=["a"], min_words=5, max_words=2)
    with pytest.raises(RemoteError, match="broken pipe"):
        made(lambda r: OSError("broken pipe"), ask=["a"])


def test_one_failure_does_not_lose_the_rest(made):
    data, _, _ = made(lambda r: OSError("gone") if "b" in r.messages[-1]["content"] else "fine", ask=["a", "b"])
    assert len(list(rows(data))) == 1 and next(iter(dropped(data))).drop == "failed: gone"


def test_the_same_seed_gives_the_same_digest_and_another_one_other_draws(made):
    def write(request):
        return f"text {request.seed}"

    first, again, other = (made(write, ask=["a", "b"], temperature=1.0, seed=s)[0] for s in (1, 1, 2))
    digests = [payload_digest(d.path)[0] for d in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("form", "name"), [("markdown", "content.md"), ("html", "content.html"), ("json", "content.json")]
)
def test_each_form_is_marked_as_generated_and_escaped(made, form, name):
    data, _, _ = made(lambda r: "<b>bold</b> text", ask=["<i>ask</i>"], form=form)
    text = (data.path / name).read_text()
    assert "trainedAlgorithmicMedia" in text and "d" * 16 in text
    if form == "html":
        assert "<b>bold" not in text and "&lt;b&gt;bold" in text and "<i>ask" not in text
    if form == "json":
        item = json.loads(text)[0]
        assert (item["prompt"], item["completion"], item["ai_generated"]) == ("<i>ask</i>", "<b>bold</b> text", True)


def test_the_json_form_is_readable_again(made, tmp_path):
    from volant.core.sample import Source
    from volant.modalities import open_modality

    data, _, _ = made(lambda r: "answer", ask=["question"], form="json")
    file = OutsideFile(data.path / "content.json", "content.json", 1, "0")
    read = list(open_modality("text").load(file, Source(uri="x", licence="MIT")))
    assert [(s.condition, s.target) for s in read] == [("question", "answer")]


def published(tmp_path: Path, data: Dataset, approvals: str | None = None, **settings):
    run = make_run(tmp_path)
    if approvals is not None:
        run.outside["approvals"] = Snapshot(
            "files", "a", files=tuple(outside(tmp_path, {"approvals.jsonl": approvals}))
        )
    return publish(run, data, **settings), run.watcher


def test_publishing_puts_files_and_a_page_and_keeps_the_receipts(made, tmp_path):
    data, _, _ = made(lambda r: f"on {r.messages[-1]['content']}", ask=["a", "b"], keywords=["on"])
    out, watcher = published(tmp_path, data, title="Lines & more")
    kept = list(rows(out))
    where = {label.by: label.value for label in kept[0].labels if label.name == "published"}
    assert where == {"channel:file": f"{kept[0].id}.md", "channel:page": f"index.html#{kept[0].id}"}
    html = (tmp_path / "published" / "index.html").read_text()
    assert "Lines &amp; more" in html and "generated by an AI model (model dddd" in html and kept[1].id in html
    assert html == (out.path / "site" / "index.html").read_text()
    assert "ai_generated: true" in (tmp_path / "published" / f"{kept[0].id}.md").read_text()
    assert watcher.lines == ["2 published in published/"]


def test_publishing_again_delivers_nothing_twice_and_new_content_joins_the_page(made, tmp_path):
    first, _, _ = made(lambda r: "old", ask=["a"])
    published(tmp_path, first)
    folder = tmp_path / "published"
    before = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()}
    published(tmp_path, first)
    assert before == {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()}
    published(tmp_path, made(lambda r: "new", ask=["b"])[0])
    html = (folder / "index.html").read_text()
    assert html.count("<article") == 2 and "old" in html and "new" in html
    assert not list(folder.glob(".*"))


def test_a_page_that_a_kill_left_behind_its_memory_is_completed(made, tmp_path):
    data, _, _ = made(lambda r: "text", ask=["a"])
    published(tmp_path, data)
    page = tmp_path / "published" / "index.html"
    whole = page.read_text()
    page.write_text("<html></html>")
    published(tmp_path, data)
    assert page.read_text() == whole


def test_nothing_goes_out_without_the_approval_that_was_asked_for(made, tmp_path):
    data, watcher, _ = made(lambda r: r.messages[-1]["content"], ask=["yes", "no", "later"], approval="required")
    assert "wait for a person" in watcher.lines[-1]
    ids = {s.target: s.id for s in rows(data)}
    with pytest.raises(DataError, match=r"a person has not approved it.*approvals.jsonl"):
        published(tmp_path, data)
    assert not (tmp_path / "published").exists()
    file = tmp_path / "decided.jsonl"
    for text, good in (("yes", False), ("yes", True), ("no", False)):  # the last word counts
        approval.record(file, approval.Approval(id=ids[text], approved=good, by="Ada"))
    out, watcher = published(tmp_path, data, file.read_text())
    (only,) = rows(out)
    assert only.target == "yes" and only.attrs["approved_by"] == "Ada"
    html = (tmp_path / "published" / "index.html").read_text()
    assert "approved by Ada" in html and "later" not in html
    reasons = {s.target: s.drop for s in dropped(out)}
    assert reasons == {"later": "not published: a person has not approved it",
                       "no": "not published: a person said no (rejected)"}  # fmt: skip


@pytest.mark.parametrize("line", ["{", '{"id": "a", "approved": true}', '{"id": "a", "approved": true, "by": " "}'])
def test_a_decision_by_nobody_is_none(made, tmp_path, line):
    data, _, _ = made(lambda r: "x", ask=["a"], approval="required")
    with pytest.raises(DataError, match="approvals.jsonl:1"):
        published(tmp_path, data, line)


def test_the_folder_stays_in_the_project(made, tmp_path):
    data, _, _ = made(lambda r: "x", ask=["a"])
    for folder in ("../out", "/etc"):
        with pytest.raises(PathError):
            published(tmp_path, data, folder=folder)
    with pytest.raises(SettingError, match="project itself"):
        published(tmp_path, data, folder=".")


def test_refused_content_is_kept_and_said(made, tmp_path):
    data, _, _ = made(lambda r: "bad mail ann@firm.org" if "b" in r.messages[-1]["content"] else "fine", ask=["a", "b"])
    out, watcher = published(tmp_path, data, channels=["file"], form="json")
    assert watcher.lines == ["1 published in published/; held back: 1 unsafe"]
    assert [s.drop for s in dropped(out)] == ["unsafe: e-mail address"]
    assert [f.suffix for f in (tmp_path / "published").iterdir()] == [".json"]
