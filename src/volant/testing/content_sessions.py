"""The contract of engines and sessions for what comes whole: images, rows.

An engine with a model, or an open session (a fitted baseline), enters together with conditions in words. Each
request has to end once, with a good sample or with a reason; a sample depends on its request's seed and words
alone. `testing.engines` holds the contract of those that write text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from volant.core.artifact import Model
from volant.core.errors import SettingError
from volant.core.protocols import Chunk, Engine, Modality, Request, Session
from volant.core.sample import Sample
from volant.testing.expecting import expect, refusal, same

_MOST_APART = 2  # of 255: floats are summed in another order when other requests run beside
_NOBODY_S = "no-such-control"


def check_content_engine(
    engine: Engine, model: Model, *, folder: Path, asked: Sequence[str] = ("",), unknown: str = ""
) -> None:
    """Hold an engine to its contract.

    Args:
        engine: the engine.
        model: one that it runs.
        folder: an empty directory.
        asked: conditions in words that the model knows; an empty one asks for anything.
        unknown: words that it has to refuse; empty where it takes all.
    """
    from volant.modalities import open_modality

    (folder / "empty").mkdir()
    (folder / "empty" / "volant.json").write_text('{"family": "none", "modality": "image", "engine": "sampler"}')
    refusal(lambda: engine.open(Model(folder / "empty")), f"{engine.name} has to refuse a model without weights")
    running = threading.active_count()
    session = engine.open(model)
    modality = open_modality(model.about.modality)
    check_content_session(session, modality, asked=asked, unknown=unknown, close=False)
    wrong: list[dict[str, float]] = [{_NOBODY_S: 1}, *_beyond(model)]
    for controls in wrong:
        request = Request(id="c", prompt=asked[0], controls=controls)
        sentence = f"{engine.name} has to refuse the controls {controls}"
        refusal(lambda r=request: list(session.generate([r])), sentence, kind=SettingError)  # type: ignore[misc]
    session.close()
    expect(threading.active_count() <= running, f"{engine.name} leaves threads behind when it is closed")


def _beyond(model: Model) -> list[dict[str, float]]:
    """Each control of the model's family, a little out of its bounds."""
    from volant.nets import open_family

    bounds = open_family(model.about.family).controls.items()
    return [{name: value} for name, (low, high) in bounds for value in (low - 1, high + 1)]


def check_content_session(
    session: Session, modality: Modality, *, asked: Sequence[str] = ("",), unknown: str = "", close: bool = True
) -> None:
    """Hold what an engine opened, or a fitted baseline, to the contract of a session for content.

    Args:
        session: an open model.
        modality: of what it makes.
        asked: conditions in words that it knows.
        unknown: words that it has to refuse; empty where it takes all.
        close: close it at the end.
    """
    requests = [Request(id=f"r{i}", prompt=asked[i % len(asked)], seed=100 + i) for i in range(max(6, len(asked)))]
    made = made_by(session, requests)
    for request in requests:
        sample = made[request.id]
        same(modality.check(sample), [], f"{modality.name} refuses what {request.prompt!r} gave")
        same(sample.source.origin, "generated", f"the origin of what {request.prompt!r} gave")
        expect(int(sample.attrs.get("tries", 0)) >= 1, "a sample has to say how many draws it took (`tries`)")
    _alike(made_by(session, requests), made, "the same requests give other samples the second time")
    alone = {r.id: made_by(session, [r])[r.id] for r in requests}
    _alike(alone, made, "a sample depends on what else is asked for")
    _alike(made_by(session, requests[::-1]), made, "a sample depends on the order of the requests")
    chat = [replace(r, prompt=None, messages=({"role": "user", "content": r.prompt or ""},)) for r in requests]
    _alike(made_by(session, chat), made, "what is asked for in a message gives another sample than as a prompt")
    others = made_by(session, [replace(requests[0], id=f"s{i}", seed=500 + i) for i in range(6)])
    expect(len({_told(sample) for sample in others.values()}) > 1, "every seed gives the same sample")
    _check_refused(session, requests, made, unknown)
    _check_cancelled(session, requests, made)
    same(list(session.generate([])), [], "no request gives chunks")
    try:
        session.logprobs([(requests[0], "a")])
    except NotImplementedError:
        pass
    else:
        raise AssertionError("content has no log-probabilities of words, and the session tells some")
    if close:
        session.close()


def ends_of(session: Session, requests: Sequence[Request]) -> dict[str, Chunk]:
    """The last chunk of each request; the stream is held to its promise of one a request."""
    ends: dict[str, Chunk] = {}
    known = {r.id for r in requests}
    for chunk in session.generate(requests):
        expect(chunk.id in known, f"a chunk of nobody's: {chunk.id!r}")
        expect(chunk.id not in ends, f"a chunk of {chunk.id} comes after its last one")
        expect(chunk.finish or chunk.sample is None, f"{chunk.id} gives a sample before its last chunk")
        if chunk.finish:
            ends[chunk.id] = chunk
    same(sorted(known - set(ends)), [], "these requests never finish")
    return ends


def made_by(session: Session, requests: Sequence[Request]) -> dict[str, Sample]:
    """The sample of each request, all of which have to be given one."""
    found = {}
    for id, end in ends_of(session, requests).items():
        same((end.finish, end.error), ("stop", ""), f"how {id} ends")
        expect(end.sample is not None, f"{id} ends well and brings no sample")
        expect(end.completion_tokens >= 1, f"{id} brings a sample and counts none")
        assert end.sample is not None
        found[id] = end.sample
    return found


def _check_refused(session: Session, requests: Sequence[Request], made: dict[str, Sample], unknown: str) -> None:
    if not unknown:
        return
    odd = replace(requests[0], id="odd", prompt=unknown)
    ends = ends_of(session, [odd, *requests])
    end = ends.pop("odd")
    expect(end.finish == "error" and end.sample is None, f"{unknown!r} has to be refused, and ends with {end.finish!r}")
    expect(end.refused and end.error, "a request that cannot be met has to be refused with a reason for whoever asked")
    _alike({id: _given(end) for id, end in ends.items()}, made, "a refused request changes the others")


def _check_cancelled(session: Session, requests: Sequence[Request], made: dict[str, Sample]) -> None:
    """What is cancelled before its draw ends so, alone; its id can be used again."""
    thread = threading.Thread(target=session.cancel, args=(requests[0].id,))
    thread.start()
    thread.join()
    ends = ends_of(session, requests)
    same(ends.pop(requests[0].id).finish, "cancelled", "a cancelled request has to say so")
    rest = {id: _given(end) for id, end in ends.items()}
    _alike(rest, {id: made[id] for id in rest}, "cancelling one request changes another")
    _alike(made_by(session, requests), made, "after a cancelled request the same requests give something else")


def _given(end: Chunk) -> Sample:
    assert end.sample is not None, end
    return end.sample


def _alike(found: dict[str, Sample], wanted: dict[str, Sample], sentence: str) -> None:
    for id, sample in found.items():
        expect(_near(sample, wanted[id]), f"{sentence} ({id})")


def _near(left: Sample, right: Sample) -> bool:
    import numpy as np

    if left.media is None or right.media is None:
        return _told(left) == _told(right)
    one, two = _pixels(left), _pixels(right)
    return one.shape == two.shape and int(np.abs(one - two).max()) <= _MOST_APART


def _pixels(sample: Sample) -> Any:
    import numpy as np

    from volant.modalities.image import pixels

    return pixels(sample).astype(np.int64)


def _told(sample: Sample) -> str | bytes:
    return sample.media or json.dumps(json.loads(sample.content or "{}"), sort_keys=True)
