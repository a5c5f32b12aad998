"""What a rating or a correction of content other than text teaches: the samples of the answer, as training data.

Enters: one row of feedback with its request and answer. Leaves: the samples that were rated, in the terms of the
modality that made the answer. Two rules hold, for every modality alike:

* praise takes the samples as they are, with the condition that was asked for;
* a correction is a better *condition* (the caption, the class) of what was shown: the content stays, its words
  change. It holds for all samples of the answer, so a client that wants to name them singly asks for one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from volant.core import Sample
from volant.core.errors import VolantError
from volant.core.protocols import Route
from volant.core.sample import Label, Source, Split, sample_id, split_of


def route_of(modality: str, row: Mapping[str, Any]) -> Route | None:
    """The route that a recorded request came by, told by its shape; None for a chat or a completion."""
    from volant.modalities import open_modality

    request, response = row.get("request") or {}, row.get("response") or {}
    if "messages" in request or "choices" in response:
        return None
    for route in open_modality(modality).api().values():
        if isinstance(route, Route) and _takes(route, request):
            return route
    return None


def _takes(route: Route, request: Mapping[str, Any]) -> bool:
    from pydantic import ValidationError

    try:
        route.body.model_validate(request)
    except ValidationError:
        return False
    return True


def condition_of(route: Route, request: Mapping[str, Any]) -> str | None:
    """What a recorded request asked for, in words; None where the route cannot tell any more."""
    from pydantic import ValidationError

    try:
        condition, _, _ = route.asked(route.body.model_validate(request))
    except (ValidationError, VolantError):
        return None
    return condition


def rated(route: Route, row: Mapping[str, Any], *, modality: str, min_rating: int, licence: str) -> Iterator[Sample]:
    """The samples of an answer with what was said of it; those that teach nothing carry the reason in `drop`.

    Raises:
        ValueError: the recorded answer cannot be read any more.
    """
    from volant.modalities import open_modality
    from volant.modalities.personal import masked

    request, response = row.get("request") or {}, row.get("response") or {}
    try:
        shown = route.taught(request, response)
    except (VolantError, LookupError, TypeError, ValueError) as error:  # another version of the route wrote it
        raise ValueError(f"the answer cannot be read: {error}") from error
    correction = str(row.get("correction") or "").strip()
    rating = row.get("rating")
    liked = rating is not None and int(rating) >= min_rating
    drop = "" if correction or liked else f"no better answer: rating {rating} against {min_rating}"
    client = str(row.get("client") or "unknown")
    labels = [Label(name="rating", value=str(rating), by=client)] if rating is not None else []
    answer = sample_id(json.dumps(request, sort_keys=True), *(s.media or s.content or "" for s in shown))
    split: Split = "validation" if split_of(answer) == "validation" else "train"
    check = open_modality(modality).check
    for number, sample in enumerate(shown):
        words, counts = masked(correction or sample.condition or "")
        uri = f"feedback:{row['id']}" + (f"#{number}" if len(shown) > 1 else "")
        told = {
            "client": client, "taught_by": "correction" if correction else "rating",
            "model": str(row.get("model") or ""), "masked": counts, "request": f"{answer}#{number}",
        }  # fmt: skip
        made = sample.model_copy(
            update={
                "id": sample_id("feedback", str(row["id"]), sample.media or sample.content or "", words, str(number)),
                "condition": words or None, "split": split, "group": client, "labels": [*sample.labels, *labels],
                "source": Source(uri=uri, licence=licence, consent="given", origin="feedback"),
                "attrs": {**sample.attrs, **told},
            }
        )  # fmt: skip
        problems = check(made)
        yield made.model_copy(update={"drop": drop or (f"not usable: {problems[0]}" if problems else "")})
