"""The CTranslate2 engine against torch, the reference, on a float32 conversion of the same model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_models import dataset, model, run_in, samples
from volant.core.artifact import Card, Model, payload_digest
from volant.core.errors import ArtifactError
from volant.core.protocols import Chunk, Request, Session
from volant.engines import open_model
from volant.engines.ctranslate2 import engine
from volant.scorers.measure import request_of, target_of
from volant.stages.compress import quantise


def sealed(found: Model) -> Model:
    digest, files = payload_digest(found.path)
    return Model(found.path, Card(kind="Model", digest=digest, files=files))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    folder = tmp_path_factory.mktemp("ctranslate2")
    torch_model = model(folder)
    kept = dataset(folder / "data", samples())
    return torch_model, sealed(quantise(run_in(folder / "run"), torch_model, kept, bits=32, limit=2))


def told(session: Session, requests: list[Request]) -> dict[str, tuple[str, str, int]]:
    texts: dict[str, str] = {}
    ends: dict[str, Chunk] = {}
    for chunk in session.generate(requests):
        assert chunk.id not in ends, "nothing comes after the last chunk"
        texts[chunk.id] = texts.get(chunk.id, "") + chunk.text
        if chunk.finish:
            ends[chunk.id] = chunk
    return {id: (texts[id], end.finish, end.completion_tokens) for id, end in ends.items()}


def asked() -> list[Request]:
    found = [request_of(s, id=s.id) for s in samples()[:12]]
    found += [Request(id="plain", prompt="def add", max_tokens=9), Request(id="none", prompt="", max_tokens=3)]
    found += [Request(id="long", prompt="word " * 300, max_tokens=4)]
    found += [Request(id="stop", messages=found[0].messages, stop=("the",))]
    return [*found, Request(id="long chat", messages=({"role": "user", "content": "def " * 300},), max_tokens=5)]


def test_greedy_text_ends_and_counts_are_those_of_torch(both: tuple[Model, Model]) -> None:
    first, second = (open_model(m) for m in both)
    assert told(first, asked()) == told(second, asked())
    second.close()


def test_logprobs_agree_within_the_tolerance(both: tuple[Model, Model]) -> None:
    first, second = (open_model(m) for m in both)
    pairs = [(request_of(s), target_of(s)) for s in samples()[:9]]
    pairs += [(Request(prompt=""), "Add the file. " * 60), (Request(prompt="x"), "")]
    for mine, theirs in zip(second.logprobs(pairs), first.logprobs(pairs), strict=True):
        assert len(mine) == len(theirs)
        assert all(abs(a - b) <= engine.tolerance for a, b in zip(mine, theirs, strict=True))
    second.close()


def test_a_seed_gives_the_same_text_alone_and_among_others(both: tuple[Model, Model]) -> None:
    session = open_model(both[1])
    hot = [Request(id=str(n), prompt="def ", temperature=2.0, seed=n % 3, max_tokens=12, top_k=0) for n in range(6)]
    together = told(session, [*hot, *asked()])
    assert all(told(session, [request]) == {request.id: together[request.id]} for request in hot)
    assert together["0"] == together["3"] and len({together[str(n)] for n in range(3)}) == 3
    session.close()


def test_batches_beside_each_other_give_what_one_after_the_other_gives(both: tuple[Model, Model]) -> None:
    alone, beside = (open_model(both[1], threads=n) for n in (1, 3))
    many = [replace(r, id=f"{n} {r.id}") for n in range(6) for r in asked()]
    hot = [Request(id=f"hot {n}", prompt="def ", temperature=2.0, seed=n, max_tokens=9) for n in range(4)]
    assert told(beside, [*hot, *many]) == told(alone, [*hot, *many])
    pairs = [(request_of(s), target_of(s)) for s in samples()]
    assert beside.logprobs(pairs) == alone.logprobs(pairs) and len(pairs) > 16
    alone.close(), beside.close()


def test_a_repetition_penalty_changes_the_text(both: tuple[Model, Model]) -> None:
    session = open_model(both[1])
    plain = [Request(id=t, prompt=t, max_tokens=30) for t in ("", "d", "def", "x", "(", "Add the", "...", "the the")]
    assert told(session, plain) != told(session, [replace(r, repetition_penalty=9.0) for r in plain])
    session.close()


def test_cancel_ends_a_request_and_only_it(both: tuple[Model, Model]) -> None:
    session = open_model(both[1])
    requests = [Request(id="a", prompt="def ", max_tokens=100), Request(id="b", prompt="def ", max_tokens=100)]
    stream = session.generate(requests)
    first = next(stream)
    session.cancel("a")
    ends = {c.id: c for c in [first, *stream] if c.finish}
    assert ends["a"].finish == "cancelled" and ends["b"].finish in ("stop", "length")
    assert told(session, requests[:1])["a"][1] != "cancelled", "the id may be used again"
    session.close()


def test_leaving_early_stops_the_thread(both: tuple[Model, Model]) -> None:
    session = open_model(both[1])
    stream = session.generate([Request(id="a", prompt="def ", max_tokens=100)])
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("volant-ctranslate2")]
    session.close()


def test_files_that_nobody_vouches_for(
    both: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(both[1].path, copy)
    with pytest.raises(ArtifactError, match="VOLANT_ALLOW"):
        engine.open(Model(copy))
    monkeypatch.setenv("VOLANT_ALLOW", str(copy))
    engine.open(Model(copy)).close()
    flipped = bytearray((copy / "model.bin").read_bytes())
    flipped[-1] ^= 1
    (copy / "model.bin").write_bytes(flipped)
    with pytest.raises(ArtifactError, match=r"model\.bin is not what the card says"):
        engine.open(Model(copy, both[1].card))


def test_torch_is_not_needed(both: tuple[Model, Model]) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['transformers'] = None\n"
        "from pathlib import Path; from volant.core.artifact import Model; from volant.engines import open_model\n"
        "from volant.core.protocols import Request\n"
        "session = open_model(Model(Path(sys.argv[1])))\n"
        "hot = Request(id='b', prompt='def', max_tokens=4, temperature=1.0)\n"
        "cold = Request(id='a', prompt='def', max_tokens=4)\n"
        "print(sum(c.completion_tokens for c in session.generate([cold, hot])))\n"
    )
    allow = {**os.environ, "VOLANT_ALLOW": str(both[1].path)}
    ran = subprocess.run([sys.executable, "-c", code, str(both[1].path)], capture_output=True, text=True, env=allow)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 2


def test_a_model_of_torch_is_not_taken(both: tuple[Model, Model]) -> None:
    with pytest.raises(ArtifactError, match="quantise"):
        engine.open(both[0])
