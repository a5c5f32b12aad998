"""Records with people's labels as Label Studio and Argilla read and write them, both ways.

Enters: samples, judgements and what a vote came to; or what one of these tools exported. Leaves: the tool's JSON; or
judgements, and what could not be taken. One label of one class each is carried. What is not: notes and dates of
judgements; in Argilla also the words "cannot tell" and final decisions, for which it has no place.

Formats: Label Studio's list of tasks (`data`, `annotations`, `predictions`; labelstud.io/guide/task_format), Argilla's
list of records as `Dataset.records.to_json` writes it (`id`, `fields`, `suggestions`, `responses`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

from volant.core.errors import DataError
from volant.core.sample import Sample
from volant.store.labels import Judgement

Tool = Literal["label-studio", "argilla"]
_TEXT = "text"


def exported(tool: Tool, samples: Iterable[Sample], said: Sequence[Judgement], name: str) -> list[dict[str, Any]]:
    """The records as the tool imports them, with the people's words and the label that they have already.

    Raises:
        DataError: a record is a picture or the like, which these files can only name by an address.
    """
    words: dict[str, list[Judgement]] = {}
    for one in said:
        words.setdefault(one.id, []).append(one)
    one_of = _task if tool == "label-studio" else _record
    return [one_of(sample, words.get(sample.id, []), name) for sample in samples]


def imported(tool: Tool, found: Any, name: str, people: Iterable[str] = ()) -> tuple[list[Judgement], list[str]]:
    """Judgements of the tool's export, and for each record or answer that could not be taken, why.

    Args:
        found: the parsed file.
        name: of the label: the tool's name of the question.
        people: raters that are known already; Argilla's ids of users are taken back to them.

    Raises:
        DataError: it is no export of that tool.
    """
    inside = "data" if tool == "label-studio" else "fields"
    if not isinstance(found, list) or not all(
        isinstance(one, dict) and isinstance(one.get(inside), dict) for one in found
    ):
        fix = f"Export as JSON: a list of objects with `{inside}`."
        raise DataError(f"this is no export of {tool}.", where="the file", fix=fix)
    taken, refused = [], []
    known = {_user(rater): rater for rater in people}
    for number, one in enumerate(found, 1):
        where = f"record {number}"
        try:
            given = list(_answers(one, name) if tool == "label-studio" else _responses(one, name, known))
        except (TypeError, AttributeError, ValueError):
            refused.append(f"{where}: its answers have another form than {tool} exports")
            continue
        id = one["data"].get("id") if tool == "label-studio" else one.get("id")
        if not isinstance(id, str) or not 0 < len(id) <= 200:
            refused.append(f"{where}: it has no id of ours; `id` of the record has to come back as it was sent")
            continue
        for by, values, final in given:
            if len(values) > 1 or any(len(value) > 1000 for value in values):
                refused.append(f"{where}: {by} names {len(values)} classes, and one is asked")
            elif problem := _unreadable(by, *values):
                refused.append(f"{where}: {problem}")
            else:
                taken.append(Judgement(id=id, name=name, value=values[0] if values else "", by=by[:100], final=final))
    return taken, refused


def labelling_config(name: str, classes: Sequence[str]) -> str:
    """What a Label Studio project needs to show the exported tasks: its labelling interface, as XML."""
    choices = "".join(f"<Choice value={quoteattr(value)}/>" for value in classes)
    head = f'<Text name="{_TEXT}" value="${_TEXT}"/>'
    return f'<View>{head}<Choices name={quoteattr(name)} toName="{_TEXT}" choice="single">{choices}</Choices></View>'


def _shown(sample: Sample) -> str:
    if sample.shape == "media":
        fix = "Label pictures with `volant label`, which shows them."
        raise DataError("pictures are not in such a file, only their addresses would be.", where=sample.id, fix=fix)
    return sample.text


def _own(sample: Sample, name: str) -> tuple[str, float]:
    """The label that the record has, and how sure it is (0 to 1)."""
    value = next((label.value for label in sample.labels if label.name == name), "")
    return value, float(sample.attrs.get("sure", {}).get(name, 1.0))


def _task(sample: Sample, said: Sequence[Judgement], name: str) -> dict[str, Any]:
    def result(value: str, by: str = "") -> list[dict[str, Any]]:
        chosen = {"choices": [value] if value else []}
        one: dict[str, Any] = {"from_name": name, "to_name": _TEXT, "type": "choices", "value": chosen}
        return [{**one, "meta": {"text": [by]}} if by else one]

    value, sure = _own(sample, name)
    task: dict[str, Any] = {"data": {"id": sample.id, _TEXT: _shown(sample)}}
    if said:
        # Label Studio takes `completed_by` only of users that it knows; the rater stays with the answer.
        task["annotations"] = [{"result": result(one.value, one.by), "ground_truth": one.final} for one in said]
    if value:
        task["predictions"] = [{"model_version": "volant", "score": sure, "result": result(value)}]
    return task


def _record(sample: Sample, said: Sequence[Judgement], name: str) -> dict[str, Any]:
    value, sure = _own(sample, name)
    answers = [{"value": one.value, "user_id": _user(one.by)} for one in said if one.value and not one.final]
    return {
        "id": sample.id,
        "fields": {_TEXT: _shown(sample)},
        "metadata": {},
        "suggestions": {name: {"value": value, "score": sure, "agent": "volant"}} if value else {},
        "responses": {name: answers} if answers else {},
        "vectors": {},
    }


def _unreadable(by: str, *values: str) -> str:
    """What is wrong with who said it or with what was said, or nothing."""
    if not by.strip():
        return "it does not say who answered"
    try:
        "".join((by, *values)).encode()
    except UnicodeEncodeError:
        return "an answer holds a lone surrogate, which is no character"
    return ""


def _user(rater: str) -> str:
    """Argilla names users by UUID: the same one for the same name."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"volant:{rater}"))


def _answers(task: Mapping[str, Any], name: str) -> Iterable[tuple[str, list[str], bool]]:
    """Who said what of a task, and whether it is its ground truth; cancelled annotations are left out."""
    for one in task.get("annotations") or []:
        if not isinstance(one, dict) or one.get("was_cancelled"):
            continue
        results = [r for r in one.get("result") or [] if isinstance(r, dict)]
        mine = [r for r in results if r.get("from_name") == name and r.get("type") == "choices"]
        values = [str(value) for r in mine for value in (r.get("value") or {}).get("choices") or []]
        noted = [str(text) for r in mine for text in (r.get("meta") or {}).get("text") or []]
        if mine or not results:
            yield (noted or [_completed(one.get("completed_by"))])[0], values, bool(one.get("ground_truth"))


def _completed(by: Any) -> str:
    if isinstance(by, dict):
        return str(by.get("email") or by.get("username") or f"user-{by.get('id', 'unknown')}")
    return f"user-{by}" if by is not None else "user-unknown"


def _responses(record: Mapping[str, Any], name: str, known: Mapping[str, str]) -> Iterable[tuple[str, list[str], bool]]:
    answers = record.get("responses")
    for one in (answers.get(name) or []) if isinstance(answers, dict) else []:
        if isinstance(one, dict):
            value, user = one.get("value"), str(one.get("user_id") or "user-unknown")
            values = value if isinstance(value, list) else [] if value is None else [value]
            yield known.get(user, user), [str(v) for v in values], False
