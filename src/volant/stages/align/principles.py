"""A constitution: principles in a file, each with what checks it.

    principles:
      - name: short
        says: The answer is one short line.
        scorer: word_count
        settings: {least: 3, most: 14}
      - name: kind
        says: The answer is kind, also to those who are not.      # no scorer: a critic has to judge it
        weight: 2

A principle with a scorer is executable: it can be computed, so a model of any size can learn from it. One without is
put to a critic in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volant.core import Model, Sample
from volant.core.errors import DataError, VolantError

if TYPE_CHECKING:
    from volant.core.protocols import Output, Scorer


class Principle(BaseModel):
    """One line of a constitution.

    Attributes:
        says: what is asked for, as a critic and a reader are told it.
        scorer: the name of what checks it; empty for a critic.
        settings: the scorer's.
        weight: beside the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    says: str = Field(min_length=1)
    scorer: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    principles: Annotated[list[Principle], Field(min_length=1)]


def read(path: Path, name: str) -> list[Principle]:
    """The principles of a YAML file.

    Raises:
        DataError: it is no YAML, a field is unknown or missing, or two principles share a name.
    """
    import yaml

    fix = "A principle has `name` and `says`, and may have `scorer`, `settings` and `weight`."
    try:
        found = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))).principles
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"this is no YAML: {str(error).splitlines()[0]}.", where=name, fix=fix) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(f"{place}: {first['msg']}.", where=name, fix=fix) from None
    double = next((p.name for n, p in enumerate(found) if p.name in {q.name for q in found[:n]}), None)
    if double:
        raise DataError(f"two principles are called {double!r}.", where=name, fix="Give each a name of its own.")
    return found


def _scorer(principle: Principle, judge: Model | None, file: str) -> Scorer:
    from volant.scorers import build

    try:
        return build({principle.scorer: principle.settings}, {"judge": judge})[principle.scorer]
    except VolantError as error:  # it cannot know that a principle asked
        where = f"{file} {principle.name}".strip()
        raise type(error)(error.what, where=where, fix=error.fix) from error


class Bench:
    """The executable principles of a constitution, as one judge.

    Args:
        file: that they stand in, for what is said of a scorer that cannot be built.
    """

    def __init__(self, principles: Sequence[Principle], judge: Model | None, file: str = "") -> None:
        self.principles = [p for p in principles if p.scorer]
        self.scorers: list[Scorer] = [_scorer(p, judge, file) for p in self.principles]

    def __bool__(self) -> bool:
        return bool(self.principles)

    @property
    def version(self) -> str:
        """Which scorers, pinned by their digests."""
        return "+".join(f"{p.name}@{s.version}" for p, s in zip(self.principles, self.scorers, strict=True))

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[list[float]]:
        """For each output what each principle gives it; more is better for all of them."""
        columns = []
        for scorer in self.scorers:
            sign = 1.0 if scorer.direction == "higher" else -1.0
            columns.append([sign * value for value in scorer.values(outputs, references)])
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in outputs]

    def total(self, values: Sequence[float]) -> float:
        """The weighted mean of one output's values."""
        weights = [p.weight for p in self.principles]
        return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

    def worst(self, values: Sequence[float]) -> Principle:
        """The principle that an output is furthest from keeping, by its weight."""
        lost = [p.weight * (1.0 - v) for p, v in zip(self.principles, values, strict=True)]
        return self.principles[max(range(len(lost)), key=lost.__getitem__)]
