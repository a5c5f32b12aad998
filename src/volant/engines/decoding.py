"""From logits to a token, and from tokens to text that may be shown.

What enters: one row's logits with its request, or its ids one by one. What leaves: the next id, or
the text that became readable. Apart from the engine because neither knows of batches or caches.

Shape legend: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from volant.core.protocols import Codec, Request

if TYPE_CHECKING:  # engines that have a sampler of their own use the text side without torch
    import torch


class TextStream:
    """Token ids as text that is safe to show: no half characters, no start of a stop string.

    Args:
        codec: decodes; a few ids back are decoded again with each new one, since a token's text can
            depend on its neighbours.
        stop: strings that end the text.
    """

    def __init__(self, codec: Codec, stop: Sequence[str]) -> None:
        self._decode, self._stop = codec.decode, [s for s in stop if s]
        self._ids: list[int] = []
        self._prefix, self._read = 0, 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take one id; returns the text that can be shown now."""
        self._ids.append(token)
        before = self._decode(self._ids[self._prefix : self._read])
        now = self._decode(self._ids[self._prefix :])
        if now.endswith("\ufffd"):
            return ""
        self._prefix, self._read = self._read, len(self._ids)
        self._held += now[len(before) :]
        return self._release()

    def rest(self) -> str:
        """What was held back, at the end."""
        before = self._decode(self._ids[self._prefix : self._read])
        self._held += self._decode(self._ids[self._prefix :])[len(before) :]
        self._read = len(self._ids)
        shown = self._release()
        if not self.stopped:
            shown, self._held = shown + self._held, ""
        return shown

    def _release(self) -> str:
        if self.stopped:
            return ""
        cuts = [at for at in (self._held.find(s) for s in self._stop) if at >= 0]
        if cuts:
            self.stopped = True
            shown, self._held = self._held[: min(cuts)], ""
            return shown
        keep = max((_overlap(self._held, s) for s in self._stop), default=0)
        at = len(self._held) - keep
        shown, self._held = self._held[:at], self._held[at:]
        return shown


def choose(logits_V: torch.Tensor, request: Request, out: Sequence[int], random: torch.Generator) -> int:
    """The next token.

    Args:
        logits_V: of the next token.
        request: its temperature, top-k, top-p and repetition penalty hold.
        out: ids generated so far; the penalty is on these, not on the prompt.
        random: the request's own generator.
    """
    import torch

    if request.repetition_penalty != 1.0 and out:
        logits_V = logits_V.clone()
        seen = torch.tensor(sorted(set(out)))
        was = logits_V[seen]
        logits_V[seen] = torch.where(was > 0, was / request.repetition_penalty, was * request.repetition_penalty)
    if request.temperature <= 0:
        return int(logits_V.argmax())
    logits_V = logits_V / request.temperature
    if 0 < request.top_k < logits_V.numel():
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(request.top_k).values[-1], float("-inf"))
    chances_V = logits_V.softmax(-1)
    if request.top_p < 1.0:
        ranked, order = chances_V.sort(descending=True, stable=True)
        # The token that crosses the line stays, so that at least one always does.
        ranked[ranked.cumsum(0) - ranked >= request.top_p] = 0.0
        chances_V = torch.zeros_like(chances_V).scatter(0, order, ranked)
    return int(torch.multinomial(chances_V, 1, generator=random))


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that starts `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
