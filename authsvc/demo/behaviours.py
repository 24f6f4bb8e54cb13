"""What a provider may do to whoever asks it: a table from each behaviour to the function that answers so."""

from __future__ import annotations

import functools
import json
import os
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import Any

ELSEWHERE = "/elsewhere"
LOGIN_PAGE = b"<!doctype html><title>Log in</title><form><input name=user><input name=password type=password></form>"
MEGABYTE = 1_000_000
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Behaviour(Enum):
    """How the issuer treats a request."""

    OK = "answers well"
    DOWN = "refuses connections"
    HANG = "reads the request and is silent until it behaves otherwise"
    ERROR = "answers 500"
    HTML = "answers 200 with a login page"
    HALF = "promises a whole body, sends half of it and hangs up"
    GARBAGE = "answers 200 with random bytes as JSON"
    EMPTY = "answers with a key set without keys"
    REDIRECT = "sends the caller to /elsewhere, where it answers well"
    BOMB = "answers with 100 kB of gzip that inflate to 100 MB"
    DRIP = "sends one byte a second"
    ENDLESS = "sends a body without end"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, what would be the good answer to it, and the means to give it or another."""

    handler: BaseHTTPRequestHandler
    status: int
    document: dict[str, Any]
    cache_control: str | None
    drip_s: float
    over: threading.Event
    """Set once the issuer behaves otherwise."""
    again: Callable[[], None]
    """Answers as the issuer behaves by now."""

    @property
    def body(self) -> bytes:
        return json.dumps(self.document).encode()

    @property
    def is_for_keys(self) -> bool:
        return self.handler.path.removeprefix(ELSEWHERE) == "/keys"

    def start(
        self,
        length: int | None,
        status: int = 200,
        kind: str = "application/json",
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        """Send status and headers; without a length the body ends where the connection does."""
        self.handler.send_response(status)
        ending = ("Connection", "close") if length is None else ("Content-Length", str(length))
        caching = {"Cache-Control": self.cache_control} if self.cache_control and self._has_keys(status) else {}
        for name, value in (("Content-Type", kind), ending, *caching.items(), *headers.items()):
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def write(self, data: bytes) -> None:
        self.handler.wfile.write(data)

    def send(self, body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.start(len(body), status, kind, {name.replace("_", "-"): value for name, value in headers.items()})
        self.write(body)

    def hang_up(self) -> None:
        self.handler.close_connection = True

    def _has_keys(self, status: int) -> bool:
        return self.is_for_keys and status == 200


def _well(exchange: Exchange) -> None:
    exchange.send(exchange.body, exchange.status)


def _hang(exchange: Exchange) -> None:
    exchange.over.wait()
    exchange.again()


def _error(exchange: Exchange) -> None:
    exchange.send(b'{"error": "out of order"}', 500)


def _html(exchange: Exchange) -> None:
    exchange.send(LOGIN_PAGE, kind="text/html; charset=utf-8")


def _half(exchange: Exchange) -> None:
    exchange.start(len(exchange.body), exchange.status)
    exchange.write(exchange.body[: len(exchange.body) // 2])
    exchange.hang_up()


def _garbage(exchange: Exchange) -> None:
    exchange.send(os.urandom(512))


def _empty(exchange: Exchange) -> None:
    if exchange.is_for_keys:
        exchange.send(b'{"keys": []}')
    else:
        _well(exchange)


def _redirect(exchange: Exchange) -> None:
    exchange.send(b"", 302, Location=ELSEWHERE + exchange.handler.path)


def _bomb(exchange: Exchange) -> None:
    exchange.send(bomb(), Content_Encoding="gzip")


def _drip(exchange: Exchange) -> None:
    exchange.start(len(exchange.body), exchange.status)
    for byte in exchange.body:
        if exchange.over.wait(exchange.drip_s):
            exchange.hang_up()
            return
        exchange.write(bytes([byte]))


def _endless(exchange: Exchange) -> None:
    exchange.start(None)
    exchange.write(b'{"keys": [')
    while not exchange.over.wait(0.001):
        exchange.write(b" " * 65536)


@functools.cache
def bomb() -> bytes:
    """An empty key set with 100 MB of blanks in it, packed."""
    packer = zlib.compressobj(9, wbits=31)
    blanks = (packer.compress(b" " * MEGABYTE) for _ in range(100))
    return b"".join([packer.compress(b'{"keys": ['), *blanks, packer.compress(b"]}"), packer.flush()])


ANSWERS: dict[Behaviour, Callable[[Exchange], None]] = {
    Behaviour.OK: _well,
    Behaviour.DOWN: Exchange.hang_up,  # for those that were connected already
    Behaviour.HANG: _hang,
    Behaviour.ERROR: _error,
    Behaviour.HTML: _html,
    Behaviour.HALF: _half,
    Behaviour.GARBAGE: _garbage,
    Behaviour.EMPTY: _empty,
    Behaviour.REDIRECT: _redirect,
    Behaviour.BOMB: _bomb,
    Behaviour.DRIP: _drip,
    Behaviour.ENDLESS: _endless,
}
