"""The API as a client sees it: shapes, streams, bounds, errors, records, feedback, page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from fake_session import EchoSession
from fastapi.testclient import TestClient

from volant.serving.app import create_app
from volant.serving.limits import Limits

CHAT = "/v1/chat/completions"


def client_for(service: Any, **settings: Any) -> TestClient:
    settings.setdefault("client", ("127.0.0.1", 5000))
    return TestClient(create_app(service), base_url="http://127.0.0.1:8000", raise_server_exceptions=False, **settings)


def say(text: str, **rest: Any) -> dict[str, Any]:
    return {"model": "champion", "messages": [{"role": "user", "content": text}], **rest}


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_chat_is_answered_in_openai_shape_and_names_the_model(serving: Any) -> None:
    service = serving()
    response = client_for(service).post(CHAT, json=say("hello there"))
    body = response.json()
    assert response.status_code == 200
    assert body["choices"][0]["message"]["content"] == "echo says hello there"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    assert body["model"] == "champion"
    assert response.headers["x-volant-model"] == body["x-volant-model"] == service.served.digest
    assert response.headers["x-request-id"] == body["id"]


def test_a_stream_has_role_pieces_finish_usage_and_done(serving: Any) -> None:
    client = client_for(serving())
    with client.stream("POST", CHAT, json=say("hi", stream=True, stream_options={"include_usage": True})) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert len(response.headers["x-volant-model"]) == 64
        pieces = events(response.read().decode())
    assert pieces[-1] == "[DONE]"
    assert pieces[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(p["choices"][0]["delta"].get("content", "") for p in pieces[:-2]) == "echo says hi"
    assert pieces[-3]["choices"][0]["finish_reason"] == "stop"
    assert pieces[-2]["choices"] == [] and pieces[-2]["usage"]["completion_tokens"] == 3
    assert all(p["usage"] is None for p in pieces[:-2])


def test_completions_take_several_prompts_and_n(serving: Any) -> None:
    client = client_for(serving())
    body = client.post("/v1/completions", json={"prompt": ["a", "b c"], "n": 2}).json()
    assert [c["text"] for c in body["choices"]] == ["echo says a", "echo says a", "echo says b c", "echo says b c"]
    assert [c["index"] for c in body["choices"]] == [0, 1, 2, 3]
    assert body["usage"]["prompt_tokens"] == 3  # each prompt once, not once for each of its n answers


def test_max_tokens_ends_with_length_and_settings_reach_the_engine(serving: Any) -> None:
    service = serving()
    asked = say("a b c d e", max_completion_tokens=2, temperature=0.5, top_p=0.9, seed=7, stop="x", top_k=3, n=2)
    body = client_for(service).post(CHAT, json=asked).json()
    assert body["choices"][1]["finish_reason"] == "length"
    first, second = service.session.batches[-1]
    assert (first.max_tokens, first.temperature, first.top_p, first.stop, first.top_k) == (2, 0.5, 0.9, ("x",), 3)
    assert (first.seed, second.seed) == (7, 8)


REFUSED = [
    (CHAT, {"messages": []}, "messages"),
    (CHAT, say("x", n=100), "n"),
    (CHAT, say("x", n=5), "n"),
    (CHAT, say("x", n=-1), "n"),
    (CHAT, say("x", max_tokens=0), "max_tokens"),
    (CHAT, say("x", max_tokens=10**30), "max_tokens"),
    (CHAT, say("x", max_tokens=513), "max_tokens"),
    (CHAT, say("x", temperature=3), "temperature"),
    (CHAT, say("x", top_p=0), "top_p"),
    (CHAT, say("x", top_k=-1), "top_k"),
    (CHAT, say("x", stop=["a"] * 5), "stop"),
    (CHAT, say("x", stop=""), "stop"),
    (CHAT, say("x", seed=2**70), "seed"),
    (CHAT, say("x", tools=[{"type": "function"}]), "tools"),
    (CHAT, say("x", logprobs=True), "logprobs"),
    (CHAT, say("x", frequency_penalty=1.0), "frequency_penalty"),
    (CHAT, say("x", rnak=8), "rnak"),
    (CHAT, say("x" * 40_000), "messages"),
    (CHAT, {"messages": [{"role": "user", "content": "x"}] * 65}, "messages"),
    (CHAT, {"messages": [{"role": "root", "content": "x"}]}, "messages"),
    (CHAT, {"messages": [{"role": "user", "content": "\ud800"}]}, "messages"),
    ("/v1/completions", {"prompt": []}, "prompt"),
    ("/v1/completions", {"prompt": ["a"] * 5}, "prompt"),
    ("/v1/completions", {"prompt": "a", "echo": True}, "echo"),
]


@pytest.mark.parametrize(("path", "body", "param"), REFUSED)
def test_every_bound_is_held_and_named(serving: Any, path: str, body: dict[str, Any], param: str) -> None:
    service = serving()
    data = json.dumps(body)  # escapes lone surrogates, which httpx would not send
    response = client_for(service).post(path, content=data, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"].startswith(param) and error["type"] == "invalid_request_error" and error["code"]
    assert len(service.session.batches) == 1  # only the warm-up ever reached the engine


def test_an_image_url_is_refused_and_never_fetched(serving: Any) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest"}}]
    response = client_for(serving()).post(CHAT, json={"messages": [{"role": "user", "content": parts}]})
    assert response.status_code == 400
    assert "169.254" not in response.text


def test_text_parts_are_joined_and_developer_is_system(serving: Any) -> None:
    service = serving()
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    assert client_for(service).post(CHAT, json={"messages": messages}).status_code == 200
    assert service.session.batches[-1][0].messages[0]["role"] == "system"
    assert service.session.batches[-1][0].messages[1]["content"] == "a b"


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff", b'{"messages": NaN}', b"", b"null", b"3"])
def test_malformed_json_is_one_readable_error(serving: Any, body: bytes) -> None:
    response = client_for(serving()).post(CHAT, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_an_unknown_model_and_an_unknown_route_are_404(serving: Any) -> None:
    client = client_for(serving())
    assert client.post(CHAT, json={**say("x"), "model": "gpt-9"}).json()["error"]["code"] == "model_not_found"
    assert client.get("/nowhere").json()["error"]["code"] == "route_not_found"
    assert client.delete(CHAT).json()["error"]["code"] == "method_not_allowed"
    assert client.get("/v1/models/gpt-9").status_code == 404
    assert client.get("/v1/models/champion").json()["id"] == "champion"


def test_an_engine_that_fails_gives_an_opaque_error_and_the_next_request_is_answered(serving: Any) -> None:
    service = serving()
    client = client_for(service)
    response = client.post(CHAT, json=say("EXPLODE"))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "engine"
    assert "secret" not in response.text and "/somewhere" not in response.text
    assert client.post(CHAT, json=say("still there")).status_code == 200
    assert service.meter.snapshot()["errors"] == {"engine": 1}


def test_deadline_is_504_and_frees_the_slot(serving: Any) -> None:
    session = EchoSession(token_seconds=0.02, words=0)
    service = serving(session, limits=Limits(deadline_seconds=0.2, max_tokens=4000))
    client = client_for(service)
    response = client.post(CHAT, json=say("x", max_tokens=4000))
    assert response.status_code == 504 and response.json()["error"]["code"] == "deadline"
    made = session.tokens_made
    assert client.post(CHAT, json=say("x", max_tokens=2)).status_code == 200  # the slot is free again
    assert session.tokens_made < made + 10


def test_requests_are_recorded_with_consent_and_figures(serving: Any, records: Any) -> None:
    service = serving()
    client = client_for(service)
    client.post(CHAT, json=say("one", user="ann"), headers={"x-volant-consent": "training"})
    client.post(CHAT, json=say("two"), headers={"x-volant-consent": "none"})
    client.post(CHAT, json=say("three", stream=True))
    assert client.post(CHAT, json=say("x"), headers={"x-volant-consent": "maybe"}).status_code == 400
    service.ledger.flush()
    one, two, three = records.rows
    assert (one["consent"], one["client"], one["status"]) == ("training", "local:ann", 200)
    assert one["request"]["messages"][0]["content"] == "one"
    assert one["response"]["choices"][0]["message"]["content"] == "echo says one"
    assert one["model"] == service.served.digest and one["milliseconds"] >= one["first_token_ms"] > 0
    assert "messages" not in two["request"] and "choices" not in two["response"] and two["completion_tokens"] == 3
    assert three["consent"] == "" and three["response"]["choices"][0]["message"]["content"] == "echo says three"
    assert service.in_flight == 0


def test_feedback_reaches_the_records_with_its_request(serving: Any, records: Any) -> None:
    client = client_for(serving())
    id = client.post(CHAT, json=say("x")).headers["x-request-id"]
    ok = client.post("/v1/feedback", json={"request_id": id, "rating": 1, "correction": "y", "consent": "training"})
    assert ok.status_code == 200
    assert records.marks[0] == {
        "request_id": id, "client": "local", "rating": 1, "correction": "y", "consent": "training",
    }  # fmt: skip
    for rating, kept in ((5, 1), (3, 0), (2, -1), (-1, -1)):
        client.post("/v1/feedback", json={"request_id": id, "rating": rating})
        assert records.marks[-1]["rating"] == kept
    client.post("/v1/feedback", json={"request_id": id, "rating": 1, "scale": "stars"})
    assert records.marks[-1]["rating"] == -1  # one star of five is no thumbs-up


@pytest.mark.parametrize(
    "body",
    [{}, {"rating": 6}, {"rating": -2}, {"rating": 0.5}, {"rating": True}, {"rating": 1, "consent": "yes"},
     {"rating": -1, "scale": "stars"}, {"rating": 4, "scale": "thumbs"}, {"correction": "  "}, {"rating": 10**40}],
)  # fmt: skip
def test_bad_feedback_is_refused(serving: Any, body: dict[str, Any]) -> None:
    response = client_for(serving()).post("/v1/feedback", json={"request_id": "chatcmpl-1", **body})
    assert response.status_code == 400


def test_feedback_to_an_unknown_request_is_404(serving: Any) -> None:
    response = client_for(serving()).post("/v1/feedback", json={"request_id": "chatcmpl-1", "rating": 1})
    assert response.status_code == 404 and response.json()["error"]["code"] == "request_not_found"


def test_metrics_count_requests_tokens_errors_and_name_the_model(serving: Any) -> None:
    service = serving()
    client = client_for(service)
    client.post(CHAT, json=say("a b"))
    client.post(CHAT, json=say("a", n=99))
    text = client.get("/metrics").text
    assert 'volant_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert 'volant_tokens_total{kind="completion"} 4.0' in text
    assert 'volant_errors_total{cause="invalid_value"} 1.0' in text
    assert f'digest="{service.served.digest}"' in text
    for name in (
        "request_seconds_bucket",
        "first_token_seconds_count 1.0",
        "queue_length 0.0",
        "memory_bytes",
        "cpu_seconds",
    ):
        assert f"volant_{name}" in text


def test_history_is_kept_at_the_end(serving: Any, records: Any) -> None:
    service = serving()
    client_for(service).post(CHAT, json=say("a b"))
    service.close()
    kind, body = records.told[-1]
    assert kind == "serving" and body["requests"] == 1 and body["latency_ms"]["p95"] > 0
    assert body["completion_tokens"] == 4 and body["memory_bytes"] > 0
    assert service.session.closed


def test_the_page_escapes_and_forbids_foreign_scripts(serving: Any) -> None:
    service = serving(workload="<script>alert(1)</script>")
    response = client_for(service).get("/")
    policy = response.headers["content-security-policy"]
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert "<script>alert(1)" not in response.text and "&lt;script&gt;" in response.text
    assert nonce and f'<script nonce="{nonce[1]}">' in response.text
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"(src|href)=[\"']https?:", response.text)
    assert service.served.digest in response.text
    again = client_for(service).get("/").headers["content-security-policy"]
    assert again != policy


def test_draining_refuses_new_work_and_turns_readiness_off(serving: Any) -> None:
    service = serving()
    client = client_for(service)
    assert client.get("/readyz").status_code == 200
    service.draining = True
    assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
    refused = client.post(CHAT, json=say("x"))
    assert refused.status_code == 503 and refused.headers["retry-after"] == "2"


def test_the_schema_of_the_api_is_there(serving: Any) -> None:
    schema = client_for(serving()).get("/openapi.json").json()
    assert {CHAT, "/v1/completions", "/v1/feedback", "/v1/models"} <= set(schema["paths"])
