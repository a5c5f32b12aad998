"""A made-up modality of single-coloured pictures: its route, its codec, and a family that draws a colour at random.

Small enough to be read at once, and real where it counts: PNG files by Pillow, the sampler engine's own session.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from volant.core.errors import DataError, SettingError
from volant.core.protocols import Route
from volant.core.sample import Sample, Source, sample_id
from volant.core.spaces import Grid
from volant.nets.session import DrawSession

PATH = "/v1/images/generations"
COLOURS = {"red": 0, "green": 1, "blue": 2}
GENERATED = Source(uri="toy:", licence="CC0-1.0", origin="generated")


def painted(rgb: Sequence[int], condition: str = "") -> Sample:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), tuple(int(v) for v in rgb)).save(file, "PNG")
    media = file.getvalue()
    return Sample(
        id=sample_id(media, condition), shape="media", media=media, condition=condition or None, source=GENERATED
    )


def colour_of(sample: Sample) -> tuple[int, int, int]:
    r, g, b = Image.open(io.BytesIO(sample.media or b"")).convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    return int(r), int(g), int(b)


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(max_length=100_000)
    model: str | None = Field(default=None, max_length=256)
    n: int = Field(default=1, ge=1, le=8)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    guidance: float | None = Field(default=None, ge=-100, le=100)
    response_format: str = Field(default="b64_json", max_length=16)
    user: str | None = Field(default=None, max_length=64)


def _asked(body: Body) -> tuple[str, dict[str, Any], int]:
    if body.response_format != "b64_json":
        raise SettingError(f"there is no response_format {body.response_format!r}.", fix="Ask for b64_json.")
    return body.prompt, {} if body.guidance is None else {"guidance": body.guidance}, body.n


def _answer(samples: Sequence[Sample], body: Body) -> dict[str, Any]:
    if body.prompt == "green" and body.user == "breaks":
        raise OSError("secret detail at /somewhere/inside")
    if body.user == "refuses":
        raise SettingError("this model makes images of 4x4.", where="/secret/place", fix="Ask for 4x4.")
    return {"data": [{"b64_json": base64.b64encode(s.media or b"").decode()} for s in samples]}


def _taught(request: Mapping[str, Any], response: Mapping[str, Any]) -> list[Sample]:
    data = [base64.b64decode(entry["b64_json"]) for entry in response.get("data", [])]
    asked = str(request.get("prompt", ""))
    return [
        Sample(id=sample_id(m, asked), shape="media", media=m, condition=asked or None, source=GENERATED) for m in data
    ]


ROUTE = Route(body=Body, asked=_asked, answer=_answer, example={"prompt": "", "n": 1}, taught=_taught)


class Codec:
    space = Grid(3, (1, 1), 3)

    def encode(self, sample: Sample) -> Any:
        raise NotImplementedError

    def decode(self, values: Any, condition: str = "") -> Sample:
        return painted(np.asarray(values).astype(int), condition)

    def condition(self, text: str) -> tuple[int, ...]:
        if text in ("", "white"):  # nothing it draws is white: `fits` says so
            return ()
        if text not in COLOURS:
            raise DataError(f"there is no class {text!r}.", where="/models/toy", fix=f"Known: {', '.join(COLOURS)}.")
        return (COLOURS[text],)

    def fits(self, sample: Sample, condition: str) -> bool:
        return condition != "white" or colour_of(sample) == (255, 255, 255)

    def save(self, folder: Any) -> None:
        raise NotImplementedError


class Family:
    name, controls = "toy", {"guidance": (0.0, 10.0)}

    def __init__(self) -> None:
        self.seeds: list[list[int]] = []

    def sample(self, net: Any, prompts: Any, *, seed: int, seeds: list[int], **controls: Any) -> Any:
        self.seeds.append(list(seeds))
        drawn = np.zeros((len(prompts), 3))
        for row, (ids, own) in enumerate(zip(prompts, seeds, strict=True)):
            drawn[row, ids[0] if ids else own % 3] = np.random.default_rng(own).integers(60, 250)
        if controls.get("guidance") == 9:
            raise RuntimeError("secret detail at /somewhere/inside")
        return drawn


def session() -> DrawSession:
    return DrawSession(Family(), None, Codec())


class Modality:
    """What stages and the command line ask of a modality."""

    name, version, media_type, shapes = "toy", 1, "image/png", ("media",)

    def api(self) -> dict[str, Route]:
        return {PATH: ROUTE}

    def check(self, sample: Sample) -> list[str]:
        return [] if (sample.media or b"").startswith(b"\x89PNG") else ["it is no PNG"]

    def features(self, samples: Sequence[Sample]) -> Any:
        return np.array([colour_of(s) for s in samples], np.float32).reshape(len(samples), 3) / 255

    def parts(self, samples: Sequence[Sample]) -> dict[str, list[float | str]]:
        return {
            "brightness": [float(sum(colour_of(s))) for s in samples],
            "class": [s.condition or "" for s in samples],
        }

    def preview(self, samples: Sequence[Sample]) -> str:
        return "".join(f"<b>{colour_of(s)}</b>" for s in samples)

    def deliver(self, samples: Sequence[Sample], form: str) -> bytes:
        if form != "png":
            raise SettingError(f"pictures are not delivered as {form!r}.", where="form", fix="Known: png.")
        (sample,) = samples
        return sample.media or b""


class Rows(Modality):
    """A table: its rows are delivered together."""

    name, media_type, shapes = "toy_rows", "application/json", ("row",)

    def deliver(self, samples: Sequence[Sample], form: str) -> bytes:
        return json.dumps([json.loads(s.content or "{}") for s in samples]).encode()
