"""Rows as one float a column and back, and what every codec of rows does: conditions, constraints, samples.

In go samples; out come float64 values [D], and from values samples that are marked as generated. Legend: D
learnt columns.
"""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from volant.core.errors import DataError
from volant.core.sample import Sample, Source, sample_id
from volant.core.spaces import Example, Space
from volant.modalities.table_columns import Columns
from volant.modalities.table_rows import content_of, row_of
from volant.modalities.table_rules import Rule, bind

FILE = "table.json"
_GENERATED = Source(uri="model:", licence="LicenseRef-generated", origin="generated")


class TableCodec:
    """What both codecs share: conditions, constraints, and rows as samples.

    Args:
        columns: fitted on the training rows.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._bound: dict[str, Rule | None] = {}
        self._made = itertools.count()
        self._lock = threading.Lock()

    def condition(self, text: str) -> tuple[int, ...]:
        """Nothing: a network is not told, draws that do not fit are drawn again.

        Raises:
            DataError: the condition cannot be read, or names a column or a value that the table has not.
        """
        self._rule(text)
        return ()

    def fits(self, sample: Sample, condition: str) -> bool:
        """Whether a row keeps the declared constraints and certainly is what the condition asks for."""
        row = row_of(sample)
        rule = self._rule(condition)
        return not any(r.broken(row) for r in self.columns.rules) and (rule is None or rule.met(row))

    def _rule(self, text: str) -> Rule | None:
        if text in self._bound:
            return self._bound[text]
        rule = bind(text, self.columns.known, condition=True) if text.strip() else None
        if len(self._bound) > 256:
            self._bound = {}
        self._bound[text] = rule
        return rule

    def _sample(self, values_D: Any, condition: str) -> Sample:
        values = np.asarray(values_D, np.float64)
        learnt = self.columns.learnt
        if values.shape != (len(learnt),):
            what = f"a row of shape {values.shape} is none of {len(learnt)} columns"
            raise DataError(what, fix="Use the codec that the model was trained with.")
        never = [c.name for c, lacks in zip(learnt, np.isnan(values), strict=True) if lacks and not c.missing]
        if never:
            raise DataError(f"{never[0]} is drawn as missing, which it never is.", fix="Draw again.")
        with self._lock:
            number = next(self._made)
        content = content_of(self.columns.rows(values[None], first=number)[0])
        declared = self.columns.declared
        return Sample(
            id=sample_id(content, condition),
            shape="row",
            source=_GENERATED,
            content=content,
            condition=condition or None,
            attrs={"table": declared} if declared else {},
        )

    def save(self, folder: Path) -> None:
        """Write `columns.json` and `table.json`."""
        self.columns.save(folder)
        text = json.dumps(self._body(), allow_nan=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    def _body(self) -> dict[str, Any]:
        raise NotImplementedError


class MixedCodec(TableCodec):
    """Rows as one float64 a column.

    Attributes:
        space: `Mixed`.
    """

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self.space: Space = columns.space

    def encode(self, sample: Sample) -> Example:
        """A row as float64 [D]; NaN only where training rows had missing values too."""
        return Example(self.columns.filled(self.columns.encoded([row_of(sample)]))[0])

    def decode(self, values: Any, condition: str = "") -> Sample:
        """Floats [D] as a row; fresh ids are the only part that depends on what was decoded before.

        Raises:
            DataError: they are of another shape, or lack what no row lacks.
        """
        return self._sample(values, condition)

    def _body(self) -> dict[str, Any]:
        return {"space": "mixed"}
