"""The texts of a sample, one by one, and the sample again when they changed.

A chat holds one text a turn, so that nothing is looked for in its JSON; a picture or a row holds what it
was asked for by.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from volant.core import Sample
from volant.core.sample import CHAT_SHAPES, CONTENT_SHAPES, TEXT_FIELDS, sample_id


def texts_of(sample: Sample) -> list[str]:
    """What is to be read in a sample, in an order that `with_texts` keeps."""
    return [*(getattr(sample, name) for name in _names(sample)), *(turn["content"] for turn in _turns(sample))]


def with_texts(sample: Sample, texts: Sequence[str], **attrs: Any) -> Sample:
    """The sample with other texts: another sample, with a new id and the old one as its parent."""
    names = _names(sample)
    update: dict[str, Any] = dict(zip(names, texts, strict=False))
    turns = [{**turn, "content": text} for turn, text in zip(_turns(sample), texts[len(names) :], strict=True)]
    if turns:
        update["content"] = json.dumps(turns, ensure_ascii=False)
    own = [sample.id] if sample.shape in CONTENT_SHAPES else []  # what it is lies in no text
    name = sample_id(sample.shape, *own, *(update.get(field) or "" for field in TEXT_FIELDS))
    known = {"id": name, "parents": [*sample.parents, sample.id], "attrs": {**sample.attrs, **attrs}}
    return sample.model_copy(update={**update, **known})


def _names(sample: Sample) -> list[str]:
    """The fields that hold one text each."""
    if sample.shape in CONTENT_SHAPES:
        return ["condition"] if sample.condition else []
    chat = sample.shape in CHAT_SHAPES
    return [name for name in TEXT_FIELDS if getattr(sample, name) and not (chat and name == "content")]


def _turns(sample: Sample) -> list[dict[str, Any]]:
    """The turns of a chat; none of one that cannot be read, which `clean` refuses."""
    try:
        turns = list(sample.turns)
    except ValueError:
        return []
    readable = all(isinstance(turn, dict) and isinstance(turn.get("content"), str) for turn in turns)
    return [dict(turn) for turn in turns] if readable else []
