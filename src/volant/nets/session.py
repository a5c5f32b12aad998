"""A family and its network as an open session: requests in, whole samples out.

What enters: a family, what it loaded or fitted, a codec, and requests whose `prompt` is the condition in words. What
leaves: one chunk a request, with the sample. Each request's draw depends on its own seed alone, whatever runs beside
it. A draw that breaks a declared constraint, or is not what was asked for where the network cannot be told, is drawn
again; `attrs["tries"]` says how often. Engines open models into it (`engines/sampler.py`, `engines/onnx.py`), stages
ask what they have just trained, and measuring code asks baselines.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from volant.core.errors import DataError
from volant.core.protocols import Chunk, ContentCodec, Request
from volant.core.sample import Sample
from volant.modalities import open_modality
from volant.nets.controls import check_controls
from volant.nets.draws import reseeded

TRIES = 64  # of one request; a condition that one draw in sixty-four meets is met by most requests
_BATCH = 512
_MODALITIES = {"row": "table", "media": "image"}


class DrawSession:
    """An open model of any family with `sample`, or a fitted baseline.

    Args:
        family: its `sample` is called.
        net: what the family loaded or fitted.
        codec: the one that travels with the model.
        defaults: controls that hold where a request states none.
        strict: draw again what breaks a constraint or is not what was asked; else the first draw is given as it is,
            for whoever wants to teach the model to keep them.
    """

    def __init__(
        self,
        family: Any,
        net: Any,
        codec: ContentCodec,
        defaults: Mapping[str, Any] | None = None,
        *,
        strict: bool = True,
    ) -> None:
        self._family, self._net, self._codec, self._defaults = family, net, codec, dict(defaults or {})
        self._strict = strict
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """Run the requests, those with the same controls together.

        Raises:
            SettingError: the family has no such control, or the value is out of its bounds.
        """
        groups: dict[str, list[tuple[str, Request]]] = {}
        for index, request in enumerate(requests):
            controls = {**self._defaults, **request.controls}
            check_controls(self._family, controls)
            groups.setdefault(repr(sorted(controls.items())), []).append((request.id or str(index), request))
        known = {request.id for request in requests}
        try:
            for group in groups.values():
                for start in range(0, len(group), _BATCH):
                    yield from self._drawn(group[start : start + _BATCH])
        finally:
            with self._lock:
                self._cancelled -= known

    def _drawn(self, group: list[tuple[str, Request]]) -> Iterator[Chunk]:
        """Draw until each request has what it asks for, or has tried often enough."""
        asked: dict[str, tuple[Request, tuple[int, ...]]] = {}
        for id, request in group:
            try:
                asked[id] = (request, tuple(self._codec.condition(words_of(request))))
            except DataError as error:
                yield Chunk(id, "", "error", error=f"{error.what} {error.fix}".strip(), refused=True)
        for attempt in range(TRIES):
            for id in [id for id in asked if self._is_cancelled(id)]:
                del asked[id]
                yield Chunk(id, "", "cancelled")
            if not asked:
                return
            for id, sample in self._once(asked, attempt).items():
                del asked[id]
                made = sample.model_copy(update={"attrs": {**sample.attrs, "tries": attempt + 1}})
                yield Chunk(id, "", "stop", completion_tokens=1, sample=made)
        for id, (request, _) in asked.items():
            what = f"none of {TRIES} draws is what {words_of(request)!r} asks for"
            told = f"{what}; ask for something that the data has more of"
            yield Chunk(id, "", "error", error=told, refused=True)

    def _once(self, asked: Mapping[str, tuple[Request, tuple[int, ...]]], attempt: int) -> dict[str, Sample]:
        """One draw for each request; what fits, by id."""
        first = next(iter(asked.values()))[0]
        controls = {**self._defaults, **first.controls}
        ranges = getattr(self._codec, "ranges", None)
        if ranges is not None:
            controls["ranges"] = ranges
        seeds = [reseeded(request.seed, attempt) for request, _ in asked.values()]
        with torch.inference_mode():
            drawn = self._family.sample(
                self._net, [list(ids) for _, ids in asked.values()], seed=seeds[0], seeds=seeds, **controls
            )
        found = {}
        for (id, (request, _)), values in zip(asked.items(), drawn, strict=True):
            words = words_of(request)
            try:
                sample = self._codec.decode(values, words)
            except DataError:
                continue
            if not self._strict or self._codec.fits(sample, words):
                found[id] = sample
        return found

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """It has none.

        Raises:
            NotImplementedError: always; what is drawn is no text.
        """
        raise NotImplementedError("content other than text has no log-probabilities of words")

    def cancel(self, id: str) -> None:
        """End a request before its next draw."""
        with self._lock:
            if len(self._cancelled) < 10_000:
                self._cancelled.add(id)

    def close(self) -> None:
        """Free memory."""
        self._net = None

    def _is_cancelled(self, id: str) -> bool:
        with self._lock:
            return id in self._cancelled


def words_of(request: Request) -> str:
    """The condition in words: the prompt, or the last message of a chat."""
    if request.messages:
        return str(request.messages[-1].get("content", ""))
    return request.prompt or ""


def codec_of(samples: Sequence[Sample], spaces: Mapping[str, str]) -> Any:
    """A codec of the samples' own modality, fitted to them.

    Args:
        samples: of one shape.
        spaces: which space is wanted, by shape.

    Raises:
        DataError: there is no sample, or it is of a shape without a wanted space.
    """
    if not samples:
        raise DataError("there is no sample to fit a baseline to (n=0).", fix="Add samples to the train split.")
    shapes = {s.shape for s in samples}
    shape = samples[0].shape
    if len(shapes) > 1 or shape not in spaces:
        what = f"samples of shape {', '.join(sorted(shapes))} cannot be fitted here; it takes one of {sorted(spaces)}."
        raise DataError(what, fix="Choose a baseline of the modality's own.")
    return open_modality(_MODALITIES[shape]).codec(samples, space=spaces[shape])
