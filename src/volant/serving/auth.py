"""Who may come in: checked on every route and method, before a body is read or anything is parsed.

1. Host is one that this server answers to (a page that rebinds its DNS name to 127.0.0.1 is stopped here).
2. Origin, where a browser sends one, is this server itself (cross-site requests are stopped here).
3. A key, for everybody but this machine. A request counts as this machine's own only if it comes from
   a loopback address, asks for a loopback host, and passed no proxy: else a reverse proxy on the same
   machine would open the door to the world.
4. The body fits, and arrives in time.

Keys come from the environment; only their sha256 is held, and they are never logged or stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from volant.core.errors import SettingError
from volant.serving.shapes import ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KEY_VARIABLE = "VOLANT_API_KEY"
HASH_VARIABLE = "VOLANT_API_KEY_SHA256"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
# Probes of an orchestrator carry no key; these two say nothing but up or down.
OPEN_ROUTES = frozenset({"/healthz", "/readyz"})
FORWARDING = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


@dataclass(frozen=True)
class Keys:
    """sha256 of each valid key, in hex."""

    hashes: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Keys:
        """Keys of `VOLANT_API_KEY` (plain, separated by commas) and `VOLANT_API_KEY_SHA256` (hashed).

        Raises:
            SettingError: a hash is not 64 hex digits, or a plain key is shorter than 16 characters.
        """
        values = os.environ if environment is None else environment
        plain = [k.strip() for k in values.get(KEY_VARIABLE, "").split(",") if k.strip()]
        hashes = [h.strip().lower() for h in values.get(HASH_VARIABLE, "").split(",") if h.strip()]
        if any(len(key) < 16 for key in plain):
            raise SettingError(
                "a key is shorter than 16 characters.", where=KEY_VARIABLE, fix="Try `openssl rand -hex 24`."
            )
        if any(len(h) != 64 or set(h) - set("0123456789abcdef") for h in hashes):
            raise SettingError("a hash is not 64 hex digits.", where=HASH_VARIABLE, fix="Use the key's sha256 in hex.")
        return cls((*(hashlib.sha256(k.encode()).hexdigest() for k in plain), *hashes))

    def match(self, authorization: str) -> str:
        """The matching key's name (`key:` and eight digits of its hash), or nothing. In constant time."""
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogatepass")).hexdigest()
        found = ""
        for known in self.hashes:
            if hmac.compare_digest(given, known) and scheme.lower() == "bearer":
                found = f"key:{known[:8]}"
        return found


@dataclass(frozen=True)
class Door:
    """The rules of one server.

    Attributes:
        hosts: names beside localhost that it answers to, without port.
        require_key: ask this machine's own requests for a key too.
    """

    keys: Keys = field(default_factory=Keys)
    hosts: frozenset[str] = frozenset()
    require_key: bool = False
    max_body_bytes: int = 262_144
    body_seconds: float = 10.0

    def admit(self, scope: Scope) -> str:
        """The client's name (`local`, `key:1a2b3c4d`, `probe`).

        Raises:
            ApiError: 403 for a wrong Host or Origin, 401 without a valid key.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = [v.decode("latin-1") for k, v in headers if k == b"host"]
        host = _name(hosts[0]) if len(hosts) == 1 else ""
        if host not in LOCAL_HOSTS and host not in self.hosts:
            raise ApiError(403, "This server does not answer to that Host.", code="host_not_allowed")
        for origin in (v.decode("latin-1").lower() for k, v in headers if k == b"origin"):
            if origin not in (f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"):
                raise ApiError(403, "Requests from that Origin are not taken.", code="origin_not_allowed")
        proxied = any(k in FORWARDING for k, _ in headers)
        local = _loopback(scope) and host in LOCAL_HOSTS and not proxied
        if scope["path"] in OPEN_ROUTES:
            return "probe"
        given = [v.decode("latin-1") for k, v in headers if k == b"authorization"]
        client = self.keys.match(given[0]) if len(given) == 1 else ""
        if client:
            return client
        if local and not self.require_key:
            return "local"
        raise ApiError(401, "A valid API key is needed.", code="invalid_api_key")


class Guard:
    """ASGI middleware: admits by the door's rules, reads the body up to its bound, then calls the app.

    Args:
        app: what is guarded.
        door: the rules.
        refused: told the code of every refusal, for the metrics.
    """

    def __init__(self, app: App, *, door: Door, refused: Callable[[ApiError], None]) -> None:
        self.app, self.door, self.refused = app, door, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        try:
            scope.setdefault("state", {})["client"] = self.door.admit(scope)
            body = await self._body(scope, receive)
        except ApiError as error:
            self.refused(error)
            return await _refuse(error, send)
        if body is None:
            return None

        replayed = False

        async def replay() -> MutableMapping[str, Any]:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self.app(scope, replay, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body, or None when the client left before it was sent."""
        bound = self.door.max_body_bytes
        too_large = ApiError(413, f"The body is larger than {bound} bytes.", code="body_too_large")
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or len(value) > 12 or int(value) > bound):
                raise too_large
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self.door.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    more = message.get("more_body", False)
                    if size > bound:
                        raise too_large
        except TimeoutError:
            raise ApiError(408, "The body did not arrive in time.", code="body_timeout") from None
        return b"".join(parts)


async def _refuse(error: ApiError, send: Send) -> None:
    body = json.dumps(error.body).encode()
    headers = [(k.encode(), v.encode()) for k, v in error.headers.items()]
    # The rest of an unread body is not worth reading: the connection ends with the refusal.
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"connection", b"close")] if error.status in (408, 413) else []
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _name(host: str) -> str:
    """The name of a Host header without its port, lower case; empty where it is malformed."""
    name, port = host.lower(), ""
    if name.startswith("["):
        name, bracket, port = name.partition("]")
        name, port = name + bracket, port.removeprefix(":") if port.startswith(":") or not port else "x"
    elif ":" in name:
        name, _, port = name.partition(":")
        port = port or "x"
    return name if not port or port.isdigit() else ""


def _loopback(scope: Scope) -> bool:
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0]) if client else None
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(address is not None and (mapped or address).is_loopback)


def hosts_for(bound: str, allowed: Iterable[str]) -> frozenset[str]:
    """The Host names that a server bound to `bound` answers to, beside localhost.

    Raises:
        SettingError: a name holds a scheme, a path or a wildcard.
    """
    names = {name.strip().lower() for name in allowed if name.strip()}
    for name in names:
        if any(c in name for c in "/*@ ") or "://" in name:
            raise SettingError(
                f"{name!r} is no host name.", where="allow_hosts", fix="Write a name such as example.org."
            )
    if bound not in ("0.0.0.0", "::", ""):  # noqa: S104 (compared, not bound to)
        names.add(f"[{bound}]" if ":" in bound else bound.lower())
    return frozenset(names)
