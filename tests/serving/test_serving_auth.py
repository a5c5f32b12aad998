"""Who may come in: every route times every method times bad Host, bad Origin, no key, forged forwarding."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from fastapi.testclient import TestClient

from volant.core.errors import SettingError
from volant.serving.app import create_app
from volant.serving.auth import Door, Guard, Keys, hosts_for
from volant.serving.run import Process

KEY = "a-key-of-good-length-000"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
STRANGER = ("203.0.113.9", 4711)


def keyed(**rest: Any) -> Door:
    return Door(Keys.from_environment({"VOLANT_API_KEY": KEY}), frozenset({"example.org"}), **rest)


def client_for(service: Any, client: tuple[str, int] = ("127.0.0.1", 5000), host: str = "127.0.0.1:8000") -> TestClient:
    return TestClient(create_app(service), base_url=f"http://{host}", client=client, raise_server_exceptions=False)


def routes(client: TestClient) -> list[str]:
    return [*{getattr(r, "path", "") for r in client.app.routes}, "/not/a/route"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.", "", "user@localhost", "localhost:1:2", "[::1", "0.0.0.0"],
)
def test_a_wrong_host_is_refused_on_every_route_and_method(serving: Any, host: str) -> None:
    client = client_for(serving())
    for path in routes(client):
        for method in METHODS:
            response = client.request(method, path, headers={"host": host, "authorization": f"Bearer {KEY}"})
            assert response.status_code == 403, (method, path)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:9999", "http://127.0.0.1:8001", ""]
)
def test_a_foreign_origin_is_refused_on_every_route_and_method(serving: Any, origin: str) -> None:
    client = client_for(serving())
    for path in routes(client):
        for method in METHODS:
            assert client.request(method, path, headers={"origin": origin}).status_code == 403, (method, path)


def test_the_own_origin_and_other_local_names_are_taken(serving: Any) -> None:
    client = client_for(serving())
    assert client.get("/status", headers={"origin": "http://127.0.0.1:8000"}).status_code == 200
    for host in ("localhost:8000", "LOCALHOST", "[::1]:8000"):
        assert client.get("/status", headers={"host": host}).status_code == 200


def test_a_stranger_needs_a_key_on_every_route_but_two(serving: Any) -> None:
    client = client_for(serving(door=keyed()), STRANGER, "example.org")
    open_routes = set()
    for path in routes(client):
        for method in METHODS:
            for authorization in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}):
                status = client.request(method, path, headers=authorization).status_code
                if status != 401:
                    open_routes.add(path)
    assert open_routes == {"/healthz", "/readyz"}
    assert client.get("/status", headers={"authorization": f"Bearer {KEY}"}).status_code == 200


def test_a_stranger_that_names_localhost_or_a_proxy_on_this_machine_is_no_local_client(serving: Any) -> None:
    service = serving(door=keyed())
    assert client_for(service, STRANGER).get("/status").status_code == 401
    local = client_for(service)
    assert local.get("/status").status_code == 200
    for header in ("x-forwarded-for", "forwarded", "x-real-ip", "via"):
        assert local.get("/status", headers={header: "203.0.113.9"}).status_code == 401
    assert local.get("/status", headers={"host": "example.org"}).status_code == 401


def test_a_key_can_be_asked_of_this_machine_too(serving: Any) -> None:
    local = client_for(serving(door=keyed(require_key=True)))
    assert local.get("/status").status_code == 401
    assert local.get("/status", headers={"authorization": f"bearer {KEY}"}).status_code == 200


def test_the_client_of_a_request_is_the_name_of_its_key(serving: Any, records: Any) -> None:
    service = serving(door=keyed())
    client = client_for(service, STRANGER, "example.org")
    body = {"messages": [{"role": "user", "content": "x"}], "user": "somebody-else"}
    client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"})
    service.ledger.flush()
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    assert records.rows[0]["client"] == f"key:{digest[:8]}"
    assert KEY not in repr(records.rows) and KEY not in repr(service.door)


def test_keys_come_plain_or_hashed_and_weak_ones_are_refused() -> None:
    digest = hashlib.sha256(b"another-key-of-good-length").hexdigest()
    keys = Keys.from_environment({"VOLANT_API_KEY": f"{KEY}, second-key-of-length", "VOLANT_API_KEY_SHA256": digest})
    assert all(keys.match(f"Bearer {k}") for k in (KEY, "second-key-of-length", "another-key-of-good-length"))
    assert not any(keys.match(a) for a in ("", "Bearer", "Bearer ", f"Bearer {digest}", KEY))
    for bad in ({"VOLANT_API_KEY": "short"}, {"VOLANT_API_KEY_SHA256": "zz"}):
        with pytest.raises(SettingError):
            Keys.from_environment(bad)


def test_binding_to_the_network_needs_a_key_and_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOLANT_API_KEY", raising=False)
    with pytest.raises(SettingError, match="without a key"):
        Process(host="0.0.0.0").door()
    monkeypatch.setenv("VOLANT_API_KEY", KEY)
    with pytest.raises(SettingError, match="no Host name"):
        Process(host="0.0.0.0").door()
    assert Process(host="0.0.0.0", allow_hosts=("example.org",)).door().hosts == {"example.org"}
    for wrong in ("*", "http://x", "a/b"):
        with pytest.raises(SettingError):
            hosts_for("127.0.0.1", [wrong])


def test_a_body_over_the_bound_is_refused_before_it_is_read(serving: Any) -> None:
    service = serving(door=Door(max_body_bytes=2_000))
    client = client_for(service)
    assert client.post("/v1/chat/completions", content=b"x" * 2_001).status_code == 413
    lied = client.post("/v1/chat/completions", content=b"{}", headers={"content-length": "9" * 30})
    assert lied.status_code == 413


def guarded(door: Door, messages: list[dict[str, Any]], *, headers: Any = ()) -> tuple[int, int]:
    """Status and how many messages were read, for a raw ASGI request."""
    sent: list[Any] = []
    read = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})

    async def receive() -> Any:
        nonlocal read
        if read >= len(messages):
            await asyncio.sleep(60)
        read += 1
        return messages[read - 1]

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "path": "/x", "method": "POST", "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), *headers],
    }  # fmt: skip
    asyncio.run(Guard(app, door=door, refused=lambda error: None)(scope, receive, send))
    return (sent[0]["status"] if sent else 0), read


def test_a_chunked_body_is_cut_off_at_the_bound_and_a_slow_one_at_its_time() -> None:
    part = {"type": "http.request", "body": b"x" * 1_000, "more_body": True}
    assert guarded(Door(max_body_bytes=2_500), [part] * 100) == (413, 3)
    assert guarded(Door(body_seconds=0.05), [part])[0] == 408
    assert guarded(Door(), [{"type": "http.disconnect"}])[0] == 0


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(None, door=Door(), refused=lambda e: None)({"type": "websocket"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]
