"""What this process knows of one provider's keys, how that follows the fleet's copy, and who hears of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from authsvc.adapters.sharedkeys import Refused, SharedKeys
from authsvc.adapters.store import StoreDown
from authsvc.core import keylife
from authsvc.core.jwks import KeySet
from authsvc.core.keylife import KeyTimes, State
from authsvc.core.provider import Provider

GLANCE_S = 0.02  # between two looks at the fleet's copy by calls that may not download


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
class Ring:
    """One provider's keys in this process. `trouble` says why what is known may not be all there is."""

    # first what is looked at in each call: it lies together
    state: State = field(default=State(), init=False)
    kept: keylife.Kept | None = field(default=None, init=False)  # which keys were usable when that was asked last
    provider: Provider
    times: KeyTimes
    shared: SharedKeys | None
    hears: KeyEvents
    clock: Callable[[], float]
    trouble: str = State().attempt.error
    taken_from: str = ""
    jitter: float = 0.0
    forced_at: float = float("-inf")
    running: threading.Thread | None = None  # the download
    running_since: float = 0.0
    hanging: list[threading.Thread] = field(default_factory=list)  # downloads that were given up
    forcing: threading.Lock = field(default_factory=threading.Lock)
    glancing: threading.Lock = field(default_factory=threading.Lock)
    guard: threading.Lock = field(default_factory=threading.Lock)
    _theirs: tuple[bytes, State] | None = None  # the fleet's entry as it was last read or written
    _glanced_at: float = float("-inf")

    def forked(self) -> None:
        """A child has the keys, but neither the threads nor any lock that was free."""
        self.forcing, self.glancing, self.guard = threading.Lock(), threading.Lock(), threading.Lock()
        self.running, self.hanging = None, []

    def usable(self, now: float) -> KeySet | None:
        """The keys that may verify now: the same object until one ends or others come, since tokens are remembered
        with it."""
        keys, known = self.state.keys, self.kept
        if keys is None:
            return None
        if known is None or not known.holds(keys, now):
            known = self.kept = keylife.kept(keys, now, self.times)
        return keylife.still_usable(known, now, self.times)

    def status(self) -> KeyStatus:
        now = self.clock()
        attempt, keys = self.state.attempt, keylife.usable(self.state.keys, now, self.times)
        last = (attempt.outcome, attempt.error, max(attempt.next_at - now, 0.0))
        if keys is None:
            return KeyStatus(self.trouble or "its keys are too old", *last)
        age_s = max(now - keys.fetched_at, 0.0)
        return KeyStatus("", *last, len(keys.keys), age_s, keylife.stale(keys, now, self.times), self.taken_from)

    def begin(self) -> tuple[State, float]:
        """What is known, and a moment after all of it: what the provider says now is the newest, whatever a clock says
        that was set back, or is behind another one of the fleet."""
        with self.guard:
            now = self.clock()
            self.state = keylife.not_after(self.state, now)
            return self.state, keylife.after(self.state, now)

    def take(self, new: State, taken_from: str) -> None:
        """Join what is new to what is known."""
        with self.guard:
            known = keylife.not_after(self.state, self.clock())
            self.state = keylife.join(known, new, self.times.cache_ttl_s)
            if not keylife.ahead(self.state, known):  # it may add a key all the same
                return
            self.trouble = self.state.attempt.error
            pause_s = self.state.attempt.next_at - self.state.attempt.begun_at
            self.jitter = random.uniform(0, 0.1) * pause_s  # noqa: S311 - jitter, not a secret
            if new.keys is not None:
                self.taken_from = taken_from

    def glance(self) -> None:
        """Another process may have found the key just now. Not for each call, and nobody waits: this may be a flood."""
        if time.monotonic() - self._glanced_at > GLANCE_S and self.glancing.acquire(blocking=False):
            try:
                self.look()
            finally:
                self._glanced_at = time.monotonic()
                self.glancing.release()

    def look(self) -> None:
        """Read the fleet's copy, and compare."""
        if self.shared is not None:
            self.compare(self.shared.read([self.provider]).get(self.provider.name))

    def compare(self, entry: bytes | None) -> None:
        """Take what the fleet knows; where it knows less than we, or what lies there is not genuine, put ours there."""
        theirs = self._opened(entry)
        if theirs is not None and keylife.adds(theirs, self.state):
            self.take(theirs, "memcached")
        if self.state.attempt.begun_at and (theirs is None or keylife.adds(self.state, theirs)):
            self._put(entry)

    def _opened(self, entry: bytes | None) -> State | None:
        if self.shared is None or entry is None:
            return None
        if self._theirs is None or self._theirs[0] != entry:
            try:
                state = self.shared.open(self.provider, entry, self.clock())
            except Refused as refused:
                self._tell(str(refused))
                return None
            put_back = self._theirs is not None and keylife.ahead(self._theirs[1], state)
            if put_back or self._too_old(state):  # the former is joined and replaced, the latter is good for nothing
                self._tell("outdated")
            self._theirs = entry, state
        state = self._theirs[1]
        return state if keylife.not_after(state, self.clock()) is state else None  # a clock may be set back meanwhile

    def _too_old(self, state: State) -> bool:
        return state.keys is not None and keylife.usable(state.keys, self.clock(), self.times) is None

    def _put(self, seen: bytes | None) -> None:
        """Ours in place of what was seen there. Where another one was faster, the next look joins the two."""
        if self.shared is None:
            return
        try:
            state = self.state
            entry = self.shared.swap(self.provider, seen, state)
            self._theirs = (entry, state) if entry else self._theirs
        except StoreDown:
            self._tell("shared_unreachable")

    def _tell(self, event: str) -> None:
        self.hears.key_event(self.provider.name, event)
