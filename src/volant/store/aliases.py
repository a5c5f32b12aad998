"""Which artifact is in use: aliases, promotions, and how often a test split was opened.

Enters: a name, a digest, what the caller believes the name stands for now, an idempotency key, the
evidence. Leaves: exactly one promotion for a key, or a refusal. One transaction does compare, swap and
log, so of many racers one wins; the same key again returns the first promotion. Rolling back is promoting
the previous digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, text

from volant.core.errors import GateRefused
from volant.store.database import Database
from volant.store.rows import fresh_id, now, packed, unpacked

_PROMOTION = "SELECT id, alias, digest, previous, idempotency AS key, evidence, at FROM promotions"
_OF_KEY = text(f"{_PROMOTION} WHERE alias = :alias AND idempotency = :key")
_OF_ALIAS = text(f"{_PROMOTION} WHERE alias = :alias ORDER BY n DESC")
_INSERT = text(
    "INSERT INTO promotions (id, alias, digest, previous, idempotency, evidence, at) "
    "VALUES (:id, :alias, :digest, :previous, :key, :evidence, :at)"
)
_SWAP = text(
    "INSERT INTO aliases (name, digest, at) VALUES (:alias, :digest, :at) "
    "ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, at = excluded.at"
)
_ALIAS = text("SELECT name, digest, at FROM aliases WHERE name = :name")
_ALIASES = text("SELECT name, digest, at FROM aliases ORDER BY name")
_OPENED = text("SELECT k FROM openings WHERE test = :test AND candidate = :candidate")
_COUNT = text("SELECT COALESCE(MAX(k), 0) FROM openings WHERE test = :test")
_OPEN = text("INSERT INTO openings (test, candidate, k, at) VALUES (:test, :candidate, :k, :at)")


@dataclass(frozen=True)
class AliasRow:
    """A name and the digest that it stands for since `at`."""

    name: str
    digest: str
    at: str


@dataclass(frozen=True)
class Promotion:
    """One move of an alias, with its reasons. `previous` is empty for the first one."""

    id: str
    alias: str
    digest: str
    previous: str
    key: str
    evidence: dict[str, Any]
    at: str
    repeated: bool = field(default=False, compare=False)


class AliasRecords:
    """The part of `Records` that keeps aliases and promotions."""

    database: Database

    def alias(self, name: str) -> AliasRow | None:
        """What an alias stands for; None before its first promotion."""
        with self.database.read() as connection:
            row = connection.execute(_ALIAS, {"name": name}).first()
            return AliasRow(*row) if row else None

    def aliases(self) -> list[AliasRow]:
        """All aliases by name."""
        with self.database.read() as connection:
            return [
                AliasRow(*row) for row in connection.execute(text("SELECT name, digest, at FROM aliases ORDER BY name"))
            ]

    def promote(
        self, alias: str, digest: str, *, expected: str | None, key: str, evidence: dict[str, Any]
    ) -> Promotion:
        """Let `alias` stand for `digest`; on the disk when this returns.

        Args:
            alias: the name (`champion`).
            digest: what it shall stand for.
            expected: what the caller believes it stands for now; None for an alias that is not set yet.
            key: idempotency key; a second call with it changes nothing and returns the first promotion.
            evidence: report digests and figures that justify it.

        Raises:
            GateRefused: the alias stands for something else by now.
        """
        with self.database.write(durable=True) as connection:
            before = connection.execute(_OF_KEY, {"alias": alias, "key": key}).first()
            if before:
                return replace(_promotion(before), repeated=True)
            current = connection.execute(_ALIAS, {"name": alias}).first()
            previous = str(current.digest) if current else ""
            if previous != (expected or ""):
                what = f"{alias} stands for {previous[:12] or 'nothing'} by now, not for {(expected or 'nothing')[:12]}"
                raise GateRefused(f"{what}.", where=alias, fix="Compare with the new one first.")
            return _swap(connection, Promotion(fresh_id("promotion"), alias, digest, previous, key, evidence, now()))

    def promotions(self, alias: str) -> list[Promotion]:
        """The moves of an alias, newest first."""
        with self.database.read() as connection:
            return [_promotion(row) for row in connection.execute(_OF_ALIAS, {"alias": alias})]

    def open_test(self, test_digest: str, candidate_digest: str) -> int:
        """Count one opening of a test split by a candidate; returns k, the same for the same pair again."""
        pair = {"test": test_digest, "candidate": candidate_digest}
        with self.database.write(durable=True) as connection:
            opened = connection.execute(_OPENED, pair).scalar()
            if opened is not None:
                return int(opened)
            k = int(connection.execute(_COUNT, {"test": test_digest}).scalar_one()) + 1
            connection.execute(_OPEN, {**pair, "k": k, "at": now()})
            return k


def _swap(connection: Connection, promotion: Promotion) -> Promotion:
    values = {name: getattr(promotion, name) for name in ("id", "alias", "digest", "previous", "key", "at")}
    connection.execute(_INSERT, {**values, "evidence": packed(promotion.evidence)})
    connection.execute(_SWAP, {name: values[name] for name in ("alias", "digest", "at")})
    return promotion


def _promotion(row: Row[Any]) -> Promotion:
    values = dict(row._mapping)
    return Promotion(**{**values, "evidence": unpacked(values["evidence"])})
