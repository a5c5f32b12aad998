"""How a server runs, whatever it serves: address, engine, threads, limits, and who may come in.

What enters: settings. What leaves: the door (checked before a model is opened) and the service.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from volant.core.errors import SettingError
from volant.serving.auth import HASH_VARIABLE, KEY_VARIABLE, Door, Keys, hosts_for
from volant.serving.limits import Limits
from volant.serving.service import Service, Source, opener

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Process:
    """How a server runs, whatever it serves.

    Attributes:
        host: the address to bind to; anything but loopback needs a key in the environment.
        port: 0 for a free one.
        workload: under which name requests are recorded and the live state is kept.
        engine: another engine than the model's own.
        threads: for the engine's arithmetic.
        allow_hosts: further Host names that the server answers to.
        require_key: ask this machine's own requests for a key too.
    """

    host: str = LOOPBACK
    port: int = 0
    workload: str = "default"
    engine: str = ""
    threads: int = 1
    device: str = "cpu"
    allow_hosts: tuple[str, ...] = ()
    require_key: bool = False
    limits: Limits = field(default_factory=Limits)

    def door(self) -> Door:
        """Who may come in.

        Raises:
            SettingError: it binds to the network and there is no key, or no name that it answers to.
        """
        keys = Keys.from_environment()
        hosts = hosts_for(self.host, self.allow_hosts)
        if self.host not in (LOOPBACK, "::1", "localhost"):
            if not keys.hashes:
                what, fix = "it binds to the network without a key.", f"Set {KEY_VARIABLE} or {HASH_VARIABLE}."
                raise SettingError(what, where=f"host {self.host}", fix=fix)
            if not hosts:
                what = "it binds to every address and answers to no Host name but localhost."
                raise SettingError(what, where=f"host {self.host}", fix="Name one with --allow-host.")
        if self.require_key and not keys.hashes:
            raise SettingError("a key is asked for and none is set.", where="require_key", fix=f"Set {KEY_VARIABLE}.")
        return Door(keys, hosts, self.require_key, self.limits.max_body_bytes, self.limits.body_seconds)

    def service(self, source: Source, records: Any) -> Service:
        """The service of a source, opened."""
        return Service(
            source, open=opener(self.threads, self.device, self.engine), records=records, workload=self.workload,
            limits=self.limits, door=self.door(), engine=self.engine,
        )  # fmt: skip
