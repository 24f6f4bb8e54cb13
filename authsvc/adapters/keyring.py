"""Keeps each provider's keys: downloads at start, refreshes in the background, and once more when a token asks.

A failed download never removes a good key. Within a fleet that shares memcached and a secret, one process downloads
and the others take its result. The request path waits for a download only where a token's key is unknown, and at
most once per cool-down.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from authsvc.adapters.discovery import download
from authsvc.adapters.fetch import DEADLINE_S, FetchFailed
from authsvc.adapters.sharedkeys import FORCED, REFRESH, Refused, SharedKeys
from authsvc.adapters.store import StoreDown
from authsvc.core import jwks, keylife
from authsvc.core.jwt import Provider
from authsvc.core.keylife import Attempt, KeyTimes, State

TICK_S = 0.5  # a flush reaches every process within a second
LEASE_S = 5  # a process that dies while it downloads holds the others up no longer
GIVEN_UP_S = 10.0  # a download that still hangs then, in a resolver most likely, does not hinder the next


class KeyEvents(Protocol):
    """Who hears what befalls keys, for metrics and for the operator."""

    def key_event(self, provider: str, event: str) -> None: ...
    def key_refresh(self, provider: str, outcome: str) -> None: ...
    def key_state(self, provider: str, count: int, age_s: float) -> None: ...
    def say(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """How it stands with one provider. `problem` is empty where there are keys; `outcome` and `error` are those of
    the last download, `taken_from` is `provider` or `memcached`."""

    problem: str
    outcome: str
    error: str
    next_refresh_s: float
    keys: int = 0
    age_s: float | None = None
    stale: bool = False
    taken_from: str = ""

    def told(self) -> dict[str, Any]:
        """What is worth telling, for /readyz."""
        if self.problem:
            return {"keys": 0, "problem": self.problem, "next_refresh_s": round(self.next_refresh_s)}
        words = {"keys": self.keys, "age_s": round(self.age_s or 0), "from": self.taken_from, "stale": self.stale}
        return {**words, "last_error": self.error, "next_refresh_s": round(self.next_refresh_s)}


@dataclass(slots=True)
class _Ring:
    """One provider's keys in this process."""

    provider: Provider
    state: State = State()
    trouble: str = State().attempt.error  # why what is known may not be all there is
    taken_from: str = ""
    theirs: tuple[bytes, State] | None = None  # the fleet's entry as it was last read
    forced_at: float = float("-inf")
    jitter: float = 0.0
    running: threading.Thread | None = None
    running_since: float = 0.0
    forcing: threading.Lock = field(default_factory=threading.Lock)
    guard: threading.Lock = field(default_factory=threading.Lock)


class Keyring:
    """The keys of all providers."""

    def __init__(
        self,
        providers: Iterable[Provider],
        times: KeyTimes,
        shared: SharedKeys | None,
        hears: KeyEvents,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rings = {provider.name: _Ring(provider) for provider in providers}
        self._times, self._shared, self._hears, self._clock = times, shared, hears, clock
        self._stop = threading.Event()

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
        keys = keylife.usable(self._rings[provider].state.keys, now, self._times)
        if keys is not None and keylife.stale(keys, now, self._times):
            self._hears.key_event(provider, "stale_use")
        return keys

    def refresh(self, provider: str, now: float) -> jwks.KeySet | None:
        """What is known after at most one forced download, for a token whose key is unknown or does not fit.

        Also what another call has brought meanwhile: whoever looked just before that must not go away empty. Callers
        at the same time wait for the one download; while the provider is in trouble one of them does, for all.
        """
        ring = self._rings[provider]
        before, ends = ring.state.keys, time.monotonic() + DEADLINE_S
        if ring.forcing.acquire(timeout=0 if ring.trouble else DEADLINE_S):
            try:
                if ring.state.keys is before:
                    self._force(ring, now, ends)
            finally:
                ring.forcing.release()
        return self.current(provider, now)

    def trouble(self, provider: str) -> str:
        """Why what is known may not be all there is: the last download failed, or did not end in time. Else ""."""
        return self._rings[provider].trouble

    def status(self) -> dict[str, KeyStatus]:
        """How it stands with each provider."""
        return {name: self._status(ring, self._clock()) for name, ring in self._rings.items()}

    def _status(self, ring: _Ring, now: float) -> KeyStatus:
        attempt, keys = ring.state.attempt, keylife.usable(ring.state.keys, now, self._times)
        last = (attempt.outcome, attempt.error, max(attempt.next_at - now, 0.0))
        if keys is None:
            return KeyStatus(ring.trouble or "its keys are too old", *last)
        age_s = max(now - keys.fetched_at, 0.0)
        return KeyStatus("", *last, len(keys.keys), age_s, keylife.stale(keys, now, self._times), ring.taken_from)

    # ---- a token asks

    def _force(self, ring: _Ring, now: float, ends: float) -> None:
        if 0 <= now - ring.forced_at < self._times.cooldown_s:  # below 0 the clock was set back
            self._hears.key_event(ring.provider.name, "cooldown")
            return
        ring.forced_at = self._claim(ring, FORCED, now, int(self._times.cooldown_s))
        if ring.forced_at == now:
            self._hears.key_event(ring.provider.name, "forced")
            self._await_download(ring, ends)
        else:
            self._await_peer(ring, ring.forced_at, ends)

    def _await_download(self, ring: _Ring, ends: float) -> None:
        running = self._download(ring)
        running.join(max(ends - time.monotonic(), 0.0))
        if running.is_alive():
            ring.trouble = f"no whole answer within {DEADLINE_S:g} s"

    def _await_peer(self, ring: _Ring, begun_at: float, ends: float) -> None:
        """Another process began a download: where it may still run, wait for how it ends."""
        while True:
            self._look(ring)
            if ring.state.attempt.begun_at >= begun_at or self._clock() - begun_at > DEADLINE_S:
                return
            if time.monotonic() >= ends:
                ring.trouble = f"another process downloads the keys, and has no answer within {DEADLINE_S:g} s"
                return
            time.sleep(0.02)

    # ---- downloads

    def _claim(self, ring: _Ring, what: str, now: float, ttl_s: int) -> float:
        """When the fleet last began this; without a fleet, or without memcached, it is ours."""
        if self._shared is not None:
            with contextlib.suppress(StoreDown):
                return self._shared.claim(ring.provider, what, now, max(ttl_s, 1))
        return now

    def _download(self, ring: _Ring) -> threading.Thread:
        """The one download of this provider that runs: a resolver that hangs must hold nobody."""
        with ring.guard:
            running = ring.running
            if running and running.is_alive() and time.monotonic() - ring.running_since < GIVEN_UP_S:
                return running
            ring.running = threading.Thread(target=self._fetch, args=(ring,), name="authsvc-keys-download", daemon=True)
            ring.running_since = time.monotonic()
            ring.running.start()
            return ring.running

    def _fetch(self, ring: _Ring) -> None:
        """Download, keep and share. A failure changes nothing but what is said of the last attempt."""
        before, begun_at = ring.state, self._clock()
        try:
            found = download(ring.provider, begun_at)
            pause_s = keylife.pause_s(found.max_age_s, self._times)
            new = State(found.keys, Attempt(begun_at, begun_at + pause_s, "ok", ""))
        except FetchFailed as problem:
            retry_at = begun_at + keylife.retry_s(before, self._times)
            new = State(None, Attempt(begun_at, retry_at, problem.outcome, str(problem)))
        except Exception as problem:  # noqa: BLE001 - whatever an answer can cause, the next attempt must come
            retry_at = begun_at + keylife.retry_s(before, self._times)
            new = State(None, Attempt(begun_at, retry_at, "internal", f"unforeseen {type(problem).__name__}"))
        self._take(ring, new, "provider")
        self._look(ring)
        self._tell(ring, before, new)

    def _take(self, ring: _Ring, new: State, taken_from: str) -> None:
        """Join what is new to what is known."""
        with ring.guard:
            known = keylife.not_after(ring.state, self._clock())
            ring.state = keylife.join(known, new, self._times.cache_ttl_s)
            if not keylife.ahead(ring.state, known):
                ring.state = known
                return
            ring.trouble = ring.state.attempt.error
            ring.jitter = random.uniform(0, 0.1) * self._times.refresh_interval_s  # noqa: S311 - jitter, not a secret
            if new.keys is not None:
                ring.taken_from = taken_from

    def _tell(self, ring: _Ring, before: State, new: State) -> None:
        name, outcome = ring.provider.name, new.attempt.outcome
        self._hears.key_refresh(name, outcome)
        if outcome != "ok" and before.attempt.outcome != outcome:
            kept = f"; {len(before.keys.keys)} known keys stay in force" if before.keys else ""
            self._hears.say(f"{name}: the key download failed: {new.attempt.error}{kept}")
        if outcome == "ok" and before.attempt.outcome not in ("ok", "none"):
            self._hears.say(f"{name}: the key download works again")
        for line in keylife.news(before.keys, new.keys) if new.keys else ():
            self._hears.say(f"{name}: {line}")

    # ---- the fleet's copy

    def _look(self, ring: _Ring) -> None:
        if self._shared is not None:
            self._compare(ring, self._shared.read([ring.provider]).get(ring.provider.name))

    def _compare(self, ring: _Ring, entry: bytes | None) -> None:
        """Take what the fleet knows; where it knows less than we, or what lies there is not genuine, put ours there."""
        theirs = self._opened(ring, entry)
        if theirs is not None and keylife.ahead(theirs, ring.state):
            self._take(ring, theirs, "memcached")
        if ring.state.attempt.begun_at and (theirs is None or keylife.ahead(ring.state, theirs)):
            self._put(ring, entry)

    def _opened(self, ring: _Ring, entry: bytes | None) -> State | None:
        if self._shared is None or entry is None:
            return None
        if ring.theirs is None or ring.theirs[0] != entry:
            try:
                state = self._shared.open(ring.provider, entry, self._clock())
            except Refused as refused:
                self._hears.key_event(ring.provider.name, str(refused))
                return None
            if ring.theirs is not None and keylife.ahead(ring.theirs[1], state):  # it was put back there
                self._hears.key_event(ring.provider.name, "outdated")
            ring.theirs = entry, state
        return ring.theirs[1]

    def _put(self, ring: _Ring, seen: bytes | None) -> None:
        """Ours in place of what was seen there. Where another one was faster, the next look joins the two."""
        if self._shared is None:
            return
        try:
            state = ring.state
            entry = self._shared.swap(ring.provider, seen, state)
            ring.theirs = (entry, state) if entry else ring.theirs
        except StoreDown:
            self._hears.key_event(ring.provider.name, "shared_unreachable")

    # ---- start and background

    def _first_load(self, ring: _Ring) -> None:
        """The fleet's copy where it is recent; else one process downloads and the others wait for it."""
        self._look(ring)
        now, ends = self._clock(), time.monotonic() + DEADLINE_S
        if not keylife.due(ring.state, now, self._times):
            return
        begun_at = self._claim(ring, REFRESH, now, LEASE_S)
        if begun_at == now:
            self._await_download(ring, ends)
        else:
            self._await_peer(ring, begun_at, ends)

    def _spawn(self) -> None:
        threading.Thread(target=self._run, name="authsvc-keys", daemon=True).start()

    def _after_fork(self) -> None:
        """A child has the keys, but neither the threads nor any lock that was free."""
        for ring in self._rings.values():
            ring.forcing, ring.guard, ring.running = threading.Lock(), threading.Lock(), None
        if not self._stop.is_set():
            self._stop = threading.Event()
            self._spawn()

    def _run(self) -> None:
        while not self._stop.wait(TICK_S * random.uniform(0.9, 1.1)):  # noqa: S311 - jitter, not a secret
            entries = self._shared.read(ring.provider for ring in self._rings.values()) if self._shared else {}
            for ring in self._rings.values():
                try:
                    self._tend(ring, entries.get(ring.provider.name))
                except Exception as problem:  # noqa: BLE001 - this thread must outlive whatever happens
                    self._hears.key_event(ring.provider.name, "internal")
                    self._hears.say(f"{ring.provider.name}: unforeseen {type(problem).__name__} in the background")

    def _tend(self, ring: _Ring, entry: bytes | None) -> None:
        if self._shared is not None:
            self._compare(ring, entry)
        now = self._clock()
        keys = keylife.usable(ring.state.keys, now, self._times)
        age_s = max(now - ring.state.keys.fetched_at, 0.0) if ring.state.keys else 0.0
        self._hears.key_state(ring.provider.name, len(keys.keys) if keys else 0, age_s)
        if keylife.due(ring.state, now - ring.jitter, self._times) and self._claim(ring, REFRESH, now, LEASE_S) == now:
            self._download(ring)
