"""The noun of nouns: one example, with where it came from and what became of it.

One schema for every modality. `core` has no Arrow, so the schema is a table of names and
plain type words here; `store/dataset.py` turns it into the Arrow schema of the Parquet files.

Text tasks use the shapes of the field; `shape` says which one a sample has:

| shape        | fields that carry it                                          |
|--------------|---------------------------------------------------------------|
| `text`       | `content`                                                     |
| `completion` | `condition` = prompt, `target` = completion                   |
| `messages`   | `content` = the JSON list of `{role, content}`                |
| `preference` | `condition` = prompt, `target` = chosen, `rejected`; of a     |
|              | dialogue `content` = the JSON list of the turns before both   |
| `media`      | `media` = the bytes; `condition` = caption or class, if any   |
| `row`        | `content` = the JSON object of the columns                    |

A pair over pictures or rows is of shape `preference` too: `target` and `rejected` hold the two contents as text
(`content_text`), and `pair_sides` gives them back as samples.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from volant.core.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
Shape = Literal["text", "completion", "messages", "preference", "media", "row"]
CONTENT_SHAPES: tuple[Shape, ...] = ("media", "row")  # what is made whole, for a condition, and is no text
CHAT_SHAPES: tuple[Shape, ...] = ("messages", "preference")  # whose `content` is turns
TEXT_FIELDS = ("condition", "content", "target", "rejected")  # of a Sample, in reading order
Origin = Literal["human", "generated", "feedback"]
T = TypeVar("T")
_ROOM = 4  # times as many as are wanted are held while they are spread
_RECORD = re.compile(r"(?:#[^#/]*|:\d+|\[\d+\])+$")
_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,")


class Source(BaseModel):
    """Where a sample came from and on what terms."""

    model_config = ConfigDict(extra="forbid")

    uri: str
    licence: str = Field(description="SPDX expression, or LicenseRef-... for one that SPDX does not list")
    consent: str = Field(default="not-personal", description="not-personal, given, contract, public, or withheld")
    collected_at: str = Field(default="", description="ISO date; empty where the source states none")
    origin: Origin = "human"

    @property
    def place(self) -> str:
        """The file, module or dataset that the record came from: the URI without the record's number."""
        return _RECORD.sub("", self.uri)


PERSON = "person:"
"""Begins `Label.by` where a person judged; their name follows."""


BAD_RATING = "bad rating"
"""`attrs["taught_by"]` of an answer that is kept since its reader rated it down."""


class Label(BaseModel):
    """One judgement on a sample, by a person or a program."""

    model_config = ConfigDict(extra="forbid")

    name: str
    value: str
    by: str


class Sample(BaseModel):
    """One example. `drop` is empty while it is kept, else `rule: value against threshold`."""

    model_config = ConfigDict(extra="forbid")

    id: str
    shape: Shape
    source: Source
    content: str | None = None
    media: bytes | None = None
    condition: str | None = None
    target: str | None = None
    rejected: str | None = None
    split: Split = "train"
    group: str = ""
    parents: list[str] = Field(default_factory=list)
    labels: list[Label] = Field(default_factory=list)
    attrs: dict[str, Any] = Field(default_factory=dict)
    drop: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The sample as chat messages; a `completion` becomes one user and one assistant turn."""
        if self.shape == "messages":
            return self.turns
        if self.shape in ("completion", "preference"):
            turns = self.turns or [{"role": "user", "content": self.condition or ""}]
            return [*turns, {"role": "assistant", "content": self.target}] if self.target is not None else turns
        return [{"role": "user", "content": self.text}]

    @property
    def turns(self) -> list[dict[str, str]]:
        """The turns that `content` holds; none where it holds something else."""
        if self.shape not in CHAT_SHAPES or not self.content:
            return []
        parsed: list[dict[str, str]] = json.loads(self.content)
        return parsed

    @property
    def rated_down(self) -> bool:
        """Whether somebody called the answer bad: none to say, or to be measured by; only `align.kto` learns from it.

        What `improve.harvest` kept says so itself, since its label may be of the answer that a correction replaced;
        of other records the labels `rating` do, where they are numbers: above 0 is good, as for `align.kto`.
        """
        if "taught_by" in self.attrs:
            return bool(self.attrs["taught_by"] == BAD_RATING)
        try:
            ratings = [float(label.value) for label in self.labels if label.name == "rating"]
        except ValueError:
            return False
        return bool(ratings) and sum(ratings) / len(ratings) <= 0

    @property
    def text(self) -> str:
        """All text of the sample in reading order, for rules, duplicates and leakage gates."""
        content = self.content
        if self.shape in CHAT_SHAPES:
            content = "\n".join(str(turn.get("content", "")) for turn in self.turns)
        return "\n".join(part for part in (self.condition, content, self.target, self.rejected) if part)


def sample_id(*parts: str | bytes) -> str:
    """A stable id from what the sample says (sha256, first 20 hex digits): the same text, the same id."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:20]


def content_text(sample: Sample, media_type: str) -> str:
    """What was made whole as text, for a rating or a pair: bytes as a data URL (RFC 2397), a row as its JSON.

    Args:
        sample: of one of the `CONTENT_SHAPES`.
        media_type: of its bytes (`image/png`), so that a browser shows what is kept.
    """
    if sample.shape == "row":
        return sample.content or "{}"
    return f"data:{media_type};base64,{base64.b64encode(sample.media or b'').decode()}"


def asked_with(turns: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The field of a pair of texts that holds what both answer: `condition` of one user turn, else `content`."""
    if len(turns) == 1 and turns[0]["role"] == "user":
        return {"condition": turns[0]["content"]}
    return {"content": json.dumps([dict(turn) for turn in turns], ensure_ascii=False)}


def pair_sides(pair: Sample) -> tuple[Sample, Sample]:
    """The chosen and the rejected content of a pair over pictures, rows or the like, asked for by its condition.

    Raises:
        DataError: a side is no content that `content_text` wrote, as in a pair of texts.
    """
    chosen, rejected = (content_sample(pair, text or "") for text in (pair.target, pair.rejected))
    return chosen, rejected


def content_sample(about: Sample, text: str) -> Sample:
    """What `content_text` wrote, as a sample.

    Args:
        about: gives source, condition and split.
        text: that it wrote.

    Raises:
        DataError: it wrote no such text.
    """
    known: dict[str, Any] = {"source": about.source, "condition": about.condition, "split": about.split}
    head = _DATA_URL.match(text)
    try:
        if head:
            media = base64.b64decode(text[head.end() :], validate=True)
            return Sample(id=sample_id(media, about.condition or ""), shape="media", media=media, **known)
        if not isinstance(json.loads(text), dict):
            raise ValueError("it is no object")
    except (binascii.Error, ValueError, RecursionError) as error:
        what = f"{about.id} does not hold two pictures or rows: {error}."
        raise DataError(what, where=about.source.uri, fix="Make it with `align.preferences`.") from error
    return Sample(id=sample_id(text, about.condition or ""), shape="row", content=text, **known)


def split_of(group: str, *, test: int = 1, validation: int = 1, parts: int = 10) -> Split:
    """The split of a group by hash, never by row: sha256(group) mod `parts`.

    The first `test` residues are test, the next `validation` ones validation, the rest train, so
    that with the defaults residue 0 is test and residue 1 is validation.
    """
    residue = int.from_bytes(hashlib.sha256(group.encode()).digest(), "big") % parts
    if residue < test:
        return "test"
    return "validation" if residue < test + validation else "train"


def better(scores: tuple[int, int]) -> str:
    """The choice that a person's scores of two answers make.

    >>> better((4, 2)), better((1, 2)), better((3, 3))
    ('a', 'b', 'tie')
    """
    a, b = scores
    return "a" if a > b else "b" if b > a else "tie"


def spread(found: Iterable[T], most: int) -> list[T]:
    """At most `most` of them, evenly from the first to the last, in their order; a split is sorted by its sources.

    Whatever their number, only a few times `most` are held at once; then gaps differ by a quarter.
    """
    kept: list[T] = []
    every = 1
    for place, one in enumerate(found):
        if place % every == 0:
            kept.append(one)
        if len(kept) > 2 * _ROOM * most:
            kept, every = kept[::2], 2 * every
    return kept if len(kept) <= most else [kept[i * len(kept) // most] for i in range(most)]
