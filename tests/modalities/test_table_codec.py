"""Rows as numbers and tokens, and back: kinds, ranges, ids, constraints, and the files of a codec."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_tables import CONSTRAINTS, SOURCE, found, kept, visits
from volant.core.artifact import payload_digest
from volant.core.errors import ArtifactError, DataError, SettingError
from volant.core.protocols import Request
from volant.core.sample import Sample, sample_id
from volant.core.spaces import space_json
from volant.modalities.table import modality
from volant.modalities.table_columns import fit_columns, open_columns
from volant.nets.session import DrawSession

DECLARED = {"key": ["id"], "constraints": CONSTRAINTS}


def samples_of(rows, **declared):
    about = {"table": declared} if declared else {}
    contents = [json.dumps(row, ensure_ascii=False) for row in rows]
    return [
        Sample(id=sample_id(c, str(i)), shape="row", content=c, source=SOURCE, attrs=about)
        for i, c in enumerate(contents)
    ]


def row(sample):
    return json.loads(sample.content)


def without(rows, *names):
    return [{name: value for name, value in r.items() if name not in names} for r in rows]


@pytest.fixture(scope="module")
def samples():
    return samples_of(visits(), **DECLARED)


def test_columns_know_their_space(samples):
    columns = fit_columns(samples)
    space = columns.space.columns
    assert columns.names == ("age", "weight", "city", "smoker", "start", "end", "drugs", "care", "total")
    assert {name: column.kind for name, column in space.items()} == {
        "age": "integer", "weight": "numeric", "city": "categorical", "smoker": "categorical", "start": "date",
        "end": "date", "drugs": "numeric", "care": "numeric", "total": "numeric",
    }  # fmt: skip
    assert [name for name, column in space.items() if column.missing] == ["weight", "smoker"]
    assert space["city"].categories == 4 and (space["age"].low, space["age"].high) == (
        min(r["age"] for r in visits()), max(r["age"] for r in visits()),
    )  # fmt: skip
    matrix = columns.matrix(samples)
    assert matrix.dtype == np.float64 and matrix.shape == (200, 9)
    assert np.isnan(matrix[:, 1]).sum() == sum(r["weight"] is None for r in visits())
    assert without(columns.rows(matrix), "id") == without(visits(), "id")
    assert columns.matrix([]).shape == (0, 9)


def test_ids_are_numbered_anew(samples):
    columns = fit_columns(samples)
    rows = columns.rows(columns.matrix(samples[:3]), first=5)
    assert [r["id"] for r in rows] == ["new-000006", "new-000007", "new-000008"]
    numbered = samples_of([{"nr": i * 7, "x": i % 3} for i in range(30)])
    assert fit_columns(numbered).rows(np.array([[1.0], [2.0]])) == [{"nr": 204, "x": 1}, {"nr": 205, "x": 2}]
    taken = samples_of([{"name": f"new-{i}", "x": i % 3} for i in range(30)])
    assert fit_columns(taken).rows(np.array([[1.0]]))[0]["name"] == "new-new-000001"
    assert fit_columns(samples_of([{"income": i * 7, "x": i % 3} for i in range(30)])).names == ("income", "x")


def test_numbers_come_back_into_range_and_to_their_decimals(samples):
    columns = fit_columns(samples)
    wild = np.full((2, 9), 1e12)
    wild[0] = 53.3333333
    first, second = columns.rows(wild)
    assert first["age"] == 53 and type(first["age"]) is int and first["weight"] == 53.3
    assert second["age"] == max(r["age"] for r in visits())
    assert second["weight"] == max(r["weight"] for r in visits() if r["weight"] is not None)
    assert round(second["drugs"], 2) == second["drugs"] and second["city"] in {r["city"] for r in visits()}
    assert second["start"] == max(r["start"] for r in visits())
    # The declared sum is reckoned, not drawn.
    assert all(r["total"] == round(r["drugs"] + r["care"], 2) for r in (first, second))


def test_dates_may_have_a_time_of_day():
    rows = [{"at": f"2024-01-{1 + i % 28:02d}T{i % 24:02d}:{i % 60:02d}:07", "x": i % 2} for i in range(50)]
    columns = fit_columns(samples_of(rows))
    assert columns.space.columns["at"].kind == "date"
    assert columns.rows(columns.matrix(samples_of(rows))) == rows


def test_rare_values_share_an_index_and_come_back_as_one_of_them():
    rows = [{"word": f"w{i}", "x": i % 5} for i in range(50) for _ in range(1 + 100 // (i + 1))]
    columns = fit_columns(samples_of(rows), max_categories=10)
    assert columns.space.columns["word"].categories == 11
    matrix = columns.matrix(samples_of(rows))
    again = columns.rows(matrix)
    assert again == columns.rows(matrix), "the choice has to be told by the row"
    for one, other in zip(rows, again, strict=True):
        common = {f"w{i}" for i in range(10)}
        assert one == other if one["word"] in common else other["word"] not in common
    assert len({r["word"] for r in columns.rows(np.column_stack([np.full(500, 10.0), np.linspace(0, 4, 500)]))}) > 1
    assert columns.matrix(samples_of([{"word": "never seen", "x": 1}]))[0, 0] == 10


def test_what_training_never_had(samples):
    columns = fit_columns(samples)
    strange = samples_of([{**visits(1)[0], "city": "Oslo", "age": None}])
    matrix = columns.matrix(strange)
    assert np.isnan(matrix[0, 2]) and np.isnan(matrix[0, 0])
    assert not np.isnan(modality.codec(samples).encode(strange[0]).values[[0, 2]]).any()
    with pytest.raises(DataError, match="'age' is integer and holds 'old'"):
        columns.matrix(samples_of([{**visits(1)[0], "age": "old"}]))


@pytest.mark.parametrize(
    ("rows", "types", "error", "said"),
    [
        ([], {}, DataError, "no row"),
        ([{"a": 1, "b": None}] * 3, {}, DataError, "'b' has no value"),
        ([{"a": "x"}], {"a": "id"}, DataError, "nothing to learn"),
        ([{"a": "x"}], {"a": "numeric"}, DataError, "no number"),
        ([{"a": 1.5}], {"a": "integer"}, DataError, "fractions"),
        ([{"a": "x"}], {"a": "date"}, DataError, "no date"),
        ([{"a": 1}], {"b": "id"}, SettingError, "no column 'b'"),
        ([{"a": 1}], {"a": "int"}, SettingError, "no kind 'int'"),
        ([{"a": f"w{i % 10_001}"} for i in range(20_000)], {}, DataError, "'a' has 10,001 different values"),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_is_refused_by_name(rows, types, error, said):
    with pytest.raises(error, match=said) as raised:
        modality.codec(samples_of(rows), types=types)
    assert raised.value.fix


def test_kinds_may_differ_between_files():
    rows = [{"a": 1, "b": "x"}, {"a": 2.5, "b": 3}, {"b": "x"}]
    columns = fit_columns(samples_of(rows))
    assert {n: c.kind for n, c in columns.space.columns.items()} == {"a": "numeric", "b": "categorical"}
    assert columns.rows(columns.matrix(samples_of(rows))) == [
        {"a": 1.0, "b": "x"},
        {"a": 2.5, "b": "3"},
        {"a": None, "b": "x"},
    ]


@pytest.mark.parametrize("space", ["mixed", "tokens"])
def test_a_codec_is_the_same_again_from_its_folder(samples, space, tmp_path):
    assert modality.spaces() == ("mixed", "tokens")
    made, again = modality.codec(samples, space=space), modality.codec(iter(samples), space=space)
    made.save(tmp_path / "a")
    again.save(tmp_path / "b")
    opened = modality.open_codec(tmp_path / "a")
    opened.save(tmp_path / "c")
    assert len({payload_digest(tmp_path / name)[0] for name in "abc"}) == 1
    assert space_json(opened.space) == space_json(made.space) and opened.space.type == space
    for sample in samples[:20]:
        one, other = made.encode(sample), opened.encode(sample)
        numbers = (one.values, other.values) if space == "mixed" else (one.ids, other.ids)
        assert np.array_equal(*numbers, equal_nan=space == "mixed")
        content = made.decode(numbers[0], "age > 1").content
        assert content == opened.decode(numbers[1]).content
    for name in ("columns.json", "table.json"):
        kept_text = (tmp_path / "a" / name).read_text()
        for damaged in ("{", "[]", '{"space": "tokens", "bins": []}', '{"columns": [{"name": 3}]}'):
            (tmp_path / "a" / name).write_text(damaged)
            with pytest.raises(ArtifactError, match="cannot be read"):
                modality.open_codec(tmp_path / "a")
        (tmp_path / "a" / name).unlink()
        with pytest.raises(ArtifactError):
            modality.open_codec(tmp_path / "a")
        (tmp_path / "a" / name).write_text(kept_text)


def test_a_decoded_row_is_marked_and_keeps_what_is_declared(samples):
    codec = modality.codec(samples)
    made = codec.decode(codec.encode(samples[0]).values, "age > 30")
    assert made.shape == "row" and made.source.origin == "generated" and made.condition == "age > 30"
    assert made.attrs["table"] == DECLARED
    assert modality.check(made) == [] and {**row(made), "id": ""} == {**visits(1)[0], "id": ""}
    for values in (np.zeros(3), np.full(9, np.nan)):
        with pytest.raises(DataError):
            codec.decode(values)


@pytest.mark.parametrize("space", ["mixed", "tokens"])
def test_conditions_are_checked_and_kept(samples, space):
    codec = modality.codec(samples, space=space)
    assert codec.condition("") == () and codec.condition("age > 30 and city = 'New York'") == ()
    for text, said in (
        ("agee > 3", "Did you mean 'age'"),
        ("city = Koln", "Did you mean 'Köln'"),
        ("age >", "condition"),
    ):
        with pytest.raises(DataError, match=said):
            codec.condition(text)
    old = next(s for s in samples if row(s)["age"] > 60)
    assert codec.fits(old, "") and codec.fits(old, "age > 60") and not codec.fits(old, "age <= 60")
    unknown = next(s for s in samples if row(s)["weight"] is None)
    assert (
        codec.fits(unknown, "") and not codec.fits(unknown, "weight > 0") and codec.fits(unknown, "weight is missing")
    )
    broken = old.model_copy(update={"content": json.dumps({**row(old), "end": "2000-01-01"})})
    assert not codec.fits(broken, "")


def test_constraints_may_be_given_with_the_codec(samples):
    plain = samples_of(visits())
    codec = modality.codec(plain, constraints=["age > 50"])
    assert [codec.fits(s, "") for s in plain] == [r["age"] > 50 for r in visits()]
    with pytest.raises(DataError, match="no column"):
        modality.codec(plain, constraints=["agee > 50"])
    for setting in ({"space": "grid"}, {"bins": 1, "space": "tokens"}, {"max_categories": 0}):
        with pytest.raises(SettingError):
            modality.codec(plain, **setting)


def test_tokens_have_a_place_each(samples):
    codec = modality.codec(samples, space="tokens", bins=20)
    assert codec.ranges[0] == (0, 1) and codec.space.length == len(codec.ranges)
    assert [low for low, _ in codec.ranges[1:]] == [high for _, high in codec.ranges[:-1]]
    assert codec.ranges[-1][1] == codec.space.vocab
    for sample in samples:
        encoded = codec.encode(sample)
        assert encoded.mask == [False] + [True] * (len(codec.ranges) - 1)
        assert all(low <= i < high for i, (low, high) in zip(encoded.ids, codec.ranges, strict=True))
        back = codec.decode(encoded.ids)
        assert codec.encode(back).ids == encoded.ids or row(back)["total"] != row(sample)["total"]
        assert back.content.split(",", 1)[1] == codec.decode(encoded.ids[1:]).content.split(",", 1)[1]
        for name in ("city", "smoker"):
            assert row(back)[name] == row(sample)[name]
        assert (row(back)["weight"] is None) == (row(sample)["weight"] is None)
    for ids in ([0], [0, *encoded.ids], [0] * len(codec.ranges), [*encoded.ids[:-1], codec.space.vocab]):
        with pytest.raises(DataError):
            codec.decode(ids)


def test_any_allowed_ids_are_a_row(samples):
    codec = modality.codec(samples, space="tokens", bins=7, fine=4)
    rng = np.random.default_rng(0)
    for _ in range(300):
        made = codec.decode([int(rng.integers(low, high)) for low, high in codec.ranges])
        assert modality.check(made) == [] or "breaks" in modality.check(made)[0]


def test_few_values_are_exact_and_a_heavy_one_stands_alone():
    rng = np.random.default_rng(0)
    rows = [
        {"few": int(rng.integers(0, 30)), "gain": 0.0 if rng.random() < 0.9 else round(float(rng.gamma(2, 500)), 3)}
        for _ in range(3000)
    ]
    given = samples_of(rows)
    codec = modality.codec(given, space="tokens", bins=20)
    decoded = [row(codec.decode(codec.encode(s).ids)) for s in given]
    assert all(
        a["few"] == b["few"] and (a["gain"] == 0) == (b["gain"] == 0) for a, b in zip(rows, decoded, strict=True)
    )
    gain, back = (np.array([r["gain"] for r in part]) for part in (rows, decoded))
    assert np.abs(gain - back).max() <= gain.max() / 5 and np.median(np.abs(gain - back)[gain > 0]) < 10
    assert abs(gain.mean() - back.mean()) < 0.02 * gain.mean()


_VALUES = {
    "n": st.none() | st.integers(-(2**53), 2**53),
    "x": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
    "t": st.none() | st.text(st.characters(blacklist_categories=("Cs",)), max_size=8),
    "d": st.none() | st.dates().map(str),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries(_VALUES), min_size=1, max_size=12), st.sampled_from(["mixed", "tokens"]))
def test_any_rows_come_back(rows, space):
    kinds = {"n": "integer", "x": "numeric", "t": "categorical", "d": "date"}
    given = samples_of(rows)
    if all(value is None for r in rows for value in r.values()):
        with pytest.raises(DataError):
            modality.codec(given, space=space, types=kinds)
        return
    codec = modality.codec(given, space=space, types=kinds)
    for sample, wanted in zip(given, rows, strict=True):
        encoded = codec.encode(sample)
        assert row(codec.decode(encoded.values if space == "mixed" else encoded.ids)) == wanted


class Resampler:
    """Draws training rows again, a little wrong: what a network does."""

    name, controls = "resampler", {}

    def sample(self, net, prompts, *, seed, seeds, **controls):
        rngs = [np.random.default_rng(s) for s in seeds]
        rows = np.stack([net[r.integers(len(net))] for r in rngs])
        return rows + np.stack([r.normal(0, 0.2, rows.shape[1]) for r in rngs])


def test_the_engine_keeps_conditions_and_every_constraint(samples):
    codec = modality.codec(samples)
    session = DrawSession(Resampler(), np.nan_to_num(codec.columns.matrix(samples)), codec)
    requests = [Request(id=str(i), prompt="age > 40 and smoker = yes", seed=i) for i in range(300)]
    made = {c.id: c.sample for c in session.generate(requests)}
    rows = [row(s) for s in made.values()]
    assert all(r["age"] > 40 and r["smoker"] == "yes" for r in rows)
    assert all(modality.check(s) == [] for s in made.values())
    assert len({r["id"] for r in rows}) == 300 and all(r["id"].startswith("new-") for r in rows)
    assert any(s.attrs["tries"] > 1 for s in made.values())
    (alone,) = session.generate(requests[7:8])
    assert {**row(alone.sample), "id": ""} == {**row(made["7"]), "id": ""}
    (refused,) = session.generate([Request(id="x", prompt="agee > 1")])
    assert refused.finish == "error" and "Did you mean 'age'" in refused.error


def test_a_hundred_thousand_rows_there_and_back():
    base = samples_of(visits(1000))
    many = itertools.islice(itertools.cycle(base), 100_000)
    columns = fit_columns(base)
    matrix = columns.matrix(many)
    rows = columns.rows(matrix)
    assert len(rows) == 100_000 and rows[999] == {**row(base[999]), "id": "new-001000"}


def test_columns_read_from_a_file_are_the_same(tmp_path):
    import pandas as pd

    pd.DataFrame(visits()).to_csv(tmp_path / "v.csv", index=False)
    columns = fit_columns(kept(found(tmp_path / "v.csv", **DECLARED)))
    columns.save(tmp_path)
    opened = open_columns(tmp_path)
    assert opened.all == columns.all and opened.declared == columns.declared
    assert opened.declared == {**DECLARED, "types": {"id": "id"}}
