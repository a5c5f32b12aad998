"""Tables read from files: kinds, what is declared, and everything that files in the wild have wrong."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import peak_memory
from made_tables import CONSTRAINTS, found, kept, refused, visits
from volant.core.errors import DataError, SettingError
from volant.modalities.table import modality
from volant.modalities.table_csv import sniff

ADULT = Path(__file__).parents[2].parent / "shared/data/uci-tabular/adult-train.csv"
ADULT_COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


def row(sample):
    return json.loads(sample.content)


@pytest.fixture
def csv(tmp_path):
    return tmp_path / "t.csv"


def test_every_kind_is_found(csv):
    pd.DataFrame(visits()).to_csv(csv, index=False)
    samples = kept(found(csv))
    assert [row(s) for s in samples] == visits()
    assert all(modality.check(s) == [] for s in samples)
    assert samples[3].source.uri == "made:t.csv:5" and samples[0].shape == "row" and samples[0].attrs == {}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(csv, delimiter):
    pd.DataFrame(visits()).to_csv(csv, index=False, sep=delimiter)
    assert [row(s) for s in kept(found(csv))] == visits()


def test_the_delimiter_is_not_guessed_from_text():
    assert sniff("name,said\na,x; y; z\nb,u; v\n") == ","
    assert sniff("one\ntwo\n") == ","
    assert sniff('a;b\n1,5;2,5\n"x;y";3\n') == ";"


def test_kinds_can_be_declared(csv):
    text = "code,when,score\n1,2024-01-01,3\n2,2024-01-02,4\n"
    (plain, _) = kept(found(csv, text))
    assert row(plain) == {"code": 1, "when": "2024-01-01", "score": 3}
    (declared, _) = kept(found(csv, text, types={"code": "categorical", "when": "id", "score": "numeric"}))
    assert row(declared) == {"code": "1", "when": "2024-01-01", "score": 3.0}
    assert declared.attrs["table"] == {"types": {"code": "categorical", "when": "id", "score": "numeric"}}
    for types, said in (({"cod": "id"}, "Did you mean 'code'"), ({"code": "number"}, "Did you mean 'numeric'|Known")):
        with pytest.raises(SettingError, match=said):
            found(csv, text, types=types)


def test_cells_that_look_alike_are_told_apart(csv):
    text = "zip,big,float,bool,eu,us,dotted,time,mixed\n"
    text += "00123,99999999999999999999,3.0,true,,03/04/2024,5.3.2024,2024-01-01 10:30:00,1\n"
    text += "00124,99999999999999999998,4.5,false,x,13/04/2024,6.3.2024,2024-01-02T00:00:00Z,a\n"
    first, second = (row(s) for s in kept(found(csv, text)))
    assert first == {
        "zip": "00123", "big": "99999999999999999999", "float": 3.0, "bool": "true", "eu": None, "us": "03/04/2024",
        "dotted": "2024-03-05", "time": "2024-01-01T10:30:00", "mixed": "1",
    }  # fmt: skip
    assert second["time"] == "2024-01-02T00:00:00"


def test_missing_values_stay_missing(csv):
    samples = kept(found(csv, "a,b\n1,x\n3,NaN\n4,None\n"))
    assert [row(s) for s in samples] == [{"a": 1, "b": "x"}, {"a": 3, "b": None}, {"a": 4, "b": "None"}]


def test_a_row_without_any_value_is_refused(csv):
    (said,) = refused(found(csv, "a,b\n1,x\nNA,?\n3,y\n"))
    assert said.where == "t.csv:3" and "no value" in said.reason
    assert len(found(csv, "a,b\n1,x\n-9,none\n3,y\n", missing=["-9", "none"])) == 3


@pytest.mark.parametrize(
    ("content", "where", "said"),
    [
        (b"", "t.csv", "empty"), (b" \n\n\t\n", "t.csv", "no row"), (b"a,b\n", "t.csv", "header and no row"),
        (b"a,b\n1,2\n\x00\x00\n", "t.csv:3", "NUL"), (b"\x8f\xff" * 500, "t.csv:1", "not utf-8"),
        ("a,b\n1,caf\xe9\n".encode("latin-1"), "t.csv:2", "not utf-8 (byte 0xe9); save it as UTF-8 or set `encoding`"),
        (b"a,a\n1,2\n", "t.csv:1", "names 'a' twice"), (b"a,\n1,2\n", "t.csv:1", "column 2 has no name"),
        (b"39,State-gov\n50,Private\n", "t.csv:1", "looks like data ('39')"),
        (b"a" * 300 + b",b\n1,2\n", "t.csv:1", "no name but"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_refused_once(csv, content, where, said):
    (refusal,) = found(csv, content)
    assert refusal.where == where and said in refusal.reason


def test_other_encodings_can_be_named_or_are_marked(csv):
    assert row(kept(found(csv, "a,b\n1,caf\xe9\n".encode("latin-1"), encoding="latin-1"))[0])["b"] == "café"
    for encoding in ("utf-8-sig", "utf-16"):
        assert row(kept(found(csv, "a,b\n1,café\n".encode(encoding)))[0]) == {"a": 1, "b": "café"}


def test_a_header_can_be_given(csv):
    text = "39,State-gov\n50,Private\n"
    assert [row(s) for s in kept(found(csv, text, columns=["age", "work"]))] == [
        {"age": 39, "work": "State-gov"}, {"age": 50, "work": "Private"},
    ]  # fmt: skip
    # A header that is there is replaced and no row.
    for head in ("a,\n", "age,work\n"):
        assert len(kept(found(csv, head + text, columns=["age", "work"]))) == 2
    (refusal,) = found(csv, text, columns=["age"])
    assert "2 cells where `columns` names 1" in refusal.reason


def test_bad_rows_cost_themselves_alone(csv):
    lines = [f"{i},{i / 2},x" for i in range(200)]
    lines[10] = "1,2"
    lines[20] = "1,2,3,4"
    lines[30] = "oops,1.5,x"
    lines[40] = "1,inf,x"
    lines[50] = f"1,2.5,{'y' * 200_000}"
    lines[60] = f"1,2.5,{'y' * 5_000_000}"
    lines[70] = 'a"b"c,2.5,"x"y'
    result = found(csv, "a,b,c\n" + "\n".join(lines) + "\n")
    assert len(result) == 200
    said = {r.where: r.reason for r in refused(result)}
    assert said["t.csv:12"] == "has 2 cells where the header has 3"
    assert said["t.csv:22"] == "has 4 cells where the header has 3"
    assert "'oops', no number" in said["t.csv:32"] and "a is" in said["t.csv:32"]
    assert "has to be finite" in said["t.csv:42"]
    assert "field larger than field limit" in said["t.csv:52"]
    assert "more than 4,000,000 characters" in said["t.csv:62"]
    assert "not CSV" in said["t.csv:72"]
    assert len(said) == 7


def test_an_open_quote_does_not_eat_the_rest(csv):
    lines = [f"{i},word{i}" for i in range(20_000)]
    lines[100] = '100,"open'
    result = found(csv, "a,b\n" + "\n".join(lines) + "\n")
    (said,) = refused(result)
    assert "not CSV" in said.reason
    assert len(result) > 5_000


def test_a_column_without_a_value_asks_what_to_do(csv):
    text = "a,b\n1,\n2,NA\n"
    with pytest.raises(DataError, match="column 'b' has no value in any of 2 rows") as error:
        found(csv, text)
    assert "types: {b: categorical}" in error.value.fix
    samples = kept(found(csv, text, types={"b": "categorical"}))
    assert row(samples[0]) == {"a": 1, "b": None}
    codec = modality.codec(samples)
    assert row(codec.decode(codec.encode(samples[0]).values)) == {"a": 1, "b": None}


def test_what_is_declared_travels_and_is_kept(csv):
    pd.DataFrame(visits()).to_csv(csv, index=False)
    samples = kept(found(csv, key="id", constraints=CONSTRAINTS))
    assert samples[0].attrs["table"] == {"types": {"id": "id"}, "key": ["id"], "constraints": CONSTRAINTS}
    rows = visits()
    rows[5]["age"], rows[6]["total"], rows[7]["id"], rows[8]["end"], rows[9]["id"] = (
        12,
        1.0,
        "p00001",
        "2019-01-01",
        None,
    )
    pd.DataFrame(rows).to_csv(csv, index=False)
    said = {r.where: r.reason for r in refused(found(csv, key="id", constraints=CONSTRAINTS))}
    assert said["t.csv:7"] == "breaks `age between 18 and 90` (age = 12)"
    assert "`drugs + care == total`" in said["t.csv:8"] and "total = 1.0" in said["t.csv:8"]
    assert "repeats `unique(id)` of an earlier row (id = p00001)" in said["t.csv:9"]
    assert "`start <= end`" in said["t.csv:10"] and "has no key" in said["t.csv:11"]
    for options in ({"key": "idd"}, {"group": "cty"}, {"condition": "agee"}, {"constraints": ["agee > 1"]}):
        with pytest.raises((SettingError, DataError), match="Did you mean"):
            found(csv, **options)


def test_a_broken_row_breaks_check_too(csv):
    pd.DataFrame(visits(5)).to_csv(csv, index=False)
    good = kept(found(csv, constraints=CONSTRAINTS, types={"age": "integer"}))[0]
    for change, said in ({"age": 12}, "breaks"), ({"age": 20.5}, "no whole number"), ({"age": "x"}, "no number"):
        bad = good.model_copy(update={"content": json.dumps({**row(good), **change})})
        assert said in modality.check(bad)[0]
    for content, said in (
        ("[1]", "no JSON object"), ("{", "holds no row"), ("{}", "no value"), ('{"a": null}', "no value"),
        ('{"a": [1]}', "no plain value"), ('{"a": NaN}', "finite"), ('{"a": "\\u0000"}', "NUL"), ('{"": 1}', "named"),
    ):  # fmt: skip
        assert said in modality.check(good.model_copy(update={"content": content, "attrs": {}}))[0], content
    assert "shape" in modality.check(good.model_copy(update={"shape": "text"}))[0]


def test_equal_rows_are_all_kept_and_stay_together(csv):
    samples = kept(found(csv, "a,b\n1,x\n1,x\n2,y\n"))
    assert len({s.id for s in samples}) == 3
    assert samples[0].split == samples[1].split and samples[0].group == samples[1].group != samples[2].group


def test_groups_keep_to_one_split(csv):
    text = "who,x\n" + "".join(f"w{i % 40},{i}\n" for i in range(400))
    samples = kept(found(csv, text, group="who"))
    assert {s.group for s in samples} == {f"w{i}" for i in range(40)}
    assert len({(s.group, s.split) for s in samples}) == 40 and len({s.split for s in samples}) == 3


def test_a_condition_column_is_asked_for(csv):
    samples = kept(found(csv, "income,age\n>50K,40\n<=50K,30\nit's,\n,20\n", condition="income"))
    assert [s.condition for s in samples] == ["`income` = '>50K'", "`income` = '<=50K'", "`income` = 'it''s'", None]
    codec = modality.codec(samples)
    assert [codec.fits(samples[0], s.condition) for s in samples[:3]] == [True, False, False]


def test_columns_can_be_renamed(csv):
    (sample,) = kept(found(csv, "Income per year,b\n5,x\n", fields={"income": "Income per year"}))
    assert row(sample) == {"income": 5, "b": "x"}
    with pytest.raises(SettingError, match="no column 'nothing'"):
        found(csv, fields={"income": "nothing"})
    with pytest.raises(SettingError, match="Did you mean 'types'"):
        found(csv, type={"b": "id"})


def test_parquet_keeps_its_types(tmp_path):
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 3], "Int64"), "x": [0.5, float("nan"), 2.0], "flag": [True, False, True],
            "cat": pd.Categorical(["a", "b", "a"]), "text": ["1", "2", "3"],
            "day": pd.to_datetime(["2024-01-01", "2024-01-02", None]),
            "time": pd.to_datetime(["2024-01-01 10:00", "2024-01-02 00:00", None]),
        }
    )  # fmt: skip
    frame.to_parquet(tmp_path / "t.parquet")
    rows = [row(s) for s in kept(found(tmp_path / "t.parquet"))]
    assert rows[0] == {
        "n": 1,
        "x": 0.5,
        "flag": "true",
        "cat": "a",
        "text": "1",
        "day": "2024-01-01",
        "time": "2024-01-01T10:00:00",
    }
    assert rows[1] == {
        "n": None,
        "x": None,
        "flag": "false",
        "cat": "b",
        "text": "2",
        "day": "2024-01-02",
        "time": "2024-01-02T00:00:00",
    }
    assert rows[2]["day"] is None


def test_parquet_that_is_no_table_is_refused(tmp_path):
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [[1], [2]]}), file)
    (refusal,) = found(file)
    assert "a is of type list" in refusal.reason
    whole = file.read_bytes()
    for content in (b"", b"PAR1" + b"x" * 100, whole[: len(whole) // 2], whole[:30] + b"junk" * 30 + whole[30:]):
        assert refused(found(file, content))
    big = pq.write_table(pa.table({"a": list(range(10_000))}), file) or file.read_bytes()
    result = found(file, big[:4] + bytes(len(big) // 2) + big[4 + len(big) // 2 :])
    assert refused(result), "pages of zeros have to be refused"


def test_json_and_lines(tmp_path):
    rows = visits(30)
    assert [row(s) for s in kept(found(tmp_path / "t.json", json.dumps(rows)))] == rows
    lines = [json.dumps(r) for r in rows]
    lines[3:3] = ["[1]", "null", "{}", '{"id": "q", "age": [1]}', "{bad", '{"x": NaN, "age": Infinity}']
    result = found(tmp_path / "t.jsonl", "\n".join(lines), types={"x": "numeric"})
    assert len(refused(result)) == 6 and len(result) == 36
    assert [row(s)["id"] for s in result if s not in refused(result)] == [r["id"] for r in rows]


def test_a_name_without_a_reader_says_what_is_read(tmp_path):
    (refusal,) = found(tmp_path / "t.xlsx", b"PK")
    assert ".csv" in refusal.reason
    (refusal,) = found(tmp_path / "t.csv.gz", gzip.compress(b"a,b\n1,2\n"))
    assert ".gz" in refusal.reason


@pytest.mark.slow
def test_a_hundred_thousand_categories_are_refused_by_name_in_bounded_memory(csv):
    with csv.open("w") as file:
        file.write("row,city\n")
        for i in range(110_000):
            file.write(f"{i},c{i % 100_000}\n")
    peak_memory.from_here()
    before = peak_memory.kilobytes()
    with pytest.raises(DataError, match=r"column 'city' has 100,000 different values") as error:
        modality.codec(iterate(csv))
    grown = (peak_memory.kilobytes() - before) / 1024
    assert "types: {city: id}" in error.value.fix and grown < 150, f"{grown:.0f} MB"


def iterate(file):
    from made_tables import SOURCE, outside

    return modality.load(outside(file), SOURCE)


@pytest.mark.skipif(not ADULT.exists(), reason="the shared data are not here")
def test_adult():
    import itertools

    from made_tables import SOURCE, outside

    options = {"columns": ADULT_COLUMNS, "condition": "income", "constraints": ["age >= 17"]}
    samples = kept(list(itertools.islice(modality.load(outside(ADULT), SOURCE, **options), 2000)))
    assert row(samples[0])["workclass"] == "State-gov" and row(samples[0])["fnlwgt"] == 77516
    codec = modality.codec(samples)
    assert set(codec.space.columns) == set(ADULT_COLUMNS)
    assert codec.fits(samples[7], "income > 50K and hours-per-week >= 45")
    assert row(codec.decode(codec.encode(samples[7]).values)) == row(samples[7])


_CELLS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12).map(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_CELLS, _CELLS), min_size=1, max_size=8))
def test_any_text_survives_csv(tmp_path_factory, cells):
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    pd.DataFrame(cells, columns=["first", "second"]).to_csv(file, index=False)
    result = found(file, types={"first": "categorical", "second": "categorical"}, missing=[""])
    wanted = [{"first": a or None, "second": b or None} for a, b in cells if a or b]
    assert [row(s) for s in result if s not in refused(result)] == wanted
