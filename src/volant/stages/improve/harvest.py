"""What people taught the model by using it: their corrections and their praise, as training data.

Enters: feedback in the records up to the snapshot's mark. Leaves: a Dataset of (request -> better answer)
pairs; for content other than text of the rated samples (`content.py` says what teaches what). Only feedback that
was given for training is taken; what lacks that consent is counted and not copied, for then we may not keep it
either. Everything else that is refused stays in `dropped/` with its reason. Nothing enters the test split, which
feedback must never be able to move. The date of a feedback is in the records under its id, not here: the same
feedback has to give the same digest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from volant.core import Dataset, Records, Run, Sample
from volant.core.errors import DataError, SettingError
from volant.core.sample import BAD_RATING, Label, Source, Split, sample_id, split_of


def harvest(
    run: Run,
    *,
    feedback: Records = "*",
    min_rating: int = 1,
    rated: bool = False,
    max_characters: Annotated[int, Field(ge=1)] = 8000,
    per_client: Annotated[int, Field(ge=1)] = 1000,
    licence: str = "LicenseRef-feedback",
) -> Dataset:
    """Turn feedback into a dataset: the request, and the answer that people wanted.

    Args:
        run: brings the records.
        feedback: which served workload; `*` is all of them.
        min_rating: an answer rated at least this high (as clients send it; 1 is a thumb up) is taken as it
            is where nobody corrected it; higher takes less.
        rated: take every answer that was rated, bad ones too, beside the corrections: for `align.kto`, which learns
            from good and bad answers alike. Other training and reports leave the bad ones out. Text only. Where prompts
            are long, `collect.clean` takes a bad answer for a near duplicate of the good one, unless `near: 1` is set.
        max_characters: longer requests or answers are dropped.
        per_client: at most so many pairs of one client, its newest; bounds what a single one can teach.
        licence: SPDX expression of the terms that clients give feedback under; stands on every sample.

    Raises:
        DataError: nothing usable is there; the message counts why.
        LicenceError: the licence is unknown or forbids the use.
        SettingError: `rated` was asked of what is no text.
    """
    from volant.modalities.licence import require
    from volant.store.dataset import writer

    licence = require(licence, run.goal.use, where=run.step)
    if rated and run.modality not in ("text", "code"):
        what = f"`rated` is for `align.kto`, which is for text, not for {run.modality!r}."
        raise SettingError(what, where=run.step, fix="Leave it out.")
    refused: Counter[str] = Counter()
    rows = [] if run.records is None else list(run.records.feedback(run.snapshot("feedback")))
    least = None if rated else min_rating
    samples = list(_samples(rows, refused, modality=run.modality, min_rating=least, licence=licence))
    samples = [run.remembered(sample) for sample in _newest(samples, per_client, max_characters)]
    kept = [sample for sample in samples if not sample.drop]
    refused.update(sample.drop.split(":")[0] for sample in samples if sample.drop)
    said = ", ".join(f"{n} {rule}" for rule, n in sorted(refused.items())) or "none"
    if not kept:
        what = f"no usable feedback among {len(rows)} (refused: {said})"
        fix = "Serve the model and send corrections to /v1/feedback with consent: training."
        raise DataError(f"{what}.", where=run.step, fix=fix)
    with writer(run.out, modality=run.modality) as file:
        # By what they say: in which order people happened to write must not change what is learnt from it. Bad answers
        # last, for of two that are alike `collect.clean` keeps the earlier.
        file.write_all(sorted(samples, key=lambda s: (s.rated_down, s.text, s.source.uri, s.id)))
    facts = {"feedback": len(rows), "kept": len(kept), "refused": dict(sorted(refused.items()))}
    (run.out / "harvest.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    taken = {sample.source.uri.partition("#")[0]: sample.attrs["taught_by"] for sample in kept}
    corrected = sum(how == "correction" for how in taken.values())
    many = f" as {len(kept)} samples" if len(kept) > len(taken) else ""
    run.say(f"{len(taken)} of {len(rows)} feedbacks taken{many} ({corrected} corrections); refused: {said}")
    return Dataset(run.out)


def _samples(
    rows: list[dict[str, Any]], refused: Counter[str], *, modality: str, min_rating: int | None, licence: str
) -> Iterator[Sample]:
    """The samples of each feedback, oldest first; what may not even be kept is counted only.

    Args:
        min_rating: see `harvest`; None takes every answer that was rated, however.
    """
    from volant.scorers.safety import PERSONAL, findings
    from volant.stages.improve.content import rated, route_of

    for row in rows:
        if row.get("consent") != "training":
            refused["no consent to training"] += 1
            continue
        route = route_of(modality, row)
        if route is not None and min_rating is not None:
            try:
                found = list(rated(route, row, modality=modality, min_rating=min_rating, licence=licence))
            except ValueError:
                found = []
        else:
            found = _pairs(row, min_rating, licence)
        if not found:
            refused["no readable answer" if route else "no readable request"] += 1
        for sample in found:
            # Of a row or an image only what a person wrote is looked at: numbers that are alike are no one's.
            kinds = findings((sample.condition or "") if route else sample.text)
            if any(kind in PERSONAL for kind in kinds):  # no mask knows it, so it must not be kept at all
                refused["personal data that could not be masked"] += 1
                continue
            yield sample if sample.drop or not kinds else sample.model_copy(update={"drop": f"unsafe: {kinds[0]}"})


def _pairs(row: Mapping[str, Any], min_rating: int | None, licence: str) -> list[Sample]:
    """The request with the better answer, or with all that something was said of; none where no text was asked."""
    turns = request_turns(row.get("request") or {})
    if not turns:
        return []
    correction = str(row.get("correction") or "").strip()
    rating = row.get("rating")
    shown = response_text(row.get("response") or {}).strip()
    if min_rating is None:
        said = [(correction, "correction")]
        if rating is not None:
            said.insert(0, (shown, "rating" if int(rating) > 0 else BAD_RATING))
        pairs = [_sample(row, turns, answer, how, "", licence, request=answer) for answer, how in said if answer]
        return pairs or [_sample(row, turns, "", "rating", "no rating and no correction", licence)]
    liked = rating is not None and int(rating) >= min_rating
    answer = correction or (shown if liked else "")
    drop = "" if answer else f"no better answer: rating {rating} against {min_rating}"
    return [_sample(row, turns, answer, "correction" if correction else "rating", drop, licence)]


def _sample(
    row: Mapping[str, Any], turns: list[dict[str, str]], answer: str, taught_by: str, drop: str, licence: str,
    request: str = "",
) -> Sample:  # fmt: skip
    """The pair with its source and consent, personal data masked.

    Args:
        request: what its client may say anew beside the turns; the newest word counts.
    """
    from volant.modalities.personal import masked

    found: Counter[str] = Counter()
    clean = []
    for turn in turns:
        text, counts = masked(turn["content"])
        found.update(counts)
        clean.append({"role": turn["role"], "content": text})
    answer, counts = masked(answer)
    found.update(counts)
    key = json.dumps(clean, ensure_ascii=False, sort_keys=True)
    split: Split = "validation" if split_of(key) == "validation" else "train"
    client = str(row.get("client") or "unknown")
    alone = len(clean) == 1 and clean[0]["role"] == "user"
    whole = [*clean, {"role": "assistant", "content": answer}]
    labels = [Label(name="rating", value=str(row["rating"]), by=client)] if row.get("rating") is not None else []
    return Sample(
        id=sample_id("feedback", str(row["id"]), key, answer),
        shape="completion" if alone else "messages",
        content=None if alone else json.dumps(whole, ensure_ascii=False),
        condition=clean[0]["content"] if alone else None,
        target=answer if alone else None,
        split=split,
        group=client,
        source=Source(uri=f"feedback:{row['id']}", licence=licence, consent="given", origin="feedback"),
        labels=labels,
        attrs={
            "client": client,
            "taught_by": taught_by,
            "model": str(row.get("model") or ""),
            "masked": dict(sorted(found.items())),
            "request": sample_id(key, request) if request else sample_id(key),
        },
        drop=drop,
    )


def _newest(samples: list[Sample], per_client: int, max_characters: int) -> list[Sample]:
    """The samples with further reasons to drop: too long, said again later, over the client's share."""
    seen: set[tuple[str, str]] = set()
    taken: Counter[str] = Counter()
    judged = []
    for sample in reversed(samples):  # the newest word of a client on a request counts
        client, request = sample.attrs["client"], sample.attrs["request"]
        drop = sample.drop
        if not drop and len(sample.text) > max_characters:
            drop = f"too long: {len(sample.text)} characters against {max_characters}"
        if not drop and (client, request) in seen:
            drop = "said again later: the client's newest word on the request counts"
        if not drop and taken[client] >= per_client:
            drop = f"over the client's share: {per_client}"
        if not drop:
            seen.add((client, request))
            taken[client] += 1
        judged.append(sample.model_copy(update={"drop": drop}))
    return judged[::-1]


def request_turns(request: Mapping[str, Any]) -> list[dict[str, str]]:
    """The turns of an OpenAI request (`messages`, or `prompt` as one user turn); empty where it has no text."""
    if isinstance(request.get("messages"), list):
        turns = [
            {"role": str(m.get("role") or "user"), "content": content_text(m.get("content"))}
            for m in request["messages"]
            if isinstance(m, dict)
        ]
        turns = [turn for turn in turns if turn["content"].strip()]
        return turns if any(turn["role"] == "user" for turn in turns) else []
    prompt = request.get("prompt")
    prompt = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) and prompt.strip() else []


def content_text(content: Any) -> str:
    """The text of a message's content, which may be a list of typed parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def response_text(response: Mapping[str, Any]) -> str:
    """The text of the first choice of an OpenAI response; empty where there is none."""
    choices = response.get("choices") or []
    first = choices[0] if isinstance(choices, list) and choices else {}
    message = first.get("message") or {}
    return content_text(message.get("content")) or str(first.get("text") or "")
