"""One memcached in trouble: whatever becomes of it is a StoreDown, soon, and passes."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from authsvc.adapters.connection import TIMEOUT_S
from authsvc.adapters.memcached import RETRY_AFTER_S, MemcachedStore
from authsvc.adapters.store import Store, StoreDown
from authsvc.demo.processes import Memcached, free_port
from helpers import Clock, in_threads, memcached_stat, paused
from hostile import Hostile, says
from waiting import within

pytestmark = pytest.mark.alone

FAST_S = 0.9 * TIMEOUT_S  # whoever waits for a server that hangs takes longer, and else hardly anything does


@pytest.fixture
def server() -> Iterator[Memcached]:
    """A memcached of one's own, to be mistreated."""
    with Memcached() as started:
        yield started


def fails_within(seconds: float, act: Callable[[], object]) -> None:
    assert seconds_to_fail(act) < seconds


def seconds_to_fail(act: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(StoreDown):
        act()
    return time.monotonic() - started


@contextmanager
def listener(answer: bytes | None) -> Iterator[int]:
    """Something that is no memcached: answers each call with `answer`, or hangs up where that is None."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    conn, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=talk, args=(conn,), daemon=True).start()

        def talk(conn: socket.socket) -> None:
            with conn:
                while conn.recv(65536) and answer is not None:
                    conn.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


OPERATIONS = [
    pytest.param(lambda s: s.get("k"), id="get"),
    pytest.param(lambda s: s.set("k", b"v", 60), id="set"),
    pytest.param(lambda s: s.add("k", b"v", 60), id="add"),
    pytest.param(lambda s: s.swap("k", None, b"v", 60), id="swap with nothing"),
    pytest.param(lambda s: s.swap("k", b"u", b"v", 60), id="swap"),
    pytest.param(lambda s: s.incr("k", 60), id="incr"),
    pytest.param(lambda s: s.incr_many([("k", 1, 60), ("l", 1, 60)]), id="incr many"),
    pytest.param(lambda s: s.decr("k"), id="decr"),
    pytest.param(lambda s: s.delete(["k", "l"]), id="delete"),
]


@pytest.mark.parametrize("act", OPERATIONS)
def test_where_nobody_listens_every_call_is_store_down(act: Callable[[Store], object]) -> None:
    store = MemcachedStore([f"127.0.0.1:{free_port()}"])
    fails_within(TIMEOUT_S + 0.1, lambda: act(store))


ANSWERS = pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="a web server"),
        pytest.param(b"SERVER_ERROR out of memory\r\n", id="a full memcached"),
        pytest.param(b"\x00\xff\x00\xff\r\n", id="noise"),
        pytest.param(b"VALUE k 0 99999999\r\n", id="a length that never comes"),
        pytest.param(None, id="a server that hangs up"),
    ],
)


@pytest.mark.parametrize("act", OPERATIONS)
@ANSWERS
def test_what_is_no_memcached_is_store_down(answer: bytes | None, act: Callable[[Store], object]) -> None:
    with listener(answer) as port:
        store = MemcachedStore([f"127.0.0.1:{port}"])
        fails_within(3 * TIMEOUT_S + 0.1, lambda: act(store))


@ANSWERS
def test_of_what_is_no_memcached_get_many_brings_nothing(answer: bytes | None) -> None:
    with listener(answer) as port:
        started = time.monotonic()
        assert MemcachedStore([f"127.0.0.1:{port}"]).get_many(["k", "l"]) == {}
        assert time.monotonic() - started < 3 * TIMEOUT_S + 0.1


def test_a_path_that_is_no_socket_is_store_down() -> None:
    fails_within(FAST_S, lambda: MemcachedStore(["/nowhere/memcached.sock"]).get("k"))


def test_a_unix_socket_works_like_a_port(tmp_path_factory: pytest.TempPathFactory, server: Memcached) -> None:
    path = str(tmp_path_factory.mktemp("m") / "s")
    relay = socket.socket(socket.AF_UNIX)
    relay.bind(path)
    relay.listen()

    def serve() -> None:
        conn, _ = relay.accept()
        with conn, socket.create_connection(("127.0.0.1", server.port)) as behind:
            while data := conn.recv(65536):
                behind.sendall(data)
                conn.sendall(behind.recv(65536))

    threading.Thread(target=serve, daemon=True).start()
    assert MemcachedStore([f"unix:{path}"]).incr("k", 60) == 1
    relay.close()


def test_a_hanging_server_costs_one_timeout_then_nothing_then_comes_back(server: Memcached) -> None:
    clock = Clock()
    store = MemcachedStore([f"127.0.0.1:{server.port}"], clock)
    assert store.incr("a", 60) == 1
    store.set("b", b"100", 60)
    with paused(server.pid):
        fails_within(TIMEOUT_S + 0.15, lambda: store.incr("a", 60))
        for _ in range(100):
            fails_within(FAST_S, lambda: store.get("b"))
    fails_within(FAST_S, lambda: store.get("b"))
    clock.pass_(RETRY_AFTER_S + 0.01)
    assert store.get("b") == b"100"  # and not the late answer to what was asked before
    assert store.incr("a", 60) in (2, 3)


def test_a_server_that_died_and_was_started_again_serves_again(server: Memcached) -> None:
    clock = Clock()
    store = MemcachedStore([f"127.0.0.1:{server.port}"], clock)
    store.incr("a", 60)
    server.stop()
    fails_within(TIMEOUT_S + 0.1, lambda: store.incr("a", 60))
    server.start()
    fails_within(FAST_S, lambda: store.incr("a", 60))
    clock.pass_(RETRY_AFTER_S + 0.01)
    assert store.incr("a", 60) == 1


def test_while_a_server_fails_one_call_a_second_tries_and_the_others_fail_at_once(server: Memcached) -> None:
    clock = Clock()
    store = MemcachedStore([f"127.0.0.1:{server.port}"], clock)
    with paused(server.pid):
        fails_within(TIMEOUT_S + 0.15, lambda: store.get("k"))
        for _ in range(3):
            took_s: list[float] = []
            in_threads(20, lambda _, took_s=took_s: took_s.append(seconds_to_fail(lambda: store.get("k"))))
            assert [took for took in took_s if took > FAST_S] == []
            clock.pass_(RETRY_AFTER_S + 0.01)
            in_threads(20, lambda _, took_s=took_s: took_s.append(seconds_to_fail(lambda: store.get("k"))))
            assert len([took for took in took_s if took > FAST_S]) == 1


def test_a_server_that_is_back_is_there_for_every_thread_at_once(server: Memcached) -> None:
    clock = Clock()
    store = MemcachedStore([f"127.0.0.1:{server.port}"], clock)
    with paused(server.pid):
        fails_within(TIMEOUT_S + 0.15, lambda: store.incr("another", 60))
    clock.pass_(RETRY_AFTER_S + 0.01)
    store.set("k", b"100", 60)  # the one that tries
    seen: list[int] = []
    in_threads(20, lambda _: seen.append(store.incr("k", 60)))
    assert sorted(seen) == list(range(101, 121))


def test_a_forked_child_uses_a_socket_of_its_own(server: Memcached) -> None:
    store = MemcachedStore([f"127.0.0.1:{server.port}"])
    store.incr("parent", 60)
    before = memcached_stat(server.port, "total_connections")
    child = os.fork()
    if child == 0:
        counted = [store.incr("child", 60) for _ in range(300)]
        os._exit(0 if counted == list(range(1, 301)) else 1)
    counted = [store.incr("parent", 60) for _ in range(300)]
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert counted == list(range(2, 302))
    assert memcached_stat(server.port, "total_connections") - before >= 2  # the child's, and this question's


def test_a_refused_request_is_told_and_leaves_the_server_in_use(memcached: Memcached) -> None:
    store = MemcachedStore([f"127.0.0.1:{memcached.port}"])
    store.set("word", b"not a number", 60)
    with pytest.raises(StoreDown):
        store.incr("word", 60)
    with pytest.raises(StoreDown):
        store.set("large", b"x" * 2_000_000, 60)
    assert store.incr("fine", 60) == 1


def talks(answer: Callable[[socket.socket], None]) -> tuple[MemcachedStore, socket.socket]:
    """A store at a server that answers every request in this way."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                conn, _ = listener.accept()
                conn.recv(65536)
                answer(conn)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    return MemcachedStore([f"127.0.0.1:{listener.getsockname()[1]}"]), listener


def test_a_server_that_drips_holds_a_call_no_longer_than_the_timeout() -> None:
    def drip(conn: socket.socket) -> None:
        for byte in b"VALUE k 0 100\r\n" + b"x" * 100:
            conn.sendall(bytes([byte]))
            time.sleep(0.05)

    store, listener = talks(drip)
    with listener:
        fails_within(TIMEOUT_S + 0.15, lambda: store.get("k"))


def test_a_server_that_floods_fills_no_memory() -> None:
    sent = 0

    def flood(conn: socket.socket) -> None:
        nonlocal sent
        conn.sendall(b"VALUE k 0 8000000000\r\n")
        while True:
            sent += conn.send(b"x" * 65536)

    store, listener = talks(flood)
    with listener:
        fails_within(TIMEOUT_S + 0.3, lambda: store.get("k"))
    assert sent < 40_000_000  # what was read is less: buffers of the kernel hold some


def test_a_server_that_was_started_again_between_two_calls_fails_none(server: Memcached) -> None:
    store = MemcachedStore([f"127.0.0.1:{server.port}"])
    in_threads(4, lambda _: [store.incr("k", 60) for _ in range(20)])  # so that it keeps several connections
    server.stop()
    server.start()
    assert [store.incr("k", 60) for _ in range(10)] == list(range(1, 11))


def test_a_server_that_hangs_up_after_each_answer_is_connected_to_anew() -> None:
    with Hostile(says(b"7\r\n"), None, b"\r\n") as server:
        store = MemcachedStore([f"127.0.0.1:{server.port}"])
        assert [store.incr("k", 60) for _ in range(3)] == [7, 7, 7]


def test_a_name_with_several_addresses_is_served_by_the_one_that_listens(memcached: Memcached) -> None:
    assert MemcachedStore([f"localhost:{memcached.port}"]).get("nothing") is None


def test_a_store_that_is_no_longer_used_keeps_no_connection(server: Memcached) -> None:
    store = MemcachedStore([f"127.0.0.1:{server.port}"])
    store.incr("k", 60)
    with_it = memcached_stat(server.port, "curr_connections")
    del store
    gc.collect()
    assert within(5, lambda: memcached_stat(server.port, "curr_connections") == with_it - 1)


def test_a_large_value_to_a_server_that_does_not_read_takes_one_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = MemcachedStore([f"127.0.0.1:{silent.getsockname()[1]}"])
        # a busy machine takes a while to copy that much; a timeout for each piece would be minutes
        fails_within(20 * TIMEOUT_S, lambda: store.set("k", b"x" * 50_000_000, 60))
