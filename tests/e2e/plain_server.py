"""A small WSGI app under gunicorn, with authsvc's settings and a worker of choice: what the workers are compared with.

As a program: `python plain_server.py <worker> <bind> [name=value ...]`, with gunicorn's settings,
and `load_s`: how long it takes to load the app.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

from authsvc.demo.processes import Process, free_port

SENT = (
    "HTTP_",
    "CONTENT_",
    "REQUEST_",
    "QUERY_",
    "PATH_",
    "SCRIPT_",
    "SERVER_",
    "REMOTE_",
    "RAW_",
    "wsgi.",
    "authsvc.",
)
Start = Callable[..., Any]
Environ = dict[str, Any]


class PlainServer(Process):
    """The app below, on a port of its own, and on a Unix socket too if one is named."""

    def __init__(self, worker: str, folder: Path, unix: Path | None = None, **settings: object) -> None:
        port = free_port()
        binds = [f"127.0.0.1:{port}", *([f"unix:{unix}"] if unix else [])]
        given = [f"{name}={value}" for name, value in settings.items()]
        command = [sys.executable, __file__, worker, ",".join(binds), *given]
        super().__init__(command, port, folder / f"{worker}-{port}.log", {"PYTHONPATH": os.pathsep.join(sys.path)})


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    """What each path is for stands in the table below."""
    return PATHS.get(environ["PATH_INFO"], _empty)(environ, start)


def _empty(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-Auth-Status", "200"), ("Content-Length", "0")])
    return []


def _echo(environ: Environ, start: Start) -> Iterable[bytes]:
    told = {name: value for name, value in environ.items() if name.startswith(SENT) and isinstance(value, str | bool)}
    body = json.dumps({**told, "pid": os.getpid(), "thread": threading.current_thread().name}).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _large(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return (b"x" * 100_000 for _ in range(10))


def _bad_header(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-User-Id", "a\r\nX-Admin: yes")])
    return []


def _bad_name(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [("X-User Id:", "a")])
    return []


def _bad_status(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK\r\nX-Admin: yes", [])
    return []


def _fails(environ: Environ, start: Start) -> Iterable[bytes]:
    raise RuntimeError("as asked")


def _fails_late(environ: Environ, start: Start) -> Iterable[bytes]:
    start("200 OK", [])
    yield b"half"
    raise RuntimeError("as asked")


def _no_content(environ: Environ, start: Start) -> Iterable[bytes]:
    start("204 No Content", [])
    return [b"nothing to see"]


def _slow(environ: Environ, start: Start) -> Iterable[bytes]:
    """Waits, but never where it may not."""
    if not environ.get("authsvc.may_wait", True):
        environ["authsvc.must_wait"] = True
        start("200 OK", [("X-Guess", "yes")])
        return [b"a guess that nobody may see"]
    time.sleep(float(environ["QUERY_STRING"] or 0.3))
    return _echo(environ, start)


def _stuck(environ: Environ, start: Start) -> Iterable[bytes]:
    time.sleep(30)
    return []


PATHS: dict[str, Callable[[Environ, Start], Iterable[bytes]]] = {
    "/echo": _echo,
    "/large": _large,
    "/bad-header": _bad_header,
    "/bad-name": _bad_name,
    "/bad-status": _bad_status,
    "/fails": _fails,
    "/fails-late": _fails_late,
    "/no-content": _no_content,
    "/slow": _slow,
    "/stuck": _stuck,
    "/validated": validator(_echo),
}


def main(worker: str, bind: str, *given: str) -> None:
    from gunicorn.app.base import BaseApplication

    from authsvc.server import SETTINGS, worker_class

    settings = dict(one.split("=", 1) for one in given)
    load_s = float(settings.pop("load_s", 0))

    class Plain(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            for name, value in {**SETTINGS, "worker_class": worker_class(worker), "bind": bind.split(",")}.items():
                self.cfg.set(name, value)
            for name, value in settings.items():
                self.cfg.set(name, value)

        def load(self) -> Callable[..., Iterable[bytes]]:
            time.sleep(load_s)
            return app

    Plain().run()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
