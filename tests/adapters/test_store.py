"""The store and its twin keep the same promises; trouble is always a StoreDown, soon, and passes."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from authsvc.adapters.store import RETRY_AFTER_S, TIMEOUT_S, MemcachedStore, MemoryStore, Store, StoreDown
from authsvc.demo.processes import Memcached, free_port
from helpers import Clock, in_threads, memcached_stat, paused
from waiting import within

FAST_S = 0.05


@pytest.fixture(params=["memory", "memcached"])
def store(request: pytest.FixtureRequest, address: str) -> Store:
    return MemoryStore() if request.param == "memory" else MemcachedStore([address])


@pytest.fixture
def server() -> Iterator[Memcached]:
    """A memcached of one's own, to be mistreated."""
    with Memcached() as started:
        yield started


def test_what_was_never_set_is_none(store: Store, key: str) -> None:
    assert store.get(key) is None


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"plain", id="text comes back"),
        pytest.param(b"", id="nothing at all comes back"),
        pytest.param(bytes(range(256)) + b"\r\nEND\r\nSTORED\r\n", id="bytes that look like the protocol come back"),
        pytest.param(b"x" * 300_000, id="a value of 300 kB comes back"),
    ],
)
def test_what_was_set_comes_back_whole(store: Store, key: str, value: bytes) -> None:
    store.set(key, value, 60)
    assert store.get(key) == value


def test_add_takes_a_free_key_and_only_that(store: Store, key: str) -> None:
    assert store.add(key, b"first", 60) is True
    assert store.add(key, b"second", 60) is False
    assert store.get(key) == b"first"


def test_set_replaces_what_was_there(store: Store, key: str) -> None:
    store.add(key, b"first", 60)
    store.set(key, b"second", 60)
    assert store.get(key) == b"second"


def test_incr_counts_from_nothing(store: Store, key: str) -> None:
    assert [store.incr(key, 60) for _ in range(12)] == list(range(1, 13))
    assert int(store.get(key) or 0) == 12


def test_decr_takes_one_back_and_loses_no_digit(store: Store, key: str) -> None:
    for _ in range(10):
        store.incr(key, 60)
    store.decr(key)
    assert int(store.get(key) or 0) == 9
    assert store.incr(key, 60) == 10


def test_decr_never_goes_below_zero(store: Store, key: str) -> None:
    store.incr(key, 60)
    for _ in range(3):
        store.decr(key)
    assert int(store.get(key) or b"-1") == 0
    assert store.incr(key, 60) == 1


def test_decr_of_nothing_makes_nothing(store: Store, key: str) -> None:
    store.decr(key)
    assert store.get(key) is None


def test_everything_expires_and_counting_starts_anew(store: Store, key: str) -> None:
    store.set(key, b"x", 1)
    store.add(key + "a", b"x", 1)
    store.incr(key + "i", 1)
    time.sleep(2.1)
    assert [store.get(key), store.get(key + "a"), store.get(key + "i")] == [None, None, None]
    assert store.add(key, b"y", 60) is True
    assert store.incr(key + "i", 60) == 1


def test_counting_on_does_not_make_a_counter_live_longer(store: Store, key: str) -> None:
    store.incr(key, 1)
    store.decr(key)  # also where it passed through zero
    seen = []
    for _ in range(22):
        seen.append(store.incr(key, 1))
        time.sleep(0.1)
    assert seen.count(1) >= 2


def test_fifty_threads_on_one_key_lose_no_count(store: Store, key: str) -> None:
    seen: list[int] = []
    in_threads(50, lambda _: seen.extend(store.incr(key, 60) for _ in range(20)))
    assert sorted(seen) == list(range(1, 1001))


def test_fifty_threads_on_an_expiring_key_never_share_a_count(store: Store, key: str) -> None:
    """Each life of the counter gives each of its numbers to one caller."""
    ends, seen = time.monotonic() + 2.2, []

    def count(_: int) -> None:
        while time.monotonic() < ends:
            seen.append(store.incr(key, 1))
            time.sleep(0.02)

    in_threads(50, count)
    lives = seen.count(1)
    assert 1 <= lives <= 4
    assert all(seen.count(number) <= lives for number in set(seen))
    assert len(seen) == sum(seen.count(number) for number in range(1, max(seen) + 1))


def test_one_of_fifty_threads_wins_an_add(store: Store, key: str) -> None:
    won: list[bool] = []
    in_threads(50, lambda _: won.append(store.add(key, b"x", 60)))
    assert won.count(True) == 1


@pytest.mark.parametrize(
    ("there", "old", "swaps"),
    [
        pytest.param(None, None, True, id="nothing is there and nothing is expected"),
        pytest.param(b"first", None, False, id="something is there and nothing is expected"),
        pytest.param(b"first", b"first", True, id="what is there is what is expected"),
        pytest.param(b"first", b"other", False, id="another value is there"),
        pytest.param(b"first", b"firs", False, id="a longer value is there"),
        pytest.param(None, b"first", False, id="what is expected is gone"),
        pytest.param(b"", b"", True, id="an empty value is expected and there"),
        pytest.param(b"", None, False, id="an empty value is there and nothing is expected"),
    ],
)
def test_swap_where(store: Store, key: str, there: bytes | None, old: bytes | None, swaps: bool) -> None:
    if there is not None:
        store.set(key, there, 60)
    assert store.swap(key, old, b"new", 60) is swaps
    assert store.get(key) == (b"new" if swaps else there)


def test_swap_takes_what_the_swap_before_it_left(store: Store, key: str) -> None:
    values = [None, *(b"value %d \r\n\x00" % number for number in range(5))]
    assert all(store.swap(key, old, new or b"", 60) for old, new in itertools.pairwise(values))
    assert not any(store.swap(key, old, b"late", 60) for old in values[:-1])
    assert store.get(key) == values[-1]


@pytest.mark.parametrize("old", [None, b"start"], ids=["of nothing", "of a value"])
def test_one_of_eight_threads_wins_a_swap(store: Store, key: str, old: bytes | None) -> None:
    for turn in range(20):
        at, won = f"{key}:{turn}", []
        if old is not None:
            store.set(at, old, 60)
        in_threads(8, lambda number, at=at, won=won: won.extend([number] * store.swap(at, old, b"%d" % number, 60)))
        assert len(won) == 1
        assert store.get(at) == b"%d" % won[0]


def test_a_swapped_value_expires(store: Store, key: str) -> None:
    store.set(key, b"old", 60)
    assert store.swap(key, b"old", b"new", 1)
    assert within(3, lambda: store.get(key) is None)


def test_get_many_brings_those_that_are_there(store: Store, key: str) -> None:
    there = {f"{key}:{number}": b"\r\nEND\r\n%d" % number for number in range(5)}
    for name, value in there.items():
        store.set(name, value, 60)
    assert store.get_many([*there, f"{key}:missing"]) == there
    assert store.get_many([f"{key}:missing"]) == store.get_many([]) == {}


def test_counting_what_is_no_number_is_trouble_not_a_guess(store: Store, key: str) -> None:
    store.set(key, b"junk", 60)
    with pytest.raises(StoreDown):
        store.incr(key, 60)


def test_the_memory_store_is_bounded_and_drops_the_oldest() -> None:
    store = MemoryStore(max_entries=100)
    for number in range(1000):
        store.set(f"k{number}", b"x", 60)
    kept = [number for number in range(1000) if store.get(f"k{number}") is not None]
    assert len(kept) <= 100
    assert kept == list(range(1000 - len(kept), 1000))


def test_the_memory_store_drops_the_expired_before_the_living() -> None:
    clock = Clock()
    store = MemoryStore(clock, max_entries=10)
    store.set("old", b"x", 1000)
    for number in range(9):
        store.set(f"k{number}", b"x", 1)
    clock.pass_(2)
    store.set("new", b"x", 1000)
    store.set("newer", b"x", 1000)
    assert store.get("old") == store.get("new") == b"x"


def test_the_memory_store_counts_time_by_its_clock() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    store.incr("k", 10)
    clock.pass_(9.9)
    assert store.incr("k", 10) == 2
    clock.pass_(0.2)
    assert store.incr("k", 10) == 1


# ---- trouble


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
    pytest.param(lambda s: s.decr("k"), id="decr"),
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


def test_an_outage_of_one_server_leaves_the_keys_of_the_others(server: Memcached, address: str) -> None:
    store = MemcachedStore([address, f"127.0.0.1:{server.port}"])
    keys = [f"spread:{os.getpid()}:{number}" for number in range(100)]
    for name in keys:
        store.set(name, name.encode(), 60)
    server.stop()
    served = 0
    for name in keys:
        try:
            assert store.get(name) == name.encode()
            served += 1
        except StoreDown:
            pass
    assert 20 < served < 80


def test_get_many_brings_what_the_other_servers_have_where_one_is_dead(server: Memcached, address: str) -> None:
    store = MemcachedStore([address, f"127.0.0.1:{server.port}"])
    keys = {f"many:{os.getpid()}:{number}": b"%d" % number for number in range(50)}
    for name, value in keys.items():
        store.set(name, value, 60)
    assert store.get_many(list(keys)) == keys
    server.stop()
    found = store.get_many(list(keys))
    assert found == MemcachedStore([address]).get_many(list(keys))
    assert 5 < len(found) < 45


def test_while_a_server_fails_one_call_a_second_tries_and_the_others_fail_at_once(server: Memcached) -> None:
    clock = Clock()
    store = MemcachedStore([f"127.0.0.1:{server.port}"], clock)
    with paused(server.pid):
        fails_within(TIMEOUT_S + 0.15, lambda: store.get("k"))
        for _ in range(3):
            took_s: list[float] = []
            in_threads(20, lambda _, took_s=took_s: took_s.append(seconds_to_fail(lambda: store.get("k"))))
            assert [took for took in took_s if took > TIMEOUT_S / 2] == []
            clock.pass_(RETRY_AFTER_S + 0.01)
            in_threads(20, lambda _, took_s=took_s: took_s.append(seconds_to_fail(lambda: store.get("k"))))
            assert len([took for took in took_s if took > TIMEOUT_S / 2]) == 1


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


def test_each_key_has_one_server_whatever_the_order_of_the_list(server: Memcached, address: str) -> None:
    other = f"127.0.0.1:{server.port}"
    both, turned = MemcachedStore([address, other]), MemcachedStore([other, address])
    single = [MemcachedStore([address]), MemcachedStore([other])]
    keys = [f"one:{os.getpid()}:{number}" for number in range(50)]
    for name in keys:
        assert (both.incr(name, 60), turned.incr(name, 60)) == (1, 2)
        assert [at.get(name) for at in single].count(b"2") == 1
        assert [at.get(name) for at in single].count(None) == 1
    assert 0 < sum(single[0].get(name) is None for name in keys) < 50


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
