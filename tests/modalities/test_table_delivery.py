"""Rows handed out and read again, shown, compared, and asked for over HTTP."""

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from made_tables import CONSTRAINTS, found, kept, visits
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Refusal
from volant.core.sample import Sample, Source, sample_id
from volant.modalities import open_modality
from volant.modalities.table import modality
from volant.modalities.table_card import pandas_call
from volant.modalities.table_delivered import table_of
from volant.modalities.table_delivery import SUFFIXES
from volant.testing.poison import check_poison

GENERATED = Source(uri="model:abc", licence="CC0-1.0", origin="generated")
HOSTILE = "<script>alert('x')</script>"


def samples_of(rows, source=GENERATED, **declared):
    contents = [json.dumps(row, ensure_ascii=False) for row in rows]
    about = {"table": declared} if declared else {}
    return [
        Sample(id=sample_id(c, str(i)), shape="row", content=c, source=source, attrs=about)
        for i, c in enumerate(contents)
    ]


def row(sample):
    return json.loads(sample.content)


@pytest.fixture(scope="module")
def samples():
    return samples_of(visits(), key=["id"], constraints=CONSTRAINTS, types={"id": "id"})


@pytest.mark.parametrize("form", ["csv", "parquet", "json", "jsonl"])
def test_what_is_delivered_is_read_again(samples, form, tmp_path):
    file = tmp_path / f"rows{SUFFIXES[form]}"
    content = modality.deliver(samples, form)
    assert modality.deliver(samples, form) == content
    again = kept(found(file, content, constraints=CONSTRAINTS, key="id"))
    assert [s.content for s in again] == [s.content for s in samples]
    assert all(modality.check(s) == [] for s in again)


def test_csv_opens_in_pandas_with_the_types(samples, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(modality.deliver(samples, "csv"))
    frame = pd.read_csv(file, parse_dates=["start", "end"])
    assert {name: frame[name].dtype.kind for name in ("age", "weight", "drugs", "start", "end")} == {
        "age": "i", "weight": "f", "drugs": "f", "start": "M", "end": "M",
    }  # fmt: skip
    assert frame["age"].tolist() == [r["age"] for r in visits()]
    assert frame["weight"].isna().sum() == sum(r["weight"] is None for r in visits())
    assert frame["city"].tolist() == [r["city"] for r in visits()]


def test_the_card_tells_pandas_every_type(tmp_path):
    rows = [
        {"n": 1, "code": "007", "digits": "12", "word": "NA", "x": 3.0, "at": "2024-01-01", "key": 5},
        {"n": None, "code": "008", "digits": "13", "word": None, "x": None, "at": None, "key": 6},
    ]
    samples = samples_of(rows, types={"key": "id"})
    file = tmp_path / "rows.csv"
    file.write_bytes(modality.deliver(samples, "csv"))
    table = table_of(samples)
    call = pandas_call(table.kinds, table, str(file))
    assert call.replace(str(file), "rows.csv") in modality.deliver(samples, "card").decode()
    frame = eval(call, {"pandas": pd})
    assert frame["n"].dtype == "Int64" and frame["key"].tolist() == [5, 6] and frame["x"].dtype.kind == "f"
    assert frame["code"].tolist() == ["007", "008"] and frame["digits"].tolist() == ["12", "13"]
    assert frame["word"].tolist()[0] == "NA" and frame["word"].isna().tolist() == [False, True]
    assert frame["at"].dtype.kind == "M" and pd.isna(frame["n"][1])


def test_parquet_has_real_types_and_says_who_made_it(samples):
    content = modality.deliver(samples, "parquet")
    schema = pq.read_schema(io.BytesIO(content))
    assert {f.name: str(f.type) for f in schema} == {
        "id": "string", "age": "int64", "weight": "double", "city": "string", "smoker": "string",
        "start": "date32[day]", "end": "date32[day]", "drugs": "double", "care": "double", "total": "double",
    }  # fmt: skip
    about = json.loads(schema.metadata[b"volant"])
    assert about["ai_generated"] is True and about["models"] == ["model:abc"] and about["licences"] == ["CC0-1.0"]
    assert "generated" not in "".join(schema.names)
    frame = pd.read_parquet(io.BytesIO(content), dtype_backend="pyarrow")
    assert frame["start"].tolist() == [pd.Timestamp(r["start"]).date() for r in visits()]
    assert pd.read_parquet(io.BytesIO(content))["age"].dtype == np.int64
    real = samples_of(visits(3), Source(uri="x", licence="CC-BY-4.0"))
    assert (
        json.loads(pq.read_schema(io.BytesIO(modality.deliver(real, "parquet"))).metadata[b"volant"])["ai_generated"]
        is False
    )


def test_parquet_keeps_texts_that_look_like_numbers(tmp_path):
    rows = [{"code": str(i), "at": f"2024-01-0{i}T10:00:00", "nr": i, "x": i / 2} for i in range(1, 6)]
    samples = samples_of(rows, types={"nr": "id"})
    again = kept(found(tmp_path / "t.parquet", modality.deliver(samples, "parquet")))
    assert [row(s) for s in again] == rows and again[0].attrs["table"]["types"]["nr"] == "id"


def test_parquet_cannot_hold_two_kinds_in_a_column():
    with pytest.raises(DataError, match="'a' is integer") as error:
        modality.deliver(samples_of([{"a": 1}, {"a": "x"}], types={"a": "integer"}), "parquet")
    assert error.value.fix
    assert modality.deliver(samples_of([{"a": 1}, {"a": "x"}, {"b": 2}]), "parquet")
    with pytest.raises(SettingError, match="csv"):
        modality.deliver([], "cvs")


def test_the_card_says_what_the_table_is_like(samples):
    drawn = [s.model_copy(update={"attrs": {**s.attrs, "tries": 2}}) for s in samples]
    card = modality.deliver(drawn, "card").decode()
    assert "200 of 200 rows were generated by an AI model" in card and "| Licence | CC0-1.0 |" in card
    assert "| Draws kept | 50.0% (200 of 400) |" in card
    missing = sum(r["weight"] is None for r in visits()) / 200
    assert re.search(rf"\| weight \| numeric \| {missing:.1%} \|", card)
    assert "| drugs + care == total | 0 | 0.00% |" in card and "| unique(\\`id\\`) | 0 | 0.00% |" in card
    broken = samples_of([*visits(9), {**visits(1)[0], "age": 3}], key=["id"], constraints=CONSTRAINTS)
    card = modality.deliver(broken, "card").decode()
    assert "| age between 18 and 90 | 1 | 10.00% |" in card and "| unique(\\`id\\`) | 1 | 10.00% |" in card
    hostile = modality.deliver(samples_of([{"a|b": f"{HOSTILE} | x\n| y"}] * 2), "card").decode()
    assert "<script" not in hostile and "\n| y" not in hostile and "a\\|b" in hostile
    assert modality.deliver([], "card").decode().startswith("# Quality card")


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.seen, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_the_preview_shows_rows_and_histograms_and_runs_nothing(samples):
    shown = modality.preview(samples)
    assert shown == modality.preview(samples)
    tags = Tags(shown)
    assert tags.seen.count("tr") == 21 and tags.seen.count("svg") == 9 and "180 more rows" in shown
    hostile = modality.preview(samples_of([{HOSTILE: HOSTILE, "n": 1}, {HOSTILE: None, "n": 2}]))
    assert "<script" not in hostile.lower() and Tags(hostile).text.count(HOSTILE) >= 2 and "missing" in hostile
    assert set(Tags(hostile).seen) <= {
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "br",
        "small",
        "svg",
        "rect",
        "title",
        "i",
    }
    assert modality.preview([]) and "more columns" in modality.preview(samples_of([{f"c{i}": i for i in range(50)}]))


def test_signatures_tell_how_many_columns_agree():
    def share(a, b):
        left, right = (modality.fingerprint(s) for s in samples_of([a, b]))
        return sum(x == y for x, y in zip(left, right, strict=True)) / len(left)

    base = visits(2)
    assert len(modality.fingerprint(samples_of(base)[0])) == 128
    assert share(base[0], base[0]) == 1
    assert share(base[0], {**base[0], "city": "elsewhere"}) == pytest.approx(0.9, abs=0.02)
    assert share(base[0], {**base[0], "drugs": base[0]["drugs"] * 1.0001}) == 1, "equal to two figures"
    assert share(base[0], base[1]) < 0.5
    wide = {f"c{i}": i for i in range(300)}
    assert share(wide, wide) == 1 and 0.9 < share(wide, {**wide, "c7": 1000}) < 1


def test_features_show_a_shift_of_any_column():
    rng = np.random.default_rng(0)
    rows = visits(2000, seed=1)
    base = modality.features(samples_of(rows[:1000], types={"id": "id"}))
    assert base.shape == (1000, 256) and base.dtype == np.float32 and np.isfinite(base).all()
    assert np.array_equal(
        base[:5], np.concatenate([modality.features([s]) for s in samples_of(rows[:5], types={"id": "id"})])
    )
    assert modality.features([]).shape == (0, 256) and (np.linalg.norm(base, axis=1) <= 1.5).all()

    def is_told_apart(other):
        """Whether the means differ more than those of any of 40 shuffled halves."""
        both = np.concatenate([base, modality.features(samples_of(other, types={"id": "id"}))])
        told = np.linalg.norm(both[:1000].mean(0) - both[1000:].mean(0))
        shuffled = [rng.permutation(both) for _ in range(40)]
        return told > max(np.linalg.norm(half[:1000].mean(0) - half[1000:].mean(0)) for half in shuffled)

    assert not is_told_apart(rows[1000:])
    for name, change in {
        "age": lambda r: r["age"] + 20, "weight": lambda r: None, "drugs": lambda r: r["drugs"] * 1.3,
        "city": lambda r: "Köln" if rng.random() < 0.3 else r["city"], "start": lambda r: "2023" + r["start"][4:],
    }.items():  # fmt: skip
        assert is_told_apart([{**r, name: change(r)} for r in rows[1000:]]), name


def test_parts_are_the_columns(samples):
    parts = modality.parts(samples)
    assert list(parts) == ["age", "weight", "city", "smoker", "start", "end", "drugs", "care", "total"]
    assert parts["age"] == [float(r["age"]) for r in visits()] and "" in parts["smoker"]
    assert np.isnan(parts["weight"]).sum() == sum(r["weight"] is None for r in visits())
    assert (
        parts["end"][0] - parts["start"][0]
        == (pd.Timestamp(visits()[0]["end"]) - pd.Timestamp(visits()[0]["start"])).days
    )


def test_poisoned_files_are_refused(tmp_path):
    check_poison(
        modality, samples_of(visits(6)), folder=tmp_path, forms={"csv": ".csv", "parquet": ".parquet", "json": ".json"},
        lines=("jsonl", ".jsonl"), huge_bytes=33_000_000,
    )  # fmt: skip


def test_the_route_takes_a_condition_and_gives_rows(samples):
    ((path, route),) = modality.api().items()
    assert path == "/v1/rows" and route.body.model_validate(route.example)
    body = route.body.model_validate({"where": "age > 30", "n": 2, "seed": 3, "temperature": 0.5})
    assert route.asked(body) == ("age > 30", {"temperature": 0.5}, 2)
    assert route.asked(route.body()) == ("", {}, 1)
    drawn = [s.model_copy(update={"attrs": {"tries": tries}}) for s, tries in zip(samples, (1, 3), strict=False)]
    said = route.answer(drawn, body)
    assert said["data"] == visits(2) and said["columns"] == list(visits(1)[0]) and said["acceptance"] == 0.5
    assert said["tries"] == 4 and said["created"] > 1.7e9 and json.dumps(said, allow_nan=False)
    csv = route.answer(drawn, route.body(format="csv"))["data"]
    assert pd.read_csv(io.StringIO(csv))["age"].tolist() == [r["age"] for r in visits(2)]
    assert route.answer([], body)["acceptance"] is None
    for bad in (
        {"n": 0}, {"n": 1001}, {"n": 1.5}, {"where": "x" * 501}, {"temperature": -1}, {"temperature": float("nan")},
        {"seed": -1}, {"format": "xml"}, {"what": 1}, {"where": None},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            route.body.model_validate(bad)


def test_recorded_answers_teach():
    ((_, route),) = modality.api().items()
    learnt = route.taught({"where": "age > 30"}, {"data": [{"age": 40}, {"age": 50}, [1], {}, {"age": float("nan")}]})
    assert [row(s) for s in learnt] == [{"age": 40}, {"age": 50}] and learnt[0].condition == "age > 30"
    assert all(s.source.origin == "feedback" and modality.check(s) == [] for s in learnt)
    assert (
        route.taught({}, {"data": "a,b\n1,2\n"}) == [] and route.taught({"where": "age >"}, {"data": [{"a": 1}]}) == []
    )
    assert route.taught({}, {}) == []


def test_the_modality_is_found_by_name():
    assert open_modality("table") is modality
    assert modality.gates() == ("c2st", "row_coverage", "closest_share") and set(modality.gates()) <= set(
        modality.scorers()
    )
    assert modality.baselines()["marginals"] == ("tree", {"independent": True})
    assert not isinstance(modality.check(samples_of(visits(1))[0]), Refusal)
