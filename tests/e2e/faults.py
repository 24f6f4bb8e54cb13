"""What befalls a memcached: it dies, hangs, is emptied, or somebody writes to it; and what a call is answered."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from authsvc.adapters.fleet import BEAT_S
from authsvc.demo.processes import Memcached
from authsvc.demo.stack import Authsvc, Stack
from waiting import within


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of nginx, and the seconds it took."""

    status: int
    body: str
    seconds: float


def ask(port: int, token: str | None, path: str = "/api/orders") -> Answer:
    """One call on a connection of its own."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        body = response.read().decode("utf-8", "replace")
        return Answer(response.status, body, time.monotonic() - started)
    finally:
        connection.close()


def talk(memcached: Memcached, text: bytes, ending: bytes) -> bytes:
    """What a memcached answers to plain text."""
    with socket.create_connection(("127.0.0.1", memcached.port), 2) as conn:
        conn.sendall(text)
        found = b""
        while not found.endswith(ending):
            more = conn.recv(65536)
            if not more:
                break
            found += more
    return found


def places(memcached: Memcached) -> list[str]:
    """Where the shared keys lie, without the markers of who downloads. The crawler passes over what is in use just
    then, so it goes round until it has found some; nothing where there is nothing for a second."""
    found: set[str] = set()
    ends = time.monotonic() + 1
    while time.monotonic() < ends and not found:
        found |= _listed(memcached) | _listed(memcached)
    return sorted(found)


def _listed(memcached: Memcached) -> set[str]:
    listed = talk(memcached, b"lru_crawler metadump all\r\n", b"END\r\n").decode()
    keys = [unquote(line.partition("key=")[2].partition(" ")[0]) for line in listed.splitlines()]
    return {key for key in keys if key.startswith("authsvc:keys:") and key.count(":") == 3}


def get(memcached: Memcached, place: str) -> bytes:
    answer = talk(memcached, f"get {place}\r\n".encode(), b"END\r\n")
    head, _, rest = answer.partition(b"\r\n")
    return rest[: int(head.split()[-1])] if head.startswith(b"VALUE") else b""


def put(memcached: Memcached, place: str, value: bytes) -> None:
    talk(memcached, f"set {place} 0 600 {len(value)}\r\n".encode() + value + b"\r\n", b"\r\n")


def empty(memcached: Memcached) -> None:
    talk(memcached, b"flush_all\r\n", b"\r\n")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def hung(memcached: Memcached) -> Iterator[None]:
    """Stopped in the middle of whatever it does; goes on afterwards."""
    os.kill(memcached.pid, signal.SIGSTOP)
    try:
        assert within(2, lambda: _state(memcached.pid) == "T")  # a signal takes a moment to reach every thread
        yield
    finally:
        os.kill(memcached.pid, signal.SIGCONT)


@contextmanager
def dead(memcached: Memcached) -> Iterator[None]:
    memcached.stop()
    try:
        yield
    finally:
        memcached.start()


@contextmanager
def poisoned(memcached: Memcached) -> Iterator[None]:
    """Somebody writes over the shared keys all the time: flipped bytes, another provider's entry, an old one."""
    old = {place: get(memcached, place) for place in places(memcached)}
    over = threading.Event()

    def poison() -> None:
        turn = 0
        while not over.wait(0.05):
            for number, place in enumerate(old):
                entry = get(memcached, place)
                another = list(old.values())[number - 1]
                flipped = entry[:-9] + bytes([entry[-9] ^ 1]) + entry[-8:] if len(entry) > 9 else b"x"
                put(memcached, place, (flipped, another, old[place], b"junk", b"")[turn % 5])
            turn += 1

    writer = threading.Thread(target=poison, daemon=True)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


def workers_of(authsvc: Authsvc) -> set[str]:
    """The processes that answer now."""
    return set(Path(f"/proc/{authsvc.pid}/task/{authsvc.pid}/children").read_text().split())


def reconfigure(running: Stack, **sections: str) -> None:
    """Sections of the config in other words, by SIGHUP; every worker that knew the former ones is gone afterwards."""
    file, before = running.authsvc.config_file, workers_of(running.authsvc)
    text = file.read_text("utf-8")
    for name, content in sections.items():
        text = re.sub(rf"(?ms)^{name}:\n.*?(?=^\w|\Z)", lambda _: content, text)  # noqa: B023 - used at once
    file.write_text(text, "utf-8")
    os.kill(running.authsvc.pid, signal.SIGHUP)
    assert within(15, lambda: not before & workers_of(running.authsvc) and len(workers_of(running.authsvc)) > 0)


def wait_for_fleet(memcached: Memcached, size: int) -> None:
    """Until so many processes know of one another: they beat every ten seconds and look once a second."""
    assert within(12, lambda: int(get(memcached, f"authsvc:fleet:{int(time.time() // BEAT_S)}") or b"0") >= size)
