"""The page for labels: who may call it, what each rater sees, two at once, and a kill after a click."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from volant.cli.app import app as commands
from volant.cli.label import _ask, offered
from volant.core.artifact import Dataset
from volant.core.sample import Label, Sample, Source
from volant.project import Project
from volant.serving.labelling import Desk, create_app
from volant.serving.picking import Picker
from volant.store.dataset import rows, writer
from volant.store.labels import read
from volant.testing import dataset


def text(said, **attrs):
    return Sample(id=said, shape="text", source=Source(uri="t", licence="MIT"), content=said, attrs=attrs)


def desk(folder, samples=None, **more):
    given = samples or [text(f"record {n}") for n in range(4)]
    return Desk(given, folder / "labels.jsonl", name="tone", classes=["good", "bad"], **more)


def page(of, **more):
    app = create_app(of, lambda sample: f"<p>{sample.id}</p>", "Be <kind>.")
    return TestClient(app, base_url="http://127.0.0.1:1", client=("127.0.0.1", 5), **more)


def say(client, id, value, rater="ana"):
    return client.post("/label", json={"id": id, "value": value, "rater": rater}).json()["kept"]


def after(client, rater="ana", **more):
    return client.get("/next", params={"rater": rater, **more}).json()


def test_only_this_page_may_call(tmp_path):
    client, word = page(desk(tmp_path)), {"id": "record 0", "value": "good", "rater": "ana"}
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"x-forwarded-for": "9.9.9.9"}):
        assert client.get("/next", params={"rater": "ana"}, headers=headers).status_code in (401, 403)
        assert client.post("/label", json=word, headers=headers).status_code in (401, 403)
    assert not (tmp_path / "labels.jsonl").exists()
    shown = client.get("/")
    rules = shown.headers["content-security-policy"]
    assert "default-src 'none'" in rules and "Be &lt;kind&gt;." in shown.text
    nonce = rules.split("'nonce-")[1].split("'")[0]
    assert f'<script nonce="{nonce}">' in shown.text and "http://" not in shown.text and "https://" not in shown.text
    assert client.get("/").headers["content-security-policy"] != rules


def test_each_rater_sees_what_is_theirs(tmp_path):
    client = page(desk(tmp_path))
    assert say(client, "record 1", "good") and say(client, "record 0", "")
    assert not say(client, "record 1", "other") and not say(client, "record 9", "good")
    assert client.post("/label", json={"id": "record 1", "value": "good", "rater": " "}).status_code == 422
    told = after(client)
    assert (told["id"], told["done"], told["left"], told["others"]) == ("record 2", 2, 2, {})
    other = after(client, "ben")
    assert (other["id"], other["others"], other["done"]) == ("record 0", {}, 0)  # what others have begun comes first
    unseen = client.get("/record", params={"rater": "ben", "id": "record 1"}).json()
    assert unseen["others"] == {} and unseen["own"] is None
    assert say(client, "record 1", "bad", "ben")
    seen = client.get("/record", params={"rater": "ben", "id": "record 1"}).json()
    assert seen["others"] == {"ana": "good"} and seen["own"] == "bad" and seen["agreement"] == pytest.approx(0)
    assert after(client, skipped="record 2,record 3")["id"] == ""
    assert say(client, "record 1", "bad")  # a word is changed by a later one
    assert [one.value for one in read(tmp_path / "labels.jsonl") if one.id == "record 1"] == ["bad", "bad"]


def test_a_word_is_taken_back(tmp_path):
    client = page(desk(tmp_path))

    def undo(rater="ana"):
        return client.post("/undo", json={"rater": rater}).json()["id"]

    assert undo() == ""
    assert say(client, "record 0", "good") and say(client, "record 2", "bad") and say(client, "record 0", "bad", "ben")
    assert undo() == "record 2" and after(client)["left"] == 3
    assert undo() == "record 0" and undo() == "" and after(client)["done"] == 0
    assert [(one.id, one.by) for one in read(tmp_path / "labels.jsonl")] == [("record 0", "ben")]
    seen = client.get("/record", params={"rater": "ana", "id": "record 0"}).json()
    assert seen["own"] is None and seen["others"] == {}  # without a word of one's own, others' are hidden again
    assert say(client, "record 0", "good") and len(read(tmp_path / "labels.jsonl")) == 2
    judge = page(desk(tmp_path, adjudicate=True))
    assert judge.post("/undo", json={"rater": "ana"}).json()["id"] == ""  # a plain word is no decision


class Kinds:
    """Two features: what a record says, which is all that there is to it."""

    def features(self, samples):
        return np.array([[s.attrs["x"], 1.0] for s in samples], np.float32)


def test_what_comes_next_is_chosen_by_the_labels_so_far(tmp_path):
    spread = [text(f"r{n:02}", x=n / 40 - 0.5) for n in range(40)]
    brought = spread[3].model_copy(update={"labels": [Label(name="tone", value="bad", by="import")]})
    samples = [*spread[:3], brought, *spread[4:]]
    picker = Picker(samples, Kinds(), classes=["good", "bad"], how="uncertain", seed=3)
    client = page(desk(tmp_path, samples, picker=picker))
    first = []
    for _ in range(10):
        first.append(after(client)["id"])
        assert say(client, first[-1], "good" if first[-1] >= "r20" else "bad")
    assert "r03" not in first  # it came with a label
    doubtful = after(client)["id"]
    assert abs(int(doubtful[1:]) - 19.5) < 6 and doubtful not in first
    assert after(client, "ben")["id"] in first  # what others have begun comes before that
    fresh = page(
        desk(tmp_path, samples, picker=Picker(samples, Kinds(), classes=["good", "bad"], how="uncertain", seed=3))
    )
    assert after(fresh)["id"] == doubtful


def test_votes_come_first_only_where_most_records_have_some(tmp_path):
    with writer(tmp_path / "data") as out:
        out.write_all(text(f"record {n}", sure={"tone": 0.9 - n / 10} if n < 4 else {}) for n in range(6))
    data, told = Dataset(tmp_path / "data"), {"name": "tone", "classes": ["good", "bad"], "records": 6}

    def first(voted, **more):
        (data.path / "label.json").write_text(json.dumps({**told, "voted_on": voted}))
        known = {"name": "tone", "limit": 10, "pick": "", "seed": 0, **more}
        samples, picker = offered(data, ["good", "bad"], [], **known)
        return picker is None, [s.id for s in samples if s.attrs["sure"]]

    assert first(4) == (True, ["record 3", "record 2", "record 1", "record 0"])
    assert not first(2)[0] and first(2, pick="votes")[0] and not first(4, pick="mixed")[0]
    assert not first(4, name="other")[0]


def test_two_processes_at_once_lose_nothing_and_see_each_other(tmp_path):
    samples = [text(f"record {n}") for n in range(40)]
    raters = {who: page(desk(tmp_path, samples)) for who in ("ana", "ben")}
    with ThreadPoolExecutor(2) as pool:

        def work(who):
            return [say(raters[who], s.id, "good", who) for s in samples]

        assert all(all(kept) for kept in pool.map(work, raters))
    assert len(read(tmp_path / "labels.jsonl")) == 80
    assert after(raters["ana"])["twice"] == after(raters["ben"])["twice"] == 40
    # A kill in the middle of a line takes that line alone; who comes next goes on.
    file = tmp_path / "labels.jsonl"
    file.write_bytes(file.read_bytes().rsplit(b"\n", 2)[0] + b"\n")
    fresh = page(desk(tmp_path, samples))
    assert after(fresh)["left"] + after(fresh, "ben")["left"] == 1


def test_adjudication_offers_disputes_then_suspects_and_is_final(tmp_path):
    mark = {"tone": {"given": "good", "suggested": "bad", "margin": 0.7}}
    samples = [text("calm"), text("marked", suspect=mark), text("split"), text("one voice")]
    client = page(desk(tmp_path, samples))
    for id, who, value in [("split", "ana", "good"), ("split", "ben", "bad"), ("calm", "ana", "bad"),
                           ("calm", "ben", "bad"), ("one voice", "ana", "bad")]:  # fmt: skip
        assert say(client, id, value, who)
    judge = page(desk(tmp_path, samples, adjudicate=True))
    first = after(judge, "cleo")
    assert first["id"] == "split" and first["others"] == {"ana": "good", "ben": "bad"}
    assert say(judge, "split", "bad", "cleo")
    second = after(judge, "cleo")
    assert second["id"] == "marked" and second["suspect"]["suggested"] == "bad"
    assert say(judge, "marked", "bad", "cleo") and after(judge, "dora")["id"] == ""
    assert [one.id for one in read(tmp_path / "labels.jsonl") if one.final] == ["split", "marked"]
    assert after(client, "dora")["id"] == "calm"  # what is decided is asked of nobody


def test_in_the_terminal(tmp_path, monkeypatch):
    project = Project(tmp_path, device="cpu")
    made = dataset(project, [text(f"record {n}") for n in range(3)])
    monkeypatch.chdir(tmp_path)
    words = ["label", made.card.digest[:12], "--terminal", "--name", "tone", "--rater", "ana"]
    asked = [*words, "--class", "good", "--class", "bad"]
    result = CliRunner().invoke(commands, asked, input="1\nu\n2\ns\n0\n")
    assert result.exit_code == 0, result.output
    assert "Kept 2 words" in result.output and "was taken back" in result.output
    lines = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert [(one["value"], one.get("withdrawn", False)) for one in lines] == [
        ("good", False), ("good", True), ("bad", False), ("", False),
    ]  # fmt: skip
    assert lines[0]["id"] == lines[2]["id"] != lines[3]["id"]
    assert [word.value for word in read(tmp_path / "labels.jsonl")] == ["bad", ""]
    result = CliRunner().invoke(commands, [*asked, "--pick", "uncertian"])
    assert result.exit_code != 0 and "Did you mean 'uncertain'" in result.stderr
    result = CliRunner().invoke(commands, [*asked, "--pick", "votes"])
    assert result.exit_code != 0 and "nobody voted" in result.stderr
    chosen = ["label-export", words[1], "next.json", "--name", "tone", "--pick", "mixed", "--limit", "2"]
    assert CliRunner().invoke(commands, chosen).exit_code == 0
    tasks = json.loads((tmp_path / "next.json").read_text())
    assert [task["data"]["id"] for task in tasks] == [  # what nobody has judged yet
        s.id for s in rows(made) if s.id not in {one["id"] for one in lines}
    ]
    result = CliRunner().invoke(commands, words)
    assert result.exit_code != 0 and "--class" in result.stderr


@pytest.mark.slow
def test_a_project_that_names_the_labels_before_there_are_any(tmp_path, monkeypatch):
    lines = [f'{{"text": "Record number {n} tells of the sea and of boats on it."}}' for n in range(4)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    head = "volant: 1\nname: sea\nsteps:\n  corpus: {use: collect.files, glob: in.jsonl, licence: MIT}\n"
    (tmp_path / "volant.yaml").write_text(head)
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(commands, ["run"]).exit_code == 0
    voted = "  labelled: {use: collect.label, data: corpus, name: tone, people: labels.jsonl}\n"
    (tmp_path / "volant.yaml").write_text(head + voted)
    words = ["label", "corpus", "--terminal", "--name", "tone", "--rater", "ana", "--class", "good", "--class", "bad"]
    for pressed in ("q\n", "1\n2\n1\nq\n"):
        result = CliRunner().invoke(commands, words, input=pressed)
        assert result.exit_code == 0, result.output
        assert "-- 0 done, 4 left --" in result.output
        ran = CliRunner().invoke(commands, ["run"])
        assert ("nobody voted on any of the 4 records" in ran.stderr) == (pressed == "q\n")
    assert ran.exit_code == 0 and "3 of 4 records are labelled" in ran.output


def test_pictures_and_rows_as_people_read_them(tmp_path, monkeypatch):
    from volant.cli.label import whole
    from volant.core.errors import SettingError
    from volant.serving.labelling import keys_of

    source = Source(uri="t", licence="MIT")
    row = Sample(id="r", shape="row", source=source, content='{"a<b": 1.5, "c": null}')
    assert "<dt>a&lt;b</dt><dd>1.5</dd>" in whole(row) and "<dd>missing</dd>" in whole(row)
    png = Sample(id="p", shape="media", source=source, media=b"\x89PNG\r\n\x1a\n...")
    assert 'src="data:image/png;base64,iVBORw0KGgo' in whole(png)
    assert whole(png.model_copy(update={"media": b"<svg onload=alert(1)>"})) == ""
    pair = Sample(id="q", shape="preference", source=source, condition="ask", target="yes", rejected="<no>")
    assert "<dt>rejected</dt><dd><pre>&lt;no&gt;</pre></dd>" in whole(pair)
    shown = desk(tmp_path, [png])
    monkeypatch.setattr("builtins.input", lambda asked: "q")
    with pytest.raises(SettingError, match="pictures are not shown here"):
        _ask(shown, "ana")
    assert keys_of([str(n) for n in range(10)]) == ([str(n) for n in range(10)], "x")
    many, unsure = keys_of([f"c{n}" for n in range(40)])
    assert unsure == "0" and many[9] == "a" and many[-1] == "" and not {"s", "u", "q", "x", "0"} & set(many)


def test_a_long_text_is_shown_whole_and_escaped():
    from volant.cli.label import whole

    shown = whole(text("<b>" + "word " * 400 + "end"))
    assert "&lt;b&gt;" in shown and "<b>" not in shown and "end</pre>" in shown
    picture = Sample(id="p", shape="media", source=Source(uri="t", licence="MIT"), media=b"x")
    assert whole(picture) == ""
