"""Conditions: each is checked, met and unmet; JSON Schema refuses what it cannot check."""

from typing import Any

import pytest
from pydantic import ValidationError

from volant.core.errors import DataError
from volant.scorers.compliance import Conditions, check, complies, language_of, reading_grade
from volant.scorers.json_schema import problems

TEXTS = {
    "en": "The cat is on the table and it was not there before.",
    "de": "Die Katze ist auf dem Tisch und sie war vorher nicht da.",
    "fr": "Le chat est sur la table et il n'est pas dans la cuisine.",
    "es": "El gato está en la mesa y no se va de la casa.",
    "it": "Il gatto è nella casa e non si vede la strada che passa.",
    "pt": "O gato não está em casa e os cães são mais velhos.",
    "nl": "De kat is niet op het dak en er zijn ook vogels.",
}


@pytest.mark.parametrize(
    ("text", "conditions", "met"),
    [
        ("one two three", {"min_words": 3}, True),
        ("one two", {"min_words": 3}, False),
        ("one two three", {"max_words": 2}, False),
        ("Open the Source file", {"keywords": ["source file"]}, True),
        ("Open the resource", {"keywords": ["source"]}, False),
        ("We are cheap.", {"forbidden": ["cheap"]}, False),
        ("We are fair.", {"forbidden": ["cheap"]}, True),
        ("Return the value.", {"tone": "neutral"}, True),
        ("This is amazing.", {"tone": "neutral"}, False),
        ("We don't ship it.", {"tone": "formal"}, False),
        ("The parcel will arrive on Monday.", {"tone": "formal"}, True),
        ("Welcome! We are glad you came.", {"tone": "friendly"}, True),
        ("The parcel arrived.", {"tone": "friendly"}, False),
        ("Close the file. Return its size.", {"tone": "imperative"}, True),
        ("Closes the file.", {"tone": "imperative"}, False),
        ("The cat sat on the mat. It was fat.", {"audience": "children"}, True),
        ("Institutional heterogeneity necessitates methodological sophistication.", {"audience": "general"}, False),
        ('{"a": 1}', {"schema": {"type": "object", "required": ["a"]}}, True),
        ('```json\n{"a": 1}\n```', {"schema": {"type": "object", "required": ["a"]}}, True),
        ('{"b": 1}', {"schema": {"type": "object", "required": ["a"]}}, False),
        ("not json", {"schema": {"type": "object"}}, False),
        ("", {"tone": "neutral", "audience": "general"}, False),
    ],
)
def test_a_condition_is_met_or_not(text: str, conditions: dict[str, Any], met: bool) -> None:
    found = check(text, Conditions.model_validate(conditions))
    assert len(found) == len(conditions)
    assert all(f.met for f in found) is met, [str(f) for f in found]
    assert complies(text, Conditions.model_validate(conditions)) is met


@pytest.mark.parametrize(("code", "text"), TEXTS.items())
def test_languages_are_told_apart(code: str, text: str) -> None:
    assert language_of(text)[0] == code
    assert check(text, Conditions(language=code))[0].met


def test_no_language_is_claimed_without_grounds() -> None:
    assert language_of("xq zv 12 __")[0] == "" and language_of("") == ("", 0.0)


def test_every_keyword_has_its_own_finding_and_nothing_asked_gives_none() -> None:
    assert [f.met for f in check("a b", Conditions(keywords=["a", "c"]))] == [True, False]
    assert check("anything", Conditions()) == []


def test_reading_grade_rises_with_length_and_syllables() -> None:
    hard = "The particular institution collapsed under enormous pressure."
    assert reading_grade("The cat sat. It ran.") < reading_grade(hard)
    assert reading_grade("") == 0


@pytest.mark.parametrize(
    "wrong", [{"language": "xx"}, {"min_words": 5, "max_words": 2}, {"tone": "sly"}, {"lenght": 3}]
)
def test_conditions_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Conditions.model_validate(wrong)


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 4},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 1, "uniqueItems": True},
        "of": {"anyOf": [{"type": "null"}, {"const": 3}]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "value", [{"name": "ann"}, {"name": "ann", "age": 3, "tags": ["x", "y"], "of": None}, {"name": "bo", "of": 3}]
)
def test_what_fits_the_schema_has_no_problem(value: Any) -> None:
    assert problems(value, SCHEMA) == []


@pytest.mark.parametrize(
    "value",
    [
        [], {}, {"name": "a"}, {"name": "annabel"}, {"name": 3}, {"name": "ann", "age": -1},
        {"name": "ann", "age": 150}, {"name": "ann", "age": True}, {"name": "ann", "age": 1.5},
        {"name": "ann", "tags": []}, {"name": "ann", "tags": ["z"]}, {"name": "ann", "tags": ["x", "x"]},
        {"name": "ann", "of": 4}, {"name": "ann", "more": 1},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(value: Any) -> None:
    assert problems(value, SCHEMA)


def test_one_of_and_not() -> None:
    schema = {"oneOf": [{"type": "integer"}, {"minimum": 5}], "not": {"const": 1}}
    assert problems(3, schema) == [] and problems(7, schema) and problems(1, schema)


def test_a_keyword_that_cannot_be_checked_is_an_error() -> None:
    with pytest.raises(DataError, match="pattern"):
        check('"x"', Conditions.model_validate({"schema": {"pattern": "(a+)+"}}))
    with pytest.raises(DataError, match="'string'"):
        problems("x", {"type": "strin"})
