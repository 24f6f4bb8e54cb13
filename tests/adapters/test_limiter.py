"""Limits are exact across threads and processes, cheap for who calls often or waits, and hold in an outage as said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from itertools import count

import pytest

from authsvc.adapters import limiter as limiter_module
from authsvc.adapters.limiter import IDLE_S, Limiter, OnStoreError, _Wait
from authsvc.adapters.memcached import MemcachedStore
from authsvc.adapters.store import Entry, MemoryStore, Store
from authsvc.core import ratelimit, window
from authsvc.core.model import Identity, Quota, QuotaPolicy, Reason, Unavailable
from authsvc.core.ratelimit import Charge, Limits, Rate, Spending, Tier
from authsvc.demo.processes import free_port
from hammer import Patient
from helpers import CountingStore, in_threads

NOW = 1_800_000_000.0  # the first moment of an hour
HOUR = Rate(10, 3600)
BUSY = Rate(10_000, 3600)  # as many as 100 may be reserved at once
_subjects = count()


@pytest.fixture
def who() -> str:
    return f"{time.time_ns()}:{next(_subjects)}"


@pytest.fixture(params=["memory", "memcached"])
def store(request: pytest.FixtureRequest, address: str) -> Store:
    return MemoryStore() if request.param == "memory" else Patient([address])


def shared() -> CountingStore:
    """As if it were memcached, so that there are leases; it says how often it was asked."""
    counting = CountingStore(MemoryStore())
    counting.shared = True
    return counting


def call(who: str, *rates: Rate, cost: int = 1, name: str = "t") -> Charge:
    return Charge(Tier(name, rates), who, who, cost)


def admitted(quotas: Sequence[Quota]) -> bool:
    return bool(quotas) and window.refused(quotas) is None


def passes(limiter: Limiter, charge: Charge, now: float, times: int = 1) -> int:
    return sum(admitted(limiter.spend(charge, now)) for _ in range(times))


def one(limiter: Limiter, charge: Charge, now: float) -> Quota:
    (quota,) = limiter.spend(charge, now)
    return quota


def counts(store: Store, charge: Charge, now: float) -> list[int]:
    found = [store.get(window.window(rate, charge.subject, now).current) for rate in charge.tier.rates]
    return [int(text or 0) for text in found]


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_fifty_threads_on_two_limiters_and_one_memcached_admit_exactly_the_limit(
    address: str, who: str, limit: int
) -> None:
    limiters = [Limiter(Patient([address])) for _ in range(2)]
    charge, yes, lock = call(who, Rate(limit)), [], threading.Lock()

    def act(number: int) -> None:
        for turn in range(6):
            if admitted(limiters[(number + turn) % 2].spend(charge, NOW + 5)):
                with lock:
                    yes.append(number)

    in_threads(50, act)
    assert len(yes) == limit


def test_the_answer_counts_down_to_zero_then_refuses_with_a_time_to_wait(store: Store, who: str) -> None:
    limiter = Limiter(store)
    quotas = [one(limiter, call(who, HOUR), NOW + 600) for _ in range(11)]
    assert [quota.remaining for quota in quotas] == [*range(9, -1, -1), 0]
    assert [quota.refused for quota in quotas] == [False] * 10 + [True]
    assert 3000 <= quotas[-1].reset_s <= 3601


def test_a_refused_call_does_not_count(store: Store, who: str) -> None:
    for _ in range(30):  # each by a limiter that remembers nobody
        Limiter(store).spend(call(who, HOUR), NOW + 600)
    assert counts(store, call(who, HOUR), NOW + 600) == [10]


def test_a_caller_within_the_limit_costs_one_round_trip(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter = Limiter(counting)
    limiter.spend(call(who, HOUR), NOW + 600)
    assert counting.calls == ["get", "incr_many"]  # the closed window is asked for once
    limiter.spend(call(who, HOUR), NOW + 601)
    assert counting.calls == ["get", "incr_many", "incr_many"]


def test_waiting_as_long_as_retry_after_says_is_enough(store: Store, who: str) -> None:
    limiter, charge = Limiter(store), call(who, Rate(3, 60))
    passes(limiter, charge, NOW + 10, 3)
    last = one(limiter, charge, NOW + 10)
    assert last.refused
    assert one(limiter, charge, NOW + 10 + last.reset_s - 1.001).refused
    assert not one(limiter, charge, NOW + 10 + last.reset_s).refused


def test_the_time_to_wait_shrinks_while_waiting_and_is_never_too_short(store: Store, who: str) -> None:
    limiter, charge = Limiter(store), call(who, Rate(1, 60))
    limiter.spend(charge, NOW)
    waits = [(later, one(limiter, charge, NOW + later).reset_s) for later in (0.5, 0.5, 0.75, 1.5, 20.5, 20.6, 40.5)]
    assert all(later + wait >= 120 for later, wait in waits)
    assert all(later + wait < 121.5 for later, wait in waits)


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
    assert passes(Limiter(store), call(who, HOUR), NOW - 1, 10) == 10
    assert passes(Limiter(store), call(who, HOUR), NOW + elapsed, 20) == fit


def test_two_issuers_equal_subjects_are_counted_apart(store: Store, who: str) -> None:
    limiter, limits = Limiter(store), Limits((Tier("t", (Rate(1),)),))
    auth0, okta = (
        ratelimit.charges(limits, [Spending()], Identity(provider, who, "", (), {"sub": who}), None)[0]
        for provider in ("auth0", "okta")
    )
    assert [passes(limiter, charge, NOW) for charge in (auth0, okta, auth0)] == [1, 1, 0]


@pytest.mark.parametrize("rates", [(Rate(0),), (HOUR, Rate(0, 60))])
def test_a_limit_of_nothing_admits_nobody(store: Store, who: str, rates: tuple[Rate, ...]) -> None:
    assert passes(Limiter(store), call(who, *rates), NOW) == 0


@pytest.mark.parametrize("days", [14, 15, 30, 31, 365])
def test_a_long_period_counts_like_a_short_one(store: Store, who: str, days: int) -> None:
    """memcached takes a time to live of more than 30 days for a date."""
    charge = call(who, Rate(3, days * 86400))
    assert passes(Limiter(store), charge, NOW, 9) == 3
    assert passes(Limiter(store), charge, NOW + 86400) == 0
    assert counts(store, charge, NOW) == [3]


# ---- costs and several windows


@pytest.mark.parametrize(
    ("limit", "cost", "fit", "counted"), [(10, 1, 10, 10), (10, 3, 3, 9), (10, 10, 1, 10), (10, 11, 0, 0), (0, 5, 0, 0)]
)
def test_a_call_counts_as_many_as_it_costs_or_nothing(
    store: Store, who: str, limit: int, cost: int, fit: int, counted: int
) -> None:
    charge = call(who, Rate(limit), cost=cost)
    assert passes(Limiter(store), charge, NOW, 20) == fit
    assert counts(store, charge, NOW) == [counted]


def test_where_a_dear_call_does_not_fit_a_cheap_one_may(store: Store, who: str) -> None:
    limiter = Limiter(store)
    dear, cheap = call(who, HOUR, cost=4), call(who, HOUR)
    assert passes(limiter, dear, NOW, 3) == 2
    assert limiter.spend(dear, NOW)[0].remaining == 2
    assert passes(limiter, cheap, NOW, 3) == 2
    assert passes(limiter, dear, NOW + 1) == 0


@pytest.mark.parametrize("cost", [1, 2])
def test_all_windows_count_a_call_or_none_does(store: Store, who: str, cost: int) -> None:
    charge = call(who, Rate(4, 60), Rate(6, 3600), cost=cost)
    assert passes(Limiter(store), charge, NOW, 20) == 4 // cost
    assert counts(store, charge, NOW) == [4, 4]
    assert passes(Limiter(store), charge, NOW + 120, 20) == 2 // cost
    assert counts(store, charge, NOW + 120) == [2, 6]
    assert passes(Limiter(store), charge, NOW + 240, 20) == 0
    assert counts(store, charge, NOW + 240) == [0, 6]


def test_of_several_windows_each_is_told_and_only_the_full_ones_refuse(who: str) -> None:
    limiter, charge = Limiter(MemoryStore()), call(who, Rate(2, 60), Rate(10, 3600), name="gold")
    told = [limiter.spend(charge, NOW) for _ in range(3)]
    assert [[(q.policy.name, q.remaining, q.refused) for q in quotas] for quotas in told] == [
        [("gold-minute", 1, False), ("gold-hour", 9, False)],
        [("gold-minute", 0, False), ("gold-hour", 8, False)],
        [("gold-minute", 0, True), ("gold-hour", 8, False)],
    ]


def test_several_windows_cost_one_round_trip(who: str) -> None:
    counting = shared()
    limiter, charge = Limiter(counting), call(who, Rate(1000, 60), Rate(10_000, 3600))
    limiter.spend(charge, NOW)
    counting.calls.clear()
    assert passes(limiter, charge, NOW + 1, 50) == 50
    assert counting.calls == ["incr_many"] * 50


def test_a_burst_holds_beside_its_limit(store: Store, who: str) -> None:
    charge = call(who, *ratelimit.parse_rate("100/hour burst 20"))
    assert passes(Limiter(store), charge, NOW, 50) == 20
    assert passes(Limiter(store), charge, NOW + 719, 50) == 0
    assert 70 <= sum(passes(Limiter(store), charge, NOW + at, 50) for at in range(720, 3600, 60)) <= 80


# ---- who waits


def test_a_caller_over_the_limit_costs_no_round_trip_while_he_is_known_to_wait(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter = Limiter(counting)
    passes(limiter, call(who, HOUR), NOW + 600, 11)
    counting.calls.clear()
    assert passes(limiter, call(who, HOUR), NOW + 600.9, 1000) == 0
    assert counting.calls == []


def test_a_refused_caller_is_looked_at_again_after_1_2_4_and_more_seconds_up_to_his_time(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter, charge, looks = Limiter(counting), call(who, Rate(1, 60)), []
    limiter.spend(charge, NOW)
    for tenth in range(1, 1300):
        counting.calls.clear()
        fits = passes(limiter, charge, NOW + tenth / 10)
        looks += [tenth / 10] if counting.calls else []
        if fits:
            break
    assert looks == [0.1, 1.1, 3.1, 7.1, 15.1, 31.1, 63.1, 120.0]


def test_after_a_yes_the_next_refusal_is_looked_at_again_soon(who: str) -> None:
    store = MemoryStore()
    limiter, charge = Limiter(store), call(who, Rate(1, 60))
    for now in (NOW, NOW + 1, NOW + 2, NOW + 4):
        limiter.spend(charge, now)
    store.delete([window.window(charge.tier.rates[0], who, NOW).current])
    assert [passes(limiter, charge, NOW + s) for s in (8, 8.5)] == [1, 0]
    store.delete([window.window(charge.tier.rates[0], who, NOW).current])
    assert [passes(limiter, charge, NOW + s) for s in (9.4, 9.6)] == [0, 1]


class Meanwhile(CountingStore):
    """A store that does something else in the middle of one operation, once: as another thread would."""

    def __init__(self, operation: str) -> None:
        super().__init__(MemoryStore())
        self.shared, self.operation = True, operation
        self.acts: list[Callable[[], object]] = []

    def _call(self, name: str) -> None:
        super()._call(name)
        if name == self.operation and self.acts:
            self.acts.pop()()


def test_calls_that_are_refused_at_once_are_one_refusal(who: str) -> None:
    """Each may be refused for what another one counted and gives back: all of them wait for a second only."""
    store = Meanwhile("decr")
    limiter, dear = Limiter(store), call(who, HOUR, cost=6)
    limiter.spend(dear, NOW)
    store.acts = [lambda: limiter.spend(dear, NOW)] * 20
    limiter.spend(dear, NOW)
    store.calls.clear()
    limiter.spend(dear, NOW + 1.0)
    assert store.calls[0] == "incr_many"


def test_a_clock_set_back_is_no_reason_to_wait(store: Store, who: str) -> None:
    limiter, charge = Limiter(store), call(who, HOUR)
    assert passes(limiter, charge, NOW + 3600, 11) == 10
    assert passes(limiter, charge, NOW, 11) == 10


# ---- leases


def test_a_busy_callers_round_trips_grow_rare(who: str) -> None:
    counting = shared()
    limiter = Limiter(counting)
    assert passes(limiter, call(who, BUSY), NOW, 1000) == 1000
    assert 10 <= counting.calls.count("incr_many") <= 20
    assert counting.calls.count("decr") == 0


def test_each_process_of_many_reserves_less(who: str) -> None:
    counting = shared()
    limiter = Limiter(counting, processes=lambda: 8)
    assert passes(limiter, call(who, BUSY), NOW, 1200) == 1200
    assert 100 <= counting.calls.count("incr_many") <= 110


@pytest.mark.parametrize("pause_s", [IDLE_S, 60.0])
def test_a_light_caller_keeps_one_round_trip_a_call_and_leaves_nothing_reserved(who: str, pause_s: float) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter = Limiter(counting)
    for turn in range(20):
        assert passes(limiter, charge, NOW + turn * pause_s) == 1
    assert counting.calls == ["get"] + ["incr_many"] * 20
    assert counts(counting, charge, NOW) == [20]


@pytest.mark.parametrize("limit", [1, 100])
def test_of_a_small_limit_nothing_is_reserved(who: str, limit: int) -> None:
    counting, charge = shared(), call(who, Rate(limit))
    limiter = Limiter(counting)
    for so_far in range(1, limit + 1):
        limiter.spend(charge, NOW)
        assert counts(counting, charge, NOW) == [so_far]


def test_a_store_that_nobody_shares_needs_no_leases(who: str) -> None:
    counting = CountingStore(MemoryStore())
    assert passes(Limiter(counting), call(who, BUSY), NOW, 50) == 50
    assert counting.calls.count("incr_many") == 50


def test_what_is_left_is_told_whether_it_was_reserved_or_not(who: str) -> None:
    limiter, charge = Limiter(shared()), call(who, BUSY)
    quotas = [one(limiter, charge, NOW + 600) for _ in range(500)]
    assert [quota.remaining for quota in quotas] == list(range(9_999, 9_499, -1))
    assert {quota.reset_s for quota in quotas} <= {3000, 3001}
    assert {quota.policy for quota in quotas} == {QuotaPolicy("t", 10_000, 3600)}


def test_a_lease_pays_for_calls_of_its_cost(who: str) -> None:
    counting, charge = shared(), call(who, BUSY, cost=7)
    limiter = Limiter(counting)
    passed = passes(limiter, charge, NOW, 2000)
    assert 1428 - passed <= 1  # what is reserved may be too little for one more
    assert counting.calls.count("incr_many") < 200
    assert passes(limiter, call(who, BUSY), NOW, 20) == 10_000 - 7 * passed


def test_the_whole_limit_passes_and_not_one_call_more(store: Store, who: str) -> None:
    charge = call(who, BUSY)
    limiters = [Limiter(store, processes=lambda: 2) for _ in range(2)]
    assert sum(passes(limiters[turn % 2], charge, NOW, 3) for turn in range(4000)) == 10_000
    assert counts(store, charge, NOW) == [10_000]


def leased(store: Store, charge: Charge, now: float) -> Limiter:
    """A limiter that has reserved more than was called."""
    limiter, calls = Limiter(store), 200
    assert passes(limiter, charge, now, calls) == calls
    assert counts(store, charge, now)[0] > calls
    return limiter


def test_what_an_idle_caller_does_not_use_is_given_back(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter = leased(counting, charge, NOW)
    limiter.tidy(NOW + IDLE_S)
    assert counts(counting, charge, NOW)[0] > 200
    limiter.tidy(NOW + IDLE_S + 0.1)
    assert counts(counting, charge, NOW) == [200]
    counting.calls.clear()
    limiter.tidy(NOW + IDLE_S + 5)
    assert (counting.calls, limiter._lent) == ([], {})


def test_who_comes_back_reserves_less_each_time_and_at_last_nothing(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter, reserved = leased(counting, charge, NOW), []
    for turn in range(1, 6):
        now = NOW + turn * (IDLE_S + 1)
        limiter.tidy(now)
        before = counts(counting, charge, NOW)[0]
        assert passes(limiter, charge, now) == 1
        reserved.append(counts(counting, charge, NOW)[0] - before)
    assert reserved == sorted(reserved, reverse=True)
    assert reserved[0] > 1
    assert reserved[-1] == 1


def test_after_a_clock_was_set_back_a_lease_is_idle_too(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter = leased(counting, charge, NOW + 1800)
    limiter.tidy(NOW + 900)
    assert counts(counting, charge, NOW) == [200]


def test_no_lease_crosses_into_the_next_window(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter = leased(counting, charge, NOW + 3599.9)
    before = counts(counting, charge, NOW)
    assert passes(limiter, charge, NOW + 3600 + 1800) == 1
    assert counts(counting, charge, NOW + 3600) == [1 + limiter._pot(charge).left]
    assert counts(counting, charge, NOW) == before


def test_what_was_reserved_in_a_window_that_is_over_hinders_nothing_in_the_next(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter = Limiter(counting)
    while limiter._pot(charge).left < 99:  # as large a lease as this tier has, used for one call
        assert passes(limiter, charge, NOW + 3599) == 1
    counting.calls.clear()
    assert passes(limiter, charge, NOW + 3601, 1000) == 1000
    assert counting.calls.count("incr_many") < 20


def test_what_was_reserved_in_a_window_that_is_over_is_not_given_back_to_the_next(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter = leased(counting, charge, NOW + 3599.9)
    before = counts(counting, charge, NOW)
    counting.incr(window.window(BUSY, who, NOW + 3600).current, 60, 500)
    limiter.tidy(NOW + 3610)
    assert (counts(counting, charge, NOW), counts(counting, charge, NOW + 3600)) == (before, [500])


def test_threads_that_count_at_once_reserve_one_lease(who: str) -> None:
    store = Meanwhile("incr_many")
    limiter, charge = Limiter(store), call(who, BUSY)
    while passes(limiter, charge, NOW) and limiter._pot(charge).left != 0:
        pass
    store.calls.clear()
    passes(limiter, charge, NOW, 500)
    while limiter._pot(charge).left:
        passes(limiter, charge, NOW)
    known = counts(store, charge, NOW)[0]
    store.acts = [lambda: limiter.spend(charge, NOW)] * 15
    limiter.spend(charge, NOW)
    assert counts(store, charge, NOW)[0] - known <= 100 + 15


def test_who_was_refused_while_another_thread_reserved_uses_what_was_reserved(who: str) -> None:
    limiter, charge = Limiter(shared()), call(who, BUSY)
    pot = limiter._pot(charge)
    passes(limiter, charge, NOW, 200)
    limiter._waits.known[charge.key] = _Wait(who, (Quota(QuotaPolicy("t", 1, 1), 0, 9, True),), NOW, NOW + 9, 1)
    assert passes(limiter, charge, NOW, pot.left) > 0


def test_leases_last_while_the_store_is_down(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    heard: list[str] = []
    limiter = Limiter(counting, "deny", heard.append)
    passes(limiter, charge, NOW, 200)
    left = counts(counting, charge, NOW)[0] - 200
    counting.broken = {"get", "incr_many", "decr"}
    assert left > 10
    assert passes(limiter, charge, NOW + 1, left) == left
    assert heard == []
    with pytest.raises(Unavailable):
        limiter.spend(charge, NOW + 1)


def test_a_store_that_is_down_when_leases_are_given_back_is_no_trouble(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter = leased(counting, charge, NOW)
    counting.broken = {"decr"}
    limiter.tidy(NOW + 60)
    assert counts(counting, charge, NOW)[0] > 200


# ---- what is forgotten


def test_after_a_reset_lease_waiting_and_what_was_counted_before_are_forgotten(who: str) -> None:
    store, busy, few = shared(), call(who, BUSY, name="busy"), call(who, Rate(5, 60), name="few")
    limiter, other = Limiter(store), call(f"{who}x", HOUR)
    assert passes(limiter, few, NOW - 1, 9) == 5
    assert passes(limiter, busy, NOW, 200) == 200
    assert passes(limiter, few, NOW) == passes(limiter, other, NOW, 11) - 10 == 0
    at = [window.window(rate, who, NOW) for rate in (BUSY, Rate(5, 60))]
    store.delete([name for one_window in at for name in (one_window.current, one_window.previous)])
    limiter.forget({who, "nobody"})
    assert passes(limiter, few, NOW + 0.1, 9) == 5
    assert passes(limiter, busy, NOW + 0.1) == 1
    assert passes(limiter, other, NOW + 0.1) == 0
    limiter.tidy(NOW + 60)  # nothing that was reserved before the reset is taken off what was counted after it
    assert counts(store, busy, NOW) == [1]


def displaced(limiter: Limiter, charge: Charge) -> bool:
    """Whether so many others came that the limiter, which remembers ten, has no place for him."""
    for number in range(20):
        passes(limiter, call(f"{charge.subject}{number}", HOUR), NOW)
    return charge.pot not in limiter._pots.known


def test_a_lease_of_who_was_displaced_from_memory_ends_with_a_reset_too(who: str) -> None:
    store, charge = shared(), call(who, BUSY)
    limiter = Limiter(store, most=10)
    assert passes(limiter, charge, NOW, 50) == 50
    assert displaced(limiter, charge)
    store.delete([window.window(BUSY, who, NOW).current])
    limiter.forget({who})
    assert passes(limiter, charge, NOW + 0.1) == 1
    limiter.tidy(NOW + IDLE_S + 1)
    assert counts(store, charge, NOW) == [1]


def test_a_charge_that_one_limiter_has_counted_is_another_one_s_too(who: str) -> None:
    charge, stores = call(who, BUSY), (shared(), shared())
    limiters = [Limiter(store) for store in stores]
    for _ in range(40):
        assert [passes(limiter, charge, NOW) for limiter in limiters] == [1, 1]
    for limiter, store in zip(limiters, stores, strict=True):
        assert counts(store, charge, NOW)[0] - limiter._pot(charge).left == 40


class Meeting(MemoryStore):
    """A store in which somebody resets the counts just after a call was counted."""

    shared = True
    reset: Callable[[], None] | None = None

    def incr_many(self, entries: Sequence[Entry]) -> list[int]:
        counted = super().incr_many(entries)
        if self.reset is not None:
            act, self.reset = self.reset, None
            act()
        return counted


def test_a_reservation_that_meets_a_reset_is_not_given_back_to_what_is_counted_after_it(who: str) -> None:
    store, charge = Meeting(), call(who, BUSY)
    limiter = Limiter(store)
    passes(limiter, charge, NOW, 12)
    limiter._pot(charge).left = 0

    def reset() -> None:
        store.delete([window.window(charge.tier.rates[0], charge.subject, NOW).current])
        limiter.forget({who, charge.subject})

    store.reset = reset
    passes(limiter, charge, NOW)
    passes(limiter, charge, NOW)
    before = counts(store, charge, NOW)[0] - limiter._pot(charge).left
    limiter.tidy(NOW + IDLE_S + 1)
    assert counts(store, charge, NOW)[0] >= before


def test_a_reservation_that_meets_a_reset_is_no_lease_though_it_was_displaced_meanwhile(who: str) -> None:
    store, charge = Meeting(), call(who, BUSY)
    limiter = Limiter(store, most=10)
    passes(limiter, charge, NOW, 12)
    limiter.tidy(NOW + 2 * IDLE_S)  # nothing is lent

    def reset() -> None:
        assert displaced(limiter, charge)
        limiter.tidy(NOW + 2 * IDLE_S)
        store.delete([window.window(BUSY, charge.subject, NOW).current])
        limiter.forget({charge.subject})

    store.reset = reset
    assert passes(limiter, charge, NOW) == 1
    assert counts(store, charge, NOW) == [0]
    assert passes(limiter, charge, NOW, 5) == 5
    assert counts(store, charge, NOW)[0] - limiter._pot(charge).left == 5


def test_nobody_to_forget_is_nothing_to_do(who: str) -> None:
    limiter = Limiter(MemoryStore())
    passes(limiter, call(who, HOUR), NOW, 11)
    limiter.forget(())
    assert passes(limiter, call(who, HOUR), NOW) == 0


def test_callers_without_end_take_no_memory_without_end_and_their_counts_stay(who: str) -> None:
    store = MemoryStore()
    limiter = Limiter(store)
    passes(limiter, call(who, HOUR), NOW, 9)
    for number in range(limiter_module.MAX_REMEMBERED + 10):
        limiter.spend(call(f"{who}:{number}", HOUR), NOW)
    assert len(limiter._pots.known) <= limiter_module.MAX_REMEMBERED
    assert len(limiter._closed.known) <= limiter_module.MAX_REMEMBERED
    assert passes(limiter, call(who, HOUR), NOW, 9) == 1


def test_threads_that_forget_and_remember_at_once_do_not_trip_over_each_other(who: str) -> None:
    limiter = Limiter(MemoryStore())
    for number in range(limiter_module.MAX_REMEMBERED - 5000):
        limiter._closed.put(f"{{{number}}}", 0)

    def act(thread: int) -> None:
        for number in range(2000):
            limiter.spend(call(f"{who}:{thread}:{number}", HOUR), NOW)
            if number % 100 == 0:
                limiter.forget({f"{who}:{thread}:{number}"})

    in_threads(8, act)
    assert len(limiter._closed.known) < limiter_module.MAX_REMEMBERED + 8


# ---- what is heard


def test_what_was_counted_in_the_store_is_heard_and_nothing_else(who: str) -> None:
    counting, heard = shared(), []
    limiter = Limiter(counting, sample=lambda charge, quotas, now: heard.append((charge.who, len(quotas), now)))
    passes(limiter, call(who, HOUR), NOW, 12)
    assert heard == [(who, 1, NOW)] * 11
    counting.broken = {"get", "incr_many"}
    passes(limiter, call(who + "x", HOUR), NOW)
    assert len(heard) == 11


# ---- the store fails


def dead() -> Store:
    return MemcachedStore([f"127.0.0.1:{free_port()}"])


@pytest.mark.parametrize(("processes", "share"), [(1, 10), (3, 4), (10, 1), (50, 1)])
def test_in_an_outage_local_counts_the_share_of_the_process(who: str, processes: int, share: int) -> None:
    heard: list[str] = []
    limiter = Limiter(dead(), "local", heard.append, lambda: processes)
    quotas = limiter.spend(call(who, HOUR), NOW)
    assert (quotas[0].policy.limit, quotas[0].remaining) == (share, share - 1)
    assert passes(limiter, call(who, HOUR), NOW, 20) == share - 1
    assert set(heard) == {"store_error"}


def test_in_an_outage_local_counts_all_windows_or_none_and_costs(who: str) -> None:
    limiter = Limiter(dead(), "local", processes=lambda: 2)
    assert passes(limiter, call(who, Rate(8, 60), Rate(20, 3600), cost=2), NOW, 20) == 2
    assert passes(limiter, call(who, Rate(8, 60), Rate(20, 3600), cost=2), NOW + 120, 20) == 2
    assert passes(limiter, call(who, Rate(8, 60), Rate(20, 3600), cost=2), NOW + 240, 20) == 1


def test_in_an_outage_allow_lets_everything_through_unlimited(who: str) -> None:
    limiter = Limiter(dead(), "allow")
    assert [limiter.spend(call(who, HOUR), NOW) for _ in range(20)] == [()] * 20


def test_in_an_outage_deny_decides_nothing(who: str) -> None:
    with pytest.raises(Unavailable) as caught:
        Limiter(dead(), "deny").spend(call(who, HOUR), NOW)
    assert caught.value.reason is Reason.LIMITS_UNAVAILABLE
    assert caught.value.retry_after_s > 0


@pytest.mark.parametrize("policy", ["local", "allow", "deny"])
def test_a_refusal_stands_where_the_store_fails_right_after_it(policy: OnStoreError, who: str) -> None:
    counting = CountingStore(MemoryStore())
    passes(Limiter(counting), call(who, HOUR), NOW, 10)
    counting.broken = {"decr"}
    assert one(Limiter(counting, policy), call(who, HOUR), NOW).refused


@pytest.mark.parametrize("policy", ["local", "allow", "deny"])
def test_who_was_told_to_wait_waits_through_an_outage(policy: OnStoreError, who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter = Limiter(counting, policy)
    passes(limiter, call(who, HOUR), NOW, 11)
    counting.broken = {"get", "incr_many"}
    assert one(limiter, call(who, HOUR), NOW + 0.9).refused


@pytest.mark.parametrize("which", ["current", "previous"])
@pytest.mark.parametrize(
    "planted", [b"junk", b"9" * 5000, b"1.5", b"\xff"], ids=["a word", "no end", "a part", "a byte"]
)
def test_a_planted_value_that_is_no_number_is_an_outage_not_an_exception(
    store: Store, who: str, which: str, planted: bytes
) -> None:
    store.set(getattr(window.window(HOUR, who, NOW), which), planted, 60)
    with pytest.raises(Unavailable):
        Limiter(store, "deny").spend(call(who, HOUR), NOW)


@pytest.mark.parametrize("planted", [b"-5", b"-999999", b" 3 ", b"1_0"])
def test_no_planted_count_of_the_window_before_gives_more_than_the_limit(
    store: Store, who: str, planted: bytes
) -> None:
    store.set(window.window(HOUR, who, NOW).previous, planted, 60)
    assert passes(Limiter(store), call(who, HOUR), NOW + 3599, 30) <= 10


def test_after_an_outage_the_store_counts_again(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter = Limiter(counting)
    counting.broken = {"get", "incr_many"}
    passes(limiter, call(who, HOUR), NOW, 5)
    counting.broken = set()
    assert one(limiter, call(who, HOUR), NOW).remaining == 9


def test_who_had_used_up_a_process_s_share_in_an_outage_passes_when_the_store_is_back(who: str) -> None:
    """What a process refuses by itself it does not remember: the whole limit may be nearly unused."""
    counting = CountingStore(MemoryStore())
    limiter, charge = Limiter(counting, processes=lambda: 5), call(who, HOUR)
    counting.broken = {"get", "incr_many"}
    assert [passes(limiter, charge, NOW + second) for second in range(300)] == [1, 1] + [0] * 298
    counting.broken = set()
    assert passes(limiter, charge, NOW + 300, 20) == 10


def test_what_a_process_refuses_by_itself_pushes_out_nobody_who_waits(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter, charge = Limiter(counting), call(who, HOUR)
    for number in range(limiter_module.MAX_REMEMBERED):
        limiter._waits.put(number, _Wait("", (), NOW, NOW + 9, 1))
    counting.broken = {"get", "incr_many"}
    assert passes(limiter, charge, NOW, 11) == 10
    assert len(limiter._waits.known) == limiter_module.MAX_REMEMBERED


def test_who_waited_before_an_outage_and_was_refused_in_it_waits_a_second_at_first_after_it(who: str) -> None:
    counting = CountingStore(MemoryStore())
    limiter, charge = Limiter(counting, processes=lambda: 5), call(who, HOUR, cost=6)  # more than the share of one
    assert [passes(limiter, charge, NOW + at) for at in (0, 0, 1, 3)] == [1, 0, 0, 0]  # and for 4 s now
    counting.broken = {"get", "incr_many"}
    assert passes(limiter, charge, NOW + 7) == 0
    counting.broken = set()
    assert passes(limiter, charge, NOW + 8) == 0
    counting.calls.clear()
    assert [bool(passes(limiter, charge, NOW + at) or counting.calls) for at in (8.9, 9.1)] == [False, True]


def test_what_is_admitted_in_an_outage_is_no_lease(who: str) -> None:
    counting, charge = shared(), call(who, BUSY)
    limiter = leased(counting, charge, NOW)
    left = counts(counting, charge, NOW)[0] - 200
    counting.broken = {"incr_many"}
    assert passes(limiter, charge, NOW, left + 50) == left + 50
    counting.broken = set()
    assert passes(limiter, charge, NOW) == 1
    counting.broken = {"decr"}
    limiter.tidy(NOW)
    assert counts(counting, charge, NOW)[0] == 200 + left + 1 + limiter._pot(charge).left
