"""What can be checked without a judge: does it parse, compile, pass its tests, match a schema, keep to a length?

Outputs enter, 1 or 0 an example leaves (for a length, how near it comes), so the same scorers are metrics, filters and
the rewards of `align.grpo`, `rloo` and `ppo`. Code is Python; it is run only by `passes_tests`, in `sandbox`.
"""

from __future__ import annotations

import ast
import json
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from volant.core.errors import DataError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.scorers import json_schema, sandbox
from volant.scorers.scoring import Scoring
from volant.scorers.texts import words

_FENCE = "```"


class Parses(Scoring):
    """1 where the output is Python; `compiles` also asks that it means something (no `return` outside a function)."""

    name = "parses"
    binary = True
    ladder = "code"
    note = "the output as Python, out of its fence where it has one"

    def __init__(self, *, through: bool = False, continues: bool = False) -> None:
        self.through, self.continues = through, continues
        if through:
            self.name = "compiles"

    @property
    def settings(self) -> dict[str, Any]:
        """Whether outputs go on from their prompts."""
        return {"continues": self.continues}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """1.0 or 0.0 an output."""
        return [float(self._holds(code)) for code in codes_of(outputs, references, self.continues)]

    def _holds(self, code: str) -> bool:
        if not code.strip():
            return False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an invalid escape in what a model wrote is not our warning
                tree = ast.parse(code)
                if self.through:
                    compile(tree, "answer.py", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
        return True


class PassesTests(Scoring):
    """1 where the output, run in a sandbox, passes the tests that its reference names in `attrs['tests']`."""

    name = "passes_tests"
    binary = True
    ladder = "code"
    note = "run in bubblewrap without network; tests are the reference's"
    leans_on = ("volant.scorers.texts", "volant.scorers.sandbox")

    def __init__(self, seconds: int, continues: bool) -> None:
        self.seconds, self.continues = seconds, continues

    @property
    def settings(self) -> dict[str, Any]:
        """How long a piece may take, and whether outputs go on from their prompts."""
        return {"seconds": self.seconds, "continues": self.continues}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """1.0 or 0.0 an output.

        Raises:
            DataError: a reference names no tests.
            MissingPackage: there is no bubblewrap.
        """
        pieces = []
        for code, reference in zip(codes_of(outputs, references, self.continues), references, strict=True):
            tests = str(reference.attrs.get("tests") or "")
            if not tests:
                fix = "Give records `tests` (or `fields: {tests: your name}`): Python that raises where it is wrong."
                raise DataError(f"sample {reference.id} names no tests.", where=reference.source.uri, fix=fix)
            pieces.append((code, tests))
        return [float(right) for right in sandbox.passed(pieces, seconds=self.seconds)]


class FitsSchema(Scoring):
    """1 where the output is JSON that fits a schema; see `json_schema` for what a schema may say."""

    name = "fits_schema"
    binary = True
    ladder = "json"
    leans_on = ("volant.scorers.texts", "volant.scorers.json_schema")

    def __init__(self, schema: Mapping[str, Any] | bool) -> None:
        json_schema.problems(None, schema)  # a schema that cannot be checked is refused here
        self.schema = schema if isinstance(schema, bool) else dict(schema)

    @property
    def settings(self) -> dict[str, Any]:
        """The schema."""
        return {"schema": self.schema}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """1.0 or 0.0 an output."""
        return [float(self._holds(code_of(output.text))) for output in outputs]

    def _holds(self, text: str) -> bool:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return False
        return not json_schema.problems(value, self.schema)


class WordCount(Scoring):
    """1 within the bounds; beyond them less, by how far it is off: a reward has to say which way is better."""

    name = "word_count"
    ladder = "code"
    note = "1 within the bounds, else the nearer bound over the count, or the count over it"

    def __init__(self, least: int, most: int) -> None:
        if not 0 <= least <= most:
            raise DataError(f"no text has {least} to {most} words.", where="word_count", fix="Give least <= most.")
        self.least, self.most = least, most

    @property
    def settings(self) -> dict[str, Any]:
        """The bounds."""
        return {"least": self.least, "most": self.most}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """0 to 1 an output."""
        return [self._near(len(words(output.text))) for output in outputs]

    def _near(self, count: int) -> float:
        if count < self.least:
            return count / self.least
        return min(1.0, self.most / count) if count else 1.0


def code_of(text: str) -> str:
    """The code of an answer: what its first fence holds, or all of it, without common indentation."""
    if _FENCE in text:
        inside = text.split(_FENCE, 2)[1]
        first, _, rest = inside.partition("\n")
        text = rest if rest and " " not in first.strip() else inside
    return textwrap.dedent(text).strip("\n")


def codes_of(outputs: Sequence[Output], references: Sequence[Sample], continues: bool) -> list[str]:
    """The code of each answer; where it `continues` its prompt, that of both: a function's head, then its body."""
    if not continues:
        return [code_of(output.text) for output in outputs]
    both = zip(outputs, references, strict=True)
    return [f"{(reference.condition or '').rstrip()}\n{output.text}" for output, reference in both]


def parses(*, continues: bool = False) -> Parses:
    """Whether it is Python by its grammar; `continues`: together with the prompt, from which it goes on."""
    return Parses(continues=continues)


def compiles(*, continues: bool = False) -> Parses:
    """Whether it is Python that can be compiled, nothing is run; `continues`: together with the prompt."""
    return Parses(through=True, continues=continues)


def passes_tests(*, seconds: int = sandbox.SECONDS, continues: bool = False) -> PassesTests:
    """Whether it passes the reference's tests; `seconds` is what one answer may take, `continues`: with the prompt."""
    return PassesTests(seconds, continues)


def fits_schema(*, schema: Mapping[str, Any] | bool | None = None) -> FitsSchema:
    """Whether it is JSON that fits `schema`; an object of any kind by default."""
    return FitsSchema({"type": "object"} if schema in (None, {}) else schema)


def word_count(*, least: int = 1, most: int = 40) -> WordCount:
    """Whether it has `least` to `most` words."""
    return WordCount(least, most)
