"""What the built-in scorers have in common: the figure from the values, and the digest that pins them.

A scorer overrides `values` (one figure an example); the score is their mean with its interval. The
digest covers name, version, settings and the syntax trees (without docstrings) of the scorer's own
module and of those that it leans on, so a changed rule is a changed digest, a reworded comment is not.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from volant.core.errors import DataError
from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Direction, Score
from volant.scorers.measure import mean_score


class Scoring:
    """A scorer whose score is the mean of its values.

    Attributes:
        leans_on: further modules whose code decides the values; part of the digest.
        note: what a reader must know to read the figure.
        binary: whether a value can only be 0 or 1.
        bar: what it has to clear as a gate where the goal states no target (`<= 0.05`); empty for none.
        of_references: whether the references' own figure says something (for many it is 1 by definition).
        modality: whose outputs it judges; says which rungs its ladder has.
    """

    name: str = ""
    version: int = 1
    unit: str = "1"
    direction: Direction = "higher"
    ladder: str = "fidelity"
    note: str = ""
    binary: bool = False
    bar: str = ""
    of_references: bool = False
    modality: str = "text"
    leans_on: tuple[str, ...] = ("volant.scorers.texts",)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the values, as JSON."""
        return {}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """One value an example, in the order given."""
        raise NotImplementedError

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The mean with its interval.

        Raises:
            DataError: there is no output, or not one for each reference.
        """
        self.check(outputs, references)
        values = self.values(outputs, references)
        return [
            mean_score(self.name, values, unit=self.unit, direction=self.direction, note=self.note, binary=self.binary)
        ]

    def check(self, outputs: Sequence[Output], references: Sequence[Sample]) -> None:
        """Refuse nothing at all, and outputs that do not belong to the references."""
        if not outputs:
            raise DataError("there is no output to score (n=0).", where=self.name, fix="Give at least one example.")
        if len(outputs) != len(references):
            raise DataError(
                f"{len(outputs)} outputs do not belong to {len(references)} references.",
                where=self.name, fix="Give one reference for each output.",
            )  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """sha256 over name, version, settings and code."""
        code = [module_digest(m) for m in sorted({type(self).__module__, *self.leans_on})]
        payload = json.dumps([self.name, self.version, self.settings, code], sort_keys=True)
        return hashlib.sha256(payload.encode()).hexdigest()


@lru_cache(maxsize=64)
def module_digest(module: str) -> str:
    """sha256 of a module's code without comments and docstrings."""
    __import__(module)
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
