"""The language of constraints: what it says of rows, what it refuses, and that no text can break it."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.core.errors import DataError
from volant.modalities.table_constraints import parse
from volant.modalities.table_rules import Known, bind, broken_by_row

KNOWN = {
    "age": Known("integer"), "hours": Known("integer"), "a": Known("numeric"), "b": Known("numeric"),
    "total": Known("numeric"), "start": Known("date"), "end": Known("date"), "id": Known("id"),
    "hours per week": Known("integer"), "education-num": Known("integer"),
    "income": Known("categorical", frozenset(["<=50K", ">50K"])),
    "state": Known("categorical", frozenset(["CA", "NY", "New York", "11th", "50K"])),
    "other": Known("categorical", frozenset(["CA"])),
}  # fmt: skip
ROW = {
    "age": 20, "hours": 50, "a": 0.1, "b": 0.2, "total": 0.3, "start": "2024-01-01", "end": "2024-02-01",
    "id": "x1", "hours per week": 7, "education-num": 9, "income": ">50K", "state": "CA", "other": "CA",
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "age >= 18", "age = 20", "age == 20", "age <> 21", "18 < age <= 20 < 21", "hours between 1 and 99",
        "hours not between 60 and 99", "AGE > 3 or age > 3".replace("AGE", "age"), "age in (19, 20)",
        "age not in (1,2)", "a + b == total", "total == a + b", "(a + b) * 10 == total / .1", "-age < 0",
        "age < 50K", "hours < 1M", "income > 50K", "50K < income", "income = >50K", "income != <=50K",
        "income in (<=50K, >50K)", "state in (CA, NY)", "state in ('New York', \"CA\")", "state == CA",
        "state != 'New York'", "state != 11th", "state = other", "start <= end", "end - start <= 31",
        "start >= 2024-01-01", "'2023-12-31' < start", "start in (2024-01-01)", "not (age < 18 or state = NY)",
        "not not age > 1", "age is not missing", "not age is missing", "`hours per week` = 7", "education-num = 9",
        "NOT age > 30 AND state = CA",
    ],
)  # fmt: skip
def test_holds(text):
    assert bind(text, KNOWN).met(ROW), text
    # Whatever holds must be broken by its contrary.
    assert bind(f"not ({text})", KNOWN).broken(ROW), text


@pytest.mark.parametrize("text", ["age > 20", "a + b == hours", "income <= 50K", "state in (NY)", "start > end"])
def test_is_broken(text):
    assert bind(text, KNOWN).broken(ROW)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no condition"), ("age", "compares nothing"), ("age >", "the end"), ("(age > 1) > 2", "compares"),
        ("agee > 3", "Did you mean 'age'?"), ("state = CAA", "Did you mean 'CA'?"), ("state = ca", "'CA'"),
        ("state in (CA, NZ)", "no value 'NZ'"), ("income > 60K", "no value '>60K'"), ("state > CA", "no order"),
        ("age = x", "no column 'x'"), ("state + 1 > 2", "holds text"), ("state = age", "holds text"),
        ("1 < 2", "names no column"), ("age > 1e999", "no finite number"), ("unique(id) and age > 1", "stands alone"),
        ("unique(nothing)", "no column 'nothing'"), ("age in (1", "list of values"), ("age in ()", "list of values"),
        ("age in (one)", "no number"), ("a-b > 1", "blanks around a minus"), ("start > 'foo'", "no date"),
        ("age $ 3", "'$ 3'"), ("x'", "'"), ("age not 3", "'in' or 'between'"), ("age is 3", "'missing'"),
        ("age between 1 or 2", "'and'"), ("age > 1 age", "a sign or the end"), ("3 is missing", "a column"),
        ("__import__('os')", "to stand where"),
    ],
)  # fmt: skip
def test_refuses_with_a_reason(text, said):
    with pytest.raises(DataError) as error:
        bind(text, KNOWN)
    assert said in str(error.value), str(error.value)


def test_what_is_missing_decides_nothing_unless_the_rest_does():
    empty = dict.fromkeys(ROW)
    for text in (
        "age > 3",
        "state = CA",
        "state != CA",
        "a + b == total",
        "start <= end",
        "state in (CA)",
        "not age > 3",
    ):
        rule = bind(text, KNOWN)
        assert not rule.broken(empty) and not rule.met(empty), text
    assert bind("age > 3 or hours > 1", KNOWN).met({**empty, "hours": 5})
    assert bind("age > 3 and hours > 1", KNOWN).broken({**empty, "hours": 0})
    assert bind("hours > 1 and age > 3", KNOWN).broken({**empty, "hours": 0})
    assert bind("age is missing", KNOWN).met(empty)
    assert bind("age / hours > 1", KNOWN).truth({**ROW, "hours": 0}) is None


def test_an_equation_tells_the_column_that_it_determines():
    rule = bind("a + b == total", KNOWN)
    assert rule.target == "total" and math.isclose(rule.value(ROW), 0.3)
    assert bind("total = a * 2", KNOWN).target == "total"
    assert bind("age == hours + age", KNOWN).target == ""
    assert bind("age == 3", KNOWN).target == "" and bind("a + b <= total", KNOWN).target == ""


def test_uniqueness_counts_the_second_one():
    rows = [{"id": "a"}, {"id": "b"}, {"id": "a"}, {"id": None}, {"id": None}]
    assert broken_by_row(rows, [bind("unique(id)", KNOWN)]) == [[], [], ["unique(id)"], [], []]
    with pytest.raises(DataError, match="rule for a table"):
        bind("unique(id)", KNOWN, condition=True)


def test_says_the_rule_and_the_value():
    assert bind("age >= 18", KNOWN).said({"age": 12}) == "`age >= 18` (age = 12)"


@pytest.mark.parametrize(
    "text",
    ["(" * 2000, "not " * 499, "+".join(["1"] * 900) + " < age", "a" * 5000, "age in (" + "1," * 900, "-" * 1999],
)
def test_is_bounded(text):
    with pytest.raises(DataError):
        bind(text, KNOWN)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.lists(st.sampled_from([
    "age", "state", "and", "or", "not", "in", "(", ")", ",", "<", "==", "+", "-", "3", "CA", "'x'", "between", "is",
    "missing", "unique", "start", "2024-01-01", "`", "50K", ">",
]), max_size=12).map(" ".join))  # fmt: skip
def test_any_text_is_a_rule_or_a_data_error(text):
    try:
        rule = bind(text, KNOWN)
    except DataError as error:
        assert error.what
        return
    assert rule.truth(ROW) in (True, False, None)
    assert rule.truth(dict.fromkeys(ROW)) in (True, False, None)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-99, 99),
    st.integers(-99, 99),
    st.integers(-99, 99),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
)
def test_reckons_as_python_does(x, y, z, op):
    row = {"a": x, "b": y, "total": z}
    python = {"<": x + y * 2 < z, "<=": x + y * 2 <= z, ">": x + y * 2 > z, ">=": x + y * 2 >= z,
              "==": x + y * 2 == z, "!=": x + y * 2 != z}  # fmt: skip
    assert bind(f"a + b * 2 {op} total", KNOWN).truth(row) is python[op]


def test_the_tree_is_what_was_written():
    assert parse("age >= 18") == parse("  age>=18 ") != parse("age > 18")
