"""A model as one voter among others: which class it says of a record.

Enters: an open model and samples. Leaves: a class or None for each. A text model is asked which class follows its
question most probably, each class less what it would get for no text at all (contextual calibration, Zhao et al.
2021), for small models like some words better whatever they read. A service that does not tell probabilities is asked
for the word. A judge of pictures (`pretrain.judge`) says its most probable class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from volant.core import Model, Run, Sample
from volant.core.errors import DataError, SettingError
from volant.core.protocols import Request, Session

ASK = "{text}\n\nWhich is it: {classes}?"
_NOTHING = "N/A"
_AT_ONCE = 64
_ANSWER_TOKENS = 16
_TEXT = 2000  # characters of a record that are shown


class Labeller:
    """An open model that votes; `close` frees it."""

    def __init__(self, run: Run, model: Model, classes: Sequence[str], ask: str) -> None:
        self.classes, self.ask = list(classes), ask or ASK
        for part in ("{text}", "{classes}"):
            if part not in self.ask:
                fix = f"Write for example {ASK!r}."
                raise SettingError(f"the question has no {part}.", where=f"{run.step} ask", fix=fix)
        self._session: Session | None = None
        self._judge = None
        if model.about.modality == "text":
            from volant.engines import open_model

            self._session = open_model(model, threads=run.threads, device=run.device)
        else:
            from volant.nets.conv import open_judge

            self._judge = open_judge(model)
            missing = sorted(set(self._judge.classes) - set(classes))
            if missing:
                what = f"the judge tells apart what is no class here: {', '.join(missing[:5])}."
                raise DataError(what, where=run.step, fix="Name all its classes in `classes`.")
        self._plain: list[float] | None = None

    def votes(self, samples: Sequence[Sample]) -> list[str | None]:
        """One class or None a sample, in order."""
        found: list[str | None] = []
        for first in range(0, len(samples), _AT_ONCE):
            part = samples[first : first + _AT_ONCE]
            found += list(self._judge.classify(part)) if self._judge else self._asked(part)
        return found

    def close(self) -> None:
        """Free memory."""
        if self._session:
            self._session.close()

    def _asked(self, samples: Sequence[Sample]) -> list[str | None]:
        assert self._session is not None
        requests = [self._request(sample.text, str(number)) for number, sample in enumerate(samples)]
        try:
            return list(self._probable(self._session, requests))
        except NotImplementedError:
            answers = {request.id: "" for request in requests}
            for chunk in self._session.generate([replace(r, max_tokens=_ANSWER_TOKENS) for r in requests]):
                answers[chunk.id] += chunk.text
            return [self._named(answers[request.id]) for request in requests]

    def _probable(self, session: Session, requests: Sequence[Request]) -> list[str]:
        if self._plain is None:
            self._plain = _means(session, [self._request(_NOTHING, "plain")], self.classes)[0]
        found = _means(session, requests, self.classes)
        gained = [[value - self._plain[k] for k, value in enumerate(row)] for row in found]
        return [self.classes[max(range(len(row)), key=row.__getitem__)] for row in gained]

    def _request(self, text: str, id: str) -> Request:
        said = self.ask.replace("{classes}", ", ".join(self.classes)).replace("{text}", text[:_TEXT])
        return Request(id=id, messages=({"role": "user", "content": said},))

    def _named(self, answer: str) -> str | None:
        """The one class that an answer names; None where it names none, or several."""
        named = [c for c in self.classes if re.search(rf"(?<!\w){re.escape(c)}(?!\w)", answer, re.IGNORECASE)]
        return named[0] if len(named) == 1 else None


def _means(session: Session, requests: Sequence[Request], classes: Sequence[str]) -> list[list[float]]:
    """The mean log-probability in nats a token of each class after each request, [requests][classes]."""
    told = session.logprobs([(request, name) for request in requests for name in classes])
    flat = [sum(values) / len(values) if values else float("-inf") for values in told]
    return [flat[i : i + len(classes)] for i in range(0, len(flat), len(classes))]
