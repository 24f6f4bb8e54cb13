"""Limits are exact across threads and processes, cheap for who waits, and say what holds in an outage."""

from __future__ import annotations

import threading
import time
from itertools import count

import pytest

from authsvc.adapters.limiter import Limiter, OnStoreError
from authsvc.adapters.store import MemcachedStore, MemoryStore, Store
from authsvc.core.model import Identity, Quota, Reason, Unavailable
from authsvc.core.ratelimit import Limits, Tier, subject, window
from authsvc.demo.processes import free_port
from helpers import CountingStore, in_threads

NOW = 1_800_000_000.0  # the first moment of an hour
HOUR = Tier("hourly", 10, 3600)
_subjects = count()


@pytest.fixture
def who() -> str:
    return f"{time.time_ns()}:{next(_subjects)}"


@pytest.fixture(params=["memory", "memcached"])
def store(request: pytest.FixtureRequest, address: str) -> Store:
    return MemoryStore() if request.param == "memory" else MemcachedStore([address])


def admitted(quota: Quota | None) -> bool:
    return quota is not None and not quota.refused


def spent(limiter: Limiter, tier: Tier, who: str, now: float) -> Quota:
    quota = limiter.spend(tier, who, now)
    assert quota is not None
    return quota


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_fifty_threads_on_two_limiters_and_one_memcached_admit_exactly_the_limit(
    address: str, who: str, limit: int
) -> None:
    limiters = [Limiter(MemcachedStore([address])) for _ in range(2)]
    tier, yes, lock = Tier("t", limit, 3600), [], threading.Lock()

    def call(number: int) -> None:
        for turn in range(6):
            if admitted(limiters[(number + turn) % 2].spend(tier, who, NOW + 5)):
                with lock:
                    yes.append(number)

    in_threads(50, call)
    assert len(yes) == limit


def test_the_answer_counts_down_to_zero_then_refuses_with_a_time_to_wait(store: Store, who: str) -> None:
    limiter = Limiter(store)
    quotas = [spent(limiter, HOUR, who, NOW + 600) for _ in range(11)]
    assert [quota.remaining for quota in quotas] == [*range(9, -1, -1), 0]
    assert [quota.refused for quota in quotas] == [False] * 10 + [True]
    assert 3000 <= quotas[-1].reset_s <= 3600


def test_a_refused_call_does_not_count(store: Store, who: str) -> None:
    for _ in range(30):  # each by a limiter that remembers nobody
        Limiter(store).spend(HOUR, who, NOW + 600)
    assert int(store.get(window(HOUR, who, NOW + 600).current) or 0) == 10


def test_a_caller_over_the_limit_costs_no_round_trip(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter = Limiter(counting)
    for _ in range(11):
        limiter.spend(HOUR, who, NOW + 600)
    counting.calls.clear()
    for _ in range(1000):
        assert spent(limiter, HOUR, who, NOW + 601).refused
    assert counting.calls == []


def test_a_caller_within_the_limit_costs_one_round_trip(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter = Limiter(counting)
    limiter.spend(HOUR, who, NOW + 600)
    assert counting.calls == ["get", "incr"]  # the closed window is asked for once
    limiter.spend(HOUR, who, NOW + 601)
    assert counting.calls == ["get", "incr", "incr"]


def test_waiting_as_long_as_retry_after_says_is_enough(store: Store, who: str) -> None:
    limiter = Limiter(store)
    tier = Tier("t", 3, 60)
    for _ in range(4):
        last = spent(limiter, tier, who, NOW + 10)
    assert last.refused
    assert spent(limiter, tier, who, NOW + 10 + last.reset_s - 1.001).refused
    assert not spent(limiter, tier, who, NOW + 10 + last.reset_s).refused


def test_the_time_to_wait_shrinks_while_waiting(store: Store, who: str) -> None:
    limiter = Limiter(store)
    tier = Tier("t", 1, 60)
    limiter.spend(tier, who, NOW)
    waits = [spent(limiter, tier, who, NOW + later).reset_s for later in (0.5, 20.5, 40.5)]
    assert waits == sorted(waits, reverse=True)
    assert min(waits) >= 1


@pytest.mark.parametrize(
    ("elapsed", "fit"),
    [
        pytest.param(0, 0, id="at its start the window before weighs whole"),
        pytest.param(900, 2, id="after a quarter it weighs three quarters"),
        pytest.param(1800, 5, id="after a half it weighs a half"),
        pytest.param(3599.9, 9, id="at its end it weighs next to nothing, rounded up"),
        pytest.param(3600, 10, id="in the window after it is forgotten"),
    ],
)
def test_the_previous_window_weighs_by_its_share(store: Store, who: str, elapsed: float, fit: int) -> None:
    first = Limiter(store)
    for _ in range(10):
        assert admitted(first.spend(HOUR, who, NOW - 1))
    fresh = Limiter(store)
    assert sum(admitted(fresh.spend(HOUR, who, NOW + elapsed)) for _ in range(20)) == fit


def test_two_issuers_equal_subjects_are_counted_apart(store: Store, who: str) -> None:
    limiter, limits, tier = Limiter(store), Limits(), Tier("t", 1, 3600)
    one, two = (subject(limits, Identity(provider, who, "", (), {"sub": who}), None) for provider in ("auth0", "okta"))
    assert admitted(limiter.spend(tier, one, NOW))
    assert admitted(limiter.spend(tier, two, NOW))
    assert not admitted(limiter.spend(tier, one, NOW))


def test_a_user_named_like_an_address_is_not_that_address(store: Store) -> None:
    limits = Limits()
    user = subject(limits, Identity("p", "10.0.0.1", "", (), {"sub": "10.0.0.1"}), None)
    assert user != subject(limits, None, "10.0.0.1")


def test_no_name_of_a_user_becomes_a_key(who: str) -> None:
    at = window(HOUR, f"id\0p\0{who}\r\nflush_all\r\n", NOW)
    assert who not in at.current + at.previous
    assert at.current.isascii()
    assert at.current.isprintable()
    assert " " not in at.current


def test_a_limit_of_nothing_admits_nobody(store: Store, who: str) -> None:
    assert not admitted(Limiter(store).spend(Tier("t", 0, 3600), who, NOW))


# ---- the store fails


def dead() -> Store:
    return MemcachedStore([f"127.0.0.1:{free_port()}"])


def test_in_an_outage_local_counts_in_the_process(who: str) -> None:
    heard: list[str] = []
    limiter = Limiter(dead(), "local", heard.append)
    assert sum(admitted(limiter.spend(HOUR, who, NOW)) for _ in range(20)) == 10
    assert set(heard) == {"store_error"}


def test_in_an_outage_allow_lets_everything_through_unlimited(who: str) -> None:
    limiter = Limiter(dead(), "allow")
    assert [limiter.spend(HOUR, who, NOW) for _ in range(20)] == [None] * 20


def test_in_an_outage_deny_decides_nothing(who: str) -> None:
    with pytest.raises(Unavailable) as caught:
        Limiter(dead(), "deny").spend(HOUR, who, NOW)
    assert caught.value.reason is Reason.LIMITS_UNAVAILABLE
    assert caught.value.retry_after_s > 0


@pytest.mark.parametrize("policy", ["local", "allow", "deny"])
def test_a_refusal_stands_where_the_store_fails_right_after_it(policy: OnStoreError, who: str) -> None:
    counting = CountingStore(MemoryStore())
    for _ in range(10):
        Limiter(counting).spend(HOUR, who, NOW)
    counting.broken = {"decr"}
    assert spent(Limiter(counting, policy), HOUR, who, NOW).refused


@pytest.mark.parametrize("policy", ["local", "allow", "deny"])
def test_who_was_told_to_wait_waits_through_an_outage(policy: OnStoreError, who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter = Limiter(counting, policy)
    for _ in range(11):
        limiter.spend(HOUR, who, NOW)
    counting.broken = {"get", "incr"}
    assert spent(limiter, HOUR, who, NOW + 1).refused


@pytest.mark.parametrize("which", ["current", "previous"])
def test_a_planted_value_that_is_no_number_is_an_outage_not_an_exception(store: Store, who: str, which: str) -> None:
    store.set(getattr(window(HOUR, who, NOW), which), b"junk", 60)
    with pytest.raises(Unavailable):
        Limiter(store, "deny").spend(HOUR, who, NOW)


def test_after_an_outage_the_store_counts_again(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter = Limiter(counting)
    counting.broken = {"get", "incr"}
    for _ in range(5):
        limiter.spend(HOUR, who, NOW)
    counting.broken = set()
    assert spent(limiter, HOUR, who, NOW).remaining == 9
