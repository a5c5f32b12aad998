"""What data there is: folders, datasets of past runs, the hub's list. Each is looked at and nothing is taken.

In go a snapshot of a folder, finished datasets, or words to search the hub for; out come `Found`s with a few of their
records, where they can be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from volant.core import Dataset, Run, Sample
from volant.core.errors import RemoteError, VolantError
from volant.core.outside import OutsideFile
from volant.core.protocols import Refusal

FILES = 20
"""Files of a folder whose first records are read, spread over its list."""
_CARD = ("readme.md", "datasheet.md", "croissant.json", "dataset.json", "artifact.json", "metadata.json")
_CARD_BYTES = 200_000
_LOOKED_AT = 40_000  # records of one file, good and bad
_FIELDS = 40
_PIECE = 2_000  # characters of a record that are looked at
_BYTES_A_RECORD = 500  # what a record of the hub, which names only their number, is taken to have


@dataclass
class Found:
    """A dataset that could be gathered.

    Attributes:
        where: `folder`, `past run` or `hub`.
        licence: SPDX expression, or what its card says; empty where nothing is stated.
        hindrance: why it cannot be used; empty where it can.
        bytes: its size; -1 where nobody says.
        records: how many, as far as it is known (`12,000`, `1K<n<10K`).
        about: words that its name and card say of it.
        take: the step that gathers it.
        samples: a few of its records.
        relevance: 0 to 1, by the words of the brief.
        overlap: share (0 to 1) of its sampled records that is there already; None where it was not looked at.
        found: words of the brief that it has.
        fields: what its records call their fields, for the setting `fields`.
    """

    name: str
    where: str
    licence: str = ""
    hindrance: str = ""
    bytes: int = -1
    records: str = ""
    about: str = ""
    take: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    relevance: float = 0.0
    overlap: float | None = None
    score: float = 0.0
    found: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The row of `plan.json`."""
        rounded = {"relevance": round(self.relevance, 4), "score": round(self.score, 4)}
        overlap = None if self.overlap is None else round(self.overlap, 4)
        names = ("name", "where", "licence", "hindrance", "bytes", "records", "take", "found", "fields")
        row = {name: getattr(self, name) for name in names}
        return {**row, **rounded, "overlap": overlap, "sampled": len(self.samples)}


def folders(run: Run, folder: str, files: Sequence[OutsideFile], most: int) -> list[Found]:
    """The datasets of a folder: each folder in it, and each file that lies in it directly."""
    groups: dict[str, list[OutsideFile]] = {}
    for file in files:
        groups.setdefault(PurePosixPath(file.name).parts[0], []).append(file)
    found = []
    for name, inside in sorted(groups.items()):
        run.check_stop()
        told = [file for file in inside if _tells(file)]
        data = [file for file in inside if file not in told]
        if data:
            found.append(_folder(run, folder, name, data, told, most))
    return found


def _folder(
    run: Run, folder: str, name: str, data: Sequence[OutsideFile], told: Sequence[OutsideFile], most: int
) -> Found:
    card, licence = _card(told)
    place = f"{folder.rstrip('/')}/{name}"
    endings = sorted({PurePosixPath(file.name).suffix for file in data})
    globs = [place] if data[0].name == name else [f"{place}/**/*{ending}" for ending in endings]
    one = Found(name, "folder", licence, bytes=sum(file.bytes for file in data), about=f"{name} {card}")
    one.take = {"use": "collect.files", "glob": globs, "licence": licence or "?"}
    sampled = list(islice(_first_records(run, data, most), most))
    one.samples = [sample for sample, _ in sampled]
    one.fields = sorted({name for _, names in sampled for name in names})[:_FIELDS]
    one.hindrance = _hindrance(licence, run.goal.use) or ("" if one.samples else "no record in it can be read")
    return one


def past(run: Run, made: Iterable[Dataset], without: str, most: int) -> list[Found]:
    """The newest dataset of each step, but the one with the digest `without`."""
    from volant.store.dataset import rows

    found: dict[str, Found] = {}
    for data in made:
        card = data.card
        if card is None or card.digest == without or card.step in found or data.about.get("modality") != run.modality:
            continue
        about = data.about
        licences = sorted(about["licences"])
        one = Found(f"{card.step} {card.digest[:12]}", "past run", " AND ".join(licences), bytes=card.size_bytes)
        one.records = f"{sum(about['splits'].values()):,}"
        one.about = f"{card.step} {card.method.rpartition('.')[2]}"
        one.take = {"step": card.step}
        one.hindrance = next(filter(None, (_hindrance(name, run.goal.use) for name in licences)), "")
        try:
            one.samples = list(islice(rows(data, "train"), most))
        except VolantError as error:
            one.hindrance = one.hindrance or error.what.rstrip(".")
        found[card.step] = one
    return list(found.values())


def hub(run: Run, words: Sequence[str], limit: int) -> list[Found]:
    """Datasets of the hub that match a word, the most fetched first.

    Raises:
        RemoteError: the hub does not answer.
    """
    from huggingface_hub import HfApi

    from volant.store.hub import hub_errors

    found: dict[str, Found] = {}
    for word in words:
        run.check_stop()
        try:
            listed = list(HfApi().list_datasets(search=word, sort="downloads", limit=limit, full=True))
        except hub_errors() as error:
            first = str(error).split("\n")[0]
            raise RemoteError(f"the hub does not answer: {first}", where="online", fix="Set online: false.") from error
        for info in listed:
            tags = [str(tag) for tag in info.tags or ()]
            kinds = {tag.removeprefix("modality:") for tag in tags if tag.startswith("modality:")}
            if kinds and run.modality in ("text", "image") and run.modality not in kinds:
                continue
            found.setdefault(info.id, _of_hub(run, info, tags))
    return list(found.values())


def _of_hub(run: Run, info: Any, tags: Sequence[str]) -> Found:
    licence = next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), "")
    records = next((tag.removeprefix("size_categories:") for tag in tags if tag.startswith("size_categories:")), "")
    least = re.match(r"n?[<>]?(\d+)([KMBT]?)", records)
    scale = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    size = int(least[1]) * scale[least[2]] * _BYTES_A_RECORD if least else -1
    plain = " ".join(tag.rpartition(":")[2] for tag in tags if not tag.startswith(("license:", "region:", "arxiv:")))
    one = Found(info.id, "hub", licence, bytes=size, records=records)
    one.about = f"{info.id} {getattr(info, 'description', '') or ''} {plain}"[:_CARD_BYTES]
    one.take = {"use": "collect.hub", "dataset": info.id, "revision": info.sha or "", "licence": licence or "?"}
    one.hindrance = _hindrance(licence, run.goal.use)
    if getattr(info, "gated", False):
        one.hindrance = "it asks for consent to its terms first"
    return one


def _tells(file: OutsideFile) -> bool:
    """Whether a file says something of the data and is none itself."""
    from volant.modalities.licence_text import NAMES

    name = PurePosixPath(file.name).name
    return name.lower() in _CARD or bool(NAMES.match(name))


def _card(told: Sequence[OutsideFile]) -> tuple[str, str]:
    """What the cards say, and the licence: of a card's head, of our own metadata, or of a licence file."""
    import json

    from volant.modalities.licence import card_licence
    from volant.modalities.licence_text import licence_of

    texts, licences = [], []
    for file in sorted(told, key=lambda f: (f.name.count("/"), not f.name.lower().endswith(".md"), f.name)):
        with file.path.open("rb") as stream:
            text = stream.read(_CARD_BYTES).decode("utf-8", "replace")
        name = PurePosixPath(file.name).name.lower()
        if name.endswith(".md"):
            texts.append(text)
            licences.append(card_licence(text) or licence_of(text))
        elif name == "dataset.json":
            try:
                licences.append(" AND ".join(sorted(json.loads(text).get("licences") or {})))
            except (ValueError, AttributeError, TypeError):
                continue
        elif not name.endswith(".json"):
            licences.append(licence_of(text))
    return "\n".join(texts), next(filter(None, licences), "")


def _first_records(run: Run, files: Sequence[OutsideFile], most: int) -> Iterator[tuple[Sample, list[str]]]:
    """The first records of files spread over the list, of each about as many, and the names of their fields.

    What cannot be read is passed over.
    """
    step = max(1, len(files) // FILES)
    chosen = list(files)[::step][:FILES]
    each = -(-most // len(chosen))
    for file in chosen:
        run.check_stop()
        try:
            yield from islice(_texts(file) if run.modality == "text" else _contents(run.modality, file), each)
        except VolantError:
            continue


def _texts(file: OutsideFile) -> Iterator[tuple[Sample, list[str]]]:
    """Records of text with all that they say, whatever their fields are called; a document in pieces of equal use.

    Pieces keep candidates comparable: a book in one piece has any word.
    """
    from volant.core.sample import Source, sample_id
    from volant.modalities.text import cut
    from volant.modalities.text_files import records

    for record in islice(records(file), _LOOKED_AT):
        if isinstance(record, Refusal):
            continue
        pieces = cut("\n".join(_said(record.fields)), _PIECE)
        names = [] if record.document else sorted(map(str, record.fields))
        source = Source(uri=record.place, licence="LicenseRef-unknown")
        for piece in pieces if record.document else pieces[:1]:
            yield Sample(id=sample_id(piece), shape="text", content=piece, source=source), names


def _said(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts in a record, those of lists and objects in it as well."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and depth < 4:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _said(part, depth + 1)


def _contents(modality: str, file: OutsideFile) -> Iterator[tuple[Sample, list[str]]]:
    from volant.core.sample import Source
    from volant.modalities import open_modality

    source = Source(uri="", licence="LicenseRef-unknown")
    for item in islice(open_modality(modality).load(file, source), _LOOKED_AT):
        if isinstance(item, Sample):
            yield item, []


def _hindrance(licence: str, use: str) -> str:
    from volant.modalities.licence import hindrance

    return hindrance(licence, use)
