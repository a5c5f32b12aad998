"""Names of people in text, by a spaCy pipeline that the user has installed; the optional extra `names`.

In go a text and the pipeline's name; out come the text with `<name>` in place of every person, and how many there
were. Patterns cannot find names and a model misses some: what it finds depends on the pipeline, whose name and version
are the user's choice. spaCy is MIT; its pipelines have licences of their own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from volant.core.errors import MissingPackage, SettingError

VERSION = 1
_PEOPLE = ("PERSON", "PER")


def without_names(text: str, pipeline: str) -> tuple[str, int]:
    """The text with `<name>` in place of each person's name, and how many there were.

    Raises:
        MissingPackage: spaCy or the pipeline is not installed; the message says how to get both.
        SettingError: the pipeline finds no people.
    """
    found = [entity for entity in _opened(pipeline)(text).ents if entity.label_ in _PEOPLE]
    parts, done = [], 0
    for entity in found:
        parts += [text[done : entity.start_char], "<name>"]
        done = entity.end_char
    return "".join([*parts, text[done:]]), len(found)


@lru_cache(maxsize=4)
def _opened(pipeline: str) -> Any:
    try:
        import spacy
    except ImportError as error:
        raise MissingPackage(
            "names of people are found by spaCy, which is not installed.", where="names",
            fix=f"pip install 'volant[names]' and then: python -m spacy download {pipeline}",
        ) from error  # fmt: skip
    try:
        found = spacy.load(pipeline)
    except OSError as error:
        raise MissingPackage(
            f"spaCy has no pipeline {pipeline!r} here.", where="names", fix=f"python -m spacy download {pipeline}"
        ) from error
    if not {"ner", "entity_ruler", "span_ruler"} & set(found.pipe_names):
        raise SettingError(f"the pipeline {pipeline!r} finds no people.", where="names", fix="Take one with `ner`.")
    return found
