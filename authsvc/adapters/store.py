"""Where counters and shared keys lie: what a store promises, and the one in this process.

The other one is in memcached.py. Both keep the same promises and pass the same tests; every trouble is a `StoreDown`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

Entry = tuple[str, int, int]
"""A counter's key, what to count, and the seconds it is to live where it begins now."""


class StoreDown(Exception):
    """The store did not answer, or answered nonsense."""


class Store(Protocol):
    """Keys are short ASCII without spaces; times to live are in seconds. Keys with the same text in
    braces lie together."""

    shared: bool

    def get(self, key: str) -> bytes | None: ...
    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Those that are there; what cannot be had now is left out."""
        ...

    def set(self, key: str, value: bytes, ttl_s: int) -> None: ...
    def swap(self, key: str, old: bytes | None, new: bytes, ttl_s: int) -> bool:
        """Whether `old` was still there, or nothing where `old` is `None`, and is now `new`. Atomic."""
        ...

    def add(self, key: str, value: bytes, ttl_s: int) -> bool:
        """Whether the key was free and is now taken."""
        ...

    def incr(self, key: str, ttl_s: int, by: int = 1) -> int:
        """Count, from nothing if need be, and say the new value. Atomic."""
        ...

    def incr_many(self, entries: Sequence[Entry]) -> list[int]:
        """Count each, from nothing if need be, and say the new values in the same order. Each is atomic by itself;
        where this raises, some may be counted."""
        ...

    def decr(self, key: str, by: int = 1) -> None:
        """Take back; never below zero."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Those that are there."""
        ...

    def probe(self) -> None:
        """Find out whether what failed is back, so that no call has to."""
        ...

    def failing(self) -> list[str]:
        """What is out of reach, and why."""
        ...


class MemoryStore:
    """The twin in this process, for one worker or for an outage of the real one."""

    shared = False

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_entries: int = 100_000) -> None:
        self._clock, self._max = clock, max_entries
        self._entries: dict[str, tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            return self._live(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found = {key: self.get(key) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

    def set(self, key: str, value: bytes, ttl_s: int) -> None:
        with self._lock:
            self._put(key, value, ttl_s)

    def swap(self, key: str, old: bytes | None, new: bytes, ttl_s: int) -> bool:
        with self._lock:
            if self._live(key) != old:
                return False
            self._put(key, new, ttl_s)
            return True

    def add(self, key: str, value: bytes, ttl_s: int) -> bool:
        with self._lock:
            if self._live(key) is not None:
                return False
            self._put(key, value, ttl_s)
            return True

    def incr(self, key: str, ttl_s: int, by: int = 1) -> int:
        with self._lock:
            known = self._live(key)
            if known is None:
                self._put(key, b"%d" % by, ttl_s)
                return by
            return self._change(key, known, by)

    def incr_many(self, entries: Sequence[Entry]) -> list[int]:
        return [self.incr(key, ttl_s, by) for key, by, ttl_s in entries]

    def decr(self, key: str, by: int = 1) -> None:
        with self._lock:
            known = self._live(key)
            if known is not None:
                self._change(key, known, -by)

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._entries.pop(key, None)

    def probe(self) -> None:
        """Nothing ever fails here."""

    def failing(self) -> list[str]:
        return []

    def _change(self, key: str, known: bytes, by: int) -> int:
        """A new count that expires when the old one would have."""
        try:
            value = max(int(known) + by, 0)
        except ValueError:
            raise StoreDown("a counter holds no number") from None
        self._entries[key] = (b"%d" % value, self._entries[key][1])
        return value

    def _live(self, key: str) -> bytes | None:
        value, until = self._entries.get(key, (b"", 0.0))
        if self._clock() < until:
            return value
        self._entries.pop(key, None)
        return None

    def _put(self, key: str, value: bytes, ttl_s: int) -> None:
        self._entries[key] = (value, self._clock() + ttl_s)
        self._shrink()

    def _shrink(self) -> None:
        """Bounded memory: first what has expired goes, then the oldest tenth."""
        if len(self._entries) <= self._max:
            return
        now = self._clock()
        self._entries = {key: entry for key, entry in self._entries.items() if now < entry[1]}
        for key in list(self._entries)[: max(len(self._entries) - self._max * 9 // 10, 0)]:
            del self._entries[key]
