"""Between the model and the reader: prompts read, conditions told, texts trimmed, cut and replaced.

Enters: prompt files, conditions, a raw text. Leaves: prompts, an instruction, a `Draft` with its
findings. All of it is plain text work without a model, and the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from volant.core.errors import DataError
from volant.core.outside import OutsideFile

if TYPE_CHECKING:
    from volant.scorers.compliance import Conditions, Finding

_END = re.compile(r"[.!?…][\"')\]]*(?=\s|$)")


@dataclass(frozen=True)
class Edits:
    """What is done to a text after it was generated, in this order: trim, replace, limit."""

    trim: bool = True
    limit: int = 0
    replace: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A text with what was found in it.

    Attributes:
        kept: share of the conditions that it keeps; 1 where there are none.
        unsafe: what the safety filter found; empty where it is off.
    """

    prompt: str
    text: str
    finish: str
    error: str
    findings: list[Finding]
    kept: float
    unsafe: list[str]

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """What makes one draft better than another: a safe text at all, then the conditions that it keeps."""
        return bool(self.text.strip()) and not self.error, not self.unsafe, self.kept


def draft_of(
    prompt: str, raw: str, finish: str, error: str, conditions: Conditions, edits: Edits, safety: bool
) -> Draft:
    """The edited text, judged as it will be read."""
    from volant.scorers.compliance import check
    from volant.scorers.safety import findings as unsafe

    text = edited(raw, edits, unfinished=finish == "length")
    findings = [] if error else check(text, conditions)
    kept = sum(finding.met for finding in findings) / len(findings) if findings else float(not error)
    return Draft(prompt, text, finish, error, findings, kept, unsafe(text, prompt) if safety else [])


def edited(text: str, edits: Edits, *, unfinished: bool = False) -> str:
    """The text trimmed, replaced and cut.

    >>> edited(" One. Two and", Edits(), unfinished=True)
    'One.'
    """
    if edits.trim:
        text = text.strip()
        ends = [match.end() for match in _END.finditer(text)]
        if unfinished and ends:
            text = text[: ends[-1]]
    for old, new in edits.replace.items():
        text = text.replace(old, new) if old else text
    if edits.limit and len(text) > edits.limit:
        cut = text[: edits.limit]
        space = cut.rfind(" ")
        inside = text[edits.limit : edits.limit + 1].strip() and space > 0  # the cut falls into a word
        text = (cut[:space] if inside else cut).rstrip()
    return text


def instruction(conditions: Conditions) -> str:
    """The conditions as sentences for the model; empty where there are none."""
    said = []
    if conditions.tone:
        said.append(f"Write in a {conditions.tone} tone.")
    low, high = conditions.min_words, conditions.max_words
    if low is not None and high is not None:
        said.append(f"Write between {low} and {high} words.")
    elif low is not None or high is not None:
        said.append(f"Write at least {low} words." if low is not None else f"Write at most {high} words.")
    if conditions.keywords:
        said.append(f"Use these words: {', '.join(conditions.keywords)}.")
    if conditions.forbidden:
        said.append(f"Do not use these words: {', '.join(conditions.forbidden)}.")
    if conditions.audience:
        said.append(f"The reader is: {conditions.audience}.")
    if conditions.language:
        said.append(f"Write in the language with the code {conditions.language}.")
    if conditions.json_schema is not None:
        schema = json.dumps(conditions.json_schema, sort_keys=True)
        said.append(f"Answer with JSON only, following this schema: {schema}")
    return " ".join(said)


def read_prompts(files: Iterable[OutsideFile]) -> Iterator[str]:
    """The prompts of the files, in order; empty ones are left out.

    Raises:
        DataError: a file is no text, or a record has no prompt.
    """
    for file in files:
        try:
            text = file.path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError("the file is no UTF-8 text.", where=file.name, fix="Save it as UTF-8.") from error
        yield from (prompt for prompt in _of_file(file.name, text) if prompt.strip())


def seed_of(*parts: int) -> int:
    """A seed for one draw that depends on all parts; below 2**31."""
    digest = hashlib.sha256(",".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _of_file(name: str, text: str) -> Iterator[str]:
    kind = name.rpartition(".")[2].lower()
    if kind in ("jsonl", "ndjson"):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield _of_record(_parsed(line, f"{name}:{number}"), f"{name}:{number}")
    elif kind == "json":
        whole = _parsed(text, name)
        for number, record in enumerate(whole if isinstance(whole, list) else [whole], 1):
            yield _of_record(record, f"{name}[{number}]")
    elif re.search(r"^---\s*$", text, flags=re.MULTILINE):
        yield from (block.strip("\n") for block in re.split(r"^---\s*$", text, flags=re.MULTILINE))
    else:
        yield from text.splitlines()


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"this is no JSON: {error}.", where=where, fix="Write one JSON value a line.") from error


def _of_record(record: Any, where: str) -> str:
    if isinstance(record, str):
        return record
    if isinstance(record, dict):
        for name in ("prompt", "instruction", "text"):
            if isinstance(record.get(name), str):
                return str(record[name])
        turns = record.get("messages")
        users = [m for m in turns if isinstance(m, dict) and m.get("role") == "user"] if isinstance(turns, list) else []
        if users:
            return str(users[-1].get("content") or "")
    raise DataError("the record has no prompt.", where=where, fix='Write {"prompt": "..."} or a plain string.')
