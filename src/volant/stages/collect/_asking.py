"""Asking a model many things, with every answer kept on the way: what was paid for once is not asked again.

Enters: an open Model (own or hosted) and requests. Leaves: the answers by id, and how much was spent. Answers lie in
`run.work/answers.jsonl`, by the hash of what was asked, so that a killed run goes on where it was. Own models answer in
whole batches, so that a batch is the same after a kill; a service's answers are kept one by one, as they come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volant.core import Model, Run
from volant.core.errors import DataError

if TYPE_CHECKING:
    from volant.core.protocols import Request

_BATCH, _REMOTE_BATCH = 16, 64
_CHARACTERS = 3  # a token, cautiously: how large a request is before the service has counted
_KEPT = "answers.jsonl"


@dataclass
class Answer:
    """What the model said, how it ended (`stop`, `length`, `error`) and what it cost in tokens."""

    text: str = ""
    finish: str = ""
    tokens: int = 0
    error: str = ""


class Asking:
    """An open model whose answers are kept; `close` frees it.

    Args:
        most_tokens: no batch is sent that could go beyond so many tokens of prompts and answers; 0 sets no limit.

    Attributes:
        spent: tokens of all answers that this call used, those of a killed run before it included.
        requests: how many answers that were.
        reused: how many of them were kept from a killed run.
        ended: whether the limit kept requests back.
    """

    def __init__(self, run: Run, model: Model, *, most_tokens: int) -> None:
        from volant.engines import open_model

        self.run, self.most = run, most_tokens
        self.remote = model.about.engine == "remote"
        self.spent = self.requests = self.reused = 0
        self.ended = False
        self._file = run.work / _KEPT
        self._known = self._read()
        self._session = open_model(model, threads=run.threads, device=run.device)

    def ask(self, requests: Sequence[Request]) -> dict[str, Answer]:
        """The answers by the requests' ids; what the limit kept back is not there.

        Raises:
            RemoteError: the service refused or is gone; what it answered before is kept.
        """
        found: dict[str, Answer] = {}
        size = _REMOTE_BATCH if self.remote else _BATCH
        for first in range(0, len(requests), size):
            if self.run.stopping:
                self.run.interrupt()
            batch = requests[first : first + size]
            worst = sum(self._worst(request) for request in batch)
            if self.ended or (self.most and self.spent + worst > self.most):
                self.ended = True
                break
            keys = [_key(request) for request in batch]
            missing = [r for r, key in zip(batch, keys, strict=True) if key not in self._known]
            self.reused += len(batch) - len(missing) if self.remote or not missing else 0
            if missing:
                self._send(missing if self.remote else batch)
            for request, key in zip(batch, keys, strict=True):
                found[request.id] = self._known[key]
                self.spent += found[request.id].tokens
            self.requests += len(batch)
        return found

    def state(self, requests: int, max_tokens: int) -> None:
        """Say what the step may cost before it costs anything."""
        limit = f", and no more than {self.most:,} tokens in all" if self.most else ""
        self.run.say(f"at most {requests:,} requests of up to {max_tokens:,} tokens of answer each{limit}")

    def said(self) -> None:
        """Say what it came to."""
        kept = f", of which {self.reused:,} were kept from a run before" if self.reused else ""
        self.run.say(f"{self.requests:,} requests and {self.spent:,} tokens were used{kept}")

    def close(self) -> None:
        """Free memory, close connections."""
        self._session.close()

    def _worst(self, request: Request) -> int:
        asked = sum(len(str(turn["content"])) for turn in request.messages)
        return asked // _CHARACTERS + request.max_tokens

    def _send(self, requests: Sequence[Request]) -> None:
        said = {request.id: Answer() for request in requests}
        keys = {request.id: _key(request) for request in requests}
        done: dict[str, Answer] = {}
        with self._file.open("a", encoding="utf-8") as file:
            for chunk in self._session.generate(requests):
                answer = said[chunk.id]
                answer.text += chunk.text
                if not chunk.finish:
                    continue
                answer.finish, answer.error = chunk.finish, chunk.error
                answer.tokens = chunk.prompt_tokens + chunk.completion_tokens
                done[keys[chunk.id]] = answer
                if self.remote and chunk.finish != "error":
                    file.write(_line(keys[chunk.id], answer))
                    file.flush()
                if self.run.stopping and self.remote:
                    self.run.interrupt()
            if not self.remote:
                file.write("".join(_line(key, answer) for key, answer in done.items()))
        self._known |= done

    def _read(self) -> dict[str, Answer]:
        return dict(self._lines()) if self._file.is_file() else {}

    def _lines(self) -> Iterator[tuple[str, Answer]]:
        whole: list[str] = []
        for line in self._file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            try:
                body: dict[str, Any] = json.loads(line)
                yield body.pop("key"), Answer(**body)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # the kill came in the middle of this line
            whole.append(line if line.endswith("\n") else f"{line}\n")
        # A torn end would run into the next line; a kill in here leaves the old file.
        draft = self._file.with_suffix(".part")
        draft.write_text("".join(whole), encoding="utf-8")
        draft.replace(self._file)


def failed(answer: Answer | None, max_tokens: int) -> str:
    """Why an answer cannot be used, as the reason of a drop; empty for none."""
    if answer is None or answer.finish in ("error", "cancelled"):
        return f"failed: {' '.join((answer.error if answer else '').split())[:200] or 'no answer'} against an answer"
    if not answer.text.strip():
        return "empty: 0 words against 1"
    return f"cut: unfinished after {max_tokens} tokens against an end" if answer.finish == "length" else ""


def seed_of(run: Run, *place: object) -> int:
    """A seed of its own for each request, from the run's and the request's place."""
    named = "/".join(str(part) for part in (run.seed, *place))
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:4], "big") >> 1


def _line(key: str, answer: Answer) -> str:
    return json.dumps({"key": key, **vars(answer)}, ensure_ascii=True) + "\n"


def _key(request: Request) -> str:
    asked = [[dict(turn) for turn in request.messages], request.max_tokens, request.temperature, request.seed]
    return hashlib.sha256(json.dumps([request.id, asked], sort_keys=True).encode("utf-8")).hexdigest()[:32]


def check_writer(run: Run, model: Model) -> None:
    """Refuse what cannot write.

    Raises:
        DataError: the model is none of texts.
    """
    if model.about.modality != "text":
        what = f"the model makes {model.about.modality}, not text"
        raise DataError(f"{what}.", where=run.step, fix="Make pictures and rows with `deliver.content`.")
