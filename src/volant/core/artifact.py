"""What stages exchange: immutable directories with an `artifact.json`. Six kinds, closed.

While a method runs, its artifact is a plain directory (`run.out`) without a card. The project
seals it: hashes the payload, writes `artifact.json`, fsyncs and renames it into the store.
`artifact.json` is not payload, and no payload holds a time, host, path, run id or measured
duration, so the same work gives the same digest.
"""

from __future__ import annotations

import hashlib
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volant.core.errors import ArtifactError
from volant.core.score import Score

CARD = "artifact.json"


class FileEntry(BaseModel):
    """One payload file: POSIX path inside the artifact, size in bytes, sha256 in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    bytes: int
    sha256: str


class Card(BaseModel):
    """`artifact.json`: what the artifact is, what made it, and what it must hash to.

    Attributes:
        parents: for each input of the method, the digests that went in.
        licences: SPDX expressions of everything it was made from.
        versions: the packages that shaped it (volant, torch, transformers ...).
        recipe: what else it takes to make the same bytes again: modality, what was read of the goal, the hash of the
            code, and for each outside setting its digest, facts and files with their hashes.
    """

    model_config = ConfigDict(extra="forbid")

    kind: str
    digest: str
    files: list[FileEntry]
    method: str = ""
    step: str = ""
    settings: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    parents: dict[str, list[str]] = Field(default_factory=dict)
    licences: list[str] = Field(default_factory=list)
    scores: list[Score] = Field(default_factory=list)
    run: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    created_at: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes of payload."""
        return sum(entry.bytes for entry in self.files)


@dataclass(frozen=True)
class Artifact:
    """A directory of one kind; `card` is None until the project has sealed it."""

    path: Path
    card: Card | None = None
    kind: ClassVar[str] = "Artifact"

    @property
    def digest(self) -> str:
        """The sha256 of the payload: from the card, or computed where there is none yet."""
        return self.card.digest if self.card else payload_digest(self.path)[0]

    @property
    def licences(self) -> list[str]:
        """SPDX expressions of everything the artifact was made from."""
        return list(self.card.licences) if self.card else []

    def read_json(self, name: str) -> Any:
        """The parsed JSON file `name` of the payload.

        Raises:
            ArtifactError: the file is missing or no JSON.
        """
        file = self.path / name
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{self.kind} has no readable {name}: {error}", where=str(self.path), fix="Run `volant verify`."
            ) from error

    def _repr_html_(self) -> str:
        """A small table for notebooks: kind, digest, method, scores."""
        rows = [("kind", self.kind), ("digest", self.digest[:16]), ("path", str(self.path))]
        if self.card:
            rows += [("method", self.card.method), ("bytes", f"{self.card.size_bytes:,}")]
            rows += [(s.name if s.of == "model" else f"{s.name} ({s.of})", str(s)) for s in self.card.scores]
        cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows)
        return f"<table>{cells}</table>"


class Plan(Artifact):
    """What we build, for whom, what counts as good: `plan.json` and `index.html`."""

    kind = "Plan"


class Dataset(Artifact):
    """Samples as Parquet; read and written through `volant.store.dataset`."""

    kind = "Dataset"

    @property
    def about(self) -> dict[str, Any]:
        """`dataset.json`: `splits` (kept samples per split), `dropped`, `licences`, `shapes`, `origins`."""
        about: dict[str, Any] = self.read_json("dataset.json")
        return about


class ModelAbout(BaseModel):
    """`volant.json` of a Model: what is needed to open it.

    Attributes:
        family: name of the module in `volant.nets` (`transformer`); `remote` for a hosted model.
        engine: name of the module in `volant.engines` that runs it by default.
        space: the codec's space, as JSON (`{"type": "tokens", "vocab": 4096, "length": 512}`).
        chat_template_sha256: of the template that training used; checked wherever prompts are rendered.
        extra: what the family or engine adds (a base's name, the stated loss of a quantisation).
    """

    model_config = ConfigDict(extra="forbid")

    family: str
    modality: str
    engine: str = "torch"
    space: dict[str, Any] = Field(default_factory=dict)
    chat_template_sha256: str = ""
    parameters: int = 0
    extra: dict[str, Any] = Field(default_factory=dict)


class Model(Artifact):
    """Weights in the ecosystem's own files, `volant.json`, and the codec's files."""

    kind = "Model"

    @property
    def about(self) -> ModelAbout:
        """`volant.json`, parsed.

        Raises:
            ArtifactError: it is missing or of another shape.
        """
        try:
            return ModelAbout.model_validate(self.read_json("volant.json"))
        except ValidationError as error:
            raise ArtifactError(f"volant.json does not parse: {error}", where=str(self.path)) from error


class Prompt(Artifact):
    """Instructions and in-context examples for one model: `prompt.json`."""

    kind = "Prompt"


class Report(Artifact):
    """Measured scores and a verdict: `report.json` and one self-contained `index.html`."""

    kind = "Report"


class Endpoint(Artifact):
    """A description of a service (`endpoint.json`) and the receipt of its smoke test."""

    kind = "Endpoint"


KINDS: dict[str, type[Artifact]] = {k.kind: k for k in (Plan, Dataset, Model, Prompt, Report, Endpoint)}


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def payload_digest(path: Path) -> tuple[str, list[FileEntry]]:
    """The digest of a directory and its payload entries, sorted by path.

    The digest is the sha256 over `path NUL sha256 LF` of every file but `artifact.json`.

    Raises:
        ArtifactError: the payload holds a symbolic link or something that is no file.
    """
    entries = []
    for file in sorted(path.rglob("*"), key=lambda f: f.relative_to(path).as_posix()):
        name = file.relative_to(path).as_posix()
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise ArtifactError(f"{name} is not a plain file", where=str(path), fix="Write plain files only.")
        if file.is_file() and name != CARD:
            entries.append(FileEntry(path=name, bytes=file.stat().st_size, sha256=file_sha256(file)))
    return entries_digest(entries), entries


def entries_digest(entries: list[FileEntry]) -> str:
    """The artifact digest that a list of payload entries gives."""
    total = hashlib.sha256()
    for entry in sorted(entries, key=lambda e: e.path):
        total.update(f"{entry.path}\0{entry.sha256}\n".encode())
    return total.hexdigest()
