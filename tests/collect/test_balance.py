"""`collect.balance` counts exactly and stops at a missed bound; `collect.clean` on pictures and rows."""

from __future__ import annotations

import json
from collections import Counter

import pytest

import small_content as tiny
from tiny_models import watched
from volant.core.artifact import payload_digest
from volant.core.errors import DataError
from volant.core.sample import Label
from volant.modalities.image import pixels
from volant.modalities.image_pixels import image_sample
from volant.stages.collect import balance, clean
from volant.store.dataset import dropped, rows


def figures(run):
    return {s.name: s for s in watched(run).scores}


def uneven():
    """Three left pictures to one right one in the train split."""
    kept = tiny.pictures(72)
    right = [s for s in kept if s.condition == "right" and s.split == "train"]
    gone = {s.id for s in right[: 2 * len(right) // 3]}
    return [s for s in kept if s.id not in gone]


def test_classes_are_counted_in_the_train_split(tmp_path):
    data = tiny.stored(tmp_path / "data", uneven())
    run = tiny.content_run(tmp_path / "a", "image")
    made = balance(run, data)
    counts = Counter(s.condition for s in rows(data, "train"))
    assert counts == {"left": 24, "right": 8}
    found = figures(run)["class_balance"]
    assert found.value == found.low == found.high == pytest.approx(1 / 3) and found.n == 32
    assert json.loads((made.path / "balance.json").read_text())["counts"]["class"] == counts
    assert [s.id for s in rows(made)] == [s.id for s in rows(data)]
    page = (made.path / "index.html").read_text()
    assert "right 8, left 24" in page
    assert payload_digest(balance(tiny.content_run(tmp_path / "b", "image"), data).path) == payload_digest(made.path)


def biased(gap: float):
    """Women are rich as often as men, less `gap`."""
    found = []
    for number, sample in enumerate(tiny.people(240)):
        body = json.loads(sample.content)
        share = 0.8 if body["sex"] == "m" else 0.8 - gap
        body["rich"] = "yes" if number // 2 % 20 < share * 20 else "no"
        found.append(sample.model_copy(update={"content": json.dumps(body)}))
    return found


@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_how_labels_fall_to_protected_groups(gap, tmp_path):
    data = tiny.stored(tmp_path / "data", biased(gap))
    run = tiny.content_run(tmp_path, "table")
    made = balance(run, data, label="rich", protected=["sex", "age"], positive="yes")
    found = figures(run)
    train = [json.loads(s.content) for s in rows(data, "train")]
    of = {sex: [b["rich"] == "yes" for b in train if b["sex"] == sex] for sex in "fm"}
    wanted = sum(of["m"]) / len(of["m"]) - sum(of["f"]) / len(of["f"])
    assert found["label_disparity_sex"].value == pytest.approx(abs(wanted)) and abs(wanted - gap) < 0.1
    assert found["label_disparity_sex"].low <= abs(wanted) <= found["label_disparity_sex"].high
    worst = max(found["label_disparity_sex"].value, found["label_disparity_age"].value)
    assert found["label_disparity"].value == worst and found["label_disparity"].note.startswith("worst of all")
    counted = json.loads((made.path / "balance.json").read_text())["counts"]
    assert len(counted["age"]) == 4 and counted["sex"] == {sex: len(of[sex]) for sex in "fm"}  # ages by quartile


def test_a_bound_that_is_missed_for_certain_stops_the_step(tmp_path):
    data = tiny.stored(tmp_path / "data", biased(0.5))
    run = tiny.content_run(tmp_path / "a", "table", accept={"label_disparity": "<= 0.1"})
    with pytest.raises(DataError, match=r"label_disparity is 0\.\d+ .*the goal asks <= 0\.1") as refused:
        balance(run, data, label="rich", protected=["sex"], positive="yes")
    assert refused.value.fix
    even = tiny.stored(tmp_path / "even", biased(0.05))
    run = tiny.content_run(tmp_path / "b", "table", accept={"label_disparity": "<= 0.01"})
    balance(run, even, label="rich", protected=["sex"], positive="yes")
    assert any("chance could explain it" in line for line in watched(run).lines)
    run = tiny.content_run(tmp_path / "c", "image", accept={"class_balance": ">= 0.5"})
    with pytest.raises(DataError, match=r"class_balance is 0\.333 \(right 8, left 24\)"):
        balance(run, tiny.stored(tmp_path / "pictures", uneven()))


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"label": "rihc"}, "rihc.*rich"), ({"protected": ["sxe"]}, "sxe.*sex"),
        ({"label": "rich", "protected": ["sex"], "positive": "yse"}, "yse.*yes"),
        ({}, "neither a class nor a column"), ({"label": "pay"}, ""),
    ],
)  # fmt: skip
def test_columns_that_are_not_there_are_refused(settings, said, tmp_path):
    data = tiny.stored(tmp_path / "data", tiny.people())
    run = tiny.content_run(tmp_path, "table")
    if not said:  # numbers are cut at their quartiles, so that they can be counted like classes
        balance(run, data, **settings)
        assert 0 < figures(run)["class_balance"].value <= 1
        return
    with pytest.raises(DataError, match=said) as refused:
        balance(run, data, **settings)
    assert refused.value.fix


def test_equal_and_nearly_equal_pictures_are_dropped_from_the_train_split(tmp_path):
    kept = tiny.pictures(24)
    held = next(s for s in kept if s.split == "test")
    brighter = image_sample(pixels(held) + 1, tiny.SOURCE, held.condition).model_copy(update={"split": "train"})
    same = held.model_copy(update={"id": "same-again", "split": "train"})
    data = tiny.stored(tmp_path / "data", [*kept, brighter, same])
    made = clean(tiny.content_run(tmp_path, "image"), data, near=1.0)
    reasons = {s.id: s.drop for s in dropped(made)}
    assert reasons["same-again"].startswith("exact_duplicate") and held.id in reasons["same-again"]
    assert held.id not in reasons and held.id in {s.id for s in rows(made, "test")}


def test_a_picture_that_is_none_is_dropped_with_the_reason(tmp_path):
    kept = tiny.pictures(24)
    broken = kept[0].model_copy(update={"id": "broken", "media": b"\x89PNG\r\n\x1a\nrubbish"})
    made = clean(tiny.content_run(tmp_path, "image"), tiny.stored(tmp_path / "data", [*kept, broken]), near=1.0)
    (reason,) = [s.drop for s in dropped(made) if s.id == "broken"]
    assert reason.startswith("check: it ")


def test_equal_rows_stay_and_rows_that_break_a_rule_go(tmp_path):
    kept = tiny.people(60, constraints=["age >= 18"])
    again = kept[0].model_copy(update={"id": "again"})
    body = {**json.loads(kept[1].content), "age": 7}
    young = kept[1].model_copy(update={"id": "young", "content": json.dumps(body)})
    made = clean(tiny.content_run(tmp_path, "table"), tiny.stored(tmp_path / "data", [*kept, again, young]))
    assert {s.id: s.drop.split(":")[0] for s in dropped(made)} == {"young": "check"}
    assert "again" in {s.id for s in rows(made)}


def test_personal_data_in_a_caption_is_masked_and_the_picture_stays_one(tmp_path):
    kept = tiny.pictures(24)
    told = kept[0].model_copy(
        update={"condition": "left, by ada@firm.com", "labels": [Label(name="a", value="b", by="c")]}
    )
    made = clean(tiny.content_run(tmp_path, "image"), tiny.stored(tmp_path / "data", [told, *kept[1:]]), near=1.0)
    (found,) = [s for s in rows(made) if told.id in s.parents]
    assert "ada@firm.com" not in (found.condition or "") and found.media == told.media
