"""The nearest-neighbour baseline: answer with what the most similar training prompt was answered.

Samples with prompts and answers enter; a session leaves. Similarity is the cosine of hashed words and
runs of 4 characters, weighted by how rare they are in the training prompts (TF-IDF), without a
network. A model that cannot beat it would be replaced with profit by a look-up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from volant.core.errors import DataError
from volant.core.protocols import Chunk, Request
from volant.core.sample import Sample

FEATURES = 2**18
WORDS = r"[^\W_]+"
CHUNK_CHARACTERS = 600  # how a plain text is cut into prompt and continuation


class Neighbour:
    """A fitted look-up that is its own session."""

    def __init__(self, vectorizers: Sequence[Any], weights: Any, index: Any, answers: Sequence[str]) -> None:
        self._vectorizers, self._weights, self._index, self.answers = vectorizers, weights, index, list(answers)

    def nearest(self, prompts: Sequence[str]) -> list[tuple[int, float]]:
        """For each prompt: the position of the most similar training prompt, and the cosine."""
        if not prompts:
            return []
        found = (_vectors(self._vectorizers, self._weights, prompts) @ self._index.T).toarray()
        return [(int(at), float(row[at])) for at, row in zip(found.argmax(axis=1), found, strict=True)]

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """The answer of the nearest training prompt, cut to `max_tokens` words."""
        prompts = [_asked(request) for request in requests]
        for request, prompt, (at, _) in zip(requests, prompts, self.nearest(prompts), strict=True):
            text, finish = self.answers[at], "stop"
            for stop in request.stop:
                text = text.split(stop)[0] if stop else text
            if len(text.split()) > request.max_tokens:
                text, finish = " ".join(text.split()[: request.max_tokens]), "length"
            yield Chunk(request.id, text, finish, len(prompt.split()), len(text.split()))  # type: ignore[arg-type]

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """It has none.

        Raises:
            NotImplementedError: always; a look-up assigns no probability to other texts.
        """
        raise NotImplementedError("the nearest neighbour gives no log-probabilities")

    def cancel(self, id: str) -> None:
        """Nothing runs long enough to be cancelled."""

    def close(self) -> None:
        """Nothing is held but memory."""


def fit(samples: Iterable[Sample], *, limit: int = 50_000) -> Neighbour:
    """Index the prompts of samples.

    Args:
        samples: training data; plain texts are cut into pieces that continue each other and are used only
            where there is no sample with an answer.
        limit: the most prompts that are kept, first come first; bounds memory (about 2 kB a prompt).

    Raises:
        DataError: no sample holds a prompt and an answer, nor text to cut.
    """
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    pairs: list[tuple[str, str]] = []
    texts: list[str] = []
    for sample in samples:
        if len(pairs) >= limit:
            break
        if sample.shape == "text":
            if len(texts) < limit:
                texts.append(sample.content or "")
        else:
            pairs += [p for p in [_pair(sample)] if p[1]]
    pairs = pairs or [pair for text in texts for pair in _cut(text)][:limit]
    if not pairs:
        raise DataError(
            "no training sample holds a prompt with an answer.", where="neighbour", fix="Check the training split."
        )
    vectorizers = [
        HashingVectorizer(n_features=FEATURES, alternate_sign=False, norm=None, token_pattern=WORDS),
        HashingVectorizer(n_features=FEATURES, alternate_sign=False, norm=None, analyzer="char_wb", ngram_range=(4, 4)),
    ]
    weights = [TfidfTransformer(sublinear_tf=True).fit(v.transform([p for p, _ in pairs])) for v in vectorizers]
    index = _vectors(vectorizers, weights, [p for p, _ in pairs])
    return Neighbour(vectorizers, weights, index, [a for _, a in pairs])


def _vectors(vectorizers: Sequence[Any], weights: Sequence[Any], texts: Sequence[str]) -> Any:
    from scipy.sparse import hstack

    return hstack([w.transform(v.transform(texts)) for v, w in zip(vectorizers, weights, strict=True)]).tocsr()


def _pair(sample: Sample) -> tuple[str, str]:
    turns = sample.messages
    if not turns or turns[-1]["role"] != "assistant":
        return "", ""
    return "\n".join(t["content"] for t in turns[:-1]), turns[-1]["content"]


def _asked(request: Request) -> str:
    return request.prompt if request.prompt is not None else "\n".join(str(m["content"]) for m in request.messages)


def _cut(text: str) -> list[tuple[str, str]]:
    pieces = [text[i : i + CHUNK_CHARACTERS] for i in range(0, len(text), CHUNK_CHARACTERS)]
    return list(pairwise(pieces))
