"""A fitted family as an open session, for baselines: requests in, samples out.

What enters: a family, what it fitted, and a codec. What leaves: a session that measuring code asks like any model.
Models on disk are run by `engines/sampler.py`; a baseline never gets there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from volant.core.errors import DataError
from volant.core.protocols import Chunk, ContentCodec, Request
from volant.core.sample import Sample
from volant.modalities import open_modality
from volant.nets.draws import reseeded

_MODALITIES = {"row": "table", "media": "image"}
_TRIES = 64  # of one request, for what the family cannot be told


class DrawSession:
    """A fitted family that answers requests, all of one call together.

    Args:
        family: its `sample` is called.
        net: what it fitted.
        codec: turns conditions into ids and values into samples.
    """

    def __init__(self, family: Any, net: Any, codec: ContentCodec) -> None:
        self.family, self.net, self.codec = family, net, codec
        self._cancelled: set[str] = set()

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """One chunk a request; each depends on its own seed alone. What does not fit is drawn again."""
        open_: dict[int, tuple[str, tuple[int, ...]]] = {}
        for place, request in enumerate(requests):
            words = _words(request)
            if request.id in self._cancelled:
                self._cancelled.discard(request.id)
                yield Chunk(request.id, "", "cancelled")
                continue
            try:
                open_[place] = (words, tuple(self.codec.condition(words)))
            except DataError as error:
                yield Chunk(request.id, "", "error", error=f"{error.what} {error.fix}".strip(), refused=True)
        for attempt in range(_TRIES):
            if not open_:
                return
            for place, sample in self._drawn(requests, open_, attempt).items():
                del open_[place]
                made = sample.model_copy(update={"attrs": {**sample.attrs, "tries": attempt + 1}})
                yield Chunk(requests[place].id, "", "stop", completion_tokens=1, sample=made)
        for place, (words, _) in open_.items():
            told = f"none of {_TRIES} draws is what {words!r} asks for"
            yield Chunk(requests[place].id, "", "error", error=told, refused=True)

    def _drawn(
        self, requests: Sequence[Request], open_: Mapping[int, tuple[str, tuple[int, ...]]], attempt: int
    ) -> dict[int, Sample]:
        """One draw for each open request; those that fit, by place."""
        seeds = [reseeded(requests[place].seed, attempt) for place in open_]
        prompts = [list(ids) for _, ids in open_.values()]
        drawn = self.family.sample(self.net, prompts, seed=seeds[0], seeds=seeds)
        found = {}
        for (place, (words, _)), values in zip(open_.items(), drawn, strict=True):
            try:
                sample = self.codec.decode(values, words)
            except DataError:
                continue
            if self.codec.fits(sample, words):
                found[place] = sample
        return found

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """It has none.

        Raises:
            NotImplementedError: always; what is drawn is no text.
        """
        raise NotImplementedError("content other than text has no log-probabilities of words")

    def cancel(self, id: str) -> None:
        """Leave a request out that has not begun."""
        self._cancelled.add(id)

    def close(self) -> None:
        """Free memory."""
        self.net = None


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


def _words(request: Request) -> str:
    if request.messages:
        return str(request.messages[-1].get("content", ""))
    return request.prompt or ""
