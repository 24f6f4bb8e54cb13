"""Small stand-ins that implement our own ports, and a clock that is set by hand."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from authsvc.adapters.connection import target
from authsvc.adapters.memcached import MemcachedStore, _Server
from authsvc.adapters.store import Entry, Store, StoreDown
from authsvc.demo.processes import Memcached
from waiting import within


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class CountingStore:
    """A store that counts its calls; `broken` names the operations that fail."""

    def __init__(self, inner: Store) -> None:
        self._inner, self.shared = inner, inner.shared
        self.calls: list[str] = []
        self.broken: set[str] = set()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.broken:
            raise StoreDown(f"{name} is broken for a test")

    def get(self, key: str) -> bytes | None:
        self._call("get")
        return self._inner.get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        self._call("get_many")
        return self._inner.get_many(keys)

    def set(self, key: str, value: bytes, ttl_s: int) -> None:
        self._call("set")
        self._inner.set(key, value, ttl_s)

    def swap(self, key: str, old: bytes | None, new: bytes, ttl_s: int) -> bool:
        self._call("swap")
        return self._inner.swap(key, old, new, ttl_s)

    def add(self, key: str, value: bytes, ttl_s: int) -> bool:
        self._call("add")
        return self._inner.add(key, value, ttl_s)

    def incr(self, key: str, ttl_s: int, by: int = 1) -> int:
        self._call("incr")
        return self._inner.incr(key, ttl_s, by)

    def incr_many(self, entries: Sequence[Entry]) -> list[int]:
        self._call("incr_many")
        return self._inner.incr_many(entries)

    def decr(self, key: str, by: int = 1) -> None:
        self._call("decr")
        self._inner.decr(key, by)

    def delete(self, keys: Sequence[str]) -> None:
        self._call("delete")
        self._inner.delete(keys)


class Patient(MemcachedStore):
    """Ours, whose answers may take as long as they take: threads that are never idle, or a machine that stands still,
    keep one from its answer for more than 150 ms, and an outage is another test's matter."""

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(addresses)
        dials = {address: partial(socket.create_connection, target(address)) for address in addresses}
        self._servers = {address: _Server(address, dial, clock) for address, dial in dials.items()}


def in_threads(count: int, act: Callable[[int], object]) -> None:
    """`act` by `count` threads that start at the same moment; what one of them raises is raised here."""
    barrier, problems = threading.Barrier(count), []

    def run(number: int) -> None:
        barrier.wait()
        try:
            act(number)
        except BaseException as problem:  # noqa: BLE001 - handed to the test below
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


@contextlib.contextmanager
def memcached_with(*options: str) -> Iterator[str]:
    """The address of a memcached that was started with these options too."""
    server = Memcached()
    server.command += options
    with server:
        yield f"127.0.0.1:{server.port}"


def memcached_stat(port: int, name: str) -> int:
    """One number that a memcached says of itself."""
    with socket.create_connection(("127.0.0.1", port), 2) as conn:
        conn.sendall(b"stats\r\n")
        text = b""
        while not text.endswith(b"END\r\n"):
            text += conn.recv(65536)
    lines = dict(line.split(" ")[1:3] for line in text.decode().splitlines() if line.startswith("STAT "))
    return int(lines[name])


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """The process stands still. That takes a moment after the signal: until then its threads may answer."""
    os.kill(pid, signal.SIGSTOP)
    try:
        assert within(5, lambda: _states(pid) == {"T"})
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> set[str]:
    """The states of all its threads; T is stopped."""
    lines = [thread.read_text() for thread in Path(f"/proc/{pid}/task").glob("*/stat")]
    return {line.rpartition(")")[2].split()[0] for line in lines}
