"""The worker that gunicorn runs for us: its loop, signals and heart-beat, our connections.

gunicorn's own workers spend several times what a decision costs on one request: a thread's turn, or tasks and message
dicts. Here one process has one loop, and the app is called in it. Needs uvloop and gunicorn_h1c; where one of them is
missing, importing this raises ImportError, and `authsvc.server` takes gthread.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import Any

import uvloop
from gunicorn import SERVER_SOFTWARE
from gunicorn.workers.gasgi import ASGIWorker

from authsvc.connection import Connection, Shared
from authsvc.httpwire import Heads, base_environ

TICK_S = 0.5  # how exactly a connection's time is kept
STOP_TICK_S = 0.05


class Worker(ASGIWorker):  # type: ignore[misc]  # gunicorn ships no types
    """Serves a plain WSGI app on every socket of gunicorn's."""

    def init_process(self) -> None:
        _let_nginx_finish()
        super().init_process()

    def _setup_event_loop(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._told_to_stop = asyncio.Event()
        asyncio.set_event_loop(self.loop)

    def init_signals(self) -> None:
        """While the app is loaded the loop does not run, and uvloop would lose a signal: until then it simply ends."""
        for one in self.SIGNALS:
            signal.signal(one, signal.SIG_DFL)
        for one in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(one, _leave)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # or it would end for a log that is turned over

    async def _serve(self) -> None:
        super().init_signals()
        self._shared = self._share()
        for one in self.sockets:
            self.servers.append(await self.loop.create_server(self._connection, sock=one.sock))
        while self.alive and self.ppid == os.getppid():
            self.notify()
            self._shared.tick()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told_to_stop.wait(), TICK_S)
        await self._shutdown()

    def handle_exit_signal(self) -> None:
        super().handle_exit_signal()
        self._told_to_stop.set()  # at once: after a reload nobody should meet the old config for longer than he must

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._told_to_stop.set()

    def _share(self) -> Shared:
        environ = base_environ(self.cfg.workers > 1, SERVER_SOFTWARE)
        keepalive_s, most = self.cfg.keepalive, self.cfg.worker_connections
        return Shared(self.asgi, environ, self.loop, self._trouble, keepalive_s=keepalive_s, most=most)

    def _trouble(self, what: str, problem: Exception) -> None:
        self.log.error("%s: %s", what, type(problem).__name__, exc_info=problem)

    def _connection(self) -> Connection:
        cfg = self.cfg
        heads = Heads(cfg.limit_request_line, cfg.limit_request_fields, cfg.limit_request_field_size)
        return Connection(self._shared, heads)

    async def _shutdown(self) -> None:
        """No request that is on its way is lost: who has one runs to its end, and idle connections have a moment."""
        for server in self.servers:
            server.close()
        self._shared.stop()
        ends_at = self.loop.time() + self.cfg.graceful_timeout
        while self._shared.connections and not self._quick_shutdown and self.loop.time() < ends_at:
            self.notify()
            self._shared.tick()
            await asyncio.sleep(STOP_TICK_S)
        self._shared.end_all()

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """gunicorn would warn that threads are not used here; a setting for the other worker is no mistake."""


def _let_nginx_finish() -> None:
    """Whoever asks is not put off his core by the one he has asked.

    Where nginx and this process share a core, each question would take it away from nginx, which would write the next
    one only when this one is answered. As SCHED_BATCH this process waits until nginx has written all it has, and finds
    more of them at once. On an idle core, and in its share of a busy one, nothing changes. A policy that the operator
    has chosen stays.
    """
    with suppress(OSError):  # a container may forbid it: it is only slower then
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _leave(*_: object) -> None:
    sys.exit(0)
