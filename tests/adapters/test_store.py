"""The store and its twin keep the same promises."""

from __future__ import annotations

import itertools
import time

import pytest

from authsvc.adapters.store import MemoryStore, Store, StoreDown
from hammer import Patient
from helpers import Clock, in_threads
from waiting import within


@pytest.fixture(params=["memory", "memcached"])
def store(request: pytest.FixtureRequest, address: str) -> Store:
    return MemoryStore() if request.param == "memory" else Patient([address])


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


def test_incr_and_decr_count_as_many_as_they_are_told(store: Store, key: str) -> None:
    assert [store.incr(key, 60, 5), store.incr(key, 60, by=7), store.incr(key, 60)] == [5, 12, 13]
    store.decr(key, 4)
    assert store.incr(key, 60) == 10
    store.decr(key, by=100)
    assert store.incr(key, 60) == 1


def test_incr_many_counts_each_by_its_own(store: Store, key: str) -> None:
    one, two, three = (f"{key}:{{same}}:{number}" for number in range(3))
    assert store.incr_many([(one, 1, 60), (two, 5, 60)]) == [1, 5]
    assert store.incr_many([(two, 5, 60), (three, 2, 60), (one, 1, 60)]) == [10, 2, 2]
    assert store.incr_many([]) == []
    assert [int(store.get(name) or 0) for name in (one, two, three)] == [2, 10, 2]


def test_incr_many_counts_one_key_as_often_as_it_is_named(store: Store, key: str) -> None:
    assert store.incr_many([(key, 1, 60), (key, 2, 60)]) == [1, 3]
    assert store.incr_many([(key, 1, 60), (key, 2, 60)]) == [4, 6]


def test_each_counter_of_incr_many_lives_as_long_as_it_is_told(store: Store, key: str) -> None:
    short, long = key + ":short", key + ":long"
    store.incr_many([(short, 1, 1), (long, 1, 60)])
    assert within(3, lambda: store.get(short) is None)
    assert store.incr_many([(short, 1, 60), (long, 1, 60)]) == [1, 2]


def test_incr_many_of_what_is_no_number_is_trouble_not_a_guess(store: Store, key: str) -> None:
    store.set(key, b"junk", 60)
    with pytest.raises(StoreDown):
        store.incr_many([(key + ":fine", 1, 60), (key, 1, 60)])


def test_threads_on_missing_counters_lose_no_count(store: Store, key: str) -> None:
    """Each turn all of them find two keys that nobody has counted, one of them twice as fast."""
    for turn in range(30):
        names, seen = [f"{key}:{{{turn}}}:{which}" for which in "ab"], []
        entries = [(names[0], 1, 60), (names[1], 2, 60)]
        in_threads(16, lambda _, seen=seen, entries=entries: seen.append(tuple(store.incr_many(entries))))
        assert sorted(one for one, _ in seen) == list(range(1, 17))
        assert sorted(two for _, two in seen) == list(range(2, 33, 2))


def test_threads_on_expiring_counters_never_count_below_what_is_real(store: Store, key: str) -> None:
    """Each life of a counter gives each of its numbers to one caller."""
    ends, seen = time.monotonic() + 2.2, []
    entries = [(f"{key}:a", 1, 1), (f"{key}:b", 1, 2)]

    def count(_: int) -> None:
        while time.monotonic() < ends:
            seen.append(store.incr_many(entries))
            time.sleep(0.02)

    in_threads(30, count)
    for column in zip(*seen, strict=True):
        lives = column.count(1)
        assert 1 <= lives <= 4
        assert all(column.count(number) <= lives for number in set(column))
        assert len(seen) == sum(column.count(number) for number in range(1, max(column) + 1))


def test_delete_takes_away_what_is_there_and_nothing_else(store: Store, key: str) -> None:
    names = [f"{key}:{number}" for number in range(4)]
    for name in names[:3]:
        store.incr(name, 60)
    store.delete([names[0], names[1], names[3]])
    store.delete([])
    assert [store.get(name) for name in names] == [None, None, b"1", None]
    assert store.incr(names[0], 60) == 1


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
