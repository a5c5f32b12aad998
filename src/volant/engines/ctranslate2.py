"""Run a converted model with CTranslate2: int8 or float32, on a processor without torch's overhead.

Enters: a Model that `compress.quantise` made (`model.bin`, `vocabulary.json`, `config.json` and the codec's files),
and requests. Leaves: chunks of text as they come; torch is not needed. Greedy requests run as one batch. A sampled
request runs alone in a fresh generator, because the library seeds its dice once a worker thread: that is the one way
in which a seed gives the same text whatever else is running. A `model.bin` is parsed by native code, so it is opened
only with a digest that the artifact's card knows, or from a folder that the user allowed.

Shape legend: B rows, L length in tokens, V vocabulary.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volant.core.artifact import Model, file_sha256
from volant.core.errors import ArtifactError, VolantError
from volant.core.paths import Resolver
from volant.core.protocols import Chunk, Codec, Request, Session
from volant.engines.decoding import TextStream

FILES = ("model.bin", "vocabulary.json", "config.json")
EXTRA = "ctranslate2"  # the key of `volant.json`'s `extra` that holds `Facts`
_BATCH = 32
_SMALL_BYTES = 64 * 2**20  # of weights: below it a product is too short to be shared, so that threads take a batch each
_SCORED = 8  # texts of a batch that a small model scores
_SCORED_BYTES = 128 * 2**20  # of the log-probabilities of a batch that is scored
# The library's seed is one variable of the process: set it and draw the first token without being overtaken.
_SEEDING = threading.Lock()


@dataclass(frozen=True)
class Facts:
    """What the conversion leaves out of CTranslate2's own files.

    Attributes:
        context: longest sequence in tokens; the library itself does not check it.
        start: the id before a plain prompt, as the torch engine puts it; None for none.
        stop_ids: ids that end a generation.
        compute: `int8` or `float32`.
    """

    context: int
    start: int | None
    stop_ids: tuple[int, ...]
    compute: str = "default"

    def json(self) -> dict[str, Any]:
        """As `volant.json` holds it."""
        return {**self.__dict__, "stop_ids": list(self.stop_ids)}


class CTranslate2Engine:
    """Runs what `compress.quantise` made. The tolerance is that of a float32 conversion; int8's loss is measured."""

    name = "ctranslate2"
    version = 1
    tolerance = 1e-3

    def open(self, model: Model, *, threads: int = 1, device: str = "cpu") -> Session:
        """Load the model.

        Raises:
            ArtifactError: a file is missing, of an unknown digest, or not to be read.
        """
        from volant.modalities import open_modality

        about = model.about
        known = about.extra.get(EXTRA)
        if not known or not all((model.path / name).is_file() for name in FILES):
            what = f"the ctranslate2 engine runs converted models; this one is {about.family!r} for {about.engine!r}"
            raise ArtifactError(what, where=str(model.path), fix="Convert it with `compress.quantise` first.")
        _check_known(model)
        codec = open_modality(about.modality).open_codec(model.path)
        facts = Facts(int(known["context"]), known["start"], tuple(known["stop_ids"]), str(known["compute"]))
        return CTranslate2Session(model.path, codec, facts, threads=threads, device=device)


engine = CTranslate2Engine()


def _check_known(model: Model) -> None:
    """Refuse files whose digest nobody vouches for."""
    if model.card is not None:
        listed = {entry.path: entry.sha256 for entry in model.card.files}
        for name in FILES:
            if listed.get(name) != file_sha256(model.path / name):
                raise ArtifactError(f"{name} is not what the card says", where=str(model.path), fix="`volant verify`.")
        return
    allowed = Resolver.for_project(Path.cwd()).allowed
    if not any(model.path.resolve().is_relative_to(folder) for folder in allowed):
        raise ArtifactError(
            "model.bin has no digest that Volant made, and native code would read it",
            where=str(model.path),
            fix=f"If you trust it: VOLANT_ALLOW={model.path}",
        )


class _Job:
    """One request on its way; the library's thread reads `over`, the session's thread everything."""

    def __init__(self, request: Request, id: str, prompt: list[int], room: int, text: TextStream) -> None:
        self.request, self.id, self.prompt, self.room, self.text = request, id, prompt, room, text
        self.told = self.count = 0
        self.over = False

    def finished(self, finish: Any, text: str = "") -> Chunk:
        """Its last chunk; its row leaves the batch at the next token."""
        self.over = True
        return Chunk(self.id, text, finish, len(self.prompt), self.count)


_Event = tuple[_Job, int] | VolantError | None


class CTranslate2Session:
    """An open model.

    Args:
        folder: with the library's three files.
        codec: the one that travels with the model.
        facts: context, start and stop ids.
        threads: for the arithmetic; a small model takes a batch on each, others share each product among them.
        device: `cpu` or `cuda`.
    """

    def __init__(self, folder: Path, codec: Codec, facts: Facts, *, threads: int = 1, device: str = "cpu") -> None:
        self._folder, self._codec, self._facts = folder, codec, facts
        small = device != "cuda" and (folder / FILES[0]).stat().st_size < _SMALL_BYTES
        self._workers = max(1, threads) if small else 1
        self._most = _SCORED if small else sys.maxsize
        self._options: dict[str, Any] = {
            "device": "cuda" if device == "cuda" else "cpu", "compute_type": facts.compute,
            "intra_threads": threads // self._workers, "inter_threads": self._workers,
        }  # fmt: skip
        self._generator: Any = self._load()
        self._names: list[str] = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        self.context = facts.context
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    def generate(self, requests: Sequence[Request]) -> Iterator[Chunk]:
        """Run the requests together; yields chunks of all of them as they come."""
        jobs = [self._job(request, index) for index, request in enumerate(requests)]
        events: queue.Queue[_Event] = queue.Queue()
        left = threading.Event()
        worker = threading.Thread(target=self._work, args=(jobs, events, left), name="volant-ctranslate2")
        worker.start()
        try:
            while (event := events.get()) is not None:
                if isinstance(event, VolantError):
                    raise event
                job, token = event
                if not job.over:
                    yield from self._tell(job, token)
            for job in jobs:
                if not job.over:  # cancelled before its first token
                    yield job.finished("cancelled")
        finally:
            left.set()
            worker.join()
            with self._lock:
                self._cancelled -= {job.id for job in jobs}

    def _tell(self, job: _Job, token: int) -> Iterator[Chunk]:
        if self._is_cancelled(job.id):
            yield job.finished("cancelled", job.text.rest())
            return
        if token in self._facts.stop_ids:
            yield job.finished("stop", job.text.rest())
            return
        job.count += 1
        text = job.text.push(token)
        if not job.text.stopped and job.count >= job.room:
            text += job.text.rest()
            yield job.finished("stop" if job.text.stopped else "length", text)
        elif job.text.stopped:
            yield job.finished("stop", text)
        elif text:
            yield Chunk(job.id, text)

    def _work(self, jobs: list[_Job], events: queue.Queue[_Event], left: threading.Event) -> None:
        """Runs in a thread of its own: the library calls back from there, the session's generator reads."""
        try:
            with ThreadPoolExecutor(self._workers, "volant-ctranslate2") as pool:
                for _ in pool.map(lambda group: self._run(group, events, left), _groups(jobs)):
                    pass
        except Exception as error:  # native code raises RuntimeError and ValueError; the reader must hear of any
            events.put(ArtifactError(f"CTranslate2 failed: {error}", where=str(self._folder)))
        finally:
            events.put(None)

    def _run(self, group: list[_Job], events: queue.Queue[_Event], left: threading.Event) -> None:
        group = [job for job in group if not (job.over or self._is_cancelled(job.id) or left.is_set())]
        if not group:
            return
        request = group[0].request
        sampled = request.temperature > 0
        drawing = threading.Event()

        def hear(step: Any) -> bool:
            job = group[step.batch_id]
            if not drawing.is_set():
                drawing.set()
                if sampled:
                    _SEEDING.release()
            job.told += 1
            events.put((job, int(step.token_id)))
            return job.over or job.told >= job.room or self._is_cancelled(job.id) or left.is_set()

        options: dict[str, Any] = {"sampling_topk": 1}
        generator = self._generator
        if sampled:
            options = {
                "sampling_topk": min(request.top_k, len(self._names)), "sampling_topp": request.top_p,
                "sampling_temperature": request.temperature,
            }  # fmt: skip
            generator = self._seeded(request.seed)
        try:
            generator.generate_batch(
                [[self._names[i] for i in job.prompt] for job in group],
                max_length=max(job.room for job in group), repetition_penalty=request.repetition_penalty,
                end_token=list(self._facts.stop_ids), include_prompt_in_result=False, callback=hear, **options,
            )  # fmt: skip
        finally:
            if sampled and not drawing.is_set():
                _SEEDING.release()

    def _seeded(self, seed: int) -> Any:
        """A fresh generator whose first draw uses `seed`. The caller holds `_SEEDING` until that draw."""
        import ctranslate2

        _SEEDING.acquire()
        try:
            ctranslate2.set_random_seed(seed % 2**32)
            return self._load()
        except BaseException:
            _SEEDING.release()
            raise

    def logprobs(self, pairs: Sequence[tuple[Request, str]]) -> list[list[float]]:
        """For each (request, continuation): log-probability in nats of each token of the continuation.

        A continuation longer than the context is read in windows that overlap by half of it.
        """
        windows: list[tuple[int, list[int], int]] = []
        for index, (request, continuation) in enumerate(pairs):
            wanted = list(self._codec.encode_text(continuation))
            prompt = self._prompt(request, min(len(wanted), self.context // 2))
            ids, at = prompt + wanted, len(prompt)
            while at < len(ids):
                end = min(len(ids), max(self.context, at + self.context // 2))
                start = max(0, end - self.context)
                windows.append((index, ids[start:end], end - at))
                at = end
        scored: dict[int, list[float]] = {}
        order = sorted(range(len(windows)), key=lambda w: len(windows[w][1]))
        groups: list[list[int]] = []
        while order:
            rows = max(1, _SCORED_BYTES // (4 * len(self._names) * len(windows[order[-1]][1])))
            groups.append(order[: min(rows, self._most)])
            order = order[len(groups[-1]) :]
        with ThreadPoolExecutor(self._workers, "volant-ctranslate2") as pool:
            told = pool.map(self._score, ([windows[w][1:] for w in group] for group in groups))
            for group, values in zip(groups, told, strict=True):
                scored |= zip(group, values, strict=True)
        found: list[list[float]] = [[] for _ in pairs]
        for place, (index, _, _) in enumerate(windows):
            found[index] += scored[place]
        return found

    def _score(self, rows: Sequence[tuple[list[int], int]]) -> list[list[float]]:
        """Log-probabilities of the last `n` ids of each row."""
        view = self._generator.forward_batch([ids for ids, _ in rows], return_log_probs=True)
        logp_BLV = np.asarray(view)
        return [
            logp_BLV[row, np.arange(len(ids) - 1 - n, len(ids) - 1), ids[len(ids) - n :]].tolist()
            for row, (ids, n) in enumerate(rows)
        ]

    def cancel(self, id: str) -> None:
        """End a running or waiting request at the next token and free its slot."""
        with self._lock:
            if len(self._cancelled) < 10_000:
                self._cancelled.add(id)

    def close(self) -> None:
        """Free memory and threads."""
        self._generator = None

    def tokens(self, request: Request) -> int:
        """How many tokens the request's prompt has before any shortening."""
        return len(self._ids(request))

    def _is_cancelled(self, id: str) -> bool:
        with self._lock:
            return id in self._cancelled

    def _load(self) -> Any:
        import ctranslate2

        try:
            return ctranslate2.Generator(str(self._folder), **self._options)
        except (RuntimeError, ValueError) as error:
            raise ArtifactError(f"CTranslate2 cannot open the model: {error}", where=str(self._folder)) from error

    def _job(self, request: Request, index: int) -> _Job:
        prompt = self._prompt(request, min(request.max_tokens, self.context // 2))
        room = max(1, min(request.max_tokens, self.context - len(prompt)))
        return _Job(request, request.id or str(index), prompt, room, TextStream(self._codec, request.stop))

    def _ids(self, request: Request) -> list[int]:
        if request.messages:
            return list(self._codec.encode_prompt(request.messages))
        start = [] if self._facts.start is None else [self._facts.start]
        return start + list(self._codec.encode_text(request.prompt or ""))

    def _prompt(self, request: Request, reserved: int) -> list[int]:
        """The prompt's ids, shortened like the torch engine does; plain text keeps its tail."""
        ids, room = self._ids(request), max(1, self.context - reserved)
        if len(ids) <= room:
            return ids or [0]
        # As `nets.batches.shorten` does for training and torch, here without torch; a test holds the two together.
        tail = max(1, room // 4) if request.messages else room
        return [*ids[: room - tail], *ids[len(ids) - tail :]]


def _groups(jobs: list[_Job]) -> Iterator[list[_Job]]:
    """Greedy requests of one penalty together, of like length; sampled ones alone, in their order."""
    greedy: dict[tuple[float, bool], list[_Job]] = {}
    for job in jobs:
        if job.request.temperature <= 0:
            # Beside a prompt of one token, the library reports the other rows' prompts as generated (4.8.5).
            greedy.setdefault((job.request.repetition_penalty, len(job.prompt) == 1), []).append(job)
    for alike in greedy.values():
        alike.sort(key=lambda job: len(job.prompt))
        yield from (alike[start : start + _BATCH] for start in range(0, len(alike), _BATCH))
    yield from ([job] for job in jobs if job.request.temperature > 0)
