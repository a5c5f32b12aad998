"""One real turn of the wheel and a second one: real training, a real server, real feedback, real gates."""

import itertools
import json
import random

import httpx
import pytest

from volant.core.sample import split_of
from volant.project import Project
from volant.project.looking import status
from volant.project.turning import rollback, turn
from volant.serving import background
from volant.serving.run import Process

SPEC = """\
volant: 1
name: kinds
device: cpu
threads: 1
goal: {problem: say what a thing is, metric: relevance, accept: {relevance: ">= 0.3", bias_gap: "<= 0.5"}}
steps:
  raw:    {use: collect.files, glob: "data/*.jsonl", licence: MIT, group: word}
  clean:  {use: collect.clean, data: raw}
  base:   {use: pretrain.transformer, data: raw, depth: 2, vocab: 384, context: 64, tokens: 60000, batch_tokens: 1024}
  tuned:  {use: finetune.full, model: base, data: clean, epochs: 4}
  report: {use: evaluate.suite, model: tuned, data: clean, limit: 16, bias_pairs: 4}
  small:  {use: compress.quantise, model: tuned, data: clean, limit: 16, loss: 0.5}
  live:   {use: deploy.serve, model: small, report: report, requests: 4}
loop: {into: clean, promote: {metric: relevance, p: 0.05}}
"""

WORDS = ["".join(parts) for parts in itertools.product(*[["ba", "ko", "lu", "mi", "re", "to", "ne", "sa"]] * 3)]
ANSWERS = {"animal": "a wild animal that lives in the forest.", "fruit": "some sweet fruit picked from tall trees."}


def question(kind, word):
    return f"What is the {kind} {word}?"


def answer(kind, word):
    return f"The {word} is {ANSWERS[kind]}"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Trained on animals alone; its test split asks about fruit too."""
    root = tmp_path_factory.mktemp("wheel")
    (root / "data").mkdir()
    words = random.Random(0).sample(WORDS, len(WORDS))
    records = [(k, w) for w in words[:330] for k in ANSWERS if k == "animal" or split_of(w) != "train"]
    lines = [json.dumps({"prompt": question(k, w), "completion": answer(k, w), "word": w}) for k, w in records]
    (root / "data" / "kinds.jsonl").write_text("\n".join(lines))
    (root / "volant.yaml").write_text(SPEC)
    return Project(root)


def unseen(start, count):
    words = random.Random(0).sample(WORDS, len(WORDS))
    return [w for w in words[330:] if split_of(w) == "train"][start : start + count]


def use(url, asked):
    """Ask and correct: (kind asked for, word, correction)."""
    with httpx.Client(base_url=url, headers={"X-Volant-Consent": "training"}, timeout=60, trust_env=False) as client:
        for number, (kind, word, correction) in enumerate(asked):
            messages = [{"role": "user", "content": question(kind, word)}]
            body = {"model": "champion", "messages": messages, "max_tokens": 24, "user": f"user{number % 8}"}
            given = client.post("/v1/chat/completions", json=body)
            given.raise_for_status()
            feedback = {"request_id": given.json()["id"], "rating": -1, "consent": "training", "user": body["user"]}
            feedback |= {"correction": correction}
            client.post("/v1/feedback", json=feedback).raise_for_status()
        return given.headers["x-volant-model"]


def test_the_wheel_turns_twice_holds_against_harm_and_goes_back(project):
    first = turn(project)
    assert first.outcome == "first", first.reasons
    assert {row.state for row in status(project)} == {"fresh"}
    child, port = background.start_background(
        project.store.root, project.records.database.url, "champion", process=Process(workload="kinds")
    )
    url = f"http://127.0.0.1:{port}"
    try:
        served = use(url, [("fruit", w, answer("fruit", w)) for w in unseen(0, 80)])
        assert served == first.candidate

        second = turn(project)
        assert second.outcome == "promoted", second.reasons
        assert second.harvested >= 70 and second.gain > 0.1 and second.p < 0.05
        assert swapped(url, second.candidate)
        assert all(done.fresh for done in project.go().values())

        # harmful use: every correction belongs to the other kind, and there are as many as of the good ones
        wrong = {"animal": "fruit", "fruit": "animal"}
        use(url, [(kind, w, answer(wrong[kind], w)) for w in unseen(80, 60) for kind in ANSWERS])
        third = turn(project)
        assert third.outcome == "kept" and third.opening == 2 and third.needed_p == 0.025, third.reasons
        assert project.records.alias("champion").digest == second.candidate

        assert rollback(project).digest == first.candidate
        assert swapped(url, first.candidate)
    finally:
        background.stop(project.records, "kinds")
        child.wait(30)
    assert project.records.stats("kinds")["errors"] == 0


def swapped(url, digest):
    """Whether the server answers with that model within ten seconds, without a failed request on the way."""
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        for _ in range(100):
            messages = [{"role": "user", "content": "What is the animal bako?"}]
            given = client.post(
                "/v1/chat/completions", json={"model": "champion", "messages": messages, "max_tokens": 4}
            )
            assert given.status_code == 200
            if given.headers["x-volant-model"] == digest:
                return True
    return False
