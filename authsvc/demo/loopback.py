"""An HTTP server on a loopback port that can go away from its port and come back to it."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

Answer = Callable[[BaseHTTPRequestHandler], None]
_Bound = TypeVar("_Bound")
HOST = "127.0.0.1"


class Loopback:
    """`answer` gets every GET. The port is taken at once, and kept while the server is down."""

    def __init__(self, port: int, answer: Answer) -> None:
        self._handler = _handler(answer)
        self._server: _Server | None = _Server((HOST, port), self._handler)
        self._place: socket.socket | None = None
        self.port: int = self._server.server_address[1]

    def up(self) -> None:
        self._leave()
        self._server = self._server or _soon(lambda: _Server((HOST, self.port), self._handler))
        self._server.begin()

    def down(self) -> None:
        """Connections are refused, and those that are open end."""
        if self._server:
            self._server.end()
            self._server, self._place = None, _soon(lambda: _hold(self.port))

    def close(self) -> None:
        self.down()
        self._leave()

    def _leave(self) -> None:
        if self._place:
            self._place.close()
            self._place = None


class _Server(ThreadingHTTPServer):
    """Knows its open connections, and is silent when a client hangs up."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[Any] = set()
        self._serving = False
        super().__init__(address, handler)

    def begin(self) -> None:
        if not self._serving:
            self._serving = True
            threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def end(self) -> None:
        if self._serving:
            self.shutdown()
        self.server_close()
        for connection in tuple(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _soon(bind: Callable[[], _Bound]) -> _Bound:
    """Under load a port that was let go may be in use for a moment still, by a connection of somebody else."""
    give_up = time.monotonic() + 2
    while True:
        try:
            return bind()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _handler(answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # a byte alone is sent alone

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            """Silent: the demo's output belongs to the calls."""

    return Handler


def _hold(port: int) -> socket.socket:
    """Takes the port without listening, so that no other program gets it meanwhile."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind((HOST, port))
    return place
