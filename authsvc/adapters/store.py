"""Where counters and shared keys lie: memcached, or its twin in this process. The only importer of pymemcache.

Both keep the same promises and pass the same tests. Every trouble is a `StoreDown`; a server that failed is left
alone for a second, so that an outage costs one timeout a second and not one a call.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from pymemcache.client.base import PooledClient
from pymemcache.exceptions import MemcacheClientError, MemcacheServerError, MemcacheUnexpectedCloseError

TIMEOUT_S = 0.15  # a loopback round trip takes 0.2 ms; what takes hundreds of times that is an outage
RETRY_AFTER_S = 1.0
MAX_ANSWER = 4 * 1024 * 1024  # memcached's items have 1 MB at the most; several may come at once
_T = TypeVar("_T")


class StoreDown(Exception):
    """The store did not answer, or answered nonsense."""


class Store(Protocol):
    """Keys are short ASCII without spaces; times to live are in seconds, under 30 days."""

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

    def incr(self, key: str, ttl_s: int) -> int:
        """Count one, from nothing if need be, and say the new value. Atomic."""
        ...

    def decr(self, key: str) -> None:
        """Take one back; never below zero."""
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

    def incr(self, key: str, ttl_s: int) -> int:
        with self._lock:
            known = self._live(key)
            if known is None:
                self._put(key, b"1", ttl_s)
                return 1
            return self._change(key, known, 1)

    def decr(self, key: str) -> None:
        with self._lock:
            known = self._live(key)
            if known is not None:
                self._change(key, known, -1)

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


class _Socket(socket.socket):
    """One answer takes TIMEOUT_S and MAX_ANSWER bytes at the most, however it comes: a server that drips must not hold
    every call, nor one that floods fill the memory."""

    _ends = 0.0
    _left = 0

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._ends, self._left = time.monotonic() + TIMEOUT_S, MAX_ANSWER
        super().sendall(data, flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        remaining = self._ends - time.monotonic()
        if remaining <= 0 or self._left <= 0:
            raise TimeoutError("the answer takes too long, or is too long")
        self.settimeout(remaining)
        found = super().recv(size, flags)
        self._left -= len(found)
        return found


class _Sockets:
    """What pymemcache takes for the module socket."""

    socket = _Socket

    def __getattr__(self, name: str) -> Any:
        return getattr(socket, name)


class _Server:
    """One memcached and the breaker before it."""

    def __init__(self, address: str, clock: Callable[[], float]) -> None:
        self._address, self._clock = address, clock
        self._failing, self._next_try = False, 0.0
        self.connect()

    def connect(self) -> None:
        """A fresh pool; after a fork no socket may be shared with the parent, and no lock may be held."""
        self._lock = threading.Lock()
        self._client = PooledClient(
            _target(self._address),
            connect_timeout=TIMEOUT_S,
            timeout=TIMEOUT_S,
            no_delay=not self._address.startswith(("/", "unix:")),
            default_noreply=False,
            socket_module=_Sockets(),
            max_pool_size=64,
        )

    def call(self, act: Callable[[PooledClient], _T]) -> _T:
        """Raises `StoreDown`; for a while at once where the server failed, so that few calls wait for a dead one."""
        if self._failing and not self._may_try():
            raise StoreDown(f"memcached at {self._address} failed a moment ago")
        try:
            result = act(self._client)
        except Exception as problem:  # noqa: BLE001 - pymemcache raises OS errors and a family of its own
            if not _refused_only_this(problem):
                self._failing, self._next_try = True, self._clock() + RETRY_AFTER_S
            raise StoreDown(f"memcached at {self._address}: {type(problem).__name__}") from problem
        self._failing = False
        return result

    def _may_try(self) -> bool:
        """One call a second finds out whether the server is back; the others do not wait for that."""
        with self._lock:
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + RETRY_AFTER_S
            return True


def _refused_only_this(problem: Exception) -> bool:
    """Whether the server is well and objected to one request, such as a value too large or a counter that is none."""
    replied = isinstance(problem, MemcacheClientError | MemcacheServerError)
    return replied and not isinstance(problem, MemcacheUnexpectedCloseError)


def _target(address: str) -> str | tuple[str, int]:
    if address.startswith(("/", "unix:")):
        return address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class MemcachedStore:
    """One or several memcached. Each key has its one server; no counter is ever read from two as one."""

    shared = True

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = {address: _Server(address, clock) for address in addresses}
        os.register_at_fork(after_in_child=self._reconnect)

    def _reconnect(self) -> None:
        for server in self._servers.values():
            server.connect()

    def _of(self, key: str) -> _Server:
        """Rendezvous hashing: the server with the highest score for this key."""
        if len(self._servers) == 1:
            return next(iter(self._servers.values()))
        return self._servers[max(self._servers, key=lambda a: hashlib.sha256(f"{a}\0{key}".encode()).digest())]

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._of(key).call(lambda client: client.get(key))
        return value

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        by_server: dict[_Server, list[str]] = {}
        for key in keys:
            by_server.setdefault(self._of(key), []).append(key)
        found: dict[str, bytes] = {}
        for server, theirs in by_server.items():
            with contextlib.suppress(StoreDown):
                found |= server.call(lambda client, theirs=theirs: client.get_many(theirs))  # type: ignore[misc]
        return found

    def swap(self, key: str, old: bytes | None, new: bytes, ttl_s: int) -> bool:
        if old is None:
            return self.add(key, new, ttl_s)
        return self._of(key).call(lambda client: _swap(client, key, old, new, ttl_s))

    def set(self, key: str, value: bytes, ttl_s: int) -> None:
        if not self._of(key).call(lambda client: client.set(key, value, expire=ttl_s, noreply=False)):
            raise StoreDown("memcached did not store the value")

    def add(self, key: str, value: bytes, ttl_s: int) -> bool:
        return bool(self._of(key).call(lambda client: client.add(key, value, expire=ttl_s, noreply=False)))

    def incr(self, key: str, ttl_s: int) -> int:
        return self._of(key).call(lambda client: _count(client, key, ttl_s))

    def decr(self, key: str) -> None:
        self._of(key).call(lambda client: client.decr(key, 1))


def _swap(client: PooledClient, key: str, old: bytes, new: bytes, ttl_s: int) -> bool:
    """Compare and set: memcached's cas takes the value only where nobody changed it since gets."""
    known, unique = client.gets(key)
    return known == old and bool(client.cas(key, new, unique, expire=ttl_s, noreply=False))


def _count(client: PooledClient, key: str, ttl_s: int) -> int:
    """incr; on a miss add; where another was faster, incr again."""
    value = client.incr(key, 1)
    if value is None:
        if client.add(key, b"1", expire=ttl_s, noreply=False):
            return 1
        value = client.incr(key, 1)
    if type(value) is not int:
        raise StoreDown("a counter vanished while it was counted")
    return value
