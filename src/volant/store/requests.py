"""What use taught: requests, feedback, ratings; with consent and an end to their keeping.

Enters: one row for each served request, each feedback, each judged pair. Leaves: rows up to a snapshot's
high-water marks (so a harvest is a pure function), latency history, and nothing once `purge` has passed
a row's day. Requests are kept as the OpenAI payloads that came and went.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from volant.core.errors import DataError
from volant.core.outside import Snapshot
from volant.store.database import Database
from volant.store.latency import summary
from volant.store.rows import fresh_id, iso, now, packed, plain, unpacked

_ADD = text(
    "INSERT INTO requests (id, at, workload, client, request, response, model, prompt_digest, consent, status, error, "
    "milliseconds, first_token_ms, prompt_tokens, completion_tokens, expires_at) VALUES (:id, :at, :workload, :client, "
    ":request, :response, :model, :prompt_digest, :consent, :status, :error, :milliseconds, :first_token_ms, "
    ":prompt_tokens, :completion_tokens, :expires_at)"
)
_FEEDBACK = text(
    "INSERT INTO feedback (request, at, client, rating, correction, consent, source) "
    "VALUES (:request, :at, :client, :rating, :correction, :consent, :source) RETURNING n"
)
_RATING = text(
    "INSERT INTO ratings (at, prompt, a, b, choice, rater, a_score, b_score) "
    "VALUES (:at, :prompt, :a, :b, :choice, :rater, :a_score, :b_score) RETURNING n"
)
_MARKS = {
    "requests": text("SELECT COALESCE(MAX(r.n), 0) FROM requests r WHERE (:workload = '*' OR r.workload = :workload)"),
    "feedback": text(
        "SELECT COALESCE(MAX(f.n), 0) FROM feedback f JOIN requests r ON r.id = f.request "
        "WHERE (:workload = '*' OR r.workload = :workload)"
    ),
    "ratings": text("SELECT COALESCE(MAX(n), 0) FROM ratings"),
}
_READ_REQUESTS = text(
    "SELECT r.n, r.id, r.at, r.workload, r.client, r.request, r.response, r.consent, r.model, r.prompt_digest, "
    "r.status FROM requests r WHERE (:workload = '*' OR r.workload = :workload) "
    "AND r.n > :after AND r.n <= :mark ORDER BY r.n LIMIT 500"
)
_READ_FEEDBACK = text(
    "SELECT f.n, f.n AS id, f.at, f.client, f.rating, f.correction, f.source, r.workload, r.request, r.response, "
    "r.model, r.id AS request_id, CASE WHEN f.consent = '' THEN r.consent ELSE f.consent END AS consent "
    "FROM feedback f JOIN requests r ON r.id = f.request WHERE (:workload = '*' OR r.workload = :workload) "
    "AND f.n > :after AND f.n <= :mark ORDER BY f.n LIMIT 500"
)
_READ_RATINGS = text(
    "SELECT n, n AS id, at, prompt, a, b, choice, rater, a_score, b_score FROM ratings "
    "WHERE :workload <> '' AND n > :after AND n <= :mark ORDER BY n LIMIT 500"
)
_TIMES = text(
    "SELECT r.at, r.status, r.error, r.milliseconds, r.first_token_ms, r.prompt_tokens, r.completion_tokens "
    "FROM requests r WHERE (:workload = '*' OR r.workload = :workload) AND r.at >= :since "
    "ORDER BY r.n DESC LIMIT 100000"
)


class UseRecords:
    """The part of `Records` that keeps what clients asked, said and judged."""

    database: Database

    def add_request(
        self,
        workload: str,
        client: str,
        request: Mapping[str, Any],
        response: Mapping[str, Any] | None,
        *,
        model: str,
        status: int,
        milliseconds: float,
        first_token_ms: float | None = None,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        consent: str = "",
        error: str = "",
        prompt_digest: str = "",
        retain_days: float = 90,
        id: str = "",
    ) -> str:
        """Keep one served request; returns its id.

        Args:
            workload: the name under which it was served.
            client: whose it was, as a hashed key.
            request: the OpenAI payload that came.
            response: the one that went; None for an error.
            model: digest of the model that answered.
            status: HTTP status.
            milliseconds: from the first byte read to the last one written.
            first_token_ms: to the first token; None where nothing was generated.
            prompt_tokens: tokens that went in.
            completion_tokens: tokens that came out.
            consent: whether it may be used to improve (`given`, `withheld`; empty: nobody said).
            error: cause, where it failed.
            prompt_digest: digest of the Prompt artifact that was put before it.
            retain_days: after so many days `purge` deletes it.
            id: the id that the client was told; made here where empty.
        """
        came = datetime.now(UTC)
        values = {
            "id": id or fresh_id("req"), "at": iso(came), "workload": workload, "client": plain(client),
            "request": packed(dict(request)), "response": None if response is None else packed(dict(response)),
            "model": model, "prompt_digest": prompt_digest, "consent": consent, "status": status,
            "error": plain(error), "milliseconds": milliseconds, "first_token_ms": first_token_ms,
            "prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens,
            "expires_at": iso(came + timedelta(days=retain_days)),
        }  # fmt: skip
        with self.database.write() as connection:
            connection.execute(_ADD, values)
        return str(values["id"])

    def add_feedback(
        self,
        request_id: str,
        *,
        client: str,
        rating: int | None = None,
        correction: str = "",
        consent: str = "",
        source: str = "api",
    ) -> int:
        """Keep what a client said of an answer; on the disk when this returns. Returns its number.

        Raises:
            DataError: no request has that id (or its time was over).
        """
        values = {
            "request": request_id, "at": now(), "client": plain(client), "rating": rating,
            "correction": plain(correction), "consent": consent, "source": source,
        }  # fmt: skip
        with self.database.write(durable=True) as connection:
            if connection.execute(text("SELECT 1 FROM requests WHERE id = :id"), {"id": request_id}).first() is None:
                raise DataError("no request has that id.", where=repr(request_id[:80]), fix="Give the id of an answer.")
            return int(connection.execute(_FEEDBACK, values).scalar_one())

    def add_rating(
        self, prompt: str, a: str, b: str, choice: str, rater: str, scores: tuple[int, int] | None = None
    ) -> int:
        """Keep which of two answers a person preferred (`a`, `b` or `tie`). Returns its number.

        Args:
            prompt, a, b: what was shown.
            choice: of the three.
            rater: who chose.
            scores: of `a` and of `b`, where the person gave each one.

        Raises:
            DataError: the choice is none of the three.
        """
        if choice not in ("a", "b", "tie"):
            raise DataError(f"a choice is a, b or tie, not {choice!r}.", where="rating", fix="Choose one of them.")
        words = {"at": now(), "prompt": prompt, "a": a, "b": b, "choice": choice, "rater": rater}
        a_score, b_score = scores or (None, None)
        values = {**{k: plain(v) for k, v in words.items()}, "a_score": a_score, "b_score": b_score}
        with self.database.write(durable=True) as connection:
            return int(connection.execute(_RATING, values).scalar_one())

    def marks(self, workload: str) -> dict[str, Any]:
        """The highest numbers of a workload's rows (`*`: of all): the facts of a `Records` snapshot."""
        with self.database.read() as connection:
            marks = {
                name: int(connection.execute(q, {"workload": workload}).scalar_one()) for name, q in _MARKS.items()
            }
        return {"workload": workload, **marks}

    def requests(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Requests up to the snapshot's mark (its facts are what `marks` gave), oldest first."""
        return self._up_to(_READ_REQUESTS, snapshot, "requests")

    def feedback(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Feedback up to the mark, oldest first, each with its request; consent falls back on the request's."""
        return self._up_to(_READ_FEEDBACK, snapshot, "feedback")

    def ratings(self, snapshot: Snapshot) -> Iterator[dict[str, Any]]:
        """Judged pairs up to the mark, oldest first: whatever the workload, and none for an empty name."""
        return self._up_to(_READ_RATINGS, snapshot, "ratings")

    def _up_to(self, query: Any, snapshot: Snapshot, mark: str) -> Iterator[dict[str, Any]]:
        values = {"workload": snapshot.facts["workload"], "mark": snapshot.facts[mark], "after": 0}
        while True:  # page by page: no connection stays open while the caller works
            with self.database.read() as connection:
                page = [dict(row) for row in connection.execute(query, values).mappings()]
            for row in page:
                values["after"] = row.pop("n")
                for name in ("request", "response"):
                    if row.get(name) is not None:
                        row[name] = unpacked(row[name])
                yield row
            if len(page) < 500:
                return

    def stats(self, workload: str, since: str = "") -> dict[str, Any]:
        """Counts, errors by cause, tokens, percentiles and hourly history of the newest 100,000 requests.

        Args:
            workload: its name; `*` for all.
            since: ISO time; empty for everything.
        """
        with self.database.read() as connection:
            rows = connection.execute(_TIMES, {"workload": workload, "since": since}).mappings()
            return {"workload": workload, **summary([dict(row) for row in rows])}

    def purge(self, moment: datetime | None = None) -> int:
        """Delete the requests whose time is over at `moment` (now), with their feedback; returns how many."""
        values = {"now": iso(moment or datetime.now(UTC))}
        gone = "SELECT id FROM requests WHERE expires_at <= :now"
        with self.database.write(durable=True) as connection:
            connection.execute(text(f"DELETE FROM feedback WHERE request IN ({gone})"), values)  # noqa: S608
            return int(connection.execute(text("DELETE FROM requests WHERE expires_at <= :now"), values).rowcount)
