"""One connection of nginx's: what it sends is cut into requests, and each is answered before the next is looked at.

The app is called in-line and answered with one write. An app that would have to wait for somebody else says so, and is
asked again in a thread. Every state of a connection has a moment at which it ends: `Shared.tick` looks after that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from authsvc.httpwire import Answer, Environ, Head, Heads, Refusal
from authsvc.wsgi import AT_ONCE, MAY_WAIT, MUST_WAIT, WsgiApp

FIRST_BYTE_S = 10.0  # nginx connects when it has something to say
HEAD_S = 5.0  # from the first byte of a head to its last; nginx sends it in one piece
DRAIN_S = 10.0  # for a client that reads its answers slowly
LINGER_S = 1.0  # after the last answer, so that no reset overtakes it; and for idle connections at a stop
LATER_THREADS = 8
LATER_MOST = 64  # asked or waiting to be asked; a caller beyond them gets 503 at once
PIPELINED = 16  # heads answered in one turn, then others have theirs
HELD_BYTES = 65536  # of requests that wait for an answer before theirs
UNREAD_BYTES = 65536  # of answers that the client has not taken
THROWN_AWAY_BYTES = 65536  # of what follows the last request
NEVER = float("inf")

_BUSY = "503 Service Unavailable"
_BROKEN = "500 Internal Server Error"


class Shared:
    """What the connections of one worker have in common: the app, the clock, and whether it is time to go."""

    def __init__(
        self,
        app: WsgiApp,
        environ: Environ,
        loop: asyncio.AbstractEventLoop,
        trouble: Callable[[str, Exception], None],
        *,
        keepalive_s: float,
        most: int,
    ) -> None:
        self.app, self.loop, self.trouble = app, loop, trouble
        self._at_once: Callable[[bytes], bytes | None] | None = getattr(app, AT_ONCE, None)
        self.environ_later = environ
        self.environ = {**environ, MAY_WAIT: False}
        self.keepalive_s, self.most = keepalive_s, most
        self.connections: set[Connection] = set()
        self.stopping = False
        self._later = ThreadPoolExecutor(LATER_THREADS, thread_name_prefix="authsvc-later")
        self._waiting = 0
        self.tick()

    def tick(self) -> None:
        """Called a few times a second: the time as far as connections care, and who has run out of it."""
        self.now = self.loop.time()
        date = f"Date: {formatdate(usegmt=True)}\r\n\r\n".encode()
        self.end, self.last_end = date, b"Connection: close\r\n" + date
        for one in tuple(self.connections):
            if one.ends_at <= self.now:
                one.time_is_up()

    def stop(self) -> None:
        """From now on each answer is the last of its connection; idle ones have a moment to send what is on its way."""
        self.stopping = True
        for one in self.connections:
            one.ends_at = min(one.ends_at, self.loop.time() + LINGER_S) if one.idle else one.ends_at

    def end_all(self) -> None:
        for one in tuple(self.connections):
            one.abort()
        self._later.shutdown(wait=False, cancel_futures=True)

    def ask(self, head: Head, environ: Environ) -> Answer:
        """The app's answer; where it fails, that it failed."""
        try:
            return Answer(self.app, environ, head.method)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the client gets an answer, and never a yes
            self.trouble("the app failed", problem)
            return answer_of(_BROKEN)

    def ask_at_once(self, data: bytes) -> bytes | None:
        """The app's answer where it reads this head by itself. Where it fails, the head is read as any other."""
        try:
            return None if self._at_once is None else self._at_once(data)
        except Exception as problem:  # noqa: BLE001 - who has sent half a head must not be answered yet
            self.trouble("the app failed", problem)
            return None

    def ask_later(self, connection: Connection, head: Head) -> bool:
        """Ask in a thread, which may wait. False where too many wait already."""
        if self._waiting >= LATER_MOST:
            return False
        self._waiting += 1
        self._later.submit(self._in_thread, connection, head)
        return True

    def _in_thread(self, connection: Connection, head: Head) -> None:
        answer = None
        try:
            if not connection.gone:
                answer = self.ask(head, head.environ({**self.environ_later, **connection.peer}))
        finally:
            self.loop.call_soon_threadsafe(self._asked, connection, answer)

    def _asked(self, connection: Connection, answer: Answer | None) -> None:
        self._waiting -= 1
        connection.answered_later(answer or answer_of(_BROKEN))


@lru_cache(maxsize=16)
def answer_of(status: str) -> Answer:
    """An answer of the server's own, without a body."""

    def app(_: Environ, start: Callable[..., Any]) -> list[bytes]:
        start(status, [])
        return []

    return Answer(app, {}, "GET")


class Connection(asyncio.Protocol):
    """Reads heads, asks the app, writes answers in the order of the questions."""

    __slots__ = (
        "_asked",
        "_base",
        "_heads",
        "_held",
        "_holds",
        "_is_closing",
        "_last",
        "_over",
        "_send",
        "_shared",
        "_thrown_away",
        "_transport",
        "ends_at",
        "gone",
        "idle",
        "peer",
    )

    def __init__(self, shared: Shared, heads: Heads) -> None:
        self._shared, self._heads = shared, heads
        self._held = b""  # requests that may not be looked at yet, because of
        self._holds = 0  # so many reasons: an answer is on its way, the client does not read, others have their turn
        self._asked = self._last = False  # a request is asked in a thread; it is the last one here
        self._over = self.gone = False  # the last answer is written; nobody is there any more
        self._thrown_away = 0
        self.idle = True
        self.ends_at = shared.now + FIRST_BYTE_S

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send, self._is_closing = transport.write, transport.is_closing
        self.peer = _ends(transport)
        self._base = {**self._shared.environ, **self.peer}
        if len(self._shared.connections) >= self._shared.most:
            self.abort()
            return
        self._shared.connections.add(self)
        transport.set_write_buffer_limits(high=UNREAD_BYTES)
        if self._shared.stopping:
            self.ends_at = self._shared.now + LINGER_S

    def data_received(self, data: bytes) -> None:
        if self._over:
            self._throw_away(len(data))
        elif self._holds:
            self._hold(data)
        else:
            self._answer_all(data)

    def _answer_all(self, data: bytes) -> None:
        """Answer what is complete, until an answer must be waited for."""
        if self._heads.fresh and (told := self._shared.ask_at_once(data)) is not None:
            self._write(told, b"", False)
            return
        try:
            for _ in range(PIPELINED):
                head = self._heads.read(data)
                if head is None:
                    self._wait_for_rest()
                    return
                self._answer(head)
                data = self._heads.rest
                if not data or self._over:
                    return
                if self._holds:
                    break
            else:
                self._holds += 1
                self._shared.loop.call_soon(self._release)
            self._hold(data)
        except Refusal as refusal:
            self._write_empty(refusal.status, last=True)
        except Exception as problem:  # noqa: BLE001 - nothing may get out of here, and nobody in
            self._shared.trouble("the server failed", problem)
            self._write_empty(_BROKEN, last=True)

    def _answer(self, head: Head) -> None:
        environ = head.environ(self._base)
        self.idle = False
        answer = self._shared.ask(head, environ)
        if not environ.get(MUST_WAIT):
            self._write(answer.head, answer.body, head.last)
        elif self._shared.ask_later(self, head):
            self._holds += 1
            self._asked, self._last = True, head.last
            self.ends_at = NEVER
        else:
            self._write_empty(_BUSY, head.last)

    def answered_later(self, answer: Answer) -> None:
        """The answer to the request that had to wait: not for a client that has gone, and then for the next request."""
        self._asked = False
        self._write(answer.head, answer.body, self._last)
        self._release()

    def _write_empty(self, status: str, last: bool) -> None:
        self._write(answer_of(status).head, b"", last)

    def _write(self, head: bytes, body: bytes, last: bool) -> None:
        """`head` lacks the empty line at its end."""
        shared = self._shared
        if self.gone or self._is_closing():
            return
        if last or shared.stopping:
            self._send(head + shared.last_end + body)
            self._say_goodbye()
        else:
            self._send(head + shared.end + body if body else head + shared.end)
            self.idle = True
            self.ends_at = shared.now + shared.keepalive_s

    def _say_goodbye(self) -> None:
        """Close after the client has, or soon. To close at once on bytes not read would reset the answer away."""
        self._over, self._held = True, b""
        self.ends_at = self._shared.now + LINGER_S
        self._transport.write_eof()

    def _throw_away(self, length: int) -> None:
        self._thrown_away += length
        if self._thrown_away > THROWN_AWAY_BYTES:
            self.abort()

    def _wait_for_rest(self) -> None:
        if self.idle:
            self.idle = False
            self.ends_at = self._shared.now + HEAD_S

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > HELD_BYTES:
            self._transport.pause_reading()

    def _release(self) -> None:
        """One reason less to wait; after the last one it goes on."""
        self._holds -= 1
        if self._holds or self._over or self.gone:
            return
        data, self._held = self._held, b""
        if len(data) > HELD_BYTES:
            self._transport.resume_reading()
        if data:
            self._answer_all(data)

    def pause_writing(self) -> None:
        self._holds += 1
        self.ends_at = self._shared.now + DRAIN_S

    def resume_writing(self) -> None:
        still_s = NEVER if self._asked else LINGER_S if self._over else self._shared.keepalive_s
        self.ends_at = self._shared.now + still_s
        self._release()

    def time_is_up(self) -> None:
        """Idle or slow for too long. Only half a head is worth an answer."""
        if self._over or self.idle or self._holds:
            self.abort()
        else:
            self._write_empty("408 Request Timeout", last=True)

    def abort(self) -> None:
        self.gone = True
        self._transport.abort()

    def eof_received(self) -> None:
        """Who says nothing more has hung up: nothing is written any more. The transport closes by itself."""
        self.gone = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._shared.connections.discard(self)


def _ends(transport: asyncio.BaseTransport) -> dict[str, str]:
    """Who calls, and where. For a Unix socket there is nothing to tell; what the client calls us is no fact."""
    peer, ours = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not isinstance(peer, tuple) or not isinstance(ours, tuple):
        return {"REMOTE_ADDR": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80"}
    return {
        "REMOTE_ADDR": str(peer[0]),
        "REMOTE_PORT": str(peer[1]),
        "SERVER_NAME": str(ours[0]),
        "SERVER_PORT": str(ours[1]),
    }
