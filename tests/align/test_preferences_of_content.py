"""`align.preferences` over pictures and rows: a pair holds both, who chose stands on it, and splits stay apart."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from test_align import MARK, Rated

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import payload_digest
from volant.core.errors import DataError, GateRefused, SettingError
from volant.core.sample import Sample, content_text, pair_sides
from volant.modalities.image import pixels
from volant.stages.align import preferences
from volant.store.dataset import rows


def run_of(folder: Path, modality: str, *ratings: Any) -> Any:
    run = tiny.content_run(folder, modality, outside=MARK)
    run.records = Rated(*ratings)
    return run


def pairs_of(data: Any) -> list[Sample]:
    return [s for s in rows(data) if s.shape == "preference"]


def test_what_is_made_whole_goes_into_a_text_and_comes_back() -> None:
    picture, row = tiny.pictures(1)[0], tiny.people(1)[0]
    texts = [content_text(s, "image/png") for s in (picture, row)]
    assert texts[0].startswith("data:image/png;base64,") and json.loads(texts[1])["age"]
    pair = picture.model_copy(update={"shape": "preference", "target": texts[0], "rejected": texts[1], "media": None})
    chosen, rejected = pair_sides(pair)
    assert (chosen.shape, chosen.media, chosen.condition) == ("media", picture.media, picture.condition)
    assert (rejected.shape, rejected.content) == ("row", row.content)
    for broken in ("a text", "data:image/png;base64,?", "[1]", ""):
        with pytest.raises(DataError, match="two pictures or rows"):
            pair_sides(pair.model_copy(update={"target": broken}))


def test_people_choose_between_pictures(shelf: Any, tmp_path: Path) -> None:
    told = [content_text(s, "image/png") for s in tiny.pictures(31, seed=3)]
    ratings = [("left", told[i], told[i + 1], "b", "ana") for i in range(30)]
    run = run_of(tmp_path, "image", *ratings, ("left", "a text", "another", "a", "ben"), ("top", *told[:2], "a", "cy"))
    found = pairs_of(preferences(run, shelf.flow, shelf.pictures, prompts=0))
    assert len(found) == 31 and {s.labels[0].by for s in found} == {"person:ana", "person:cy"}
    assert {s.split for s in found} == {"train", "validation"}  # by their own hash: there are two conditions only
    chosen, rejected = pair_sides(found[0])
    assert pixels(chosen).shape == (8, 8, 1) and chosen.media != rejected.media and chosen.condition == "left"
    assert content_text(chosen, "image/png") == told[1]
    lines = " ".join(watched(run).lines)
    assert "1 rated pairs are not of pictures or rows" in lines and "1 rated prompts are not in the data" in lines


def test_the_likeliest_draw_is_for_text(shelf: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="`likeliest` is for text"):
        preferences(run_of(tmp_path, "image"), shelf.flow, shelf.pictures, prompts=2, likeliest=True)


def test_a_judge_chooses_where_nobody_did(shelf: Any, tmp_path: Path) -> None:
    left = ("left", *(content_text(s, "image/png") for s in tiny.pictures(2)), "a", "ana")
    settings = {"judge": shelf.judge, "scorers": ["class_accuracy"], "prompts": 24, "answers": 6, "margin": 0.5}
    digests = []
    for name in "ab":
        run = run_of(tmp_path / name, "image", left)
        made = preferences(run, shelf.flow, shelf.pictures, **settings, controls={"guidance": 0.0})
        digests.append(payload_digest(made.path)[0])
    assert digests[0] == digests[1]
    people, *scored = pairs_of(made)
    assert people.labels[0].by == "person:ana" and scored
    assert {s.condition for s in scored} == {"right"}  # people come first, condition by condition
    for pair in scored:
        assert pair.labels[0].by == "scorer:class_accuracy@1" and pair.source.origin == "generated"
        assert pair.attrs == {"chosen_value": 1.0, "rejected_value": 0.0}
        (parent,) = [s for s in tiny.pictures() if s.id == pair.parents[0]]
        assert parent.split == pair.split and parent.condition == pair.condition
    held = [s for s in rows(made, "validation") if s.shape == "media"]
    assert [s.id for s in held] == [s.id for s in tiny.pictures() if s.split == "validation"]


@pytest.mark.parametrize(("asked", "kappa"), [("left", 1.0), ("right", -1.0)])
def test_how_far_a_judge_of_pictures_agrees_with_people_is_told_before_it_labels(
    shelf: Any, tmp_path: Path, asked: str, kappa: float
) -> None:
    """People want the left bar, the judge what was asked for."""
    made = tiny.pictures(24, seed=7)
    told = {n: [content_text(s, "image/png") for s in made if s.condition == n] for n in tiny.CLASSES}
    both = zip(told["left"], told["right"], strict=True)
    ratings = [(asked, *((a, b, "a") if i % 2 else (b, a, "b")), "ana") for i, (a, b) in enumerate(both)]
    broken = "data:image/png;base64," + base64.b64encode(b"no picture").decode()
    unread = [(asked, "a text", "another", "a", "ben"), (asked, broken, told["left"][0], "a", "ben")]
    run = run_of(tmp_path, "image", *ratings, *unread)
    settings = {"judge": shelf.judge, "scorers": ["class_accuracy"], "prompts": 4, "answers": 2}
    if kappa < 0:
        with pytest.raises(GateRefused, match="agree with people by a kappa of -1.00"):
            preferences(run, shelf.flow, shelf.pictures, **settings)
    else:
        preferences(run, shelf.flow, shelf.pictures, **settings)
    score = {s.name: s for s in watched(run).scores}["judge_kappa"]
    assert (score.value, score.n) == (kappa, 12)
    assert "2 ratings are not of pictures or rows that can be read" in " ".join(watched(run).lines)


def test_rows_are_chosen_by_the_goals_metric(shelf: Any, tmp_path: Path) -> None:
    run = run_of(tmp_path, "table")
    made = preferences(run, shelf.tree, shelf.people, prompts=12, answers=3, margin=0.0)
    found = pairs_of(made)
    assert found and {s.labels[0].by.split("@")[0] for s in found} == {"scorer:marginals"}
    chosen, rejected = pair_sides(found[0])
    assert set(json.loads(chosen.content or "")) == set(tiny.TYPES) and chosen.content != rejected.content
    assert not found[0].condition
