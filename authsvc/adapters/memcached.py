"""The store in one or several memcached. The only importer of pymemcache.

Each key has a ranking of the servers, and lies on the first that is well: where one fails, its keys go on from nothing
at their next ones, and the keys of the others stay where they are. A server that failed is left alone for a second, so
that an outage costs one timeout a second and not one a call. Two processes may differ for that second about who is
well, and then count in two places; no counter is ever the sum of two servers.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from pymemcache.client.base import Client
from pymemcache.exceptions import (
    MemcacheClientError,
    MemcacheServerError,
    MemcacheUnexpectedCloseError,
    MemcacheUnknownError,
)

from authsvc.adapters.connection import Access, Dialer, context_of, described, target
from authsvc.adapters.store import Entry, StoreDown

RETRY_AFTER_S = 1.0
WATCHED_S = 3.0  # somebody who probed so lately will do it again
MAX_RELATIVE_S = 30 * 86400
MAX_RANKINGS = 10_000  # a ranking of three servers takes 5 µs to make and 0.1 µs to find again
OPEN = Access()
_HUNG_UP = (MemcacheUnexpectedCloseError, ConnectionError, ssl.SSLEOFError)
_T = TypeVar("_T")


class _Fails(Exception):
    """This server is out of reach, or makes no sense: another one takes its keys."""


class _Client(Client):  # type: ignore[misc] # pymemcache has no types
    """One connection; several commands go out at once, and their answers come in order."""

    def __init__(self, address: str, dial: Dialer) -> None:
        super().__init__(target(address), default_noreply=False)
        self._dial = dial

    def _connect(self) -> None:
        self.close()
        self.sock = self._dial()

    def count(self, entries: Sequence[Entry]) -> list[int]:
        """One round trip where all the counters are there already."""
        values = self._incr(entries)
        if None not in values:
            return values
        begun = iter(self._begin([entry for entry, value in zip(entries, values, strict=True) if value is None]))
        return [next(begun) if value is None else value for value in values]

    def swap(self, key: str, old: bytes, new: bytes, ttl_s: int) -> bool:
        """Compare and set: memcached's cas takes the value only where nobody changed it since gets."""
        known, unique = self.gets(key)
        return known == old and bool(self.cas(key, new, unique, expire=_expiry(ttl_s)))

    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        if not self.set(key, value, _expiry(ttl_s)):
            raise MemcacheServerError("not stored")

    def remove(self, keys: Sequence[str]) -> None:
        commands = [b"delete %b\r\n" % self.check_key(key, b"") for key in keys]
        for answer in self._misc_cmd(commands, b"delete", False):
            if answer not in (b"DELETED", b"NOT_FOUND"):
                raise MemcacheUnknownError(answer[:32])

    def _begin(self, entries: Sequence[Entry]) -> list[int]:
        """Counters that were not there. Where another one was faster to add one, it is counted after all."""
        ours = self._add(entries)
        others = [entry for entry, added in zip(entries, ours, strict=True) if not added]
        counted = iter(self._incr(others) if others else ())
        values = [entry[1] if added else next(counted) for entry, added in zip(entries, ours, strict=True)]
        if None in values:
            raise MemcacheServerError("a counter vanished while it was counted")
        return values

    def _incr(self, entries: Sequence[Entry]) -> list[Any]:
        """`None` for a counter that is not there."""
        commands = [b"incr %b %d\r\n" % (self.check_key(key, b""), by) for key, by, _ in entries]
        return [_number(answer) for answer in self._misc_cmd(commands, b"incr", False)]

    def _add(self, entries: Sequence[Entry]) -> list[bool]:
        commands = []
        for key, by, ttl_s in entries:
            value = b"%d" % by
            commands.append(b"add %b 0 %d %d\r\n%b\r\n" % (self.check_key(key, b""), _expiry(ttl_s), len(value), value))
        return [_stored(answer) for answer in self._misc_cmd(commands, b"add", False)]


def _expiry(ttl_s: int) -> int:
    """As memcached reads it: what is more than 30 days is an instant, not a time to live."""
    return ttl_s if ttl_s <= MAX_RELATIVE_S else int(time.time()) + ttl_s


def _number(answer: bytes) -> int | None:
    if answer.isdigit():
        return int(answer)
    if answer == b"NOT_FOUND":
        return None
    raise MemcacheUnknownError(answer[:32])


def _stored(answer: bytes) -> bool:
    if answer not in (b"STORED", b"NOT_STORED"):
        raise MemcacheUnknownError(answer[:32])
    return answer == b"STORED"


class _Server:
    """One memcached, its connections and the breaker before it."""

    def __init__(self, address: str, dial: Dialer, clock: Callable[[], float]) -> None:
        self._address, self._dial, self._clock = address, dial, clock
        self._failing, self._next_try, self._watched_until = "", 0.0, 0.0
        self.forget()
        _servers.add(self)

    def forget(self) -> None:
        """After a fork no socket may be shared with the parent, and no lock may be held."""
        self._lock = threading.Lock()
        self._free: list[_Client] = []

    def call(self, act: Callable[..., _T], *given: object) -> _T:
        """Raises `_Fails`, for a while at once; and `StoreDown` where a server that is well refuses just this."""
        if self._failing and not self._may_try():
            raise _Fails(f"memcached at {self._address} failed a moment ago: {self._failing}")
        try:
            result = self._on_a_connection(act, given)
        except Exception as problem:  # noqa: BLE001 - pymemcache raises OS errors and a family of its own
            if _refused_only_this(problem):
                raise StoreDown(f"memcached at {self._address} refused the request") from problem
            self._next_try = self._clock() + RETRY_AFTER_S
            self._failing = _said(problem)
            raise _Fails(f"memcached at {self._address}: {self._failing}") from problem
        self._failing = ""
        return result

    def _on_a_connection(self, act: Callable[..., _T], given: tuple[object, ...]) -> _T:
        """On a kept one where there is one. The server may have closed that meanwhile, as when it was started again:
        then the others are closed too, and a new one is made. What was counted just before is counted twice at worst.
        """
        client = self._kept() or _Client(self._address, self._dial)
        fresh = client.sock is None
        try:
            result = act(client, *given)
        except Exception as problem:
            client.close()
            if fresh or not isinstance(problem, _HUNG_UP):
                raise
            self._close_kept()
            return self._on_a_connection(act, given)
        self._free.append(client)
        return result

    def _kept(self) -> _Client | None:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _close_kept(self) -> None:
        while client := self._kept():
            client.close()

    def failing(self) -> str:
        return f"memcached at {self._address}: {self._failing}" if self._failing else ""

    def probe(self) -> None:
        """Find out whether a server that failed is back. From then on no call tries: a hung server would hold it up."""
        self._watched_until = self._clock() + WATCHED_S
        if self._failing:
            with contextlib.suppress(Exception):
                self._on_a_connection(_Client.version, ())
                self._failing = ""

    def _may_try(self) -> bool:
        """One call a second finds out whether the server is back, unless somebody else looks after that."""
        if self._clock() < self._watched_until:
            return False
        with self._lock:
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + RETRY_AFTER_S
            return True


_servers: weakref.WeakSet[_Server] = weakref.WeakSet()  # so that a config that was replaced leaves none behind


def _after_fork() -> None:
    for server in list(_servers):
        server.forget()


os.register_at_fork(after_in_child=_after_fork)


def _refused_only_this(problem: Exception) -> bool:
    """Whether the server is well and objected to one request, such as a value too large or a counter that is none."""
    replied = isinstance(problem, MemcacheClientError | MemcacheServerError)
    return replied and not isinstance(problem, MemcacheUnexpectedCloseError) and not _asks_for_login(problem)


def _asks_for_login(problem: Exception) -> bool:
    return isinstance(problem, MemcacheClientError) and b"unauthenticated" in problem.args


def _said(problem: Exception) -> str:
    if _asks_for_login(problem):
        return "it asks for a user name and a password"
    return "it hung up" if isinstance(problem, MemcacheUnexpectedCloseError) else described(problem)


class MemcachedStore:
    """One or several memcached, each spoken to in the same way. Raises `BadTlsFile`, and connects when it is asked."""

    shared = True

    def __init__(
        self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic, access: Access = OPEN
    ) -> None:
        context: ssl.SSLContext | None = context_of(access.tls) if access.tls else None
        self._servers = {address: _Server(address, Dialer(address, access, context), clock) for address in addresses}
        self._ranking = lru_cache(MAX_RANKINGS)(self._ranked)

    def _ranked(self, place: str) -> tuple[_Server, ...]:
        """Rendezvous hashing: the servers by their score for this place, so that a server's keys go to all others."""

        def score(address: str) -> bytes:
            return hashlib.sha256(f"{address}\0{place}".encode()).digest()

        return tuple(self._servers[address] for address in sorted(self._servers, key=score, reverse=True))

    def probe(self) -> None:
        """Ask the servers that failed whether they are back: about once a second, so that no call waits for that."""
        for server in self._servers.values():
            server.probe()

    def failing(self) -> list[str]:
        """The servers that failed when they were asked last, each with the reason."""
        return [text for server in self._servers.values() if (text := server.failing())]

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._on(key, _Client.get, key)
        return value

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}

        def ask(server: _Server, theirs: list[int]) -> None:
            with contextlib.suppress(StoreDown):
                found.update(server.call(_Client.get_many, [keys[at] for at in theirs]))

        with contextlib.suppress(StoreDown):
            self._each(keys, ask)
        return found

    def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self._on(key, _Client.put, key, value, ttl_s)

    def swap(self, key: str, old: bytes | None, new: bytes, ttl_s: int) -> bool:
        if old is None:
            return self.add(key, new, ttl_s)
        return self._on(key, _Client.swap, key, old, new, ttl_s)

    def add(self, key: str, value: bytes, ttl_s: int) -> bool:
        return bool(self._on(key, _Client.add, key, value, _expiry(ttl_s)))

    def incr(self, key: str, ttl_s: int, by: int = 1) -> int:
        return self._on(key, _Client.count, ((key, by, ttl_s),))[0]

    def incr_many(self, entries: Sequence[Entry]) -> list[int]:
        values = [0] * len(entries)

        def ask(server: _Server, theirs: list[int]) -> None:
            counted = server.call(_Client.count, [entries[at] for at in theirs])
            for at, value in zip(theirs, counted, strict=True):
                values[at] = value

        self._each([key for key, _, _ in entries], ask)
        return values

    def decr(self, key: str, by: int = 1) -> None:
        self._on(key, _Client.decr, key, by)

    def delete(self, keys: Sequence[str]) -> None:
        self._each(keys, lambda server, theirs: server.call(_Client.remove, [keys[at] for at in theirs]))

    def _on(self, key: str, act: Callable[..., _T], *given: object) -> _T:
        """Done by the first server that does it. Raises `StoreDown` where none does."""
        failures = []
        for server in self._ranking(place_of(key)):
            try:
                return server.call(act, *given)
            except _Fails as failure:
                failures.append(str(failure))
        raise StoreDown("; ".join(failures))

    def _each(self, keys: Sequence[str], ask: Callable[[_Server, list[int]], None]) -> None:
        """Each server is asked once for all of its keys, by their positions; where it fails, their next ones are.
        Raises `StoreDown` where none is left."""
        failed: dict[_Server, str] = {}
        left = list(range(len(keys)))
        while left:
            at_server: dict[_Server, list[int]] = {}
            for at in left:
                at_server.setdefault(self._first(keys[at], failed), []).append(at)
            left = []
            for server, theirs in at_server.items():
                try:
                    ask(server, theirs)
                except _Fails as failure:
                    failed[server] = str(failure)
                    left += theirs

    def _first(self, key: str, failed: dict[_Server, str]) -> _Server:
        for server in self._ranking(place_of(key)):
            if server not in failed:
                return server
        raise StoreDown("; ".join(failed.values()))


def place_of(key: str) -> str:
    """What decides on the server: the text in braces where there is one, so that keys that belong together lie
    together."""
    _, _, after = key.partition("{")
    inside, closed, _ = after.partition("}")
    return inside if inside and closed else key
