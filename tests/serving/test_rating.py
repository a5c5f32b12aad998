"""The page for ratings: who may call it, what each rater sees, and what is kept of a choice and of scores."""

import threading

import pytest
from starlette.testclient import TestClient

from volant.core.errors import MachineError
from volant.serving.rating import Pair, Pairs, create_app


def pair(n):
    return Pair(f"prompt {n}", f"left {n}", f"right {n}", (f"<pre>prompt {n}</pre>", f"<pre>left {n}</pre>", "r"))


@pytest.fixture
def opened():
    made = []

    def open_page(drawn=None, total=4, known=(), scored=False):
        kept = []
        pairs = Pairs(
            iter(map(pair, range(total)) if drawn is None else drawn), total, lambda *said: kept.append(said), known
        )
        made.append(pairs)
        app = create_app(pairs, scored=scored)
        return TestClient(app, base_url="http://127.0.0.1:1", client=("127.0.0.1", 5)), kept

    yield open_page
    for pairs in made:
        pairs.close()


def after(client, rater="ana", **more):
    return client.get("/next", params={"rater": rater, **more}).json()


def rate(client, id, rater="ana", **said):
    return client.post("/rate", json={"id": id, "rater": rater, **said})


def test_only_this_page_may_call(opened):
    client, kept = opened()
    id = after(client)["id"]
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"x-forwarded-for": "9.9.9.9"}):
        word = {"id": id, "rater": "ana", "choice": "a"}
        assert client.post("/rate", json=word, headers=headers).status_code in (401, 403)
    shown = client.get("/")
    rules = shown.headers["content-security-policy"]
    nonce = rules.split("'nonce-")[1].split("'")[0]
    assert f'<script nonce="{nonce}">' in shown.text and "{{" not in shown.text and 'data-scored="no"' in shown.text
    for wrong in ({"choice": "c"}, {"choice": "a", "extra": 1}, {"scores": [1, 9]}):
        assert rate(client, id, **wrong).status_code == 422
    assert rate(client, id, rater=" ", choice="a").status_code == 422
    for unmeant in ({}, {"scores": [1, 2]}, {"choice": "a", "scores": [1, 2]}):
        assert not rate(client, id, **unmeant).json()["kept"]
    assert not rate(client, "nothing", choice="a").json()["kept"] and kept == []


def test_each_rater_goes_through_the_same_pairs_and_may_change_their_mind(opened):
    client, kept = opened()
    first = after(client)
    assert (first["prompt"], first["a"], first["done"], first["total"]) == (
        "<pre>prompt 0</pre>", "<pre>left 0</pre>", 0, 4,
    )  # fmt: skip
    for choice in ("a", "a", "b"):  # the same again adds nothing, another one takes its place
        assert rate(client, first["id"], choice=choice).json()["kept"]
    assert [(p.prompt, c, r, s) for p, c, r, s in kept] == [("prompt 0", c, "ana", None) for c in "ab"]
    assert after(client, "ben")["id"] == first["id"] and after(client, "ben")["choice"] is None
    second = after(client)
    assert second["id"] != first["id"] and second["done"] == 1
    third = after(client, skipped=second["id"])
    assert third["prompt"] == "<pre>prompt 2</pre>"
    back = client.get("/pair", params={"rater": "ana", "id": first["id"]}).json()
    assert back["choice"] == "b" and client.get("/pair", params={"rater": "ana", "id": "?"}).json()["id"] == ""
    for _ in range(3):
        assert rate(client, after(client)["id"], choice="tie").json()["kept"]
    end = after(client)
    assert (end["id"], end["done"], end["total"], end["error"]) == ("", 4, 4, "")


def test_a_rater_who_comes_back_goes_on_whichever_answer_stands_first(opened):
    known = [
        {"rater": "ana", "prompt": "prompt 0", "a": "right 0", "b": "left 0", "choice": "a"},
        {"rater": "ben", "prompt": "prompt 1", "a": "left 1", "b": "right 1", "choice": "tie"},
    ]
    client, _ = opened(known=known)
    told = after(client)
    assert told["prompt"] == "<pre>prompt 1</pre>" and told["done"] == 1
    id = pair(0).id
    assert client.get("/pair", params={"rater": "ana", "id": id}).json()["choice"] == "b"


def test_scores_make_the_choice(opened):
    client, kept = opened(scored=True)
    for scores in ([4, 2], [1, 2], [3, 3]):
        assert rate(client, after(client)["id"], scores=scores).json()["kept"]
    assert [(c, s) for _, c, _, s in kept] == [("a", (4, 2)), ("b", (1, 2)), ("tie", (3, 3))]
    assert not rate(client, after(client)["id"], choice="a").json()["kept"] and 'scored="yes"' in client.get("/").text


def test_pairs_are_drawn_a_few_ahead_and_a_failing_model_is_said(opened):
    drawn, failed = [], threading.Event()

    def slowly():
        for n in range(12):
            drawn.append(n)
            yield pair(n)
        failed.set()
        raise MachineError("the memory is full.", where="rate", fix="Take a smaller model.")

    client, _ = opened(slowly(), total=50)
    after(client)
    assert 1 <= len(drawn) <= 9  # not all fifty before the first is seen
    ids = {rate_all["id"] for rate_all in iter(lambda: _one(client), None)}
    told = after(client)
    assert len(ids) == 12 and failed.is_set() and "memory is full" in told["error"] and told["total"] == 12


def _one(client):
    told = after(client)
    if told["id"]:
        rate(client, told["id"], choice="a")
        return told
    return None
