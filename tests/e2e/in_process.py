"""authsvc in this process, so that its clock is ours: real nginx and memcached before and behind it, and a real API.

The server is a plain threaded one that keeps connections, as nginx wants it. A new config takes the place of the old
one between two calls, as after a reload.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from typing import Any

from authsvc import nginx
from authsvc.adapters import config
from authsvc.app import WsgiApp, build_app
from authsvc.core.response import BASE_HEADERS
from authsvc.demo.echo import EchoServer
from authsvc.demo.issuer import Issuer
from authsvc.demo.processes import BASE_CONFIG, TEMP_PATHS, Memcached, Nginx, free_port
from authsvc.demo.stack import SERVER
from authsvc.service import Service


@dataclass(slots=True)
class Clock:
    """Stands still until it is set."""

    now: float

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Log:
    """Audit lines in a file that other programs can read, too."""

    path: Path
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, line: str) -> None:
        with self.lock, self.path.open("a") as file:
            file.write(line)


class WsgiServer(ThreadingHTTPServer):
    """Answers GET with the WSGI app that is set at that moment."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.app: WsgiApp = lambda environ, start: start("503 Not Yet", []) and []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: WsgiServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        told: list[Any] = []
        found = self.server.app(self._environ(), lambda status, headers, _=None: told.extend((status, headers)))
        body = b"".join(found)
        code, _, phrase = told[0].partition(" ")
        self.send_response(int(code), phrase)
        for name, value in told[1]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _environ(self) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query}
        environ |= {"SERVER_NAME": "127.0.0.1", "SERVER_PORT": str(self.server.port), "SERVER_PROTOCOL": "HTTP/1.1"}
        environ |= {"wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO()}
        environ |= {"wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": False}
        for name in {name.lower() for name in self.headers}:
            joined = ",".join(self.headers.get_all(name, []))
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = joined
        return environ | {"wsgi.run_once": False}

    def log_message(self, format: str, *args: object) -> None:
        """Silence: nginx keeps a log."""


@dataclass(slots=True)
class World:
    """All that runs. `clock` is authsvc's."""

    folder: Path
    clock: Clock
    issuer: Issuer
    api: EchoServer
    server: WsgiServer
    nginx: Nginx
    memcached: Memcached
    log: Log
    service: Service | None = None

    def configure(self, text: str) -> Service:
        """A new config is in force, in a service of its own, from the next call on."""
        places = {"ISSUER": self.issuer.url, "AUDIENCE": self.issuer.audience, "FOLDER": str(self.folder)}
        places["MEMCACHED"] = f"127.0.0.1:{self.memcached.port}"
        settings = config.parse(Template(text).substitute(places), "authsvc.yaml", {})
        before, new = self.service, Service(settings, lines=self.log, clock=self.clock)
        new.start()
        self.server.app, self.service = build_app(new), new
        if before is not None:
            before.stop()
        return new


@contextmanager
def world(folder: Path, now: float) -> Iterator[World]:
    """Everything but a config."""
    with ExitStack() as running:
        issuer = running.enter_context(Issuer())
        memcached = running.enter_context(Memcached())
        api, server = (running.enter_context(_serving(one)) for one in (EchoServer(0), WsgiServer()))
        files = nginx.render(BASE_HEADERS, upstream=f"127.0.0.1:{server.port}")
        port = free_port()
        inside = SERVER % {"port": port, "api": api.port}
        door = running.enter_context(Nginx(f"{BASE_CONFIG}http {{\n{TEMP_PATHS}{inside}}}\n", port, files))
        found = World(folder, Clock(now), issuer, api, server, door, memcached, Log(folder / "audit.log"))
        yield found
        if found.service is not None:
            found.service.stop()


@contextmanager
def _serving(server: Any) -> Iterator[Any]:
    with server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()
