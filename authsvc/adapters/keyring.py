"""Keeps each provider's keys: downloads at start, refreshes in the background, and once more when a token asks.

A failed download never removes a good key. Within a fleet that shares memcached and a secret, one process downloads
and the others take its result. The request path waits for a download only where a token's key is unknown, and at
most once per cool-down.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from authsvc.adapters.fetch import DEADLINE_S, FetchFailed, check_url, fetch_json, shown
from authsvc.adapters.sharedkeys import SharedKeys
from authsvc.adapters.store import StoreDown
from authsvc.core import jwks
from authsvc.core.jwt import Provider

TICK_S = 1.0
RETRY_S = 10.0  # after a failed download, until the next in the background
EMPTY_RETRY_S = 2.0  # the same while there are no keys at all
WAIT_FOR_PEER_S = 2.0
OVERDUE_S = 30.0


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """How long keys live, in seconds; the defaults are the config's."""

    cache_ttl_s: float = 3600
    refresh_interval_s: float = 300
    cooldown_s: float = 30
    max_stale_s: float = 86400


@dataclass(slots=True)
class _Ring:
    """One provider's keys in this process."""

    provider: Provider
    keys: jwks.KeySet | None = None
    error: str = "no download has ended yet"
    forced_at: float = float("-inf")
    next_at: float = 0.0
    begun: int = 0  # downloads are numbered as they begin, so that one that was given up cannot come in late
    kept: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    guard: threading.Lock = field(default_factory=threading.Lock)


class Keyring:
    """The keys of all providers. `report(provider, event)` hears what happens, for metrics."""

    def __init__(
        self,
        providers: Iterable[Provider],
        times: KeyTimes,
        shared: SharedKeys | None,
        report: Callable[[str, str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rings = {provider.name: _Ring(provider) for provider in providers}
        self._times, self._shared, self._report, self._clock = times, shared, report, clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """First load, then the background thread; again by itself in a forked child."""
        if self._rings:
            with ThreadPoolExecutor(len(self._rings)) as pool:
                list(pool.map(self._first_load, self._rings.values()))
        self._spawn()
        os.register_at_fork(after_in_child=self._after_fork)

    def stop(self) -> None:
        self._stop.set()

    def current(self, provider: str, now: float) -> jwks.KeySet | None:
        """The keys at hand, without any download; `None` where they are older than `max_stale_s`."""
        keys = self._rings[provider].keys
        if keys is None or now - keys.fetched_at > self._times.max_stale_s:
            return None
        return jwks.expire(keys, now, self._times.cache_ttl_s)

    def refresh(self, provider: str, now: float) -> jwks.KeySet | None:
        """What is known after at most one forced download, for a token whose key is unknown.

        Also what another call has brought meanwhile: whoever looked just before that must not go away empty.
        """
        ring = self._rings[provider]
        before = ring.keys
        # callers at the same time wait for the one download and share its result, but not for ever
        if ring.lock.acquire(timeout=DEADLINE_S):
            try:
                if ring.keys is before:
                    self._force(ring, now)
            finally:
                ring.lock.release()
        return self.current(provider, now)

    def trouble(self, provider: str) -> str:
        """Why the last download failed, or "" where it did not."""
        return self._rings[provider].error

    def status(self) -> dict[str, str]:
        """Per provider an empty string where there are keys, else why not."""
        now = self._clock()
        return {
            name: "" if self.current(name, now) else ring.error or "its keys are too old"
            for name, ring in self._rings.items()
        }

    def _force(self, ring: _Ring, now: float) -> None:
        if 0 <= now - ring.forced_at < self._times.cooldown_s:  # below 0 the clock was set back
            self._report(ring.provider.name, "cooldown")
            return
        ring.forced_at = self._claim(ring, "forced", now, int(self._times.cooldown_s))
        if ring.forced_at == now:
            self._report(ring.provider.name, "forced")
            self._fetch_within_deadline(ring)
        elif not self._adopt(ring) and now - ring.forced_at < WAIT_FOR_PEER_S:
            self._await_peer(ring)

    def _fetch_within_deadline(self, ring: _Ring) -> None:
        """In a thread of its own: a resolver or a connection that hangs must not hold the call that waits."""
        fetching = threading.Thread(target=self._fetch, args=(ring,), name="authsvc-forced", daemon=True)
        fetching.start()
        fetching.join(DEADLINE_S)
        if fetching.is_alive():
            ring.error = f"no whole answer within {DEADLINE_S:g} s"

    def _claim(self, ring: _Ring, what: str, now: float, ttl_s: int) -> float:
        """When the fleet last began this; without a fleet, or without memcached, it is ours."""
        if self._shared is None:
            return now
        try:
            return self._shared.claim(ring.provider, what, now, max(ttl_s, 1))
        except StoreDown:
            return now

    def _await_peer(self, ring: _Ring) -> bool:
        """Another process downloads just now: wait for its result."""
        ends = time.monotonic() + WAIT_FOR_PEER_S
        while time.monotonic() < ends:
            time.sleep(0.02)
            if self._adopt(ring):
                return True
        return False

    def _adopt(self, ring: _Ring) -> bool:
        """Take the fleet's copy where it is newer than ours."""
        known = ring.keys.fetched_at if ring.keys else float("-inf")
        copy = self._shared.load(ring.provider, self._clock(), newer_than=known) if self._shared else None
        if copy is None:
            return False
        self._keep(ring, copy)
        return True

    def _keep(self, ring: _Ring, new: jwks.KeySet, number: int | None = None) -> None:
        with ring.guard:
            if number is not None and number < ring.kept:
                return  # a download that was given up came in late
            ring.kept = ring.kept if number is None else number
            ring.keys = jwks.merge(ring.keys, new, self._times.cache_ttl_s)
        ring.error = ""
        ring.next_at = new.fetched_at + self._times.refresh_interval_s * random.uniform(0.9, 1.1)  # noqa: S311 - jitter

    def _fetch(self, ring: _Ring) -> bool:
        """Download, keep and share. A failure changes nothing but the error text and the next attempt."""
        name = ring.provider.name
        with ring.guard:
            ring.begun += 1
            number = ring.begun
        try:
            new = download(ring.provider, self._clock())
        except (FetchFailed, ValueError) as problem:
            ring.error = str(problem)
            ring.next_at = self._clock() + min(RETRY_S if ring.keys else EMPTY_RETRY_S, self._times.refresh_interval_s)
            self._report(name, "failed")
            return False
        self._keep(ring, new, number)
        self._report(name, "fetched")
        if self._shared and ring.keys:
            self._shared.save(ring.provider, ring.keys)
        return True

    def _first_load(self, ring: _Ring) -> None:
        """The fleet's copy where it is recent; else one process downloads and the others wait for it."""
        now = self._clock()
        if self._adopt(ring) and ring.next_at > now:
            return
        if self._claim(ring, "lease", now, 5) != now and self._await_peer(ring):
            return
        self._fetch(ring)

    def _spawn(self) -> None:
        self._thread = threading.Thread(target=self._run, name="authsvc-keys", daemon=True)
        self._thread.start()

    def _after_fork(self) -> None:
        """A child has the keys, but neither the thread nor any lock that was free."""
        for ring in self._rings.values():
            ring.lock, ring.guard = threading.Lock(), threading.Lock()
        if not self._stop.is_set():
            self._stop = threading.Event()
            self._spawn()

    def _run(self) -> None:
        while not self._stop.wait(TICK_S * random.uniform(0.9, 1.1)):  # noqa: S311 - jitter, not a secret
            for ring in self._rings.values():
                try:
                    self._tend(ring)
                except Exception as problem:  # noqa: BLE001 - this thread must outlive whatever happens
                    ring.error = f"the background refresh failed: {type(problem).__name__}"
                    self._report(ring.provider.name, "failed")

    def _tend(self, ring: _Ring) -> None:
        now = self._clock()
        longest = self._times.refresh_interval_s * 1.2
        if self._adopt(ring) or ring.next_at - longest < now < ring.next_at:  # else due, or the clock was set back
            return
        overdue = now > ring.next_at + OVERDUE_S  # whatever a marker in memcached says
        if self._claim(ring, "lease", now, 5) == now or overdue:
            self._fetch(ring)


def download(provider: Provider, now: float) -> jwks.KeySet:
    """The provider's keys, found by discovery where the config names no `jwks_uri`.

    Raises `FetchFailed` or `ValueError`.
    """
    ends = time.monotonic() + DEADLINE_S  # for both documents: a call may be waiting
    uri = provider.jwks_uri or _discover(provider)
    document = _get(provider, uri, max(ends - time.monotonic(), 0.1))
    try:
        return jwks.admit(document, provider.algorithms, now)
    except ValueError as problem:
        raise FetchFailed(f"{shown(uri)}: {problem}") from None


def _get(provider: Provider, url: str, deadline_s: float) -> dict[str, Any]:
    return fetch_json(url, ca_file=provider.ca_file, allow_http=provider.allow_insecure_http, deadline_s=deadline_s)


def _discover(provider: Provider) -> str:
    """OpenID Connect Discovery 1.0 section 4.3: the document's issuer must be ours byte for byte."""
    url = provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
    document = _get(provider, url, DEADLINE_S)
    if document.get("issuer") != provider.issuer:
        theirs = repr(document.get("issuer"))[:200]
        raise FetchFailed(f"{shown(url)}: its issuer is {theirs}, the config says {provider.issuer!r}")
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise FetchFailed(f"{shown(url)}: it names no jwks_uri")
    check_url(uri, provider.allow_insecure_http)
    return uri
