"""The page that people label on: who is shown which record next, and the routes that a browser calls.

Enters: samples, classes, and the file of labels. Leaves: judgements, each on disk before it is answered for. The file
is read again when somebody else has written to it, so that several raters and several processes can work at once. What
others said of a record is told only to who has judged it; in adjudication it is shown, and the decision is final.
Which record comes next is chosen anew by the labels so far (`picking.py`) whenever ten more have been judged.

Only this machine is served, and Host and Origin are checked (`auth.Guard`): a page from elsewhere cannot label.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from volant.core.errors import DataError
from volant.core.sample import Sample
from volant.serving.auth import Door, Guard
from volant.serving.local_page import Rater, Skipped, filled
from volant.serving.picking import AT_ONCE, Picker
from volant.store.labels import Judgement, append, read

PAGE = Path(__file__).parent / "labelling.html"
VOTED = "collect.label"  # by whom a label is that a vote came to: no knowledge of its own
Words = dict[tuple[str, str, bool], Judgement]


def keys_of(classes: Sequence[str]) -> tuple[list[str], str]:
    """The key of each class, and that of "cannot tell": 1 to 9, then letters, and 0; a digit is its own key.

    >>> keys_of(["good", "bad"]), keys_of(["0", "1"])
    ((['1', '2'], '0'), (['0', '1'], 'x'))
    """
    if all(len(value) == 1 and value in "0123456789" for value in classes):
        return list(classes), "x"  # whoever sees a 3 presses 3
    given = ["123456789abcdefghijklmnoprtvwyz"[place : place + 1] for place in range(len(classes))]
    return given, "0"


class Desk:
    """The records that are labelled, and what has been said of them.

    Args:
        samples: in the order in which they are offered where nothing picks.
        file: of labels; it grows.
        name: of the label.
        classes: what a record may be.
        adjudicate: offer what raters disagree on and what `collect.suspects` marked; decisions are final.
        picker: chooses what is offered next.
    """

    def __init__(
        self, samples: Sequence[Sample], file: Path, *, name: str, classes: Sequence[str], adjudicate: bool = False,
        picker: Picker | None = None,
    ) -> None:  # fmt: skip
        self.samples = {sample.id: sample for sample in samples}
        self.file, self.name, self.classes, self.adjudicate = file, name, list(classes), adjudicate
        self.keys, self.unsure = keys_of(classes)
        self._lock, self._state, self._words = threading.Lock(), (-1, -1), Words()
        self._picker, self._turn, self._picked, self._picking = picker, -1, list[str](), threading.Lock()

    def words(self) -> Words:
        """Each rater's last word on each record, by record, rater and whether it is final; empty ones count."""
        with self._lock:
            told = self.file.stat() if self.file.is_file() else None
            state = (told.st_size, told.st_mtime_ns) if told else (0, 0)
            if state != self._state:
                found = read(self.file, self.name)
                self._words = {(one.id, one.by, one.final): one for one in found if one.id in self.samples}
                self._state = state
            return self._words

    def said(self) -> dict[str, dict[str, str]]:
        """The class that each rater named, by record; who could not tell is left out."""
        found: dict[str, dict[str, str]] = {}
        for (id, by, final), one in self.words().items():
            if one.value and not final:
                found.setdefault(id, {})[by] = one.value
        return found

    def queue(self, rater: str) -> list[str]:
        """The records that this rater has not judged yet, in order: what others have begun, then the rest."""
        words = self.words()
        if self.adjudicate:
            decided = {id for id, _, final in words if final}
            return [id for id in self._disputed() if id not in decided]
        own = {id for id, by, _ in words if by == rater} | {id for id, _, final in words if final}
        begun = {id for id, _, _ in words} - own
        order = [*self._next(words), *self.samples] if self._picker else list(self.samples)
        return [id for id in self.samples if id in begun] + [
            id for id in dict.fromkeys(order) if id not in own and id not in begun
        ]

    def known(self) -> dict[str, str]:
        """The class of each record that is settled so far: decided, said by most, or brought along by the record."""
        found = {
            sample.id: label.value
            for sample in self.samples.values() for label in sample.labels
            if label.name == self.name and label.by != VOTED
        }  # fmt: skip
        for id, votes in self.said().items():
            (first, most), *rest = Counter(votes.values()).most_common()
            if not rest or rest[0][1] < most:
                found[id] = first
            else:
                found.pop(id, None)
        return found | {id: one.value for (id, _, final), one in self.words().items() if final and one.value}

    def _next(self, words: Words) -> list[str]:
        """What the picker chose; it chooses again when so many more records have been judged."""
        assert self._picker
        judged = {id for id, _, _ in words}
        with self._picking:
            if self._turn != len(judged) // AT_ONCE:
                self._picked, self._turn = self._picker.next(self.known(), judged), len(judged) // AT_ONCE
            return self._picked

    def _disputed(self) -> list[str]:
        """What raters disagree on, the most divided first; then suspects, the likeliest first."""
        found: list[tuple[int, float, str]] = []
        said = self.said()
        for id, sample in self.samples.items():
            votes = Counter(said.get(id, {}).values())
            mark = sample.attrs.get("suspect", {}).get(self.name)
            if len(votes) > 1:
                found.append((0, max(votes.values()) / votes.total(), id))
            elif mark:
                found.append((1, -float(mark["margin"]), id))
        return [id for _, _, id in sorted(found)]

    def judge(self, id: str, value: str, rater: str) -> None:
        """Keep a word; empty says that the rater could not tell.

        Raises:
            DataError: there is no such record or class.
        """
        if id not in self.samples or (value and value not in self.classes):
            raise DataError("there is no such record or class.", where=self.name, fix="Load the page again.")
        append(self.file, Judgement(id=id, name=self.name, value=value, by=rater, final=self.adjudicate))

    def undo(self, rater: str) -> str:
        """Withdraw the rater's last word that stands; returns the record that it was on, empty where there is none."""
        mine = [one for one in self.words().values() if one.by == rater and one.final == self.adjudicate]
        if not mine:
            return ""
        append(self.file, mine[-1].model_copy(update={"withdrawn": True, "at": ""}))
        return mine[-1].id

    def progress(self, rater: str) -> dict[str, Any]:
        """How far the rater is, and at the end how far all agree."""
        words = self.words()
        left = len(self.queue(rater))
        done = sum(1 for _, by, final in words if by == rater and final == self.adjudicate)
        units = [list(votes.values()) for votes in self.said().values()]
        return {"done": done, "left": left, "agreement": agreement(units), "twice": sum(len(u) > 1 for u in units)}


def agreement(units: Sequence[Sequence[str]]) -> float | None:
    """Krippendorff's alpha; None where nothing was judged twice."""
    from volant.scorers.alpha import alpha

    return alpha(units) if any(len(unit) > 1 for unit in units) else None


class Word(BaseModel):
    """What the page sends."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=200)
    value: str = Field(max_length=1000)
    rater: Rater


class Undo(BaseModel):
    """Who takes a word back."""

    model_config = ConfigDict(extra="forbid")

    rater: Rater


def create_app(desk: Desk, preview: Callable[[Sample], str], guide: str = "") -> Guard:
    """The page and its routes, behind the guard.

    Args:
        desk: the records and the file.
        preview: a sample as an escaped HTML fragment.
        guide: what raters are told, as plain text.
    """
    app = FastAPI(title="volant label", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/")
    def page() -> HTMLResponse:
        return filled(PAGE, name=desk.name, guide=guide)

    @app.get("/next")
    def after(rater: Rater, skipped: Skipped = "") -> dict[str, Any]:
        passed = set(skipped.split(","))
        queue = desk.queue(rater.strip())
        at = next((id for id in queue if id not in passed), "")
        return _told(desk, at, rater.strip(), preview)

    @app.get("/record")
    def record(rater: Rater, id: Annotated[str, Query(max_length=200)]) -> dict[str, Any]:
        return _told(desk, id, rater.strip(), preview)

    @app.post("/label")
    def label(word: Word) -> dict[str, bool]:
        try:
            desk.judge(word.id, word.value, word.rater.strip())
        except (DataError, UnicodeError):
            return {"kept": False}
        return {"kept": True}

    @app.post("/undo")
    def undo(who: Undo) -> dict[str, str]:
        return {"id": desk.undo(who.rater.strip())}

    return Guard(app, door=Door(), refused=lambda error: None)


def _told(desk: Desk, id: str, rater: str, preview: Callable[[Sample], str]) -> dict[str, Any]:
    """All that the page shows: the record, how far the rater is, and what may be said."""
    asked = {"classes": desk.classes, "keys": desk.keys, "unsure": desk.unsure, "final": desk.adjudicate}
    return {**desk.progress(rater), **_shown(desk, id, rater, preview), **asked}


def _shown(desk: Desk, id: str, rater: str, preview: Callable[[Sample], str]) -> Mapping[str, Any]:
    """A record as this rater may see it: what others said only after a word of one's own, or to decide."""
    if id not in desk.samples:
        return {"id": "", "html": "", "own": None, "others": {}, "suspect": None}
    sample = desk.samples[id]
    mine = desk.words().get((id, rater, desk.adjudicate))
    said = desk.said().get(id, {})
    open_to = desk.adjudicate or mine is not None
    others = {by: value for by, value in sorted(said.items()) if by != rater or desk.adjudicate} if open_to else {}
    suspect = sample.attrs.get("suspect", {}).get(desk.name) if desk.adjudicate else None
    shown = sample.model_copy(update={"condition": None}) if sample.shape == "media" else sample
    own = mine.value if mine else None
    return {"id": id, "html": preview(shown), "own": own, "others": others, "suspect": suspect}
