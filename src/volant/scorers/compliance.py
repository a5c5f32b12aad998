"""Compliance: does an output keep the conditions that were asked for? One finding a condition.

A text and `Conditions` enter; for each condition that is set, a `Finding` leaves that says what was
asked, what was found, and whether it is met. Length, keywords, forbidden words and JSON Schema are
exact. Tone, audience and language are surface rules (marks of style, the Flesch-Kincaid grade, common
small words); their findings say so by `exact=False`.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from volant.core.errors import DataError
from volant.scorers import json_schema
from volant.scorers.texts import sentences, words

Tone = Literal["neutral", "formal", "friendly", "imperative"]
Audience = Literal["children", "general", "student", "expert"]

# Flesch-Kincaid grade that a text for the audience has at most.
GRADES: dict[str, float] = {"children": 5.0, "general": 9.0, "student": 13.0, "expert": 99.0}
# The small words that tell languages apart; those shared by several count for each.
LANGUAGES: dict[str, frozenset[str]] = {
    code: frozenset(small.split())
    for code, small in {
        "en": "the of and to in is that it for was with as on are this be by not or from an at which have if has its",
        "de": "der die das und ist nicht ein eine zu den von mit sich des auf dem im es ich sie auch wird für werden",
        "fr": "le la les et est des un une du dans que qui pour pas sur plus ce au avec il elle sont nous vous cette",
        "es": "el la los las y es de que en un una por con no para su se del al lo como más está son pero",
        "it": "il la lo gli e è di che in un una per con non si da del della sono come più anche nel alla questo",
        "pt": "o a os as e é de que em um uma por com não para se do da no na como mais são ao dos",
        "nl": "de het een en van is dat niet in op te voor met zijn aan er maar ook als bij wordt uit door deze",
    }.items()
}
_CONTRACTION = re.compile(r"\b\w+(?:n't|'(?:re|ll|ve|m|d))\b|\b(?:it|that|what|there|let|he|she)'s\b", re.IGNORECASE)
_TONE_WORDS = {
    "casual": "hey hi hello yeah yep nope gonna wanna kinda cool awesome okay ok lol stuff guys folks",
    "loaded": "amazing terrible awful fantastic horrible wonderful disgusting incredible stupid love hate",
    "warm": "you your welcome please thanks thank glad happy hello hi hey enjoy let's we",
    "no command": "the a an this that these those it he she they we i you there here is are was were to of in on at by "
    "for with and",
}
_CASUAL, _LOADED, _WARM, _NO_COMMAND = (frozenset(listed.split()) for listed in _TONE_WORDS.values())


class Conditions(BaseModel):
    """What an output has to keep. What is not set is not checked."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    tone: Tone | None = Field(default=None, description="neutral, formal, friendly or imperative")
    min_words: int | None = Field(default=None, ge=0, description="fewest words")
    max_words: int | None = Field(default=None, ge=1, description="most words")
    keywords: list[str] = Field(default_factory=list, description="words or phrases that must occur, in any case")
    forbidden: list[str] = Field(default_factory=list, description="words or phrases that must not occur")
    audience: Audience | None = Field(default=None, description="who reads it; bounds the Flesch-Kincaid grade")
    language: str | None = Field(default=None, description=f"one of {', '.join(LANGUAGES)}")
    json_schema: dict[str, Any] | None = Field(
        default=None, alias="schema", description="JSON Schema that the output must follow"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Conditions:
        if self.language is not None and self.language not in LANGUAGES:
            raise ValueError(f"language {self.language!r} is not known; known: {', '.join(LANGUAGES)}")
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self


class Finding(BaseModel):
    """One condition, checked.

    Attributes:
        condition: which one (`max_words`, `keyword`).
        asked: what was asked for.
        found: what the text has.
        exact: False for surface rules, which may be wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    condition: str
    met: bool
    asked: str
    found: str
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.condition}: {'met' if self.met else 'NOT met'} (asked {self.asked}, found {self.found})"


def check(text: str, conditions: Conditions) -> list[Finding]:
    """One finding for each condition that is set (one for each keyword and forbidden phrase).

    Raises:
        DataError: the JSON Schema uses a keyword that is not supported.
    """
    found: list[Finding] = []
    count = len(text.split())
    if conditions.min_words is not None:
        found.append(_finding("min_words", count >= conditions.min_words, conditions.min_words, count))
    if conditions.max_words is not None:
        found.append(_finding("max_words", count <= conditions.max_words, conditions.max_words, count))
    for phrase in conditions.keywords:
        there = _occurs(phrase, text)
        found.append(_finding("keyword", there, phrase, "present" if there else "absent"))
    for phrase in conditions.forbidden:
        there = _occurs(phrase, text)
        found.append(_finding("forbidden", not there, f"no {phrase}", "present" if there else "absent"))
    if conditions.tone:
        against = _against_tone(text, conditions.tone)
        found.append(_finding("tone", not against, conditions.tone, against or "nothing against it", exact=False))
    if conditions.audience:
        grade, most = reading_grade(text), GRADES[conditions.audience]
        asked = f"{conditions.audience} (grade at most {most:g})"
        found.append(_finding("audience", bool(words(text)) and grade <= most, asked, f"{grade:.1f}", exact=False))
    if conditions.language:
        code, share = language_of(text)
        shown = f"{code or 'unknown'} ({share:.0%} small words)"
        found.append(_finding("language", code == conditions.language, conditions.language, shown, exact=False))
    if conditions.json_schema is not None:
        found.append(_schema_finding(text, conditions.json_schema))
    return found


def complies(text: str, conditions: Conditions) -> bool:
    """Whether every condition is met."""
    return all(finding.met for finding in check(text, conditions))


def reading_grade(text: str) -> float:
    """The Flesch-Kincaid grade: years of English schooling that the text asks for; 0 for no words."""
    found = words(text)
    if not found:
        return 0.0
    lengths = len(found) / max(1, len(sentences(text)))
    return max(0.0, 0.39 * lengths + 11.8 * sum(map(_syllables, found)) / len(found) - 15.59)


def language_of(text: str) -> tuple[str, float]:
    """The language whose small words are the most frequent, and their share of all words.

    Empty where fewer than one word in ten is a small word of any, or two languages tie.
    """
    found = re.findall(r"[^\W\d_]+", text.lower())
    if not found:
        return "", 0.0
    shares = {code: sum(w in small for w in found) / len(found) for code, small in LANGUAGES.items()}
    ranked = sorted(shares, key=lambda code: -shares[code])
    best, share = ranked[0], shares[ranked[0]]
    return ("" if share < 0.1 or shares[ranked[1]] == share else best), share


def _finding(condition: str, met: bool, asked: object, found: object, *, exact: bool = True) -> Finding:
    return Finding(condition=condition, met=met, asked=str(asked), found=str(found), exact=exact)


def _occurs(phrase: str, text: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(phrase.strip())}(?!\w)", text, re.IGNORECASE))


def _syllables(word: str) -> int:
    """Groups of vowels, a silent final e left out; at least one."""
    groups = len(re.findall(r"[aeiouy]+", word))
    return max(1, groups - (word.endswith("e") and not word.endswith(("le", "ee"))))


def _against_tone(text: str, tone: Tone) -> str:
    """The first thing that speaks against a tone; empty if nothing does."""
    if not text.strip():
        return "no text"
    found = set(words(text)) | {w.lower().strip(".,!?") for w in text.split()}
    casual, loaded = sorted(found & _CASUAL), sorted(found & _LOADED)
    if tone == "friendly":
        warm = "!" in text or found & _WARM or _CONTRACTION.search(text)
        return "" if warm else "no address, thanks, contraction or exclamation"
    if tone == "imperative":
        first = [words(s)[0] for s in sentences(text) if words(s)]
        stray = [w for w in first if w in _NO_COMMAND or w.endswith(("ing", "ed")) or _third_person(w)]
        return f"a sentence starts with '{stray[0]}'" if stray else ("" if first else "no words")
    if "!" in text:
        return "an exclamation mark"
    if tone == "formal" and (contraction := _CONTRACTION.search(text)):
        return f"the contraction '{contraction[0]}'"
    if casual:
        return f"the casual word '{casual[0]}'"
    return f"the loaded word '{loaded[0]}'" if loaded else ""


def _third_person(word: str) -> bool:
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))


def _schema_finding(text: str, schema: dict[str, Any]) -> Finding:
    try:
        value = json.loads(_unfenced(text))
    except (ValueError, RecursionError) as error:
        return _finding("schema", False, "JSON that fits the schema", f"no JSON: {error}")
    try:
        wrong = json_schema.problems(value, schema)
    except DataError as error:
        raise error.at("schema") from error
    return _finding("schema", not wrong, "JSON that fits the schema", "; ".join(wrong[:3]) or "it fits")


def _unfenced(text: str) -> str:
    """The inside of a code fence that wraps the whole text; else the text."""
    match = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", text, flags=re.DOTALL)
    return match[1] if match else text
