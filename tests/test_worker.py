"""One connection without a network: whatever comes, in whatever pieces, and however long it takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from authsvc import connection as limits
from authsvc.connection import Connection, Shared
from authsvc.httpwire import Answer, Heads, base_environ
from hostile_requests import AGAIN, HEAD, REQUESTS
from waiting import within

PLAIN = (HEAD + "\r\n").encode()
SLOW = PLAIN.replace(b"/auth", b"/slow")


class Loop:
    """A loop whose clock is turned by hand. What is to be done soon is done when `run` is called."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._soon: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, what: Callable[..., Any], *given: Any) -> None:
        self._soon.append((what, given))

    call_soon_threadsafe = call_soon

    def run(self) -> bool:
        """Whether there was anything to do."""
        todo, self._soon = self._soon, []
        for what, arguments in todo:
            what(*arguments)
        return bool(todo)


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended = self.aborted = self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.ended
        assert not self.aborted
        self.written.append(data)

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_write_buffer_limits(self, high: int) -> None:
        assert high <= 65536

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return "127.0.0.1", 1 if name == "peername" else 2


class App:
    """Says yes and counts how often. /slow must wait, and waits until it is let go."""

    def __init__(self) -> None:
        self.yes = 0
        self.let_go = threading.Event()
        self.asked_later = 0

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        assert type(environ) is dict
        if environ["PATH_INFO"] == "/slow" and not environ.get("authsvc.may_wait", True):
            environ["authsvc.must_wait"] = True
            start("200 OK", [("X-Guess", "yes")])
            return []
        if environ["PATH_INFO"] == "/slow":
            self.asked_later += 1
            self.let_go.wait(5)
        if environ["PATH_INFO"] == "/large":
            start("200 OK", [])
            return [b"x" * 10_000]
        self.yes += 1
        start("200 OK", [("X-Number", str(self.yes)), ("X-Path", environ["RAW_URI"])])
        return []


class World:
    def __init__(self, most: int = 1000) -> None:
        self.loop, self.app = Loop(), App()
        self.troubles: list[str] = []
        environ = base_environ(False, "test")
        self.shared = Shared(self.app, environ, self.loop, self._trouble, keepalive_s=75, most=most)  # type: ignore[arg-type]

    def _trouble(self, what: str, problem: Exception) -> None:
        self.troubles.append(f"{what}: {problem!r}")

    def connect(self) -> tuple[Connection, Transport]:
        connection, transport = Connection(self.shared, Heads(4094, 100, 16384)), Transport()
        connection.connection_made(transport)
        return connection, transport

    def after(self, seconds: float) -> None:
        self.loop.now += seconds
        self.shared.tick()

    def run_until(self, holds: Callable[[], bool]) -> bool:
        def turned() -> bool:
            self.loop.run()
            return holds()

        return within(5, turned)


@pytest.fixture
def world() -> Iterable[World]:
    made = World()
    yield made
    made.app.let_go.set()
    made.shared.end_all()


def statuses(transport: Transport) -> list[int]:
    """Each write is one answer, whole."""
    for one in transport.written:
        assert re.match(rb"HTTP/1\.1 \d{3} [\s\S]+\r\n\r\n", one)
    return [int(one[9:12]) for one in transport.written]


def paths(transport: Transport) -> list[str]:
    return [path.decode() for path in re.findall(rb"X-Path: (\S+)", b"".join(transport.written))]


# ---- what comes


@pytest.mark.parametrize("sent", REQUESTS.values(), ids=REQUESTS)
def test_a_request_byte_by_byte_is_the_request(world: World, sent: str) -> None:
    """But for a refusal that comes when the head is complete or too late, not before."""
    data = sent.encode("latin-1")
    whole, pieces = world.connect(), world.connect()
    whole[0].data_received(data)
    for number in range(len(data)):
        pieces[0].data_received(data[number : number + 1])
    world.after(60)
    said = statuses(pieces[1])
    assert said == statuses(whole[1]) or (said, statuses(whole[1])[0] // 100) == ([408], 4)


FRAGMENTS = [
    PLAIN, SLOW, AGAIN.encode(), b"GET /auth HTTP/1.1\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b"\t",
    b"Host: x\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b": ",
    b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"A" * 5000, b"HTTP/1.0", b"X_A: b\r\n", b"\xff\xfe", b"POST /auth ",
    b"GET http://[x/ HTTP/1.1\r\n", b"GET /large HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n",
]  # fmt: skip
PIECES = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=40)), max_size=30)


@settings(max_examples=400, deadline=None)
@given(PIECES, st.lists(st.integers(1, 200), max_size=20))
@example([b"GET / HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n"], [])
def test_nothing_that_is_sent_gets_out_as_an_error_or_gets_a_yes_of_its_own(
    parts: list[bytes], cuts: list[int]
) -> None:
    world = World()
    world.app.let_go.set()
    connection, transport = world.connect()
    data = b"".join(parts)
    for cut in [*cuts, len(data)]:
        if data and not transport.aborted and not transport.paused:
            connection.data_received(data[:cut])
            data = data[cut:]
        world.loop.run()
    assert world.run_until(lambda: world.shared._waiting == 0)
    for _ in range(2):  # a refusal of half a request, then the end of the connection
        world.after(3600)
    yes = len(paths(transport))
    large = sum(part.count(b"x" * 10_000) for part in transport.written)
    assert statuses(transport).count(200) == yes + large
    assert yes <= world.app.yes
    assert not [one for one in world.troubles if "server failed" in one]
    assert transport.aborted
    world.shared.end_all()


@pytest.mark.parametrize("parts", [1, 2, 5, 40, 400])
def test_pipelined_requests_are_answered_in_order_and_others_have_their_turn(world: World, parts: int) -> None:
    connection, transport = world.connect()
    connection.data_received(b"".join(PLAIN.replace(b"/auth", b"/%d" % number) for number in range(parts)))
    assert len(statuses(transport)) == min(parts, limits.PIPELINED)
    while world.loop.run():
        pass
    assert paths(transport) == [f"/{number}" for number in range(parts)]


def test_a_head_that_never_ends_is_refused_and_not_kept(world: World) -> None:
    connection, transport = world.connect()
    for _ in range(40):
        connection.data_received(b"GET /" + b"a" * 2000)
    assert statuses(transport) in ([431], [414])  # by gunicorn_h1c 0.6.9, or by a later one
    assert transport.ended


# ---- how long it takes


def test_silence_after_connecting_is_hung_up_on(world: World) -> None:
    _, transport = world.connect()
    world.after(limits.FIRST_BYTE_S - 1)
    assert not transport.aborted
    world.after(2)
    assert transport.aborted
    assert transport.written == []


def test_half_a_request_is_answered_408_however_slowly_it_goes_on(world: World) -> None:
    connection, transport = world.connect()
    for number in range(12):
        if not transport.ended:
            connection.data_received(PLAIN[number : number + 1])
        world.after(limits.HEAD_S / 10)
    assert statuses(transport) == [408]
    assert b"Connection: close" in transport.written[0]


def test_an_idle_connection_is_kept_as_long_as_was_said(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(PLAIN)
    world.after(74)
    assert not transport.aborted
    world.after(2)
    assert transport.aborted


def test_who_does_not_read_gets_no_further_answers_and_is_hung_up_on(world: World) -> None:
    connection, transport = world.connect()
    connection.pause_writing()
    connection.data_received(PLAIN * 3)
    assert transport.written == []
    connection.resume_writing()
    assert statuses(transport) == [200] * 3
    connection.pause_writing()
    world.after(limits.DRAIN_S + 1)
    assert transport.aborted


def test_who_sends_on_while_not_reading_is_not_read_any_more(world: World) -> None:
    connection, transport = world.connect()
    connection.pause_writing()
    while not transport.paused:
        connection.data_received(PLAIN * 100)
    connection.resume_writing()
    assert len(statuses(transport)) == limits.PIPELINED
    while world.loop.run():
        pass
    assert not transport.paused
    assert len(statuses(transport)) % 100 == 0


def test_after_the_last_answer_what_comes_is_thrown_away_up_to_a_bound(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(PLAIN.replace(b"\r\n\r\n", b"\r\nContent-Length: 99999999\r\n\r\n"))
    assert (statuses(transport), transport.ended) == ([200], True)
    connection.data_received(b"x" * limits.THROWN_AWAY_BYTES)
    assert not transport.aborted
    connection.data_received(b"x")
    assert transport.aborted


def test_more_connections_than_fit_are_hung_up_on() -> None:
    world = World(most=2)
    made = [world.connect()[1] for _ in range(3)]
    assert [one.aborted for one in made] == [False, False, True]


def test_an_app_that_fails_is_500_and_told() -> None:
    world = World()
    world.shared.app = lambda environ, start: [b"no start"]  # an answer without a status
    connection, transport = world.connect()
    connection.data_received(PLAIN)
    assert statuses(transport) == [500]
    assert len(world.troubles) == 1


# ---- who must wait


def test_a_guess_is_thrown_away_and_the_answer_is_that_of_the_thread(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(SLOW)
    assert transport.written == []
    world.app.let_go.set()
    assert world.run_until(lambda: bool(transport.written))
    assert statuses(transport) == [200]
    assert b"X-Guess" not in transport.written[0]


@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("GET", b"yes"), ("HEAD", b""), ("HEAD", b"yes")])
def test_an_answer_names_the_type_of_its_body_and_none_where_it_has_none(method: str, body: bytes) -> None:
    def typed(_: Any, start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("content-TYPE", "text/plain"), ("X-Content-Type", "none")])
        return [body]

    head = Answer(typed, {}, method).head
    assert (b"\r\ncontent-TYPE: text/plain\r\n" in head) is (method == "HEAD" or body != b"")
    assert b"\r\nX-Content-Type: none\r\n" in head


def test_who_comes_behind_one_that_waits_is_answered_behind_it(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(PLAIN + SLOW + PLAIN.replace(b"/auth", b"/2"))
    connection.data_received(SLOW + PLAIN.replace(b"/auth", b"/3"))
    assert paths(transport) == ["/auth"]
    world.app.let_go.set()
    assert world.run_until(lambda: len(transport.written) == 5)
    assert paths(transport) == ["/auth", "/slow", "/2", "/slow", "/3"]


def test_another_connection_does_not_wait(world: World) -> None:
    world.connect()[0].data_received(SLOW)
    connection, transport = world.connect()
    connection.data_received(PLAIN)
    assert statuses(transport) == [200]


def test_nobody_is_written_to_who_has_gone_nor_asked_for(world: World) -> None:
    many = [world.connect() for _ in range(limits.LATER_THREADS + 5)]
    for connection, _ in many:
        connection.data_received(SLOW)
    assert within(5, lambda: world.app.asked_later == limits.LATER_THREADS)
    for connection, _ in many:
        connection.eof_received()
        connection.connection_lost(None)
    world.app.let_go.set()
    assert world.run_until(lambda: world.shared._waiting == 0)
    assert [transport.written for _, transport in many] == [[]] * len(many)
    assert world.app.asked_later == limits.LATER_THREADS


def test_too_many_who_wait_are_answered_503_without_a_body(world: World) -> None:
    many = [world.connect() for _ in range(limits.LATER_MOST + 3)]
    for connection, _ in many:
        connection.data_received(SLOW)
    assert [statuses(transport) for _, transport in many[-3:]] == [[503]] * 3
    assert b"Content-Length: 0\r\n" in many[-1][1].written[0]
    world.app.let_go.set()
    assert world.run_until(lambda: all(len(statuses(transport)) == 1 for _, transport in many))
    assert [statuses(transport) for _, transport in many[:-3]] == [[200]] * limits.LATER_MOST


def test_who_waits_is_not_hung_up_on_but_for_not_reading(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(SLOW)
    world.after(1000)
    connection.pause_writing()
    connection.resume_writing()
    world.after(1000)
    assert not transport.aborted


# ---- when the worker stops


def test_at_a_stop_idle_connections_have_a_moment_and_each_answer_is_the_last(world: World) -> None:
    (idle, ended), (asking, answered) = world.connect(), world.connect()
    for one in (idle, asking):
        one.data_received(PLAIN)
    world.shared.stop()
    asking.data_received(PLAIN)
    assert (statuses(answered), answered.ended) == ([200, 200], True)
    assert [b"Connection: close" in one for one in answered.written] == [False, True]
    assert not ended.aborted
    world.after(limits.LINGER_S + 0.1)
    assert ended.aborted


def test_at_a_stop_who_waits_is_answered(world: World) -> None:
    connection, transport = world.connect()
    connection.data_received(SLOW)
    world.shared.stop()
    world.after(5)
    world.app.let_go.set()
    assert world.run_until(lambda: transport.ended)
    assert statuses(transport) == [200]


def test_a_request_costs_little_python(world: World) -> None:
    """Far above what it takes, so that only a blunder fails here: the figures are made by the benchmark."""
    connection, transport = world.connect()
    started = time.process_time()
    for _ in range(2000):
        connection.data_received(PLAIN)
    assert (time.process_time() - started) / 2000 < 0.0005
    assert len(transport.written) == 2000


WITHOUT = """
import sys
sys.modules[{missing!r}] = None
from authsvc.server import worker_class
print(worker_class({wanted!r}))
"""


@pytest.mark.parametrize("missing", ["uvloop", "gunicorn_h1c"])
def test_without_what_it_needs_gthread_serves_and_it_is_said(missing: str) -> None:
    done = _without(missing, "auto")
    assert (done.returncode, done.stdout) == (0, "gthread\n")
    assert missing in done.stderr
    assert "gthread serves instead" in done.stderr


def test_who_insists_on_the_fast_worker_is_told_that_it_cannot_be_had() -> None:
    done = _without("uvloop", "fast")
    assert (done.returncode, done.stdout) == (3, "")
    assert "pip install uvloop" in done.stderr


def _without(missing: str, wanted: str) -> subprocess.CompletedProcess[str]:
    program = WITHOUT.format(missing=missing, wanted=wanted)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
