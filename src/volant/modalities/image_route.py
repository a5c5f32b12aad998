"""The route `/v1/images/generations`, as OpenAI's client calls it: pure functions between bodies and samples.

In go bodies; out come conditions and controls, and samples as the answer's JSON. Images go out with their
settings and source type in their metadata. What OpenAI's service knows and this one does not is accepted
where leaving it out changes nothing that was promised (`quality`, `style`), else refused (`url`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from volant.core.errors import SettingError
from volant.core.protocols import Route
from volant.core.sample import Sample, Source
from volant.modalities.image_delivery import encoded, marks
from volant.modalities.image_pixels import BadImage, decoded, image_sample, pixels
from volant.modalities.words import plain_words

MAX_N = 16


class GenerationBody(BaseModel):
    """The body of `images.generate`; `guidance`, `steps` and `seed` are ours."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(default="", max_length=4_000)
    model: str | None = Field(default=None, max_length=256)
    n: int | None = Field(default=None, ge=1, le=MAX_N)
    size: str | None = Field(default=None, pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$", max_length=11)
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png", "webp", "jpeg"] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    guidance: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1, le=1_000)
    user: str | None = Field(default=None, max_length=256)
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = None
    style: Literal["vivid", "natural"] | None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto", "low"] | None = None
    output_compression: int | None = Field(default=None, ge=0, le=100)
    safety_identifier: str | None = Field(default=None, max_length=256)
    stream: Literal[False] | None = None
    partial_images: int | None = Field(default=None, ge=0, le=0)


def asked(body: GenerationBody) -> tuple[str, dict[str, Any], int]:
    """The prompt, the controls that were set, and how many images."""
    named = {"guidance": body.guidance, "steps": body.steps}
    return body.prompt, {name: value for name, value in named.items() if value is not None}, body.n or 1


def answer(samples: Sequence[Sample], body: GenerationBody) -> dict[str, Any]:
    """The images as the answer's JSON; `created` is the server's to fill.

    Where the model was not told all words of the prompt, `revised_prompt` says which it was.

    Raises:
        SettingError: the body asks for another size than the model's.
    """
    data = []
    named = {"guidance": body.guidance, "steps": body.steps, "seed": body.seed}
    settings = {name: value for name, value in named.items() if value is not None}
    for sample in samples:
        array = pixels(sample)
        made = f"{array.shape[1]}x{array.shape[0]}"
        if body.size not in (None, "auto", made):
            raise SettingError(
                f"this model makes images of {made}.", where="size", fix=f"Ask for {made} or leave it out."
            )
        said = marks([sample.model_copy(update={"attrs": {**sample.attrs, **settings}})])
        image = encoded(array, body.output_format or "png", said)
        entry = {"b64_json": base64.b64encode(image).decode()}
        ignored = sample.attrs.get("ignored")
        if ignored:  # as OpenAI's service says what it made of a prompt
            entry["revised_prompt"] = " ".join(word for word in plain_words(body.prompt) if word not in ignored)
        data.append(entry)
    return {"created": 0, "data": data}


def taught(body: Mapping[str, Any], answer: Mapping[str, Any]) -> list[Sample]:
    """The images of a recorded answer as samples of what was asked; empty where nothing can be read."""
    known = {name: body[name] for name in GenerationBody.model_fields if name in body}
    try:
        prompt = GenerationBody.model_validate(known).prompt
    except ValidationError:
        return []
    found = []
    data = answer.get("data")
    source = Source(uri="feedback:", licence="LicenseRef-feedback", consent="given", origin="feedback")
    for item in data[:MAX_N] if isinstance(data, list) else []:
        try:
            raw = base64.b64decode(str(item["b64_json"]), validate=True)
            found.append(image_sample(decoded(raw), source, prompt))
        except (BadImage, binascii.Error, KeyError, TypeError, ValueError):
            continue
    return found


ROUTE = Route(body=GenerationBody, asked=asked, answer=answer, example={"prompt": "", "n": 1}, taught=taught)
