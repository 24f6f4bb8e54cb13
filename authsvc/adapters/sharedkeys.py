"""What a fleet shares of its keys through memcached: the state of each provider's keys, and who downloads just now.

Whoever can write to memcached could plant a key and forge any token. So an entry counts only with a MAC over its
place (provider, key source, algorithms, secret) and its content. Nothing but JSON is ever read from it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable

from authsvc.adapters.store import Store
from authsvc.core import keylife, strict
from authsvc.core.keylife import CLOCK_SLACK_S, State
from authsvc.core.provider import Provider

FORMAT = "1"  # of what keylife.dump writes: two versions of authsvc at one memcached are two fleets
MAX_ENTRY = 1024 * 1024  # more than memcached takes
FORCED, REFRESH = "forced", "refresh"  # what only one of the fleet does at a time


class Refused(Exception):
    """An entry that does not count; the text is the event to report: `tampered` or `outdated`."""


class SharedKeys:
    """Reads and writes sealed states. `report(provider, event)` hears of markers that were tampered with."""

    def __init__(self, store: Store, secret: bytes, max_stale_s: float, report: Callable[[str, str], None]) -> None:
        self._store, self._secret, self._max_stale_s, self._report = store, secret, max_stale_s, report
        self._places: dict[str, tuple[Provider, str]] = {}  # by name: each is read twice a second
        self._key_id = hmac.new(secret, b"authsvc key id", hashlib.sha256).hexdigest()[:16]

    def read(self, providers: Iterable[Provider]) -> dict[str, bytes]:
        """The entries by provider name, sealed as they are, in one round trip. What cannot be had is left out."""
        places = {self._place(provider): provider.name for provider in providers}
        return {places[place]: entry for place, entry in self._store.get_many(list(places)).items()}

    def open(self, provider: Provider, entry: bytes, now: float) -> State:
        """The state in an entry. Raises `Refused` where it is not genuine, or from the future."""
        body = self._opened(self._place(provider), entry)
        if body is None:
            raise Refused("tampered")
        try:
            state = keylife.load(strict.json_object(body), provider.algorithms)
        except (ValueError, KeyError, TypeError):
            raise Refused("outdated") from None  # genuine, but of another version of authsvc
        if keylife.not_after(state, now) is not state:  # else it would win every join until then
            raise Refused("outdated")
        return state

    def swap(self, provider: Provider, seen: bytes | None, state: State) -> bytes | None:
        """Put the state in place of what was `seen` there. The new entry; `None` where there is another one by now.

        Raises `StoreDown`.
        """
        place = self._place(provider)
        entry = self._sealed(place, keylife.dump(state))
        return entry if self._store.swap(place, seen, entry, int(self._max_stale_s)) else None

    def claim(self, provider: Provider, what: str, now: float, ttl_s: int) -> float:
        """Be the one of the fleet to do `what` for `ttl_s` seconds. When it was last begun: `now` where it is ours.

        Only a marker that one of the fleet made counts, and only for `ttl_s` seconds from the time it names. Raises
        `StoreDown`.
        """
        place = f"{self._place(provider)}:{what}"
        marker, kept_s = self._sealed(place, repr(now).encode()), ttl_s + 2  # memcached's second may end early
        if self._store.add(place, marker, kept_s):
            return now
        for _ in range(2):  # another one may be faster; what lies there then must be genuine too, or it is ours
            found = self._store.get(place)
            begun = self._begun(provider, place, found)
            if now - ttl_s < begun <= now + CLOCK_SLACK_S:
                return min(begun, now - 0.001)
            if self._store.swap(place, found, marker, kept_s):
                return now
        return now

    def _begun(self, provider: Provider, place: str, marker: bytes | None) -> float:
        begun = self._opened(place, marker) if marker is not None else b"0"
        if begun is None:
            self._report(provider.name, "tampered")
        return float(begun or 0)

    def _sealed(self, place: str, body: bytes) -> bytes:
        return hmac.new(self._secret, place.encode() + b"\0" + body, hashlib.sha256).hexdigest().encode() + b" " + body

    def _opened(self, place: str, entry: bytes) -> bytes | None:
        """The content of a genuine entry."""
        body = entry.partition(b" ")[2]
        genuine = len(entry) <= MAX_ENTRY and hmac.compare_digest(entry, self._sealed(place, body))
        return body if genuine else None

    def _place(self, provider: Provider) -> str:
        known = self._places.get(provider.name)
        if known is None or known[0] is not provider:
            known = self._places[provider.name] = provider, self._place_of(provider)
        return known[1]

    def _place_of(self, provider: Provider) -> str:
        """Whoever has another secret or another config of this provider has another place, and never quarrels."""
        places = (provider.jwks_uri or "", *provider.discovery_urls, "")
        source = (FORMAT, provider.name, provider.issuer, *places, *sorted(provider.algorithms))
        return f"authsvc:keys:{self._key_id}:" + hashlib.sha256("\0".join(source).encode()).hexdigest()
