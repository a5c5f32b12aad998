"""Perplexity of the outputs under a judge, as bits per byte: does it read like the references? Lower is better.

Not the model's own bits per byte on held-out text (that is `measure.bits_per_byte`, which needs the
model, not its outputs). The judge is a model, or an n-gram model of bytes fitted on the reference
answers; the latter knows the references by heart, so what copies a reference is best. A loop is cheap
too: read it together with `diversity`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from volant.core.artifact import Model
from volant.core.protocols import Output, Request, Session
from volant.core.sample import Sample
from volant.core.score import Direction
from volant.scorers.measure import target_of
from volant.scorers.scoring import Scoring

BITS_OF_NOTHING = 8.0  # an empty output is as bad as random bytes


class Perplexity(Scoring):
    """See the module."""

    name = "perplexity"
    unit = "bits/byte"
    direction: Direction = "lower"
    ladder = "fidelity"
    leans_on = ("volant.scorers.texts", "volant.nets.ngram")

    def __init__(self, judge: Model | None) -> None:
        self.judge = judge
        self.note = (
            f"of the outputs, under {'model ' + judge.digest[:12] if judge else 'an n-gram model of the references'}"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Who judges."""
        return {"judge": self.judge.digest if self.judge else "ngram"}

    def values(self, outputs: Sequence[Output], references: Sequence[Sample]) -> list[float]:
        """Bits for each byte of the output."""
        session = self._session(references)
        try:
            rows = session.logprobs([(Request(prompt=""), o.text) for o in outputs])
        finally:
            session.close()
        sizes = [len(o.text.encode()) for o in outputs]
        return [-sum(r) / math.log(2) / n if n else BITS_OF_NOTHING for r, n in zip(rows, sizes, strict=True)]

    def _session(self, references: Sequence[Sample]) -> Session:
        if self.judge is not None:
            from volant.engines import open_model

            return open_model(self.judge)
        from volant.nets import ngram

        answers = [r.model_copy(update={"shape": "text", "content": target_of(r)}) for r in references]
        return ngram.fit(answers, order=5)


def perplexity(*, judge: Model | None = None) -> Perplexity:
    """The scorer; `judge` is the model that reads the outputs (an n-gram model of the references by default)."""
    return Perplexity(judge)
