"""Which model is served: follows an alias, opens the new model beside the old, swaps between batches.

What enters: a `Source` (an alias in the records, or one fixed model). What leaves: `submit(job)`.
Rolling back is the same path, because the alias moves back. A new model that does not open or does not
answer one token never gets a request: the old one stays, and the records say why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from volant.core import Artifact, Endpoint, Model, Prompt
from volant.core.artifact import Card, payload_digest
from volant.core.errors import ArtifactError
from volant.core.protocols import Request, Route, Session
from volant.serving.auth import Door
from volant.serving.engine import Batcher, Closed, Job, Served
from volant.serving.limits import Limits
from volant.serving.metering import Ledger
from volant.serving.metrics import Meter
from volant.serving.shapes import ApiError

log = logging.getLogger("volant.serving")

POLL_SECONDS = 0.3
SNAPSHOT_SECONDS = 60.0
CONTENT = "content"

Open = Callable[[Model, Prompt | None], Session]


class Source(Protocol):
    """Where the model comes from. `now` is cheap and asked three times a second."""

    name: str

    def now(self) -> str:
        """The digest that should be served."""

    def load(self, digest: str) -> tuple[Model, Prompt | None]:
        """The model with that digest, and the prompt that goes with it."""


class Fixed:
    """One model, for as long as the server runs.

    Args:
        model: sealed or a plain directory.
        name: what clients call it.
        pinned: the digest that the payload must have; a model that differs is not served.
    """

    def __init__(self, model: Model, prompt: Prompt | None = None, *, name: str = "champion", pinned: str = "") -> None:
        self.name, self._model, self._prompt = name, model, prompt
        self._digest = model.digest
        if not pinned:
            return
        self._digest, entries = payload_digest(model.path)
        if self._digest != pinned:
            what = f"the model's files hash to {self._digest[:16]}, not to the pinned {pinned[:16]}"
            raise ArtifactError(what, where=str(model.path), fix="Copy the model again.")
        # Who pins a digest vouches for these files, so that engines with native readers open them.
        self._model = Model(model.path, Card(kind=model.kind, digest=pinned, files=entries))

    def now(self) -> str:
        """Always the same."""
        return self._digest

    def load(self, digest: str) -> tuple[Model, Prompt | None]:
        """The model as given."""
        return self._model, self._prompt


class Alias:
    """Whatever an alias in the records points to: a model, or an endpoint (model and prompt together).

    Args:
        store: has `get(digest)`.
        records: has `alias(name)`.
        prompt: goes with a bare model; an endpoint names its own.
        until: digest of what is served until something is promoted to the alias; empty for nothing.
    """

    def __init__(self, store: Any, records: Any, name: str, prompt: Prompt | None = None, *, until: str = "") -> None:
        self.name, self._store, self._records, self._prompt, self._until = name, store, records, prompt, until

    def now(self) -> str:
        """The alias's digest.

        Raises:
            ArtifactError: nothing was promoted to the alias.
        """
        row = self._records.alias(self.name)
        if row is None and self._until:
            return self._until
        if row is None:
            fix = "Run `volant turn`, which promotes the first model."
            raise ArtifactError(f"nothing was promoted to {self.name!r} yet", where="alias", fix=fix)
        return str(row.digest)

    def load(self, digest: str) -> tuple[Model, Prompt | None]:
        """The model, from the store."""
        artifact: Artifact = self._store.get(digest)
        if isinstance(artifact, Endpoint):
            about = artifact.read_json("endpoint.json")
            prompt = self._store.get(about["prompt"]) if about.get("prompt") else None
            artifact = self._store.get(about["model"])
            return _model(artifact), prompt
        return _model(artifact), self._prompt


def _model(artifact: Artifact) -> Model:
    if not isinstance(artifact, Model):
        what = f"{artifact.digest[:16]} is a {artifact.kind}, not a Model"
        raise ArtifactError(what, where="alias", fix="Promote a model.")
    return artifact


def opener(threads: int, device: str = "cpu", engine: str = "") -> Open:
    """How a served model is opened: by its own engine, or by the one named."""

    def open_session(model: Model, prompt: Prompt | None) -> Session:
        from volant.engines import open_model

        return open_model(model, prompt=prompt, threads=threads, device=device, engine=engine)

    return open_session


def modality_routes(model: Model) -> dict[str, str | Route]:
    """The routes that the model's modality names, with the kind of handler of each."""
    from volant.modalities import open_modality

    return dict(open_modality(model.about.modality).api())


def kinds(routes: Mapping[str, str | Route]) -> dict[str, str]:
    """The routes as JSON: path to kind of handler; `content` for everything that is no text."""
    return {path: kind if isinstance(kind, str) else CONTENT for path, kind in routes.items()}


def speaks(routes: Mapping[str, str | Route]) -> bool:
    """Whether any of the routes takes and gives text, so that the model can be talked with."""
    return any(isinstance(kind, str) for kind in routes.values())


class Service:
    """A model in service: queue, batches, swap, figures, records.

    Args:
        source: which model.
        open: opens it; by default with its engine on one thread.
        records: has `add_request`, `add_feedback` and `event`; None keeps nothing.
        workload: under which name requests are recorded.
        routes: what is offered, path to a kind of text or to a `Route`; by default what the first model's modality
            names.
        retain_days: how long requests are kept.
    """

    def __init__(
        self,
        source: Source,
        *,
        open: Open | None = None,
        records: Any = None,
        workload: str = "default",
        limits: Limits | None = None,
        door: Door | None = None,
        engine: str = "",
        routes: Mapping[str, str | Route] | None = None,
        retain_days: int = 90,
    ) -> None:
        self.source, self.records, self.workload, self.retain_days = source, records, workload, retain_days
        self.limits = limits or Limits()
        self.door = door or Door(max_body_bytes=self.limits.max_body_bytes, body_seconds=self.limits.body_seconds)
        self.started_at = int(time.time())
        self.draining = False
        self.in_flight = 0
        self.on_swap: Callable[[Served], None] | None = None
        self._open, self._engine = open or opener(1), engine
        self._refused = ""
        self._swapping = threading.Lock()
        self._ended = threading.Event()
        self._routes = routes
        self.served_key = source.now()
        first = self._opened(self.served_key)
        self.routes = modality_routes(first.model) if routes is None else routes
        self.batcher = Batcher(first, queue=self.limits.queue, batch=self.limits.batch)
        self.meter = Meter(queue=lambda: self.batcher.waiting, running=lambda: self.batcher.running)
        self.ledger = Ledger(records, lost=self.meter.lost)
        self._tell_swap("opened", first)
        self._thread = threading.Thread(target=self._follow, name="volant-follow", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.source.name

    @property
    def served(self) -> Served:
        """The model that answers now."""
        return self.batcher.served

    @property
    def ready(self) -> bool:
        """Whether new requests are taken."""
        return not self.draining and not self._ended.is_set()

    def submit(self, job: Job) -> None:
        """Queue a job; raises what `Batcher.submit` raises, or an `ApiError` 503 while draining."""
        if not self.ready:
            raise ApiError(503, "The server is about to stop.", code="stopping", retry_after=2)
        try:
            self.batcher.submit(job)
        except Closed:
            raise ApiError(503, "The server is about to stop.", code="stopping", retry_after=2) from None

    def reload(self, *, again: bool = True) -> bool:
        """Look at the source now and swap if it names another model; whether the source's model is served.

        Args:
            again: try a model that failed before once more.
        """
        with self._swapping:
            digest = self.source.now()
            if digest == self.served_key:
                self._refused = ""
                return True
            if digest == self._refused and not again:
                return False
            try:
                new = self._opened(digest)
            except Exception as error:  # whatever a broken model raises: the old one goes on
                self._refused = digest
                log.exception("%s was not taken into service", digest[:12])
                self.meter.swap("refused", name=self.name, digest=digest, engine="", prompt="")
                self._event("swap_refused", {"digest": digest, "error": f"{type(error).__name__}: {error}"})
                return False
            old = self.served
            try:
                done = self.batcher.swap(new)
            except Closed:
                new.session.close()
                return False
            self.served_key, self._refused = digest, ""
            done.wait(self.limits.deadline_seconds + 5)
            self._tell_swap("done", new, old=old.digest)
            return True

    def close(self) -> None:
        """Take no more work, cancel what runs, write the last figures, close the model."""
        self._ended.set()
        self._thread.join(10)
        self.batcher.close()
        self.ledger.close()
        self._event("serving", self.meter.snapshot())

    def _opened(self, digest: str) -> Served:
        """Open the model and let it say one token, or make one sample: what cannot do that is not served."""
        model, prompt = self.source.load(digest)
        session = self._open(model, prompt)
        try:
            routes = modality_routes(model) if self._routes is None else self._routes
            # Content is asked for without a condition, which every model of it knows.
            warm = Request(id="warm-up", prompt="Hello" if speaks(routes) else "", max_tokens=1)
            chunks = list(session.generate([warm]))
            if not chunks or chunks[-1].finish not in ("stop", "length"):
                raise ArtifactError(f"the model does not answer: {chunks[-1].error if chunks else 'no output'}")
        except BaseException:
            session.close()
            raise
        about = model.path / "volant.json"
        engine = self._engine or (model.about.engine if about.exists() else "")
        return Served(model, model.digest, session, engine, prompt.digest if prompt else "")

    def _tell_swap(self, result: str, served: Served, old: str = "") -> None:
        told = {"name": self.name, "digest": served.digest, "engine": served.engine, "prompt": served.prompt_digest}
        self.meter.swap(result, **told)
        self._event(f"swap_{result}", {**told, "old": old})
        if self.on_swap:
            self.on_swap(served)

    def _event(self, kind: str, body: dict[str, Any]) -> None:
        if self.records is None:
            return
        try:
            self.records.event(kind, {"workload": self.workload, **body})
        except Exception:
            log.exception("an event could not be recorded")

    def _follow(self) -> None:
        snapshot_at, said = time.monotonic() + SNAPSHOT_SECONDS, ""
        while not self._ended.wait(POLL_SECONDS):
            try:
                self.reload(again=False)
                said = ""
            except Exception as error:  # the records are locked or away: look again at the next poll
                if str(error) != said:  # said once, and not three times a second
                    log.warning("could not look for a new model: %s", error)
                said = str(error)
            if time.monotonic() >= snapshot_at:
                snapshot_at += SNAPSHOT_SECONDS
                self._event("serving", self.meter.snapshot())


def source_for(store: Any, records: Any, target: str, prompt: Prompt | None = None, *, until: str = "") -> Source:
    """An alias of that name to follow, or else the model with that digest (or its first digits).

    Args:
        until: digest of what is served under the alias until something is promoted to it.
    """
    if until or records.alias(target) is not None:
        return Alias(store, records, target, prompt, until=until)
    if len(target) >= 6 and not set(target) - set("0123456789abcdef"):
        return Fixed(_model(store.get(target)), prompt, name=target[:12])
    fix = "Run `volant turn`, which promotes the first model, or name a model's digest."
    raise ArtifactError(f"there is no alias {target!r}", where="serve", fix=fix)


def model_at(path: Path) -> Model:
    """The model in a plain directory.

    Raises:
        ArtifactError: there is none.
    """
    model = Model(path)
    model.about  # noqa: B018 (read for its checks)
    return model


__all__: Sequence[str] = (
    "Alias",
    "Fixed",
    "Open",
    "Service",
    "Source",
    "kinds",
    "model_at",
    "opener",
    "source_for",
    "speaks",
)
