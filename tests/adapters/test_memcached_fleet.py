"""Several memcached: each key has its place, one that fails loses only its own keys, and comes back."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from authsvc.adapters.connection import TIMEOUT_S
from authsvc.adapters.memcached import RETRY_AFTER_S, MemcachedStore, place_of
from authsvc.adapters.store import MemoryStore, StoreDown
from authsvc.demo.processes import Memcached, free_port
from helpers import Clock, Patient, in_threads, paused
from hostile import Relay
from waiting import within

pytestmark = pytest.mark.alone

LATER_S = RETRY_AFTER_S + 0.01


class Fleet:
    """Three memcached, and a store on all of them."""

    def __init__(self, servers: list[Memcached]) -> None:
        self.servers, self.clock = servers, Clock()
        self.addresses = [f"127.0.0.1:{server.port}" for server in servers]
        self.store = Patient(self.addresses, self.clock)

    def home(self, key: str) -> Memcached:
        """The one server that has this key."""
        (found,) = (server for server in self.servers if single(server).get_many([key]))
        return found

    def held(self, key: str) -> list[bytes]:
        """What the servers that answer have for this key."""
        return [value for server in self.servers for value in single(server).get_many([key]).values()]


def single(server: Memcached) -> MemcachedStore:
    return Patient([f"127.0.0.1:{server.port}"])


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with ExitStack() as started:
        yield Fleet([started.enter_context(Memcached()) for _ in range(3)])


@pytest.mark.parametrize(
    ("key", "place"),
    [
        pytest.param("authsvc:rate:{ab12}:60:99", "ab12", id="the text in braces"),
        pytest.param("{a}{b}", "a", id="the first text in braces"),
        pytest.param("plain:key", "plain:key", id="the whole key without braces"),
        pytest.param("{}:key", "{}:key", id="the whole key where the braces are empty"),
        pytest.param("open{ab12", "open{ab12", id="the whole key where the brace stays open"),
        pytest.param("}ab{12}", "12", id="what stands in braces after a stray one"),
    ],
)
def test_the_place_of_a_key_is(key: str, place: str) -> None:
    assert place_of(key) == place


def test_keys_with_the_same_text_in_braces_lie_on_one_server(fleet: Fleet) -> None:
    homes = []
    for number in range(30):
        keys = [f"{{{number}}}:60:99", f"rate:{{{number}}}:3600:77", f"{{{number}}}"]
        fleet.store.incr_many([(key, 1, 60) for key in keys])
        assert len({fleet.home(key).port for key in keys}) == 1
        homes.append(fleet.home(keys[0]).port)
    assert len(set(homes)) == 3


def test_each_key_has_one_server_whatever_the_order_of_the_list(fleet: Fleet) -> None:
    turned = Patient(fleet.addresses[::-1])
    for number in range(50):
        assert (fleet.store.incr(f"one:{number}", 60), turned.incr(f"one:{number}", 60)) == (1, 2)
        assert fleet.held(f"one:{number}") == [b"2"]


def test_a_server_more_takes_keys_and_moves_none_among_the_others(fleet: Fleet) -> None:
    two = Patient(fleet.addresses[:2])
    keys = [f"moved:{number}" for number in range(100)]
    for key in keys:
        two.set(key, b"x", 60)
    gone = [key for key in keys if fleet.store.get(key) is None]
    assert 15 < len(gone) < 55
    assert all(fleet.store.get(key) == b"x" for key in keys if key not in gone)


def test_where_one_is_killed_under_load_only_its_keys_lose_their_counts(fleet: Fleet) -> None:
    store = Patient(fleet.addresses)
    keys = [f"{{{number}}}:load" for number in range(40)]
    assert all(store.incr(key, 600) == 1 for key in keys)
    victim = fleet.servers[1]
    lost = {key for key in keys if fleet.home(key) is victim}
    ends, seen = time.monotonic() + 2.5, list[tuple[str, int]]()

    def count(number: int) -> None:
        for key in itertools.cycle(keys[number:] + keys[:number]):
            if time.monotonic() > ends:
                return
            seen.append((key, store.incr(key, 600) if number % 2 else store.incr_many([(key, 1, 600)])[0]))

    killer = threading.Timer(0.7, victim.stop)
    killer.start()
    in_threads(8, count)  # which raises what any of them met
    killer.join()
    assert lost
    assert lost != set(keys)
    for key in keys:
        values = [value for name, value in seen if name == key]
        if key in lost:
            assert values.count(1) == 1  # it began anew, once, and no number of one life came twice
            assert max(Counter(values).values()) == 2
        else:
            assert sorted(values) == list(range(2, len(values) + 2))


def test_a_killed_server_gets_its_keys_back_when_it_runs_again(fleet: Fleet) -> None:
    keys = [f"back:{number}" for number in range(30)]
    for key in keys:
        fleet.store.incr(key, 60, 10)
    victim = fleet.servers[0]
    lost = [key for key in keys if fleet.home(key) is victim]
    victim.stop()
    assert {fleet.store.incr(key, 60) for key in lost} == {1}
    assert len({fleet.home(key).port for key in keys}) == 2
    victim.start()
    assert {fleet.store.incr(key, 60) for key in lost} == {2}  # left alone for a second
    fleet.clock.pass_(LATER_S)
    assert {fleet.store.incr(key, 60) for key in lost} == {1}
    assert all(single(victim).get(key) == b"1" for key in lost)
    assert {fleet.store.incr(key, 60) for key in keys if key not in lost} == {11}


def test_a_server_that_stands_still_costs_one_timeout_and_no_call(fleet: Fleet) -> None:
    store = MemcachedStore(fleet.addresses, fleet.clock)
    keys = [f"still:{number}" for number in range(60)]
    for key in keys:
        store.incr(key, 60, 10)
    victim = fleet.servers[2]
    lost = [key for key in keys if fleet.home(key) is victim]
    with paused(victim.pid):
        for _ in range(2):
            started = time.monotonic()
            for key in keys:
                store.incr(key, 60)
            assert time.monotonic() - started < TIMEOUT_S + 0.25
            fleet.clock.pass_(LATER_S)
    for key in lost:
        counted = store.incr(key, 60)
        assert counted in (11, 12, 13)  # its own count, with what reached it while it stood; never the sum with 2
        assert int(store.get(key) or 0) in range(counted, 14)  # some of that may reach it only now
        assert within(2, lambda key=key: sorted(fleet.held(key)) == sorted([b"2", store.get(key)]))  # type: ignore[misc]


def test_what_fails_goes_to_all_the_others(fleet: Fleet) -> None:
    fleet.servers[0].stop()
    keys = [f"{number}" for number in range(120)]
    for key in keys:
        fleet.store.set(key, b"x", 60)
    homes = Counter(fleet.home(key).port for key in keys)
    assert all(35 < homes[server.port] < 85 for server in fleet.servers[1:])


def test_all_operations_go_on_where_a_server_is_dead(fleet: Fleet) -> None:
    fleet.servers[0].stop()
    for number in range(20):
        key = f"any:{number}"
        assert fleet.store.get(key) is None
        assert fleet.store.add(key, b"1", 60) is True
        assert fleet.store.add(key, b"2", 60) is False
        assert fleet.store.swap(key, b"1", b"5", 60) is True
        fleet.store.decr(key, 2)
        assert fleet.store.incr(key, 60) == 4
        fleet.store.set(key, b"9", 60)
        assert fleet.store.get_many([key, "other"]) == {key: b"9"}
        fleet.store.delete([key])
        assert fleet.store.swap(key, None, b"new", 60) is True
        assert fleet.held(key) == [b"new"]


@pytest.mark.parametrize("known", [False, True], ids=["found out by the call", "known before"])
def test_many_keys_at_once_go_on_where_a_server_is_dead(fleet: Fleet, known: bool) -> None:
    keys = [f"many:{number}" for number in range(50)]
    entries = [(key, number + 1, 60) for number, key in enumerate(keys)]
    first = fleet.store.incr_many(entries)
    assert first == list(range(1, 51))
    victim = fleet.servers[1]
    lost = {key for key in keys if fleet.home(key) is victim}
    victim.stop()
    if known:
        fleet.store.get(min(lost))
    assert fleet.store.get_many(keys) == {key: b"%d" % by for key, by, _ in entries if key not in lost}
    assert fleet.store.incr_many(entries) == [by if key in lost else by * 2 for key, by, _ in entries]
    fleet.store.delete(keys)
    assert fleet.store.get_many(keys) == {}


def test_where_all_are_down_it_says_so_of_each(fleet: Fleet) -> None:
    for server in fleet.servers:
        server.stop()
    for _ in range(2):
        with pytest.raises(StoreDown) as trouble:
            fleet.store.incr("k", 60)
        assert all(f"memcached at {address}" in str(trouble.value) for address in fleet.addresses)
        assert str(trouble.value).count("connection refused") == 3
        with pytest.raises(StoreDown):
            fleet.store.incr_many([("k", 1, 60), ("l", 1, 60)])
        assert fleet.store.get_many(["k", "l"]) == {}


def test_a_server_that_refuses_one_request_keeps_the_key(fleet: Fleet) -> None:
    for number in range(10):
        key = f"refused:{number}"
        fleet.store.set(key, b"word", 60)
        with pytest.raises(StoreDown, match="refused the request"):
            fleet.store.incr(key, 60)
        with pytest.raises(StoreDown, match="refused the request"):
            fleet.store.incr_many([(key, 1, 60)])
        assert fleet.held(key) == [b"word"]
        with pytest.raises(StoreDown, match="refused the request"):
            fleet.store.set(key + "large", b"x" * 2_000_000, 60)
        assert fleet.held(key + "large") == []


def test_counters_of_one_place_take_one_round_trip(fleet: Fleet) -> None:
    with Relay(fleet.servers[0].port) as one, Relay(fleet.servers[1].port) as two:
        store = Patient([f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"])
        entries = [("rate:{ab12}:3600:77", 1, 7200), ("rate:{ab12}:60:99", 3, 120)]
        assert store.incr_many(entries) == [1, 3]
        assert [len(one.sent), len(two.sent)] in ([2, 0], [0, 2])  # incr, and what is missing is added
        assert store.incr_many(entries) == [2, 6]
        used = one if one.sent else two
        assert used.sent[2:] == [b"incr rate:{ab12}:3600:77 1\r\nincr rate:{ab12}:60:99 3\r\n"]
        assert store.incr("rate:{ab12}:60:99", 120) == 7
        assert used.sent[3:] == [b"incr rate:{ab12}:60:99 1\r\n"]


def test_each_server_is_asked_once_for_all_of_its_keys(fleet: Fleet) -> None:
    with Relay(fleet.servers[0].port) as one, Relay(fleet.servers[1].port) as two:
        store = Patient([f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"])
        entries = [(f"spread:{number}", 1, 60) for number in range(20)]
        store.incr_many(entries)
        before = len(one.sent), len(two.sent)
        assert store.incr_many(entries) == [2] * 20
        assert len(store.get_many([key for key, _, _ in entries])) == 20
        store.delete([key for key, _, _ in entries])
        assert (len(one.sent) - before[0], len(two.sent) - before[1]) == (3, 3)


def test_a_fleet_that_restarts_one_by_one_fails_no_call(fleet: Fleet) -> None:
    store, over, failed = Patient(fleet.addresses), threading.Event(), list[StoreDown]()

    def count() -> None:
        for number in itertools.cycle(range(30)):
            if over.is_set():
                return
            try:
                store.incr(f"rolling:{number}", 60)
            except StoreDown as trouble:
                failed.append(trouble)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for server in fleet.servers:
        server.stop()
        server.start()
        assert within(3, lambda at=server: single(at).add("k", b"", 1))  # type: ignore[misc]
        time.sleep(LATER_S)
    over.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_which_server_is_out_of_reach_is_told_with_the_reason() -> None:
    with Memcached() as well:
        gone = f"127.0.0.1:{free_port()}"
        store = Patient([f"127.0.0.1:{well.port}", gone])
        for number in range(20):
            store.incr(f"told-{number}", 60)
        (text,) = store.failing()
        assert gone in text
    assert MemoryStore().failing() == []
