"""`deliver.content` and `deliver.publish` for pictures and rows: asked, checked, counted, approved, handed out."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import Dataset, Prompt, payload_digest
from volant.core.errors import DataError, RemoteError, SettingError
from volant.core.outside import OutsideFile, Snapshot
from volant.core.paths import Resolver
from volant.engines.prompting import PromptFile
from volant.scorers import NAMES, relevance
from volant.scorers.scoring import Scoring
from volant.stages.deliver import content, publish
from volant.stages.pretrain import fit
from volant.store.dataset import dropped, rows


def scores(run):
    return {s.name: s for s in watched(run).scores}


def snapshot(file, kind="files"):
    about = OutsideFile(file, file.name, file.stat().st_size, "0" * 64)
    return Snapshot(kind=kind, value=file.name, files=(about,))


def test_pictures_of_each_condition_and_the_same_again(shelf, tmp_path):
    settings = {"ask": ["left", "right"], "count": 3, "controls": {"steps": 2.0}}
    run = tiny.content_run(tmp_path / "a", "image")
    made = content(run, shelf.flow, **settings)
    kept = list(rows(made))
    assert [s.condition for s in kept] == ["left"] * 3 + ["right"] * 3 and len({s.id for s in kept}) == 6
    assert all(s.source.origin == "generated" and s.source.uri == f"model:{shelf.flow.digest}" for s in kept)
    assert kept[0].attrs["controls"] == {"steps": 2.0} and kept[0].attrs["tries"] == 1
    sheet = Image.open(made.path / "content.png")
    assert sheet.size[0] > 2 * tiny.SIDE and "trainedAlgorithmicMedia" in sheet.text["digital_source_type"]
    page = (made.path / "index.html").read_text()
    assert page.count("<img") >= 6 and shelf.flow.digest[:16] in page
    told = scores(run)
    assert told["acceptance"].value == 1 and told["acceptance"].n == 6 and told["compliance"].value == 1
    again = content(tiny.content_run(tmp_path / "b", "image"), shelf.flow, **settings)
    assert payload_digest(again.path) == payload_digest(made.path)


def test_what_a_check_finds_short_is_dropped_with_the_figure(shelf, tmp_path):
    run = tiny.content_run(tmp_path / "a", "image")
    asked = {"ask": ["left"], "count": 6, "controls": {"steps": 1.0, "guidance": 0.0}}  # the condition is left out
    made = content(run, shelf.flow, judge=shelf.judge, checks=["class_accuracy"], comply=0.5, **asked)
    kept, short = list(rows(made)), list(dropped(made))
    assert len(kept) + len(short) == 6 and short and kept
    assert all(s.drop.startswith("class_accuracy: 0 against 0.5") for s in short)
    assert scores(run)["compliance"].value == pytest.approx(len(kept) / 6)


class Never(Scoring):
    """Nothing is good enough for it."""

    name, version, unit, direction, ladder, modality = "never", 1, "1", "higher", "fidelity", "image"

    def values(self, outputs, references):
        return [0.1] * len(outputs)


def test_where_nothing_is_left_the_step_stops(shelf, tmp_path, monkeypatch):
    monkeypatch.setitem(NAMES, "never", "relevance")
    monkeypatch.setattr(relevance, "never", Never, raising=False)
    with pytest.raises(DataError, match="no sample is left; dropped: 2 never"):
        content(tiny.content_run(tmp_path, "image"), shelf.flow, ask=["left"], count=2, checks=["never"])


def test_rows_that_break_a_constraint_are_drawn_again_and_counted(tmp_path):
    data = tiny.stored(tmp_path / "data", tiny.people(120))
    options = {"constraints": ["pay >= 2500"]}
    model = fit(tiny.content_run(tmp_path / "model", "table"), data, size={"leaf": 5}, codec=options)
    run = tiny.content_run(tmp_path / "run", "table")
    made = content(run, model, ask=["", "job = smith"], count=12, form="jsonl")
    kept = list(rows(made))
    bodies = [json.loads(s.content) for s in kept]
    assert len(kept) == 24 and all(b["pay"] >= 2500 for b in bodies)
    assert all(b["job"] == "smith" for b in bodies[12:])
    told = scores(run)["acceptance"]
    assert told.value == pytest.approx(24 / told.n) and told.value < 1
    assert [json.loads(line) for line in (made.path / "content.jsonl").read_text().splitlines()] == bodies


def test_conditions_come_from_a_file_and_controls_from_a_prompt(shelf, tmp_path):
    file = tmp_path / "asked.txt"
    file.write_text("left\nright\n")
    (tmp_path / "prompt").mkdir()
    PromptFile(controls={"temperature": 0.0, "steps": 2.0}).save(tmp_path / "prompt")
    run = tiny.content_run(tmp_path / "run", "image", outside={"prompts": snapshot(file)})
    made = list(rows(content(run, shelf.flow, Prompt(tmp_path / "prompt"), prompts="asked.txt", count=2)))
    assert [s.condition for s in made] == ["left", "left", "right", "right"]
    assert made[0].media == made[1].media  # at a temperature of nought the seed decides nothing


@pytest.mark.parametrize(
    "settings, kind, said",
    [
        ({"form": "pgn"}, SettingError, "pgn.*png"), ({"controls": {"guidence": 1.0}}, SettingError, "guidance"),
        ({"ask": ["nothing like it"]}, RemoteError, "failed on every condition.*nothing like it"),
        ({"checks": ["class_acuracy"]}, SettingError, "class_accuracy"),
        ({"checks": ["class_accuracy"]}, SettingError, "needs a judge"),
    ],
)  # fmt: skip
def test_what_cannot_be_given_is_refused(settings, kind, said, shelf, tmp_path):
    with pytest.raises(kind, match=said) as refused:
        content(tiny.content_run(tmp_path, "image"), shelf.flow, count=2, **settings)
    assert refused.value.fix


def test_some_conditions_may_fail(shelf, tmp_path):
    run = tiny.content_run(tmp_path, "image")
    made = list(rows(content(run, shelf.flow, ask=["left", "nothing like it"], count=2)))
    assert [s.condition for s in made] == ["left", "left"]
    assert any(line.startswith("2 of 4 samples were not made: there is no class") for line in watched(run).lines)


def published(folder, data: Dataset, modality, outside=None, **settings):
    run = tiny.content_run(folder, modality, outside=outside)
    run.resolver = Resolver.for_project(folder)
    return run, publish(run, data, **settings)


def test_pictures_are_published_as_files_and_on_a_page_once(shelf, tmp_path):
    data = content(tiny.content_run(tmp_path / "c", "image"), shelf.flow, ask=["left"], count=2)
    _, made = published(tmp_path / "p", data, "image", title="Bars", form="webp")
    target = tmp_path / "p" / "published"
    ids = [s.id for s in rows(made)]
    assert {f.name for f in target.iterdir()} == {*(f"{i}.webp" for i in ids), "index.html", "items.json"}
    known = {s.id: np.asarray(Image.open(io.BytesIO(s.media))) for s in rows(data)}
    for name in ids:
        np.testing.assert_array_equal(np.asarray(Image.open(target / f"{name}.webp").convert("L")), known[name])
    page = (target / "index.html").read_text()
    assert page.count("<article") == 2 and page.count("<img") == 2 and "trainedAlgorithmicMedia" in page
    assert {label.by for s in rows(made) for label in s.labels} == {"channel:file", "channel:page"}
    before = {f.name: f.stat().st_mtime_ns for f in target.iterdir()}
    published(tmp_path / "p", data, "image", title="Bars", form="webp")
    assert {f.name: f.stat().st_mtime_ns for f in target.iterdir()} == before


def test_rows_are_published_as_one_file_that_grows(shelf, tmp_path):
    first, second = (
        content(tiny.content_run(tmp_path / n, "table", seed=k), shelf.tree, count=5) for k, n in enumerate("ab")
    )
    published(tmp_path / "p", first, "table")
    target = tmp_path / "p" / "published"
    assert len((target / "content.csv").read_text().splitlines()) == 6
    published(tmp_path / "p", second, "table")
    assert len((target / "content.csv").read_text().splitlines()) == 11
    assert (target / "index.html").read_text().count("<article") == 10
    with pytest.raises(SettingError, match="table has no form 'png'"):
        published(tmp_path / "q", first, "table", form="png")


def test_nothing_goes_out_before_a_person_says_so(shelf, tmp_path):
    data = content(tiny.content_run(tmp_path / "c", "image"), shelf.flow, ask=["left"], count=3, approval="required")
    with pytest.raises(DataError, match="nothing may be published.*3 a person has not approved it.*") as refused:
        published(tmp_path / "p", data, "image")
    assert "approvals.jsonl" in refused.value.fix
    yes, no, _ = [s.id for s in rows(data)]
    said = [{"id": yes, "approved": True, "by": "Ada"}, {"id": no, "approved": False, "by": "Ada"}]
    file = tmp_path / "approvals.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in said))
    run, made = published(tmp_path / "q", data, "image", {"approvals": snapshot(file)})
    assert [s.id for s in rows(made)] == [yes]
    assert "approved by Ada" in (tmp_path / "q" / "published" / "index.html").read_text()
    assert any("1 published" in line and "held back" in line for line in watched(run).lines)
