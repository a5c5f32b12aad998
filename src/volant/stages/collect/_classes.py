"""The class of each record, and the record without it: what a classifier may look at.

Enters: samples and the name of a label. Leaves: a class or None for each sample, whether a person decided it for good,
and the samples with that class taken out. A class is a label of that name, the condition of a picture (`class`), the
answer to a prompt (`target`), or a column of a row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from volant.core import Sample
from volant.core.errors import DataError, did_you_mean
from volant.core.sample import CONTENT_SHAPES, PERSON

CLASS, TARGET = "class", "target"
_FINAL = f"{PERSON}final"


def chosen(samples: Sequence[Sample], name: str, where: str) -> str:
    """The name that is meant: itself, or the only label where it is empty, or the class of pictures.

    Raises:
        DataError: nothing has such a label; the message names what there is.
    """
    known = sorted({label.name for sample in samples for label in sample.labels})
    columns = sorted({column for sample in samples if sample.shape == "row" for column in _row(sample)})
    other = [CLASS] if any(s.shape in CONTENT_SHAPES and s.condition for s in samples) else []
    other += [TARGET] if any(s.shape == "completion" for s in samples) else []
    if not name and (len(known) == 1 or (not known and CLASS in other)):
        return known[0] if known else CLASS
    every = [*known, *other, *columns]
    if name in every:
        return name
    what = f"no record has the label {name!r}." if name else "it is not said which label is meant."
    raise DataError(what, where=where, fix=did_you_mean(name, every) if every else "Run collect.label before this.")


def class_of(sample: Sample, name: str) -> tuple[str | None, bool]:
    """The record's class, None where it has none, and whether a person decided it for good."""
    own = [label for label in sample.labels if label.name == name]
    if own:
        return own[-1].value, any(label.by == _FINAL for label in own)
    if name == CLASS and sample.shape in CONTENT_SHAPES:
        return sample.condition or None, False
    if name == TARGET and sample.shape == "completion":
        return sample.target or None, False
    value = _row(sample).get(name) if sample.shape == "row" else None
    return (None if value is None else str(value)), False


def without(sample: Sample, name: str) -> Sample:
    """The sample as a classifier may see it."""
    if sample.shape == "row":
        row = {column: value for column, value in _row(sample).items() if column != name}
        return sample.model_copy(update={"content": json.dumps(row, ensure_ascii=False), "condition": None})
    if sample.shape == "media":
        return sample.model_copy(update={"condition": None})
    return sample.model_copy(update={"target": None}) if name == TARGET else sample


def _row(sample: Sample) -> dict[str, object]:
    try:
        found = json.loads(sample.content or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
