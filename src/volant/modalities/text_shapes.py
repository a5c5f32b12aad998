"""Records of the shapes that the field uses, as Samples, and back.

In goes one parsed record (a JSON object, a CSV or Parquet row); out comes a Sample of one of four
core shapes, or a Refusal that says what was wrong with it. The shape is read from the fields:

| fields of the record                     | known as             | sample shape |
|------------------------------------------|----------------------|--------------|
| `messages` [{role, content}]             | OpenAI chat          | `messages`   |
| `conversations` [{from, value}]          | ShareGPT             | `messages`   |
| `prompt`, `chosen`, `rejected`           | preference; chats too| `preference` |
| `chosen`, `rejected` (both chats)        | implicit prompt      | `preference` |
| `instruction`, `input`, `output`         | Alpaca               | `completion` |
| `prompt`, `completion` (or `response`)   | completion           | `completion` |
| the same, `label` true or false          | TRL's unpaired       | the same, with a label `rating` of 1 or -1 |
| `text` (or `content`)                    | text                 | `text`       |

Groups keep records of one prompt in one split: the group is the prompt's id unless a field is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from volant.core.sample import CHAT_SHAPES, TEXT_FIELDS, Label, Sample, Source, asked_with, sample_id, split_of

MAX_CHARS = 10_000_000
FIELDS = (
    "messages", "conversations", "prompt", "chosen", "rejected", "instruction", "input", "output", "response",
    "completion", "text", "content", "tests", "label",
)  # fmt: skip
_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant",
}  # fmt: skip
_EXPECTED = (
    "messages; conversations; prompt+chosen+rejected; instruction+output; prompt+completion; text. "
    "Name yours with the setting `fields`, as in {prompt: question, completion: answer}"
)


class BadRecord(ValueError):
    """Why a record is not usable; becomes a Refusal."""


def sample_of(
    record: Any, source: Source, *, fields: Mapping[str, str] | None = None, group_field: str = "", group: str = ""
) -> Sample:
    """One record as a Sample, its split set by the hash of its group.

    Args:
        record: the parsed record.
        source: where it came from; its `uri` should name file and line.
        fields: canonical field name to the record's own (`{"prompt": "question"}`).
        group_field: a field whose value groups records that belong together (an author, a document).
        group: the group of all records, where there is one.

    Raises:
        BadRecord: the record has none of the known shapes, or is broken.
    """
    if not isinstance(record, Mapping):
        raise BadRecord(f"is a {type(record).__name__}, not an object")
    view = dict(record)
    for canonical, own in (fields or {}).items():
        if own not in record:
            raise BadRecord(f"has no field {own!r}, which `fields` names as {canonical}")
        view[canonical] = record[own]
    parts = _parts(view)
    if tests := _tests(view.get("tests")):
        parts["attrs"] = {"tests": tests}
    if "prompt" in view and isinstance(good := view.get("label"), bool):
        parts["labels"] = [Label(name="rating", value="1" if good else "-1", by="source")]
    problem = text_problem("\n".join(str(parts.get(k) or "") for k in TEXT_FIELDS))
    if problem:
        raise BadRecord(problem)
    if group_field:
        if record.get(group_field) in (None, ""):
            raise BadRecord(f"has no value in the group field {group_field!r}")
        group = str(record[group_field])
        if problem := text_problem(group):
            raise BadRecord(f"has a group that {problem}")
    body = [parts.get(k) or "" for k in ("shape", *TEXT_FIELDS)]
    name = sample_id(*body)
    group = group or _group(parts, name)
    return Sample(id=name, source=source, group=group, split=split_of(group), **parts)


def record_of(sample: Sample) -> dict[str, Any]:
    """A sample as the record that `sample_of` reads; the inverse up to the choice of names."""
    tests = {"tests": sample.attrs["tests"]} if sample.attrs.get("tests") else {}
    if sample.shape == "messages":
        return {"messages": sample.messages, **tests}
    if sample.shape == "completion":
        return {"prompt": sample.condition or "", "completion": sample.target or "", **tests}
    if sample.shape == "preference":
        answers = {"chosen": sample.target or "", "rejected": sample.rejected or ""}
        if sample.turns:  # the conversational form of TRL
            said = {name: [{"role": "assistant", "content": text}] for name, text in answers.items()}
            return {"prompt": sample.turns, **said}
        return {"prompt": sample.condition or "", **answers}
    return {"text": sample.content or ""}


def text_problem(text: str) -> str:
    """What makes a text unusable (empty, NUL, lone surrogate, too long), or nothing."""
    if not text.strip():
        return "is empty"
    if "\0" in text:
        return "holds a NUL byte"
    if len(text) > MAX_CHARS:
        return f"has {len(text):,} characters; at most {MAX_CHARS:,} are read"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds a lone surrogate (U+{ord(text[error.start]):04X}), which is no character"
    return ""


def _parts(view: Mapping[str, Any]) -> dict[str, Any]:
    if "messages" in view:
        return _chat(view["messages"], "messages", "role", "content")
    if "conversations" in view:
        turns = view["conversations"]
        first = turns[0] if isinstance(turns, list) and turns else {}
        keys = ("role", "content") if isinstance(first, Mapping) and "role" in first else ("from", "value")
        return _chat(turns, "conversations", *keys)
    if "chosen" in view and "rejected" in view:
        return _preference(view)
    if "instruction" in view and ("output" in view or "response" in view):
        context = _text(view, "input") if view.get("input") else ""
        instruction = _text(view, "instruction")
        prompt = f"{instruction}\n\n{context}" if context.strip() else instruction
        return _completion(prompt, _text(view, "output" if "output" in view else "response"))
    if "prompt" in view:
        for key in ("completion", "response"):
            if key in view:
                return _prompted(view["prompt"], view[key], key)
        raise BadRecord("has a prompt without completion, response, or chosen and rejected")
    for key in ("text", "content"):
        if key in view:
            return {"shape": "text", "content": _text(view, key)}
    found = ", ".join(sorted(map(str, view))[:8])
    has = f"has the fields {found}" if found else "has no fields"
    raise BadRecord(f"{has}, none of the known shapes: {_EXPECTED}")


def _tests(given: Any) -> str:
    """Python that raises where an answer is wrong, for the scorer `passes_tests`; lines, or a list of them."""
    lines = given if isinstance(given, list) else [given]
    return "\n".join(lines) if all(isinstance(line, str) for line in lines) else ""


def _completion(prompt: str, answer: str) -> dict[str, Any]:
    for value, name in ((prompt, "prompt"), (answer, "completion")):
        if not value.strip():
            raise BadRecord(f"has an empty {name}")
    return {"shape": "completion", "condition": prompt, "target": answer}


def _prompted(prompt: Any, answer: Any, key: str) -> dict[str, Any]:
    if isinstance(prompt, list) and isinstance(answer, list):  # TRL's conversational form
        return _chat([*prompt, *answer], "prompt", "role", "content")
    return _completion(_text({"prompt": prompt}, "prompt"), _text({key: answer}, key))


def _preference(view: Mapping[str, Any]) -> dict[str, Any]:
    chosen, rejected, prompt = (_unpacked(view.get(name)) for name in ("chosen", "rejected", "prompt"))
    if chosen == rejected:
        raise BadRecord("has the same text as chosen and as rejected")
    if isinstance(chosen, list) and isinstance(rejected, list):
        common = 0
        while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
            common += 1
        before, chosen, rejected = chosen[:common], chosen[common:], rejected[common:]
        if before:
            prompt = _before(prompt, before)
        chosen, rejected = _answer(chosen, "chosen"), _answer(rejected, "rejected")
    turns: list[dict[str, str]] = []
    if isinstance(prompt, list):
        turns = _messages(prompt, "prompt", "role", "content")
        if turns[-1]["role"] != "user":
            raise BadRecord("has a prompt whose last turn is not the user's")
        prompt = turns[-1]["content"]
    if prompt is None:
        raise BadRecord("has chosen and rejected without a prompt")
    texts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    parts = {name: _text(texts, name) for name in texts}
    for name, value in parts.items():
        if not value.strip():
            raise BadRecord(f"has an empty {name}")
    if parts["chosen"] == parts["rejected"]:
        raise BadRecord("has the same text as chosen and as rejected")
    answers = {"target": parts["chosen"], "rejected": parts["rejected"]}
    return {"shape": "preference", **asked_with(turns or [{"role": "user", "content": parts["prompt"]}]), **answers}


def _unpacked(value: Any) -> Any:
    """The turns that a CSV or Parquet cell holds as a JSON string; anything else as it is."""
    try:
        turns = json.loads(value) if isinstance(value, str) and value.lstrip().startswith("[") else []
    except (ValueError, RecursionError):
        return value
    is_chat = bool(turns) and all(isinstance(turn, Mapping) and {"role", "content"} <= turn.keys() for turn in turns)
    return turns if is_chat else value


def _before(prompt: Any, turns: list[Any]) -> list[Any]:
    """The turns that both chats begin with; a prompt that is named beside them is one of them, or stands before.

    What a list of turns ends with is not said twice where the chats begin with it.
    """
    if isinstance(prompt, list):
        twice = next(n for n in range(min(len(prompt), len(turns)), -1, -1) if prompt[len(prompt) - n :] == turns[:n])
        return [*prompt, *turns[twice:]]
    said = [str(turn.get("content", "")).strip() for turn in turns if isinstance(turn, Mapping)]
    if isinstance(prompt, str) and prompt.strip() not in ["", *said]:
        raise BadRecord("has a prompt that none of the turns in chosen and rejected says")
    return turns


def _answer(turns: list[Any], name: str) -> str:
    messages = _messages(turns, name, "role", "content")
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise BadRecord(f"has {len(messages)} turns in {name} beyond the prompt; one of the assistant's is read")
    return messages[0]["content"]


def _chat(turns: Any, field: str, role_key: str, content_key: str) -> dict[str, Any]:
    messages = _messages(turns, field, role_key, content_key)
    if not any(m["role"] == "assistant" and m["content"].strip() for m in messages):
        raise BadRecord(f"has no assistant turn in {field}, so there is nothing to learn")
    return {"shape": "messages", "content": json.dumps(messages, ensure_ascii=False)}


def _messages(turns: Any, field: str, role_key: str, content_key: str) -> list[dict[str, str]]:
    if isinstance(turns, str):  # a JSON string in a CSV or Parquet cell
        try:
            turns = json.loads(turns)
        except (ValueError, RecursionError):
            raise BadRecord(f"has {field} that is text, not a list") from None
    if not isinstance(turns, list) or not turns:
        raise BadRecord(f"has {field} that is no list of turns")
    messages = []
    for at, turn in enumerate(turns):
        if not isinstance(turn, Mapping) or role_key not in turn:
            raise BadRecord(f"has a turn {at} in {field} without {role_key!r}")
        role = _ROLES.get(str(turn[role_key]).lower())
        if role is None:
            raise BadRecord(f"has the role {turn[role_key]!r} in {field}; system, user and assistant are known")
        messages.append({"role": role, "content": _content(turn.get(content_key), field, at)})
        problem = text_problem(messages[-1]["content"] or " ")
        if problem and problem != "is empty":
            raise BadRecord(f"has a turn {at} in {field} that {problem}")
    return messages


def _content(value: Any, field: str, at: int) -> str:
    if isinstance(value, list):  # OpenAI content parts
        parts = []
        for part in value:
            if not isinstance(part, Mapping) or part.get("type") != "text":
                raise BadRecord(f"has a turn {at} in {field} with content other than text")
            parts.append(str(part.get("text", "")))
        return "\n".join(parts)
    if not isinstance(value, str):
        raise BadRecord(f"has a turn {at} in {field} whose content is {type(value).__name__}, not text")
    return value


def _text(view: Mapping[str, Any], key: str) -> str:
    value = view.get(key)
    if not isinstance(value, str):
        raise BadRecord(f"has {key!r} of type {type(value).__name__}, not text")
    return value


def _group(parts: Mapping[str, Any], name: str) -> str:
    if parts["shape"] in CHAT_SHAPES and parts.get("content"):
        turns = json.loads(parts["content"])
        return sample_id(next((m["content"] for m in turns if m["role"] == "user"), name))
    return sample_id(parts["condition"]) if parts.get("condition") else name
