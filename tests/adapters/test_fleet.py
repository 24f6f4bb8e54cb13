"""Processes on one store count each other, tell of callers near their limits, and hear of resets; junk harms nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.adapters import fleet
from authsvc.adapters.fleet import BEAT_S, ROOM, Board, Fleet, Resets, Seen, announce_reset, board_of
from authsvc.adapters.memcached import MemcachedStore
from authsvc.adapters.store import MemoryStore, Store, StoreDown
from authsvc.core import ratelimit
from authsvc.core.model import Quota, QuotaPolicy
from authsvc.core.ratelimit import Charge, Rate, Tier
from helpers import CountingStore, in_threads

NOW = 1_800_000_000.0


@pytest.fixture(params=["memory", "memcached"])
def store(request: pytest.FixtureRequest, address: str) -> Store:
    if request.param == "memory":
        return MemoryStore()
    found = MemcachedStore([address])
    beats = [fleet._beat(int((NOW + s) // BEAT_S)) for s in range(-20, 120, 10)]
    found.delete(
        [fleet.RESETS, *beats, *(f"authsvc:top:{beat.rpartition(':')[2]}:{n}" for beat in beats for n in (1, 2, 3))]
    )
    return found


# ---- how many there are


def test_processes_count_each_other(store: Store) -> None:
    processes = [Fleet(store) for _ in range(5)]
    for process in processes:
        process.beat(NOW)
    assert [process.size for process in processes] == [1, 2, 3, 4, 5]
    for process in processes:
        process.beat(NOW + 1)
    assert {process.size for process in processes} == {5}
    assert len({process.place for process in processes}) == 5


def test_those_of_the_same_host_are_known_before_they_are_counted() -> None:
    process = Fleet(MemoryStore(), 4)
    assert process.size == 4
    process.beat(NOW)
    assert process.size == 4


def test_a_process_counts_itself_once_a_beat() -> None:
    counting = CountingStore(MemoryStore())
    process = Fleet(counting)
    for second in range(3 * BEAT_S):
        process.beat(NOW + second)
    assert counting.calls.count("incr") == 3
    assert process.size == 1


def test_at_a_new_beat_the_size_of_the_one_before_holds_on(store: Store) -> None:
    processes = [Fleet(store) for _ in range(3)]
    for process in processes:
        process.beat(NOW)
    processes[0].beat(NOW + BEAT_S)
    assert processes[0].size == 3


def test_who_is_gone_is_counted_no_more_after_two_beats(store: Store) -> None:
    processes = [Fleet(store) for _ in range(3)]
    for process in processes:
        process.beat(NOW)
    for second in range(1, 3 * BEAT_S):
        processes[0].beat(NOW + second)
    assert processes[0].size == 1


def test_while_the_store_is_down_the_size_stays_and_the_beat_is_made_up_for() -> None:
    counting = CountingStore(MemoryStore())
    processes = [Fleet(counting) for _ in range(3)]
    for process in processes:
        process.beat(NOW)
    counting.broken = {"incr"}
    with pytest.raises(StoreDown):
        processes[2].beat(NOW + BEAT_S)
    assert processes[2].size == 3
    counting.broken = set()
    processes[2].beat(NOW + BEAT_S + 1)
    assert processes[2].place == f"{int(NOW // BEAT_S) + 1}:1"


JUNK = [b"junk", b"-5", b"9" * 5000, b"1.5", b"\xff", b" ", b"999999999"]


@pytest.mark.parametrize("junk", JUNK, ids=[str(junk[:12]) for junk in JUNK])
def test_junk_for_a_size_never_raises_and_is_no_endless_fleet(store: Store, junk: bytes) -> None:
    store.set(fleet._beat(int(NOW // BEAT_S) - 1), junk, 60)
    process = Fleet(store)
    process.beat(NOW)
    assert 1 <= process.size <= fleet.MAX_SIZE
    assert board_of(store, NOW) == []


# ---- who is near his limit


def charge(who: str, tier: str = "free") -> Charge:
    return ratelimit.charge(Tier(tier, (Rate(10, 60),)), [["user", "main", who]])


def quota(remaining: int, refused: bool = False, limit: int = 10, policy: str = "free") -> Quota:
    return Quota(QuotaPolicy(policy, limit, 60), remaining, 30, refused)


def board(*entries: tuple[str, int]) -> Board:
    made = Board()
    for who, remaining in entries:
        made.sample(charge(who), [quota(remaining)], NOW)
    return made


def told(store: Store, *boards: Board, now: float = NOW) -> list[Seen]:
    """What all hear of what these processes know."""
    for made in boards:
        process = Fleet(store)
        process.beat(NOW)
        made.publish(store, process.place, NOW)
    return board_of(store, now)


def test_the_nearest_to_their_limits_come_first(store: Store) -> None:
    refused = Board()
    refused.sample(charge("over"), [quota(0, refused=True)], NOW)
    found = told(store, board(("calm", 9), ("near", 1)), board(("middle", 5), ("full", 0)), refused)
    assert [json.loads(seen.who)[0][2] for seen in found] == ["over", "full", "near", "middle", "calm"]
    assert [seen.used for seen in found] == [10, 10, 9, 5, 1]


def test_of_several_windows_the_one_nearest_to_its_end_is_told(store: Store) -> None:
    made = Board()
    made.sample(charge("ann"), [quota(5, policy="a"), quota(1, policy="b"), quota(90, limit=100, policy="c")], NOW)
    (seen,) = told(store, made)
    assert (seen.policy, seen.used, seen.limit, seen.ends_at) == ("b", 9, 10, NOW + 30)


def test_of_what_several_processes_tell_of_one_caller_the_latest_holds(store: Store) -> None:
    late = Board()
    late.sample(charge("ann"), [quota(2)], NOW + 1)
    found = told(store, board(("ann", 7)), late, board(("ann", 5)))
    assert [seen.used for seen in found] == [8]


def test_when_a_short_window_ends_the_caller_is_told_of_by_a_longer_one(store: Store) -> None:
    made = Board()
    second = Quota(QuotaPolicy("free-second", 10, 1), 0, 1, True)
    hour = Quota(QuotaPolicy("free-hour", 1000, 3600), 900, 1800)
    made.sample(charge("ann"), [second, hour], NOW)
    found = [told(store, made, now=NOW + later) for later in (0.5, 1.5, 9)]
    assert [[(seen.policy, seen.used, seen.refused) for seen in rows] for rows in found] == [
        [("free-second", 10, True)],
        [("free-hour", 100, False)],
        [("free-hour", 100, False)],
    ]


def test_of_one_window_the_latest_holds_beside_another_process_s_word_of_another_window(store: Store) -> None:
    early, late = Board(), Board()
    early.sample(charge("ann"), [quota(0, True, policy="a"), quota(5, policy="b")], NOW)
    late.sample(charge("ann"), [quota(7, policy="a"), quota(4, policy="b")], NOW + 1)
    assert [(seen.policy, seen.used, seen.refused) for seen in told(store, late, early)] == [("b", 6, False)]


def test_a_full_board_keeps_no_window_that_has_ended() -> None:
    made, store = Board(), MemoryStore()
    for number in range(2 * ROOM):
        made.sample(charge(f"gone-{number}"), [quota(0, True)], NOW - 60)
    made.sample(charge("calm"), [quota(9)], NOW)
    assert [json.loads(seen.who)[0][2] for seen in told(store, made)] == ["calm"]


def test_of_a_tier_in_shadow_it_is_told_that_the_call_passed(store: Store) -> None:
    made = Board()
    made.sample(
        ratelimit.charge(Tier("trial", (Rate(1, 60),), shadow=True), [["user", "main", "x"]]), [quota(0, True)], NOW
    )
    made.sample(charge("over"), [quota(0, True)], NOW)
    assert {(seen.tier, seen.shadow) for seen in told(store, made)} == {("trial", True), ("free", False)}


def test_a_window_that_has_ended_is_told_no_more(store: Store) -> None:
    assert told(store, board(("ann", 1)), now=NOW + 5) != []
    assert board_of(store, NOW + 31) == []


def test_a_board_is_bounded_and_keeps_who_is_nearest() -> None:
    made, store = Board(), MemoryStore()
    for number in range(1000):
        made.sample(charge(f"u-{number}"), [quota(1000 - number, limit=1000)], NOW)
        assert len(made._known) <= 2 * ROOM
    found = told(store, made)
    assert len(found) == ROOM
    assert {seen.used for seen in found} == set(range(950, 1000))


def test_a_caller_with_an_endless_name_takes_no_endless_room(store: Store) -> None:
    made = board(*((f"{number}" + "x" * 5000, 1) for number in range(ROOM)))
    assert len(told(store, made)) == ROOM
    assert all(len(seen.who) <= 300 for seen in board_of(store, NOW))


def test_threads_sample_and_publish_at_once() -> None:
    made, store = Board(), MemoryStore()

    def act(thread: int) -> None:
        for number in range(300):
            made.sample(charge(f"{thread}:{number}"), [quota(number % 10)], NOW)
            made.publish(store, f"1:{thread}", NOW)

    in_threads(8, act)
    assert len(made._known) <= 2 * ROOM + 8


# ---- junk


GOOD = {
    "who": "[]", "tier": "t", "policy": "p", "used": 1, "limit": 2, "window_s": 60, "at": NOW, "ends_at": NOW + 9,
    "refused": False,
}  # fmt: skip


def planted(text: bytes) -> list[Seen]:
    store = MemoryStore()
    Fleet(store).beat(NOW)
    store.set(f"authsvc:top:{int(NOW // BEAT_S)}:1", text, 60)
    return board_of(store, NOW)


def test_what_is_well_made_is_shown() -> None:
    assert planted(json.dumps([GOOD]).encode()) == [Seen(**GOOD)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"used": 10**400},
        {"limit": -(10**400)},
        {"window_s": 10**400},
        {"ends_at": 10**400},
        {"ends_at": float("inf")},
        {"ends_at": float("nan")},
        {"at": float("-inf")},
        {"used": True},
        {"used": 1.5},
        {"who": None},
        {"tier": ["t"]},
        {"at": "now"},
        {"more": 1},
        {"refused": "x" * 9},
        {"refused": 1},
        {"shadow": "no"},
    ],
    ids=str,
)
def test_what_no_process_tells_is_left_out(changes: dict[str, Any]) -> None:
    assert planted(json.dumps([{**GOOD, **changes}]).encode()) == []


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(NOW + 5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
entries = st.lists(st.fixed_dictionaries({name: values | st.just(value) for name, value in GOOD.items()}) | values)
junk = (
    st.binary(max_size=60)
    | values.map(lambda v: json.dumps(v).encode())
    | entries.map(lambda v: json.dumps(v).encode())
)


@settings(max_examples=300)
@given(junk)
def test_junk_of_any_kind_never_raises(text: bytes) -> None:
    store = MemoryStore()
    assert all(isinstance(seen, Seen) for seen in planted(text))
    store.set(fleet.RESETS, text, 60)
    assert isinstance(Resets().news(store), set)
    announce_reset(store, ["s"], NOW)
    assert "s" in Resets().news(store)


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe", b"null"])
def test_hostile_junk_never_raises(text: bytes) -> None:
    assert planted(text) == []
    store = MemoryStore()
    store.set(fleet.RESETS, text, 60)
    assert Resets().news(store) == set()


# ---- resets


def test_a_reset_reaches_every_process_once(store: Store) -> None:
    processes = [Resets() for _ in range(3)]
    assert [process.news(store) for process in processes] == [set()] * 3
    announce_reset(store, ["a", "b"], NOW)
    assert [process.news(store) for process in processes] == [{"a", "b"}] * 3
    assert [process.news(store) for process in processes] == [set()] * 3
    announce_reset(store, ["b", "c"], NOW + 1)
    assert [process.news(store) for process in processes] == [{"b", "c"}] * 3


def test_resets_are_remembered_for_a_while_and_no_longer(store: Store) -> None:
    announce_reset(store, ["a"], NOW)
    announce_reset(store, ["b"], NOW + fleet.RESET_KEPT_S - 1)
    assert Resets().news(store) == {"a", "b"}
    announce_reset(store, ["c"], NOW + fleet.RESET_KEPT_S + 1)
    assert Resets().news(store) == {"b", "c"}


def test_resets_are_bounded(store: Store) -> None:
    announce_reset(store, [f"{number:032}" for number in range(3 * fleet.MAX_RESETS)], NOW)
    assert len(Resets().news(store)) == fleet.MAX_RESETS


def test_resets_announced_at_once_are_all_heard(store: Store) -> None:
    in_threads(8, lambda number: announce_reset(store, [f"s-{number}"], NOW + number / 100))
    assert Resets().news(store) == {f"s-{number}" for number in range(8)}


@pytest.mark.parametrize(
    "act",
    [lambda store: announce_reset(store, ["a"], NOW), lambda store: Resets().news(store)],
    ids=["announcing", "hearing"],
)
def test_where_the_store_is_down_a_reset_says_so(act: Callable[[Store], object]) -> None:
    counting = CountingStore(MemoryStore())
    counting.broken = {"get"}
    with pytest.raises(StoreDown):
        act(counting)
