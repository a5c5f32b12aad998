"""Label rules: a YAML file of small rules, and Python functions, that each vote for one class or abstain.

    - {label: spam, words: [winner, "click here"]}          # whole words, any case
    - {label: spam, pattern: "\\\\d{3}% off", name: sale}      # a regular expression, any case
    - {label: terse, scorer: word_count, settings: {most: 20}, above: 0.9}
    - {label: adult, column: age, above: 17}                # a column of a row; also `below` and `equals`

Enters: files. Leaves: voters by name, each a function from samples to a class or None each.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volant.core import Sample
from volant.core.errors import DataError
from volant.core.outside import OutsideFile

Voter: TypeAlias = Callable[[Sequence[Sample]], list[str | None]]


class Rule(BaseModel):
    """One rule; it votes for `label` where it holds, and abstains elsewhere."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    label: str = Field(min_length=1)
    name: str = ""
    words: list[str] = Field(default_factory=list)
    pattern: str = ""
    scorer: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    column: str = ""
    field: Literal["text", "condition", "content", "target"] = "text"
    above: float | None = None
    below: float | None = None
    equals: str | None = None

    @property
    def kind(self) -> str:
        """By what it decides; the first of several."""
        return next((name for name in ("words", "pattern", "scorer", "column") if getattr(self, name)), "")


def read_rules(files: Iterable[OutsideFile]) -> dict[str, tuple[str, Voter]]:
    """Voters of rule files by name, each with the class that it votes for.

    Raises:
        DataError: a file is no list of rules, or a rule decides by nothing or by two things.
    """
    import yaml

    found: dict[str, tuple[str, Voter]] = {}
    for file in files:
        try:
            listed = yaml.safe_load(file.path.read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            told = str(error).splitlines()[0]
            raise DataError(f"the rules cannot be read: {told}.", where=file.name, fix="Write a YAML list.") from error
        if not isinstance(listed, list) or not listed:
            fix = "Write one rule an entry: - {label: spam, words: [winner]}"
            raise DataError("the file holds no list of rules.", where=file.name, fix=fix)
        for number, entry in enumerate(listed, 1):
            where = f"{file.name}, rule {number}"
            rule = _rule(entry, where)
            name = f"rule:{rule.name or f'{rule.label}-{rule.kind}-{number}'}"
            if name in found:
                raise DataError(f"two rules are named {name!r}.", where=where, fix="Name them differently.")
            found[name] = (rule.label, _voter(rule, where))
    return found


def read_functions(files: Iterable[OutsideFile]) -> dict[str, Voter]:
    """Voters of Python files: each function whose name has no leading underscore, from a Sample to a class or None.

    Raises:
        DataError: a file cannot be imported, or holds no function.
    """
    found: dict[str, Voter] = {}
    for file in files:
        spec = importlib.util.spec_from_file_location(f"volant_labels_{file.path.stem}", file.path)
        assert spec is not None and spec.loader is not None, file.name
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            what = f"the file cannot be imported: {type(error).__name__}: {error}."
            raise DataError(what, where=file.name, fix="Mend it; it is run as plain Python.") from error
        own = [f for name, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
        public = [function for function in own if not function.__name__.startswith("_")]
        if not public:
            fix = "Write `def short(sample): return 'terse' if len(sample.text) < 80 else None`."
            raise DataError("the file holds no label function.", where=file.name, fix=fix)
        for function in public:
            found[f"function:{function.__name__}"] = _called(function, file.name)
    return found


def _rule(entry: Any, where: str) -> Rule:
    try:
        rule = Rule.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc'])) or 'rule'}: {first['msg']}."
        raise DataError(what, where=where, fix="Write {label: spam, words: [winner]}.") from error
    given = [name for name in ("words", "pattern", "scorer", "column") if getattr(rule, name)]
    if len(given) != 1:
        what = f"the rule decides by {' and '.join(given) or 'nothing'}."
        raise DataError(what, where=where, fix="Give one of words, pattern, scorer or column.")
    bounds = (rule.above, rule.below, rule.equals)
    if rule.kind in ("scorer", "column") and all(bound is None for bound in bounds):
        raise DataError("the rule has no bound.", where=where, fix="Give `above`, `below` or, for a column, `equals`.")
    return rule


def _voter(rule: Rule, where: str) -> Voter:
    if rule.kind == "scorer":
        return _scored(rule)
    if rule.kind == "column":
        return lambda samples: [rule.label if _bounded(_column(s, rule.column), rule) else None for s in samples]
    joined = "|".join(re.escape(word) for word in sorted(rule.words, key=len, reverse=True))
    text = rf"(?<!\w)(?:{joined})(?!\w)" if rule.words else rule.pattern
    try:
        pattern = re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise DataError(f"{text!r} is no regular expression: {error}.", where=where, fix="Mend it.") from error
    return lambda samples: [rule.label if pattern.search(_read(sample, rule.field)) else None for sample in samples]


def _scored(rule: Rule) -> Voter:
    from volant.core.protocols import Output, Request
    from volant.core.sample import CONTENT_SHAPES
    from volant.scorers import build

    scorer = build({rule.scorer: rule.settings})[rule.scorer]

    def vote(samples: Sequence[Sample]) -> list[str | None]:
        outputs = [
            Output(
                _read(s, rule.field), Request(prompt=s.condition or ""), sample=s if s.shape in CONTENT_SHAPES else None
            )
            for s in samples
        ]
        return [rule.label if _bounded(value, rule) else None for value in scorer.values(outputs, samples)]

    return vote


def _bounded(value: Any, rule: Rule) -> bool:
    """Whether a value lies within the rule's bounds; one that is missing or no number does not."""
    if value is None:
        return False
    if rule.equals is not None:
        return str(value).strip() == rule.equals
    try:
        number = float(value)
    except (TypeError, ValueError):
        return False
    return (
        number == number and (rule.above is None or number > rule.above) and (rule.below is None or number < rule.below)
    )


def _column(sample: Sample, name: str) -> Any:
    return json.loads(sample.content or "{}").get(name) if sample.shape == "row" else None


def _read(sample: Sample, field: str) -> str:
    return str(getattr(sample, field) or "")


def _called(function: Callable[[Sample], Any], where: str) -> Voter:
    def vote(samples: Sequence[Sample]) -> list[str | None]:
        found: list[str | None] = []
        for sample in samples:
            try:
                value = function(sample)
            except Exception as error:
                what = f"{function.__name__} failed on {sample.id}: {type(error).__name__}: {error}."
                raise DataError(what, where=where, fix="Let it return None where it cannot tell.") from error
            found.append(None if value is None or value == "" else str(value))
        return found

    return vote
