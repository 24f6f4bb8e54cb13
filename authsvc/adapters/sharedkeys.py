"""The copy of the key sets that a fleet shares through memcached, in a signed envelope.

Whoever can write to memcached could plant a key and forge any token. So an entry counts only with a MAC over its
place (provider, issuer, key source) and its content. Nothing but JSON is ever read from it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

from authsvc.adapters.store import Store, StoreDown
from authsvc.core import jwks, strict
from authsvc.core.jwt import Provider

CLOCK_SLACK_S = 60


class SharedKeys:
    """Reads and writes signed key sets. `report` hears of tampering and trouble as an event's slug."""

    def __init__(self, store: Store, secret: bytes, max_stale_s: float, report: Callable[[str, str], None]) -> None:
        self._store, self._secret, self._max_stale_s, self._report = store, secret, max_stale_s, report

    def load(self, provider: Provider, now: float, newer_than: float = float("-inf")) -> jwks.KeySet | None:
        """The fleet's copy where there is a genuine and recent one, downloaded after `newer_than`."""
        try:
            entry = self._store.get(self._place(provider))
        except StoreDown:
            self._report(provider.name, "shared_unreachable")
            return None
        return self._open(provider, entry, max(newer_than, now - self._max_stale_s), now) if entry else None

    def save(self, provider: Provider, keys: jwks.KeySet) -> None:
        body = jwks.dump(keys)
        try:
            self._store.set(self._place(provider), self._mac(provider, body) + b" " + body, int(self._max_stale_s))
        except StoreDown:
            self._report(provider.name, "shared_unreachable")

    def claim(self, provider: Provider, what: str, now: float, ttl_s: int) -> float:
        """Be the one of the fleet to do `what` for a while. Says when it was last begun: `now` where it is ours.

        A marker is not authenticated, so it may delay but not forbid: one that is no time of the last `ttl_s` seconds
        counts for nothing. Raises `StoreDown`.
        """
        place = f"{self._place(provider)}:{what}"
        if self._store.add(place, b"%.3f" % now, ttl_s):
            return now
        try:
            begun = float(self._store.get(place) or 0)
        except ValueError:
            return now
        # compared so that a marker that is not a number fails too; clocks of a fleet differ by a little
        return min(begun, now - 0.001) if now - ttl_s <= begun <= now + CLOCK_SLACK_S else now

    def _open(self, provider: Provider, entry: bytes, after: float, now: float) -> jwks.KeySet | None:
        mac, _, body = entry.partition(b" ")
        if not hmac.compare_digest(mac, self._mac(provider, body)):
            self._report(provider.name, "tampered")
            return None
        try:
            document = strict.json_object(body)
            if not after < document["fetched_at"] <= now + CLOCK_SLACK_S:
                return None  # before any key is built: this is asked every second
            return jwks.load(document, provider.algorithms)
        except (ValueError, KeyError, TypeError):
            return None  # genuine, but by a config that accepted other algorithms

    def _mac(self, provider: Provider, body: bytes) -> bytes:
        bound = "\0".join((self._place(provider), provider.issuer, provider.jwks_uri or ""))
        return hmac.new(self._secret, bound.encode() + b"\0" + body, hashlib.sha256).hexdigest().encode()

    @staticmethod
    def _place(provider: Provider) -> str:
        source = f"{provider.name}\0{provider.issuer}\0{provider.jwks_uri or ''}"
        return "authsvc:keys:" + hashlib.sha256(source.encode()).hexdigest()[:40]
