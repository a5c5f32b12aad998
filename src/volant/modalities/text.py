"""The modality text: prose, chats, prompt and completion pairs, preferences.

Everything that stages need to know of text, by name, behind the protocol of `core.protocols.Modality`.
The work is in the files beside this one: `text_files` and what it names (reading), `text_shapes` (records),
`text_codec` and `text_tokenizer` (ids and masks), `duplicates`, `minhash` and `words` (likeness), `text_delivery`
(handing out). No file here needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from volant.core.errors import DataError, LicenceError, SettingError, did_you_mean
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal, Route
from volant.core.sample import CHAT_SHAPES, Label, Sample, Source
from volant.modalities import minhash, text_delivery
from volant.modalities.licence import canonical
from volant.modalities.reading_options import check_options
from volant.modalities.text_shapes import FIELDS, BadRecord, sample_of, text_problem
from volant.modalities.words import words_of

if TYPE_CHECKING:
    from volant.modalities.text_codec import TextCodec
    from volant.modalities.text_entry import Record

FEATURES = 1024
_OF_SOURCE = ("licence", "collected_at", "uri")
_READING = ("encoding", "fields", "group", "piece_chars", "plain", "whole")


class Text:
    """Text, behind the protocol of a modality."""

    name = "text"
    version = 1
    media_type = "text/plain"
    shapes: tuple[str, ...] = ("text", "completion", "messages", "preference")

    def load(self, file: OutsideFile, source: Source, **options: Any) -> Iterator[Sample | Refusal]:
        """Samples of one file, in order; a bad record becomes a Refusal and the rest goes on.

        Args:
            file: a file of a snapshot.
            source: terms of every record; its `uri` is completed with the record's place.
            options: `encoding` (default UTF-8), `fields` (canonical field name to the file's own; `licence`,
                `collected_at` and `uri` name what a record says of its own source), `group` (a field that groups
                records), `piece_chars` (documents are cut into pieces of at most that many characters, at blank
                lines; 0 keeps them whole), `plain` (files of unknown endings are read as plain text), `whole` (every
                file of text is one document, a web page or a table as well).
        """
        from volant.modalities import text_files  # reads web pages, archives and documents, which cleaning has not

        self.check_reading(options)
        encoding, plain, whole = (options.get(name) for name in ("encoding", "plain", "whole"))
        for found in text_files.records(file, encoding=encoding or "", plain=bool(plain), whole=bool(whole)):
            if isinstance(found, Refusal):
                yield found
            else:
                yield from _samples(found, source, options)

    def check_reading(self, options: Mapping[str, Any]) -> None:
        """Refuse options of `load` that mean nothing, before a file is read.

        Raises:
            SettingError: there is no such option, or none of that value.
        """
        check_options(options, _READING, "text")
        fields = options.get("fields") or {}
        unknown = [known for known in fields if known not in (*FIELDS, *_OF_SOURCE) and not _carried(known)]
        if unknown:
            what = f"{unknown[0]!r} is no field that is known; the known name stands first."
            fix = f"{did_you_mean(unknown[0], (*FIELDS, *_OF_SOURCE))} Write it as in {{prompt: question}}; what is "
            fix += "to stand beside the text is attrs.NAME or labels.NAME."
            raise SettingError(what, where="fields", fix=fix)

    def check(self, sample: Sample) -> list[str]:
        """What is wrong with a sample, in words; empty when it may be used."""
        if sample.shape not in self.shapes:
            return [f"its shape {sample.shape!r} is not one of text's: {', '.join(self.shapes)}"]
        needed = {"text": ("content",), "messages": ("content",), "completion": ("condition", "target")}
        asked = "content" if sample.content else "condition"
        fields = needed.get(sample.shape, (asked, "target", "rejected"))
        problems = [f"its {name} is missing" for name in fields if not (getattr(sample, name) or "").strip()]
        values = (sample.content, sample.condition, sample.target, sample.rejected)
        for text in filter(None, values):
            problem = text_problem(text)
            if problem and problem != "is empty":
                problems.append(f"it {problem}")
        if sample.shape in CHAT_SHAPES and sample.content and not problems:
            problems += _chat_problems(sample)
        return problems

    def fingerprint(self, sample: Sample) -> Sequence[int]:
        """MinHash over 5-word shingles: 128 numbers, of which equal ones / 128 estimates Jaccard similarity."""
        return minhash.fingerprint(sample.text)

    def spaces(self) -> tuple[str, ...]:
        """Text is tokens."""
        return ("tokens",)

    def codec(self, samples: Iterable[Sample], **options: Any) -> TextCodec:
        """Train a byte-level BPE codec (`vocab`, `length`, `max_chars`)."""
        from volant.modalities.text_tokenizer import fit_codec  # and with it Jinja, which cleaning has no use for

        options.pop("space", None)  # text has one
        return fit_codec(samples, **options)

    def open_codec(self, folder: Path) -> TextCodec:
        """The codec in a model directory, Volant's own or Hugging Face's."""
        from volant.modalities.text_tokenizer import open_codec

        return open_codec(folder)

    def features(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Hashed words (with sublinear counts, unit length) as float32 [n, 1024]; needs no fit."""
        matrix = np.zeros((len(samples), FEATURES), np.float32)
        words = words_of([sample.text for sample in samples])
        for row in range(len(samples)):
            hashes = words.of(row)
            # One bit of the hash gives the sign, so that collisions cancel instead of adding up.
            signs = np.where(hashes >> np.uint64(63), 1.0, -1.0)
            unique, first, counts = np.unique(hashes, return_index=True, return_counts=True)
            slots = (unique % np.uint64(FEATURES)).astype(np.int64)
            np.add.at(matrix[row], slots, (1 + np.log(counts)) * signs[first])
        norms = np.linalg.norm(matrix, axis=1, keepdims=True)
        matrix /= np.where(norms > 0, norms, np.float32(1))
        return matrix

    def parts(self, samples: Sequence[Sample]) -> Mapping[str, Sequence[float | str]]:
        """None: texts are compared by their words and lengths."""
        return {}

    def preview(self, samples: Sequence[Sample]) -> str:
        """A few samples as an HTML fragment, escaped."""
        return text_delivery.preview(samples)

    def forms(self) -> Mapping[str, str]:
        """Markdown, pages, JSON."""
        return {"markdown": ".md", "html": ".html", "json": ".json", "jsonl": ".jsonl"}

    def deliver(self, samples: Sequence[Sample], form: str) -> bytes:
        """Samples as `markdown`, `html`, `json` or `jsonl`; readable by `load` again."""
        return text_delivery.deliver(samples, form)

    def baselines(self) -> Mapping[str, tuple[str, dict[str, Any]]]:
        """An n-gram model and the nearest training prompt's answer."""
        return {"ngram": ("ngram", {}), "nearest_neighbour": ("neighbour", {})}

    def scorers(self) -> Sequence[str]:
        """The scorers that judge text, the most telling first."""
        return (
            "relevance", "coherence", "grammar", "exact_match", "token_precision", "token_recall", "token_f1",
            "diversity", "safety", "memorisation", "bias_gap",
        )  # fmt: skip

    def gates(self) -> Sequence[str]:
        """Harm and copies; quality is the task metric's own gate."""
        return ("safety", "memorisation", "bias_gap")

    def api(self) -> Mapping[str, str | Route]:
        """The OpenAI-compatible routes."""
        return {"/v1/chat/completions": "chat", "/v1/completions": "completion"}


def _chat_problems(sample: Sample) -> list[str]:
    try:
        turns = sample.turns
    except ValueError:
        return ["its messages are no JSON"]
    roles = {turn.get("role") for turn in turns}
    problems = [f"it has the role {role!r}" for role in sorted(map(str, roles - {"system", "user", "assistant"}))]
    if sample.shape == "preference":
        last = turns[-1].get("role") if turns else None
        return problems if last == "user" else [*problems, "its last turn before the answers is not the user's"]
    return problems if "assistant" in roles else [*problems, "it has no assistant turn"]


def _samples(record: Record, source: Source, options: Mapping[str, Any]) -> Iterator[Sample | Refusal]:
    """A record as one sample, a document as one a piece."""
    most = int(options.get("piece_chars") or 0) if record.document else 0
    pieces = [{**record.fields, "text": p} for p in cut(record.fields["text"], most)] if most else [record.fields]
    if not pieces:
        yield Refusal(record.place, "is empty")
    asked = {} if record.document else dict(options.get("fields") or {})
    own = {name: asked.pop(name) for name in _OF_SOURCE if name in asked}
    carried = {name: asked.pop(name) for name in list(asked) if _carried(name)}
    for number, piece in enumerate(pieces):
        part = f"#{number}" if len(pieces) > 1 else ""
        try:
            terms = _source_of(record, source, own)
            terms = terms.model_copy(update={"uri": f"{terms.uri}{part}"})
            group_field = "" if record.document else str(options.get("group", ""))
            group = (record.uri or record.place) if record.document else ""
            if problem := text_problem(f"{terms.uri} {group}"):
                raise BadRecord(f"its name {problem}")
            sample = sample_of(piece, terms, fields=asked, group_field=group_field, group=group)
            sample = _with_beside(sample, record, carried)
        except BadRecord as reason:
            yield Refusal(f"{record.place}{part}", str(reason))
            continue
        yield sample.model_copy(update={"attrs": {**sample.attrs, "file": record.place}}) if record.uri else sample


def _carried(name: str) -> bool:
    """Whether a name of `fields` is of what stands beside the text, as in `attrs.quality`."""
    kind, _, rest = name.partition(".")
    return kind in ("attrs", "labels") and bool(rest)


def _with_beside(sample: Sample, record: Record, carried: Mapping[str, str]) -> Sample:
    """The sample with the numbers, words and classes that its record has for `mix`, `split` and people's labels.

    Raises:
        BadRecord: a field is no number and no text.
    """
    attrs, labels = dict(sample.attrs), list(sample.labels)
    for name, field in carried.items():
        value = record.fields.get(field)
        if value is None or value == "":
            continue
        if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
            raise BadRecord(f"has a field {field!r} that is no number and no text")
        if problem := text_problem(str(value)):
            raise BadRecord(f"has a field {field!r} that {problem}")
        kind, _, own = name.partition(".")
        if kind == "labels":
            labels.append(Label(name=own, value=str(value), by="source"))
        else:
            attrs[own] = value
    return sample.model_copy(update={"attrs": attrs, "labels": labels}) if carried else sample


def _source_of(record: Record, source: Source, own: Mapping[str, str]) -> Source:
    """The source of one record: what it states of itself goes before what is stated of all.

    Raises:
        BadRecord: it has no licence where its field is named, or one that SPDX does not list, or a day that is none.
    """
    for name, field in own.items():
        if field not in record.fields:
            raise BadRecord(f"has no field {field!r}, which `fields` names as {name}")
    said = {name: str(record.fields.get(field) or "").strip() for name, field in own.items()}
    licence = said.get("licence", record.licence)
    if "licence" in own or licence:
        try:
            licence = canonical(licence)
        except LicenceError as error:
            raise BadRecord(f"states no known licence: {error}") from error
    day = said.get("collected_at", "")
    try:
        day = day and date.fromisoformat(day[:10]).isoformat()
    except ValueError as error:
        raise BadRecord(f"states no day as in 2026-11-24, but {day[:40]!r}") from error
    day = day or source.collected_at or record.collected_at
    uri = said.get("uri") or record.uri or f"{source.uri}{record.place}"
    return source.model_copy(update={"uri": uri, "licence": licence or source.licence, "collected_at": day})


def cut(text: str, most: int) -> list[str]:
    """A text as pieces of at most `most` characters, cut at blank lines, else at line ends, else anywhere.

    Nothing but the white space at the cuts is lost.
    """
    if most < 1:
        raise DataError(f"pieces of {most} characters cannot be made.", fix="Take 1 or more.")
    pieces: list[str] = []
    rest = text.strip("\n")
    while len(rest) > most:
        at = max(rest.rfind("\n\n", most // 4, most), 0) or max(rest.rfind("\n", most // 4, most), 0) or most
        pieces.append(rest[:at].rstrip())
        rest = rest[at:].lstrip("\n")
    return [piece for piece in [*pieces, rest.rstrip()] if piece.strip()]


modality = Text()
