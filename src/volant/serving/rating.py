"""The page that people compare answers on: which pair a rater sees next, and the routes that a browser calls.

Enters: pairs of answers as they are drawn, what was said of them before, and where a choice goes. Leaves: choices, each
kept before it is answered for. All raters see the same pairs; what others said is not shown. A rater who comes back
goes on where they left, and a later choice on the same pair takes the place of the earlier one.

Only this machine is served, and Host and Origin are checked (`auth.Guard`): a page from elsewhere cannot choose.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from volant.core.errors import VolantError
from volant.core.sample import better, sample_id
from volant.serving.auth import Door, Guard
from volant.serving.local_page import Rater, Skipped, filled

PAGE = Path(__file__).parent / "rating.html"
_AHEAD = 8  # pairs that are drawn before somebody asks for them
_MOST = 5  # the best score
Scores = tuple[int, int]
Keep = Callable[["Pair", str, str, Scores | None], None]
"""Told the pair, the choice (`a`, `b`, `tie`), the rater, and the scores where they were given."""


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt.

    Attributes:
        a, b: as they are kept, in the order shown.
        shown: the prompt and both answers, as escaped HTML fragments.
    """

    prompt: str
    a: str
    b: str
    shown: tuple[str, str, str]

    @property
    def id(self) -> str:
        """The same pair has the same one after a restart, whichever answer stands first."""
        return sample_id("pair", self.prompt, "\0", *sorted((self.a, self.b)))

    def chosen(self, choice: str) -> str:
        """The better answer by a choice, whichever stands first; empty for a tie."""
        return {"a": self.a, "b": self.b}.get(choice, "")


class Pairs:
    """The pairs of a session, drawn a few ahead of the rater who is furthest on, and each rater's last choices.

    Args:
        drawn: gives one pair after another; it is asked by one thread alone.
        total: how many it may give.
        keep: called for each choice.
        known: earlier ratings, as the records give them, oldest first.
    """

    def __init__(self, drawn: Iterator[Pair], total: int, keep: Keep, known: Iterable[Mapping[str, Any]] = ()) -> None:
        self.total, self._keep, self._drawn = total, keep, drawn
        self._pairs: dict[str, Pair] = {}
        self._said: dict[tuple[str, str], tuple[str, Scores | None]] = {}
        for row in known:
            found = Pair(str(row["prompt"]), str(row["a"]), str(row["b"]), ("", "", ""))
            self._said[str(row["rater"]), found.id] = found.chosen(row["choice"]), None
        self._wanted, self._over, self.error = _AHEAD, False, ""
        self._change = threading.Condition()
        self._drawing = threading.Thread(target=self._draw, daemon=True, name="pairs")
        self._drawing.start()

    def close(self) -> None:
        """Draw no more; waits for the pair under way."""
        with self._change:
            self._over = True
            self._change.notify_all()
        self._drawing.join()

    def next(self, rater: str, passed: set[str]) -> str:
        """The first pair that this rater has neither judged nor passed; waits while it is drawn, empty at the end."""
        with self._change:
            while True:
                for place, id in enumerate(self._pairs):
                    if (rater, id) not in self._said and id not in passed:
                        self._want(place + _AHEAD)
                        return id
                if self._over:
                    return ""
                self._want(len(self._pairs) + _AHEAD)
                self._change.wait(timeout=1.0)

    def pair(self, id: str) -> Pair | None:
        """One that was drawn."""
        return self._pairs.get(id)

    def own(self, id: str, rater: str) -> tuple[str, Scores | None] | None:
        """What this rater said of a pair: `a`, `b` or `tie`, and the scores of this session."""
        pair, found = self._pairs.get(id), self._said.get((rater, id))
        if pair is None or found is None:
            return None
        chosen, scores = found
        return ("tie" if not chosen else "a" if chosen == pair.a else "b"), scores

    def judge(self, id: str, choice: str, rater: str, scores: Scores | None = None) -> bool:
        """Keep a choice; the same one again adds nothing. False where there is no such pair."""
        with self._change:
            pair = self._pairs.get(id)
            if pair is None:
                return False
            if self.own(id, rater) != (choice, scores):
                self._keep(pair, choice, rater, scores)
                self._said[rater, id] = pair.chosen(choice), scores
            return True

    def progress(self, rater: str) -> dict[str, int]:
        """How many pairs of this session the rater has judged, and how many there are in all."""
        done = sum((rater, id) in self._said for id in list(self._pairs))
        return {"done": done, "total": len(self._pairs) if self._over else self.total}

    def _want(self, count: int) -> None:
        if count > self._wanted:
            self._wanted = count
            self._change.notify_all()

    def _draw(self) -> None:
        try:
            while True:
                with self._change:
                    self._change.wait_for(lambda: self._over or len(self._pairs) < self._wanted)
                    if self._over:
                        return
                pair = next(self._drawn, None)
                if pair is None:
                    return
                with self._change:
                    self._pairs.setdefault(pair.id, pair)
                    self._change.notify_all()
        except VolantError as error:
            self.error = str(error)
        finally:
            with self._change:
                self._over = True
                self._change.notify_all()


class Choice(BaseModel):
    """What the page sends: a choice, or a score for each answer, from which the choice follows."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=100)
    rater: Rater
    choice: Literal["a", "b", "tie"] | None = None
    scores: tuple[Annotated[int, Field(ge=1, le=_MOST)], Annotated[int, Field(ge=1, le=_MOST)]] | None = None


def create_app(pairs: Pairs, *, scored: bool = False) -> Guard:
    """The page and its routes, behind the guard.

    Args:
        pairs: what is compared, and where choices go.
        scored: ask for a score of each answer in place of the better one.
    """
    app = FastAPI(title="volant rate", openapi_url=None, docs_url=None, redoc_url=None)

    def told(id: str, rater: str) -> dict[str, Any]:
        pair, own = pairs.pair(id), pairs.own(id, rater)
        prompt, a, b = pair.shown if pair else ("", "", "")
        said = {"choice": own[0] if own else None, "scores": own[1] if own else None}
        shown = {"id": id if pair else "", "prompt": prompt, "a": a, "b": b, "error": pairs.error}
        return {**pairs.progress(rater), **shown, **said}

    @app.get("/")
    def page() -> HTMLResponse:
        return filled(PAGE, scored="yes" if scored else "no")

    @app.get("/next")
    def after(rater: Rater, skipped: Skipped = "") -> dict[str, Any]:
        name = rater.strip()
        return told(pairs.next(name, set(skipped.split(","))), name)

    @app.get("/pair")
    def one(rater: Rater, id: Annotated[str, Query(max_length=100)]) -> dict[str, Any]:
        return told(id, rater.strip())

    @app.post("/rate")
    def rate(said: Choice) -> dict[str, Any]:
        if (said.scores is None) != (not scored) or (said.choice is None) != scored:
            wanted = "a score of each" if scored else "a choice"
            return {"kept": False, "why": f"this page asks for {wanted}; load it again"}
        choice = better(said.scores) if said.scores else str(said.choice)
        kept = pairs.judge(said.id, choice, said.rater.strip(), said.scores)
        return {"kept": kept, "why": "" if kept else "this pair is not known here; load the page again"}

    return Guard(app, door=Door(), refused=lambda error: None)
