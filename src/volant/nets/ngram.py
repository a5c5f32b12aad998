"""The n-gram baseline: interpolated Kneser-Ney over bytes, fitted in seconds without a network.

Samples enter; a session leaves that continues text and tells log-probabilities. Over bytes, not tokens,
so that it needs no codec and its bits per byte stand beside those of any model. Probabilities are proper
(they sum to 1 over the 256 bytes in every context), so a model that needs more bits has learnt less
than counting does.

An n-gram of up to 8 bytes is one uint64, first byte highest: sorting the numbers puts n-grams of one
context side by side, and cutting off bytes at either end is a shift or a mask.
Shape legend: N n-grams, C contexts, T positions of a text.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from volant.core.errors import DataError
from volant.core.protocols import Chunk, Request
from volant.core.sample import Sample

END, ANSWER = 0, 1  # bytes that close a text and open an answer; they do not occur in text
BYTES_A_TOKEN = 4  # how far a request's `max_tokens` reaches, for a like length of answer
U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Order:
    """Counts of one length of n-gram, and of its contexts (the n-gram without its last byte)."""

    size: int
    discount: float
    gram_N: U64
    count_N: F64
    context_C: U64
    first_C: npt.NDArray[np.int64]
    total_C: F64
    kinds_C: F64

    @classmethod
    def of(cls, size: int, gram_N: U64, count_N: npt.NDArray[np.int64]) -> _Order:
        context_C, first_C = np.unique(gram_N >> np.uint64(8), return_index=True)
        count = count_N.astype(np.float64)
        once, twice = int((count_N == 1).sum()), int((count_N == 2).sum())
        # Ney's estimate of the one discount; 0.5 where there is too little text to estimate it.
        discount = once / (once + 2 * twice) if once and twice else 0.5
        kinds_C = np.diff(np.append(first_C, len(gram_N))).astype(np.float64)
        return cls(size, discount, gram_N, count, context_C, first_C, np.add.reduceat(count, first_C), kinds_C)

    def mix(self, context_T: U64, byte_T: U64, below_T: F64) -> F64:
        """P(byte | context) at each position, given that of the next shorter order."""
        at_T = np.minimum(np.searchsorted(self.context_C, context_T), len(self.context_C) - 1)
        known_T = self.context_C[at_T] == context_T
        gram_T = (context_T << np.uint64(8)) | byte_T
        found_T = np.minimum(np.searchsorted(self.gram_N, gram_T), len(self.gram_N) - 1)
        count_T = np.where(self.gram_N[found_T] == gram_T, self.count_N[found_T], 0.0)
        own_T = np.maximum(count_T - self.discount, 0.0)
        mixed_T: F64 = (own_T + self.discount * self.kinds_C[at_T] * below_T) / self.total_C[at_T]
        return np.where(known_T, mixed_T, below_T)

    def mix_all(self, context: int, below_256: F64) -> F64:
        """The same for all 256 bytes after one context."""
        at = int(np.searchsorted(self.context_C, np.uint64(context)))
        if at == len(self.context_C) or int(self.context_C[at]) != context:
            return below_256
        start = int(self.first_C[at])
        stop = start + int(self.kinds_C[at])
        mixed: F64 = below_256 * (self.discount * self.kinds_C[at])
        mixed[(self.gram_N[start:stop] & np.uint64(255)).astype(np.int64)] += self.count_N[start:stop] - self.discount
        mixed /= float(self.total_C[at])
        return mixed


@dataclass
class Ngram:
    """A fitted model that is its own session; keeps the last few thousand distributions it was asked for."""

    orders: list[_Order]
    _cancelled: set[str] = field(default_factory=set)
    _known: dict[int, F64] = field(default_factory=dict)

    @property
    def order(self) -> int:
        """The length of the longest n-gram, in bytes."""
        return self.orders[-1].size

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """Log-probability in nats of each byte of the continuation."""
        return [self._logprobs(_opening(request), text.encode("utf-8", "replace")) for request, text in pairs]

    def _logprobs(self, opening: bytes, text: bytes) -> list[float]:
        if not text:
            return []
        pad = bytes([END]) * (self.order - 1)
        stream = np.frombuffer(pad + opening + text, np.uint8).astype(np.uint64)
        first = len(stream) - len(text)
        byte_T = stream[first:]
        p_T = np.full(len(text), 1 / 256)
        for order in self.orders:
            context_T = np.zeros(len(text), np.uint64)
            for back in range(order.size - 1, 0, -1):
                context_T = (context_T << np.uint64(8)) | stream[first - back : len(stream) - back]
            p_T = order.mix(context_T, byte_T, p_T)
        return [float(x) for x in np.log(p_T)]

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """Continue each request byte by byte; one chunk a request."""
        for request in requests:
            yield self._continue(request)

    def _continue(self, request: Request) -> Chunk:
        opening = _opening(request)
        keep = (1 << 8 * (self.order - 1)) - 1
        recent = int.from_bytes(opening[-(self.order - 1) :], "big") & keep if self.order > 1 else 0
        rng = np.random.default_rng([request.seed, zlib.crc32(opening)])
        made = bytearray()
        finish = "length"
        for _ in range(request.max_tokens * BYTES_A_TOKEN):
            if request.id in self._cancelled:
                self._cancelled.discard(request.id)
                finish = "cancelled"
                break
            byte = _choose(self._next(recent), request, rng)
            if byte in (END, ANSWER):
                finish = "stop"
                break
            made.append(byte)
            recent = ((recent << 8) | byte) & keep
            if request.stop and any(made.endswith(s.encode()) for s in request.stop if s):
                finish = "stop"
                break
        text = made.decode("utf-8", "ignore")
        for stop in request.stop:
            text = text.split(stop)[0] if stop else text
        return Chunk(request.id, text, finish, len(opening), len(made))  # type: ignore[arg-type]

    def _next(self, recent: int) -> F64:
        """The distribution of the byte after `recent` (the last order - 1 bytes as a number)."""
        if recent not in self._known:
            p_256 = np.full(256, 1 / 256)
            for order in self.orders:
                p_256 = order.mix_all(recent & ((1 << 8 * (order.size - 1)) - 1), p_256)
            if len(self._known) > 20_000:
                self._known.clear()
            self._known[recent] = p_256
        return self._known[recent]

    def cancel(self, id: str) -> None:
        """End that request at its next byte."""
        self._cancelled.add(id)

    def close(self) -> None:
        """Forget the cached distributions."""
        self._known.clear()


def fit(samples: Iterable[Sample], *, order: int = 6) -> Ngram:
    """Count n-grams of bytes in samples of any text shape.

    Args:
        samples: the training data.
        order: length of the longest n-gram in bytes, 1 to 8; longer is sharper and needs more memory
            (about 16 bytes of memory a distinct n-gram).

    Raises:
        DataError: the samples hold no text.
    """
    if not 1 <= order <= 8:
        raise DataError(f"an n-gram model of order {order} does not fit.", where="ngram", fix="Use an order of 1 to 8.")
    pad = bytes([END]) * max(1, order - 1)
    stream = pad + pad.join(_serial(s) + bytes([END]) for s in samples)
    # Each text is closed by one END that is predicted; the END bytes after it are only context.
    byte_T = np.frombuffer(stream, np.uint8)
    predicted_T = np.ones(len(byte_T), bool)
    predicted_T[0] = False
    predicted_T[1:] = ~((byte_T[1:] == END) & (byte_T[:-1] == END))
    if int(predicted_T.sum()) < 2:
        raise DataError("there is no text to fit an n-gram model on.", where="ngram", fix="Check the training split.")
    gram_T = np.zeros(len(byte_T), np.uint64)
    for back in range(order - 1, -1, -1):
        gram_T[back:] |= byte_T[: len(byte_T) - back].astype(np.uint64) << np.uint64(8 * back)
    gram_N, count_N = np.unique(gram_T[predicted_T], return_counts=True)
    orders = [_Order.of(order, gram_N, count_N)]
    for size in range(order - 1, 0, -1):
        # A shorter n-gram counts once for each byte that ever stood before it: Kneser and Ney's idea.
        gram_N, count_N = np.unique(gram_N & np.uint64((1 << 8 * size) - 1), return_counts=True)
        orders.insert(0, _Order.of(size, gram_N, count_N))
    return Ngram(orders)


def _serial(sample: Sample) -> bytes:
    """A sample as bytes: prompt, ANSWER, answer; or the text alone."""
    if sample.shape == "text":
        return _clean(sample.content or "")
    turns = sample.messages
    answer = turns[-1]["content"] if turns and turns[-1]["role"] == "assistant" else ""
    asked = [t["content"] for t in (turns[:-1] if answer else turns)]
    return _clean("\n".join(asked)) + bytes([ANSWER]) + _clean(answer)


def _opening(request: Request) -> bytes:
    if request.prompt is not None:
        return _clean(request.prompt)
    return _clean("\n".join(str(m["content"]) for m in request.messages)) + bytes([ANSWER])


def _clean(text: str) -> bytes:
    return text.encode("utf-8", "replace").replace(bytes([END]), b" ").replace(bytes([ANSWER]), b" ")


def _choose(p_256: F64, request: Request, rng: np.random.Generator) -> int:
    if request.temperature <= 0:
        return int(p_256.argmax())
    logits = np.log(p_256) / request.temperature
    p = np.exp(logits - logits.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    cumulative = np.cumsum(p[order])
    keep = max(1, int(np.searchsorted(cumulative, request.top_p, side="left")) + 1)
    keep = min(keep, request.top_k) if request.top_k else keep
    chosen = p[order[:keep]]
    return (
        int(rng.choice(order[:keep], p=chosen / chosen.sum())) if math.isfinite(float(chosen.sum())) else int(order[0])
    )
