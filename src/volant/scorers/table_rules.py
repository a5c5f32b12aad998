"""The rules of a table: which outputs break a declared constraint?

Constraints are what the setting says, else what the training rows and the references declare in `attrs["table"]`: its
`constraints`, and its `key`, whose columns no two outputs may share. An output that breaks any
of them is 1.0, else 0.0; the score is the share, lower is better. What cannot be decided, because a value is missing,
is not broken. Of outputs that share what has to be unique all but the first break it. `worst_constraint` comes along
where there are several: the share of the one that is broken most often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volant.core.protocols import Output
from volant.core.sample import Sample
from volant.core.score import Direction, Score
from volant.modalities.table_rows import row_of
from volant.modalities.table_rules import bind, broken_by_row
from volant.scorers.measure import mean_score
from volant.scorers.table_figures import share
from volant.scorers.table_rows import RowScoring, columns_of


class Violations(RowScoring):
    """See the module."""

    name = "violations"
    direction: Direction = "lower"
    ladder = "planted"
    binary = True
    least = 1

    def __init__(self, training: Sequence[Sample] | None, constraints: Sequence[str] | None) -> None:
        super().__init__(training)
        self.constraints = None if constraints is None else list(constraints)

    @property
    def settings(self) -> dict[str, Any]:
        """The training data and the constraints."""
        return {**super().settings, "constraints": self.constraints}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """1.0 for an output that breaks a constraint, else 0.0."""
        self.check(outputs, references)
        return [float(bool(broken)) for broken in self._broken(outputs, references)[1]]

    def score(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[Score]:
        """The share of outputs that break any constraint, and the share that break the worst one.

        Raises:
            DataError: no output, one without a row, or a constraint that cannot be read.
        """
        self.check(outputs, references)
        texts, broken = self._broken(outputs, references)
        note = f"outputs that break any of {len(texts)} constraints" if texts else "no constraint is declared"
        values = [float(bool(b)) for b in broken]
        first = mean_score(self.name, values, direction="lower", binary=True, note=note)
        if len(texts) < 2:
            return [first]
        counts = {text: sum(text in b for b in broken) for text in texts}
        worst = max(texts, key=counts.__getitem__)
        return [first, share("worst_constraint", [worst in b for b in broken], worst)]

    def _broken(self, outputs: Sequence[Output], references: Sequence[Sample]) -> tuple[list[str], list[list[str]]]:
        """The constraints, and those that each output breaks."""
        rows = [row_of(sample) for sample in self._rows(outputs)]
        columns = columns_of(references, self._training)
        if self.constraints is None:
            rules = list(columns.rules)
            if columns.key:
                names = ", ".join(f"`{name}`" for name in columns.key)
                rules.append(bind(f"unique({names})", columns.known))
        else:
            rules = [bind(text, columns.known) for text in self.constraints]
        return list(dict.fromkeys(rule.text for rule in rules)), broken_by_row(rows, rules)


def violations(*, training: Sequence[Sample] | None = None, constraints: Sequence[str] | None = None) -> Violations:
    """The scorer.

    Args:
        training: rows that declare constraints too, and help to know the columns.
        constraints: in the language of `volant.modalities.table_constraints` (`age >= 18`, `a + b == total`,
            `unique(id)`); None takes what the rows declare.
    """
    return Violations(training, constraints)
