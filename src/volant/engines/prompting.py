"""Use a Prompt artifact: instructions and in-context examples put before every chat request.

Enters: a Prompt (`prompt.json`, described by `PromptFile`) and requests. Leaves: requests with a longer message
list; the model is untouched. Examples are chosen for each request by the similarity of hashed character
n-grams: no second model, no index to keep, the same choice on every machine. The whole prompt has to fit the
model's context: that is stored as a number of characters, and where a request is long, it gets fewer examples.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volant.core.artifact import Prompt
from volant.core.errors import ArtifactError
from volant.core.protocols import Chunk, Request, Session

FILE = "prompt.json"
_BUCKETS = 4096
_LONGEST_CHARACTERS = 20_000


class Example(BaseModel):
    """One worked example: what is asked, what is answered, and the sample that it was taken from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    completion: str
    sample: str = ""


class PromptFile(BaseModel):
    """`prompt.json`.

    Attributes:
        system: instructions put first; empty for none.
        examples: the pool that examples are chosen from.
        k: how many of them a request gets; 0 where measuring showed that they do not help.
        select: `nearest`: the most similar ones, the most similar last; `fixed`: the first k, in order.
        budget_characters: how long system text, examples and request may be together.
        controls: how content is drawn where a request does not say (guidance, steps).
        model: digest of the model that it was measured with.
        measured: the figures behind k, for people; nothing here changes a request.
    """

    model_config = ConfigDict(extra="forbid")

    system: str = ""
    examples: list[Example] = Field(default_factory=list)
    k: int = Field(default=0, ge=0)
    select: Literal["nearest", "fixed"] = "nearest"
    budget_characters: int = Field(default=4000, ge=0)
    controls: dict[str, float] = Field(default_factory=dict)
    model: str = ""
    measured: dict[str, Any] = Field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write `prompt.json` into a folder."""
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Library:
    """A prompt file with its pool as unit vectors [n, buckets], ready to choose from."""

    file: PromptFile
    vectors_ND: NDArray[np.float32]

    @classmethod
    def of(cls, file: PromptFile) -> Library:
        """Vectorise the pool, once."""
        rows = [vector(example.prompt) for example in file.examples] if file.select == "nearest" else []
        return cls(file, np.stack(rows) if rows else np.zeros((0, _BUCKETS), np.float32))

    def choose(self, question: str, room: int) -> list[Example]:
        """Up to k examples that fit into `room` characters together; the most similar one last."""
        file = self.file
        order = range(len(file.examples))
        if file.select == "nearest" and file.k:
            # A stable sort of negated similarities: ties go to the earlier example, on every machine.
            similarity = np.round(self.vectors_ND @ vector(question), 6)
            order = np.argsort(-similarity, kind="stable").tolist()
        chosen: list[Example] = []
        for index in order:
            if len(chosen) == file.k:
                break
            example = file.examples[index]
            size = len(example.prompt) + len(example.completion)
            if size <= room:
                chosen.append(example)
                room -= size
        return chosen[::-1] if file.select == "nearest" else chosen

    def apply(self, request: Request) -> Request:
        """The request with system text and examples before its messages; a plain `prompt` gets the controls."""
        if not request.messages:
            return (
                replace(request, controls={**self.file.controls, **request.controls}) if self.file.controls else request
            )
        asked = [dict(message) for message in request.messages]
        own = [m["content"] for m in asked if m.get("role") == "system"]
        turns = [m for m in asked if m.get("role") != "system"]
        question = next((str(m.get("content", "")) for m in reversed(turns) if m.get("role") == "user"), "")
        system = "\n\n".join(part for part in (self.file.system, *own) if part)
        used = len(system) + sum(len(str(m.get("content", ""))) for m in turns)
        examples = self.choose(question, self.file.budget_characters - used)
        messages: list[Mapping[str, str]] = [{"role": "system", "content": system}] if system else []
        for example in examples:
            messages.append({"role": "user", "content": example.prompt})
            messages.append({"role": "assistant", "content": example.completion})
        return replace(request, messages=(*messages, *turns))


def vector(text: str) -> NDArray[np.float32]:
    """A text as a unit vector of hashed words and character trigrams; crc32, as Python's own hash is salted."""
    text = text[:_LONGEST_CHARACTERS].lower()
    grams = re.findall(r"\w+", text)
    grams += [text[i : i + 3] for i in range(len(text) - 2)]
    hashed = [zlib.crc32(gram.encode("utf-8", "surrogatepass")) % _BUCKETS for gram in grams]
    counts = np.bincount(hashed, minlength=_BUCKETS) if hashed else np.zeros(_BUCKETS)
    weights: NDArray[np.float32] = np.sqrt(counts).astype(np.float32)
    norm = float(np.linalg.norm(weights))
    return weights / np.float32(norm) if norm else weights


def library(prompt: Prompt) -> Library:
    """The prompt's file, checked and vectorised; kept in memory for as long as the file is the same.

    Raises:
        ArtifactError: `prompt.json` is missing or of another shape.
    """
    file = prompt.path / FILE
    try:
        facts = file.stat()
    except OSError as error:
        raise ArtifactError(f"Prompt has no {FILE}", where=str(prompt.path), fix="Run `volant verify`.") from error
    return _library(file, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=8)
def _library(file: Path, mtime_ns: int, size: int) -> Library:
    try:
        return Library.of(PromptFile.model_validate_json(file.read_text(encoding="utf-8")))
    except (OSError, ValidationError) as error:
        raise ArtifactError(f"{FILE} does not parse: {error}", where=str(file), fix="Run `volant verify`.") from error


def apply(prompt: Prompt, request: Request) -> Request:
    """The request as the prompt wants it asked."""
    return library(prompt).apply(request)


def prompted(session: Session, prompt: Prompt | Library) -> Session:
    """A session that puts the prompt before every chat request."""
    return PromptedSession(session, prompt if isinstance(prompt, Library) else library(prompt))


class PromptedSession:
    """Wraps a session; ids, cancelling and counts pass through."""

    def __init__(self, session: Session, library: Library) -> None:
        self.session, self.library = session, library

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """Run the requests with the prompt put before each."""
        return self.session.generate([self.library.apply(request) for request in requests])

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """Log-probabilities of the continuations after the prompted requests."""
        return self.session.logprobs([(self.library.apply(request), text) for request, text in pairs])

    def cancel(self, id: str) -> None:
        """End a running request."""
        self.session.cancel(id)

    def close(self) -> None:
        """Close the wrapped session."""
        self.session.close()
