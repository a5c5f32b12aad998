"""The contracts of an engine and of its sessions: `check_engine(engine, model)`, `check_session(session)`.

An engine with a model that it runs enters, and the same model for torch where it was converted. It has to
tell torch's log-probabilities within its stated tolerance, end every request once with its counts, keep to
seeds and stop strings, and let go of what is cancelled or closed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from volant.core.artifact import Model
from volant.core.protocols import Chunk, Engine, Request, Session
from volant.testing.expecting import expect, refusal, same

PROMPTS = ("The ", "Return the list of ", "def main(value):\n    ", "x")
_ANSWER = "Sort the given list, and return it."


def check_engine(
    engine: Engine,
    model: Model,
    *,
    folder: Path,
    reference: Model | None = None,
    prompts: Sequence[str] = PROMPTS,
    tokens: int = 24,
) -> None:
    """Hold an engine to its contract.

    Args:
        engine: the engine.
        model: one that it runs and that does not lose by conversion (float32).
        folder: an empty directory.
        reference: the model for torch that `model` was converted from; `model` itself by default.
        prompts: plain texts to continue; one of them has to be continued by eight tokens or more.
        tokens: how far.
    """
    from volant.engines import open_model

    (folder / "empty").mkdir()
    (folder / "empty" / "volant.json").write_text('{"family": "none", "modality": "text"}')
    refusal(lambda: engine.open(Model(folder / "empty")), f"{engine.name} has to refuse a model without weights")
    running = threading.active_count()
    session = engine.open(model)
    check_session(session, prompts=prompts, tokens=tokens, close=False)
    reference_session = open_model(reference or model)
    _check_logprobs(engine, session, reference_session, prompts)
    session.close()
    reference_session.close()
    expect(threading.active_count() <= running, f"{engine.name} leaves threads behind when it is closed")


def check_session(session: Session, *, prompts: Sequence[str] = PROMPTS, tokens: int = 24, close: bool = True) -> None:
    """Hold what an engine opened, or a fitted baseline, to the contract of a session.

    Args:
        session: an open model.
        prompts: plain texts to continue.
        tokens: how far.
        close: close it at the end.
    """
    requests = [Request(id=f"r{i}", prompt=p, max_tokens=tokens) for i, p in enumerate(prompts)]
    requests.append(Request(id="chat", messages=({"role": "user", "content": prompts[0]},), max_tokens=tokens))
    alone = told(session, requests)
    same(told(session, requests), alone, "greedy text changes from call to call")
    single = {r.id: told(session, [r])[r.id] for r in requests}
    same(
        {i: t.text for i, t in single.items()},
        {i: t.text for i, t in alone.items()},
        "greedy text depends on what else is running",
    )
    short = told(session, [replace(r, max_tokens=1) for r in requests])
    for id, one in short.items():
        expect(alone[id].text.startswith(one.text), f"the first token of {id} is not where its text starts")
    _check_stop(session, requests, alone)
    _check_seeds(session, requests[0])
    _check_cancel(session, requests, alone)
    same(told(session, []), {}, "no request gives chunks")
    if close:
        session.close()


@dataclass(frozen=True)
class Told:
    """What a session said to one request."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int


def told(session: Session, requests: Sequence[Request]) -> dict[str, Told]:
    """Run requests and hold the stream of chunks to its promise: one last chunk a request, with counts."""
    return heard(session.generate(requests), requests)


def heard(chunks: object, requests: Sequence[Request]) -> dict[str, Told]:
    """The same for a stream that runs already."""
    texts = {r.id: "" for r in requests}
    ends: dict[str, Chunk] = {}
    for chunk in chunks:  # type: ignore[attr-defined]
        expect(chunk.id in texts, f"a chunk of nobody's: {chunk}")
        expect(chunk.id not in ends, f"a chunk of {chunk.id} comes after its last one")
        texts[chunk.id] += chunk.text
        if chunk.finish:
            ends[chunk.id] = chunk
    silent = sorted(set(texts) - set(ends))
    expect(not silent, f"these requests never finish: {silent}")
    for request in requests:
        end = ends[request.id]
        expect(end.finish != "error", f"{request.id} ends with an error: {end.error}")
        expect(end.completion_tokens >= 0 and end.prompt_tokens >= 0, f"{request.id}: negative counts")
        expect(end.completion_tokens or not texts[request.id], f"{request.id} has text and counts no token")
    return {id: Told(texts[id], e.finish, e.prompt_tokens, e.completion_tokens) for id, e in ends.items()}


def _check_stop(session: Session, requests: Sequence[Request], alone: dict[str, Told]) -> None:
    """A string from the middle of a text ends it there and is not part of it."""
    longest = max(requests, key=lambda r: len(alone[r.id].text))
    text = alone[longest.id].text
    expect(len(text) >= 6, f"no prompt is continued by six characters, so nothing can be shown; longest: {text!r}")
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    found = told(session, [replace(longest, stop=(stop, "never said"))])[longest.id]
    same(found.text, text[: text.index(stop)], f"the stop string {stop!r} does not end the text {text!r} before it")
    same(found.finish, "stop", "a stop string has to end a request with finish 'stop'")


def _check_seeds(session: Session, request: Request) -> None:
    hot = [replace(request, id=f"s{i}", temperature=2.0, seed=i % 4) for i in range(8)]
    found = told(session, hot)
    texts = [found[r.id].text for r in hot]
    same(texts[4:], texts[:4], "the same seed gives other text")
    if not _fixed(session, request):
        expect(len(set(texts[:4])) > 1, "every seed gives the same text at temperature 2")
    cold = told(session, [replace(request, id=f"c{i}", seed=i) for i in range(2)])
    same(cold["c0"].text, cold["c1"].text, "the seed decides at temperature 0")


def _fixed(session: Session, request: Request) -> bool:
    """A look-up has no log-probabilities and nothing to draw."""
    try:
        session.logprobs([(request, "a")])
    except NotImplementedError:
        return True
    return False


def _check_cancel(session: Session, requests: Sequence[Request], alone: dict[str, Told]) -> None:
    """Cancelling from another thread ends that request, no other one, and its id can be used again."""
    longest = max(requests, key=lambda r: alone[r.id].completion_tokens)
    if alone[longest.id].completion_tokens < 8 or _fixed(session, longest):
        expect(_fixed(session, longest), "no prompt is continued by eight tokens, so cancelling cannot be shown")
        return
    other = replace(longest, id="other")
    stream = session.generate([longest, other])
    seen = [next(stream)]
    if not (seen[0].id == longest.id and seen[0].finish):
        thread = threading.Thread(target=session.cancel, args=(longest.id,))
        thread.start()
        thread.join()
        ends = heard([*seen, *stream], [longest, other])
        same(ends[longest.id].finish, "cancelled", "a cancelled request has to say so")
        same(ends["other"].text, alone[longest.id].text, "cancelling one request changes another")
        expect(alone[longest.id].text.startswith(ends[longest.id].text), "a cancelled request says something else")
    else:
        list(stream)
    again = told(session, requests)
    same(again, alone, "after a cancelled request the same requests give something else")


def _check_logprobs(engine: Engine, mine: Session, theirs: Session, prompts: Sequence[str]) -> None:
    pairs = [(Request(prompt=p), _ANSWER) for p in prompts]
    pairs.append((Request(messages=({"role": "user", "content": prompts[0]},)), _ANSWER))
    try:
        found = mine.logprobs(pairs)
    except NotImplementedError:
        return
    for (request, _), ours, torchs in zip(pairs, found, theirs.logprobs(pairs), strict=True):
        same(len(ours), len(torchs), f"{engine.name} cuts a text into another number of tokens than torch")
        expect(all(p <= 1e-6 for p in ours), f"{engine.name} tells log-probabilities above 0")
        most = max((abs(a - b) for a, b in zip(ours, torchs, strict=True)), default=0.0)
        sentence = f"{engine.name} differs from torch by {most:.2g} nats after {request.prompt or 'the chat'!r}"
        expect(most <= engine.tolerance, f"{sentence}; it states {engine.tolerance:g}")
    expect(sum(map(sum, found)) < 0, f"{engine.name} is certain of everything")
