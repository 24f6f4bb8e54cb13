"""Keeps each provider's keys: downloads at start, refreshes in the background, and once more when a token asks.

A failed download never removes a good key. Within a fleet that shares memcached and a secret, one process downloads
and the others take its result. The request path waits for a download only where a token's key is unknown, and at
most once per cool-down.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from authsvc.adapters.background import Background
from authsvc.adapters.discovery import download
from authsvc.adapters.fetch import DEADLINE_S, FetchFailed
from authsvc.adapters.keystate import KeyEvents, KeyStatus, Ring
from authsvc.adapters.sharedkeys import FORCED, REFRESH, SharedKeys
from authsvc.adapters.store import StoreDown
from authsvc.core import jwks, keylife
from authsvc.core.keylife import CLOCK_SLACK_S, Attempt, KeyTimes, State
from authsvc.core.model import MustWait
from authsvc.core.provider import Provider

TICK_S = 0.5  # a flush reaches every process within a second
LEASE_S = 3  # longer than a download; a process that dies meanwhile holds the others up no longer
GIVEN_UP_S = 10.0  # a download that still hangs then, in a resolver most likely, does not hinder the next
MOST_HANGING = 4  # such downloads; more of them would eat up threads
JUST_ASKED_S = 30.0  # at start, a download that another process began so lately is as good as our own
OVERDUE_S = 8.0  # whatever a lease in memcached says, a download that is due for so long begins


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
        self._rings = {provider.name: Ring(provider, times, shared, hears, clock) for provider in providers}
        self._times, self._shared, self._hears, self._clock = times, shared, hears, clock
        self._background = Background("keys", self._tend_all, TICK_S, hears.say)
        self._started_at = clock()

    def start(self) -> None:
        """First load, then the background thread; again by itself in a forked child."""
        self._started_at = self._clock()
        if self._rings:
            with ThreadPoolExecutor(len(self._rings)) as pool:
                list(pool.map(self._first_load, self._rings.values()))
        os.register_at_fork(after_in_child=self._forked)
        self._background.start()  # after that: in a child the locks are made anew before the thread is

    def stop(self) -> None:
        self._background.stop()

    def current(self, provider: str, now: float) -> jwks.KeySet | None:
        """The keys at hand, without any download; `None` where they are older than `max_stale_s`."""
        ring = self._rings[provider]
        known = ring.kept
        if known is not None and known.of is ring.state.keys and known.since <= now < known.fresh_until:
            return known.keys  # nearly always: 0.3 µs where the way below takes 1
        keys = ring.usable(now)
        if keys is not None and keylife.stale(keys, now, self._times):
            self._hears.key_event(provider, "stale_use")
        return keys

    def refresh(self, provider: str, now: float, may_wait: bool = True) -> jwks.KeySet | None:
        """What is known after at most one forced download, for a token whose key is unknown or does not fit.

        Also what another call has brought meanwhile: whoever looked just before that must not go away empty. Callers
        at the same time wait for the one download; while the provider is in trouble one of them does, for all.
        Raises `MustWait` where the caller may not wait.
        """
        ring = self._rings[provider]
        if self._cooling(ring, now) and not ring.forcing.locked():  # in this order: the lock is free after a download
            self._hears.key_event(provider, "cooldown")
            ring.glance()
            return self.current(provider, now)
        if not may_wait:
            raise MustWait
        before, ends = ring.state.keys, time.monotonic() + DEADLINE_S
        if ring.forcing.acquire(timeout=0 if ring.trouble else DEADLINE_S):
            try:
                if ring.state.keys is before:
                    self._force(ring, now, ends)
            finally:
                ring.forcing.release()
        return self.current(provider, now)

    def held(self) -> tuple[jwks.KeySet | None, ...]:
        """What is known of each provider's keys, however old."""
        return tuple(ring.state.keys for ring in self._rings.values())

    def trouble(self, provider: str) -> str:
        """Why what is known may not be all there is: the last download failed, or did not end in time. Else ""."""
        return self._rings[provider].trouble

    def status(self) -> dict[str, KeyStatus]:
        """How it stands with each provider."""
        return {name: ring.status() for name, ring in self._rings.items()}

    # ---- a token asks

    def _cooling(self, ring: Ring, now: float) -> bool:
        # a little below 0: this call began before the one that downloads; far below, the clock was set back
        return -CLOCK_SLACK_S <= now - ring.forced_at < self._times.cooldown_s

    def _force(self, ring: Ring, now: float, ends: float) -> None:
        if self._cooling(ring, now):
            self._hears.key_event(ring.provider.name, "cooldown")
            return
        ring.forced_at = self._claim(ring, FORCED, now, int(self._times.cooldown_s))
        if ring.forced_at == now:
            self._hears.key_event(ring.provider.name, "forced")
            if ring.running and ring.running.is_alive():  # it may have asked just before the key was there
                ring.running.join(max(ends - time.monotonic(), 0.0))
            self._await_download(ring, ends)
        else:
            self._await_peer(ring, ring.forced_at, ends)

    def _await_download(self, ring: Ring, ends: float) -> None:
        before, running = ring.state.attempt, self._download(ring)
        running.join(max(ends - time.monotonic(), 0.0))
        with ring.guard:
            if running.is_alive() and ring.state.attempt is before:  # else it only tells the fleet how it ended
                ring.trouble = f"no whole answer within {DEADLINE_S:g} s"

    def _await_peer(self, ring: Ring, begun_at: float, ends: float) -> None:
        """Another process began a download: where it may still run, wait for how it ends."""
        while True:
            ring.look()
            if ring.state.attempt.begun_at >= begun_at:
                return
            if time.monotonic() >= ends or self._clock() - begun_at > DEADLINE_S:
                ring.trouble = f"another process downloads the keys, and has no answer within {DEADLINE_S:g} s"
                return
            time.sleep(0.02)

    # ---- downloads

    def _claim(self, ring: Ring, what: str, now: float, ttl_s: int) -> float:
        """When the fleet last began this; without a fleet, or without memcached, it is ours."""
        if self._shared is not None:
            with contextlib.suppress(StoreDown):
                return self._shared.claim(ring.provider, what, now, max(ttl_s, 1))
        return now

    def _lease(self, ring: Ring, now: float) -> float:
        return self._claim(ring, REFRESH, now, min(LEASE_S, int(self._times.refresh_interval_s)))

    def _download(self, ring: Ring) -> threading.Thread:
        """The one download of this provider that runs: a resolver that hangs must hold nobody."""
        with ring.guard:
            ring.hanging = [one for one in ring.hanging if one.is_alive()]
            running, since = ring.running, time.monotonic() - ring.running_since
            if running and running.is_alive() and (since < GIVEN_UP_S or len(ring.hanging) >= MOST_HANGING):
                return running
            ring.hanging += [running] if running else []
            ring.running = threading.Thread(target=self._fetch, args=(ring,), name="authsvc-keys-download", daemon=True)
            ring.running_since = time.monotonic()
            ring.running.start()
            return ring.running

    def _fetch(self, ring: Ring) -> None:
        """Download, keep and share. A failure changes nothing but what is said of the last attempt."""
        before, begun_at = ring.begin()
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
        ring.take(new, "provider")
        ring.look()
        self._tell(ring, before, new)

    def _tell(self, ring: Ring, before: State, new: State) -> None:
        name, outcome = ring.provider.name, new.attempt.outcome
        self._hears.key_refresh(name, outcome)
        if outcome != "ok" and before.attempt.outcome != outcome:
            kept = f"; the known keys stay in force ({len(before.keys.keys)})" if before.keys else ""
            self._hears.say(f"{name}: the key download failed: {new.attempt.error}{kept}")
        if outcome == "ok" and before.attempt.outcome not in ("ok", "none"):
            self._hears.say(f"{name}: the key download works again")
        for line in keylife.news(before.keys, new.keys) if new.keys else ():
            self._hears.say(f"{name}: {line}")

    # ---- start and background

    def _first_load(self, ring: Ring) -> None:
        """The fleet's copy where it is of just now; else one process downloads and the others wait for it."""
        ring.look()
        now, ends = self._clock(), time.monotonic() + DEADLINE_S
        if 0 <= now - ring.state.attempt.begun_at < JUST_ASKED_S and not keylife.due(ring.state, now, self._times):
            return
        begun_at = self._lease(ring, now)
        if begun_at == now:
            self._await_download(ring, ends)
        else:
            self._await_peer(ring, begun_at, ends)

    def _forked(self) -> None:
        for ring in self._rings.values():
            ring.forked()

    def _tend_all(self) -> None:
        entries = self._shared.read(ring.provider for ring in self._rings.values()) if self._shared else {}
        for ring in self._rings.values():
            self._tend(ring, entries.get(ring.provider.name))

    def _tend(self, ring: Ring, entry: bytes | None) -> None:
        if self._shared is not None:
            ring.compare(entry)
        now = self._clock()
        keys = ring.usable(now)
        age_s = max(now - ring.state.keys.fetched_at, 0.0) if ring.state.keys else 0.0
        self._hears.key_state(ring.provider.name, len(keys.keys) if keys else 0, age_s)
        if keylife.due(ring.state, now - ring.jitter, self._times):
            overdue = now - ring.jitter - max(ring.state.attempt.next_at, self._started_at) > OVERDUE_S
            if self._lease(ring, now) == now or overdue:
                self._download(ring)
