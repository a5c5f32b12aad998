"""The torch engine: greedy as transformers does it, streams, seeds, stops, cancels, and tells log-probabilities."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from volant.core.artifact import Model
from volant.core.errors import ArtifactError
from volant.core.protocols import Request
from volant.core.sample import Sample, Source
from volant.core.spaces import Tokens
from volant.engines import open_engine, open_model
from volant.engines.decoding import TextStream
from volant.engines.torch import TorchSession, _Table
from volant.modalities import open_modality
from volant.nets.transformer import family

WORDS = "the quick brown fox jumps over a lazy dog while été naïve 日本語 waits (x) -> y: return x + 1"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    source = Source(uri="test:", licence="CC0-1.0")
    samples = [Sample(id=str(i), shape="text", source=source, content=f"{WORDS} {i}") for i in range(4)]
    codec = open_modality("text").codec(samples, vocab=300, length=64)
    net = family.build(Tokens(codec.space.vocab, 64), seed=1, depth=2, width=64, heads=2, eos=codec.eos_id)
    with torch.no_grad():
        torch.manual_seed(0)
        for p in net.parameters():
            p.add_(0.15 * torch.randn_like(p))
    family.save(net, folder)
    codec.save(folder)
    about = {"family": "transformer", "modality": "text", "space": {"type": "tokens", "vocab": 300, "length": 64}}
    (folder / "volant.json").write_text(json.dumps(about))
    return Model(folder)


@pytest.fixture
def session(model):
    opened = open_model(model, threads=1)
    # Stop ids come up at random in a random model; most tests want full length.
    opened._stop_ids = frozenset()
    yield opened
    opened.close()


def collect(chunks):
    texts, ends = {}, {}
    for chunk in chunks:
        assert chunk.id not in ends, "a chunk came after the last one"
        texts[chunk.id] = texts.get(chunk.id, "") + chunk.text
        if chunk.finish:
            ends[chunk.id] = chunk
    return texts, ends


def asked(n, **more):
    prompts = ["the", "the quick brown fox jumps", "x + 1 -> y", "dog (", "waits while", "a lazy dog"]
    return [Request(id=f"r{i}", prompt=prompts[i % len(prompts)] + " " * (i // 6), **more) for i in range(n)]


def test_a_prompt_that_several_ask_is_read_once(session, monkeypatch):
    requests = [replace(r, id=f"{r.id}/{n}", temperature=0.9, seed=n) for r in asked(2, max_tokens=8) for n in range(3)]
    alone = [collect(session.generate([r]))[0][r.id] for r in requests]
    read, forward = [], _Table._forward
    monkeypatch.setattr(_Table, "_forward", lambda self, ids, *rest: read.append(len(ids)) or forward(self, ids, *rest))
    texts, _ = collect(session.generate(requests))
    assert read[:2] == [2, 6] and [texts[r.id] for r in requests] == alone and len(set(alone)) > 2


def test_greedy_agrees_with_generate(session):
    net, codec = session._net, session._codec
    net.generation_config.eos_token_id = None
    requests = asked(6, max_tokens=20)
    texts, ends = collect(session.generate(requests))
    for request in requests:
        ids = torch.tensor([session._ids(request)])
        want = net.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False, eos_token_id=None
        )
        assert texts[request.id] == codec.decode(want[0, ids.size(1) :].tolist())
        assert ends[request.id].finish == "length" and ends[request.id].completion_tokens == 20
        assert ends[request.id].prompt_tokens == ids.size(1)


def test_more_requests_than_slots_give_the_same_texts(model):
    from volant.modalities import open_modality

    codec, net = open_modality("text").open_codec(model.path), family.load(model.path)
    requests = [
        Request(id=str(i), prompt=r.prompt, max_tokens=3 + 5 * (i % 4), temperature=0.8 * (i % 2), seed=i)
        for i, r in enumerate(asked(9))
    ]
    few, many = (TorchSession(net, codec, slots=n) for n in (2, 9))
    assert collect(few.generate(requests))[0] == collect(many.generate(requests))[0]


def test_seeds_are_each_requests_own(session):
    hot = {"prompt": "the", "temperature": 1.0, "max_tokens": 16}
    alone, _ = collect(session.generate([Request(id="a", seed=3, **hot)]))
    company = [Request(id="x", seed=9, **hot), Request(id="a", seed=3, **hot), Request(id="y", seed=4, **hot)]
    texts, _ = collect(session.generate(company))
    assert texts["a"] == alone["a"]
    assert len(set(texts.values())) == 3


def test_top_k_one_and_a_tiny_top_p_are_greedy(session):
    greedy, _ = collect(session.generate([Request(id="a", prompt="the quick", max_tokens=12)]))
    for sharp in ({"top_k": 1}, {"top_p": 1e-6}):
        got, _ = collect(
            session.generate([Request(id="a", prompt="the quick", max_tokens=12, temperature=1.0, **sharp)])
        )
        assert got == greedy


def test_repetition_penalty_makes_repeats_rarer(session):
    def variety(penalty):
        request = Request(id="a", prompt="the", max_tokens=40, repetition_penalty=penalty)
        texts, _ = collect(session.generate([request]))
        return len(set(session._codec.encode_text(texts["a"])))

    assert variety(5.0) > variety(1.0)


def test_stop_strings_cut_and_are_never_shown(session):
    whole, _ = collect(session.generate([Request(id="a", prompt="the", max_tokens=30)]))
    stop = whole["a"][8:11]
    assert stop.strip()
    chunks = list(session.generate([Request(id="a", prompt="the", max_tokens=30, stop=(stop,))]))
    texts, ends = collect(chunks)
    assert texts["a"] == whole["a"][: whole["a"].index(stop)]
    assert ends["a"].finish == "stop" and ends["a"].completion_tokens < 30


def test_an_end_token_stops(session):
    _, ends = collect(session.generate([Request(id="a", prompt="the", max_tokens=30)]))
    greedy = session._net.generate(
        torch.tensor([session._ids(Request(prompt="the"))]), max_new_tokens=5, do_sample=False, eos_token_id=None
    )[0, -1]
    session._stop_ids = frozenset([int(greedy)])
    _, ended = collect(session.generate([Request(id="a", prompt="the", max_tokens=30)]))
    assert ended["a"].finish == "stop" and ended["a"].completion_tokens < 5


def test_cancel_frees_the_slot_at_the_next_token(session):
    requests = asked(3, max_tokens=40)
    seen = {}
    for chunk in session.generate(requests):
        if not seen:
            session.cancel("r1")
        seen.setdefault(chunk.id, []).append(chunk)
    assert seen["r1"][-1].finish == "cancelled" and seen["r1"][-1].completion_tokens <= 2
    assert seen["r0"][-1].finish == seen["r2"][-1].finish == "length"
    # The id may be used again afterwards.
    _, ends = collect(session.generate(requests[1:2]))
    assert ends["r1"].finish == "length"


def test_a_waiting_request_can_be_cancelled(model):
    from volant.modalities import open_modality

    session = TorchSession(family.load(model.path), open_modality("text").open_codec(model.path), slots=1)
    session.cancel("r1")
    _, ends = collect(session.generate(asked(2, max_tokens=4)))
    assert ends["r1"].finish == "cancelled" and ends["r1"].completion_tokens == 0
    assert ends["r0"].finish in ("length", "stop")


def test_streams_before_it_is_done(session):
    chunks = session.generate(asked(1, max_tokens=30))
    assert not next(chunks).finish
    assert sum(1 for _ in chunks) > 5


def test_logprobs_are_the_models_own(session):
    net, codec = session._net, session._codec
    pairs = [(Request(prompt="the quick"), " brown fox"), (Request(prompt=""), "naïve dog"), (Request(prompt="x"), "")]
    pairs.append((Request(messages=({"role": "user", "content": "hi"},)), "waits"))
    got = session.logprobs(pairs)
    for (request, continuation), values in zip(pairs, got, strict=True):
        prompt, wanted = session._ids(request), codec.encode_text(continuation)
        logp = net(torch.tensor([prompt + wanted])).logits[0].detach().log_softmax(-1)
        want = [float(logp[len(prompt) + i - 1, t]) for i, t in enumerate(wanted)]
        assert values == pytest.approx(want, abs=2e-4)


def test_logprobs_longer_than_the_context_are_read_in_windows(session):
    long = WORDS * 6
    wanted = session._codec.encode_text(long)
    assert len(wanted) > 3 * session.context
    (values,) = session.logprobs([(Request(prompt=""), long)])
    assert len(values) == len(wanted)
    ids = [*session._ids(Request(prompt="")), *wanted][: session.context]
    logp = session._net(torch.tensor([ids])).logits[0].detach().log_softmax(-1)
    want = [float(logp[i, t]) for i, t in enumerate(ids[1:])]
    assert values[: len(want)] == pytest.approx(want, abs=2e-4)


def test_a_prompt_over_the_context_is_shortened_and_still_answered(session):
    messages = ({"role": "user", "content": WORDS * 8},)
    assert session.tokens(Request(messages=messages)) > session.context
    _, ends = collect(session.generate([Request(id="a", messages=messages, max_tokens=10)]))
    assert ends["a"].prompt_tokens + ends["a"].completion_tokens <= session.context
    assert ends["a"].completion_tokens == 10


@pytest.mark.parametrize("stop", [(), ("语", "zzz"), ("waits",)])
def test_text_stream_shows_what_decoding_at_once_gives(model, stop):
    codec = open_modality("text").open_codec(model.path)
    ids = codec.encode_text(WORDS + " 🦊 end")
    stream = TextStream(codec, stop)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    shown = "".join(pieces) + stream.rest()
    want = codec.decode(ids)
    assert shown == (want[: want.index("waits")] if stop == ("waits",) else want)
    assert not any("\ufffd" in piece for piece in pieces)


def test_names_that_do_not_exist_are_said(model, tmp_path):
    with pytest.raises(ArtifactError, match="Did you mean 'torch'"):
        open_engine("torhc")
    with pytest.raises(ArtifactError, match="no engine"):
        open_engine("decoding")
    (tmp_path / "volant.json").write_text(json.dumps({"family": "remote", "modality": "text", "engine": "remote"}))
    with pytest.raises(ArtifactError, match="transformers models"):
        open_model(Model(tmp_path), engine="torch")


@pytest.mark.parametrize("engine", ["reward", "none"])
def test_a_model_that_judges_is_told_to_give_no_answers(tmp_path, engine):
    (tmp_path / "volant.json").write_text(json.dumps({"family": "transformer", "modality": "text", "engine": engine}))
    with pytest.raises(ArtifactError, match="gives no answers. Name the model that it judges"):
        open_model(Model(tmp_path))
