"""Keyrings on the demo's issuer, for tests: made with one clock, heard, shared, and asked through a gate."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from authsvc.adapters.keyring import Keyring
from authsvc.adapters.limiter import Limiter
from authsvc.adapters.memcached import MemcachedStore
from authsvc.adapters.sharedkeys import SharedKeys
from authsvc.adapters.store import MemoryStore, Store
from authsvc.core import jwks
from authsvc.core.gate import Gate
from authsvc.core.identify import Identifier
from authsvc.core.keylife import KeyTimes
from authsvc.core.model import Reason, Request
from authsvc.core.provider import Provider, Providers
from authsvc.core.ratelimit import Limits
from authsvc.core.rbac import Policy
from authsvc.core.signature import ALGORITHMS
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import free_port
from helpers import Clock, CountingStore

TIMES = KeyTimes(cache_ttl_s=3600, refresh_interval_s=300, cooldown_s=30, max_stale_s=86400)
SECRET = b"a secret of more than thirty-two bytes"


class Heard:
    """What a keyring tells, without the provider's name."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.refreshes: list[str] = []
        self.states: list[tuple[int, float]] = []
        self.said: list[str] = []

    def key_event(self, provider: str, event: str) -> None:
        self.events.append(event)

    def key_refresh(self, provider: str, outcome: str) -> None:
        self.refreshes.append(outcome)

    def key_state(self, provider: str, count: int, age_s: float) -> None:
        self.states.append((count, age_s))

    def say(self, text: str) -> None:
        self.said.append(text)


class Recorded(CountingStore):
    """Remembers what was written where, so that a test can plant something else."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.written: dict[str, bytes] = {}

    def swap(self, key: str, old: bytes | None, new: bytes, ttl_s: int) -> bool:
        done = super().swap(key, old, new, ttl_s)
        if done:
            self.written[key] = new
        return done

    def add(self, key: str, value: bytes, ttl_s: int) -> bool:
        done = super().add(key, value, ttl_s)
        if done:
            self.written[key] = value
        return done

    @property
    def place(self) -> str:
        """Where the keys are, of the one provider that there is."""
        (place,) = (key for key in self.written if not key.endswith((":forced", ":refresh")))
        return place


def provider_of(issuer: Issuer, /, **changes: Any) -> Provider:
    plain = Provider(
        "demo",
        issuer.url,
        frozenset({issuer.audience}),
        ALGORITHMS,
        jwks_uri=f"{issuer.url}/keys",
        allow_insecure_http=True,
    )
    return replace(plain, **changes)


class Rings:
    """Called, it makes a keyring of the issuer's keys; those that were made are stopped in the end."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        self._issuer, self._clock = issuer, clock
        self._made: list[Keyring] = []

    def __call__(
        self,
        store: Store | None = None,
        times: KeyTimes = TIMES,
        heard: Heard | None = None,
        clock: Clock | None = None,
        **changes: Any,
    ) -> Keyring:
        listener = heard or Heard()
        shared = None if store is None else share(store, heard=listener)
        ring = Keyring([provider_of(self._issuer, **changes)], times, shared, listener, clock or self._clock)
        self._made.append(ring)
        return ring

    def started(self, store: Store | None = None, **more: Any) -> Keyring:
        ring = self(store, **more)
        ring.start()
        return ring

    def quiet(self, store: Store | None = None, **more: Any) -> Keyring:
        """Started, and nothing goes on in the background."""
        ring = self.started(store, **more)
        ring.stop()
        return ring

    def __enter__(self) -> Rings:
        return self

    def __exit__(self, *_: object) -> None:
        for ring in self._made:
            ring.stop()


def share(store: Store, secret: bytes = SECRET, heard: Heard | None = None) -> SharedKeys:
    return SharedKeys(store, secret, TIMES.max_stale_s, (heard or Heard()).key_event)


def dead_store() -> Store:
    return MemcachedStore([f"127.0.0.1:{free_port()}"])


def kids(keys: jwks.KeySet | None) -> list[str]:
    return sorted(key.kid or "" for key in keys.keys) if keys else []


def gate_with(ring: Keyring, issuer: Issuer) -> Gate:
    return Gate(Identifier(Providers([provider_of(issuer)]), ring), Policy(), Limits(), {}, Limiter(MemoryStore()))


def asks(gate: Gate, token: str, now: float) -> Reason:
    return gate.decide(Request("GET", "/", f"Bearer {token}"), now)[0].reason


def with_kid(token: str, kid: str) -> str:
    """The token with another kid in its header, so that its signature means nothing any more."""
    _, claims, made = token.split(".")
    header = json.dumps({"alg": "RS256", "kid": kid}).encode()
    return f"{base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.{claims}.{made}"
