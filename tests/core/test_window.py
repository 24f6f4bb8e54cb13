"""The arithmetic of the sliding window: what fits, what is left, how long to wait, how much to reserve."""

import math

import pytest

from authsvc.core import ratelimit, window
from authsvc.core.model import Quota, QuotaPolicy
from authsvc.core.ratelimit import Rate, Tier
from authsvc.core.window import Window
from worlds import NOW

GOLD = QuotaPolicy("gold", 10, 3600)
HOUR = Rate(10, 3600)


@pytest.mark.parametrize("name", ["u-1", "a b\r\nset x", "名", "\ud800", "x" * 500, "\0", "}{"])
def test_a_counters_name_is_short_ascii_whatever_the_callers_is(name):
    charge = ratelimit.charge(Tier("free", (HOUR,)), [["user", "main", name]])
    at = window.window(Rate(10, 365 * 86400), charge.subject, NOW)
    assert at.current.isascii()
    assert at.current.isprintable()
    assert " " not in at.current
    assert len(at.current) <= 70
    assert window.subject(at.current) == window.subject(at.previous) == charge.subject


def test_the_counters_of_two_windows_and_two_lengths_differ():
    hour, minute = HOUR, Rate(10, 60)
    names = {window.window(rate, "x", NOW + s).current for rate in (hour, minute) for s in (0, 3600, 7200)}
    assert len(names) == 6
    assert window.window(hour, "x", NOW + 3600).previous == window.window(hour, "x", NOW).current


def test_all_counters_of_a_caller_lie_on_one_server():
    names = {window.window(Rate(10, period), "x", NOW + s).current for period in (1, 60, 3600) for s in (0, 7200)}
    assert all(name.startswith("authsvc:rate:{x}:") for name in names)


@pytest.mark.parametrize("period_s", [1, 60, 86400, 365 * 86400])
def test_a_counter_outlives_the_window_after_its_own(period_s):
    assert window.window(Rate(1, period_s), "x", NOW).ttl_s > 2 * period_s


@pytest.mark.parametrize(
    ("into", "number", "elapsed"),
    [(0, 500_000, 0), (900, 500_000, 0.25), (3599.5, 500_000, 0.99986), (3600, 500_001, 0)],
)
def test_windows_begin_at_multiples_of_their_length(into, number, elapsed):
    at = window.window(HOUR, "x", NOW + into)
    assert (at.number, at.elapsed) == (number, pytest.approx(elapsed, abs=1e-5))


# What fits -----------------------------------------------------------------------------------------------------------


def at(elapsed):
    return Window("a", "b", 1, elapsed, 7260)


@pytest.mark.parametrize(
    ("counted", "previous", "elapsed", "remaining"),
    [
        (1, 0, 0.0, 9),
        (10, 0, 0.0, 0),
        (11, 0, 0.0, None),
        (1, 10, 0.0, None),
        (1, 9, 0.0, 0),
        (1, 10, 0.1, 0),
        (1, 10, 0.05, None),
        (5, 10, 0.5, 0),
        (6, 10, 0.5, None),
        (10, 10, 1.0, 0),
        (5, 10_000, 0.5, 0),
        (1, 1, 0.5, 8),
    ],
)
def test_the_previous_window_weighs_by_what_is_left_of_the_current_one(counted, previous, elapsed, remaining):
    fits = window.granted(HOUR, at(elapsed), previous, counted, 1)
    assert fits == (remaining is not None)
    assert window.quota(GOLD, HOUR, at(elapsed), previous, counted).remaining == (remaining or 0)


@pytest.mark.parametrize(
    ("counted", "asked", "previous", "granted"),
    [(5, 5, 0, 5), (10, 10, 0, 10), (12, 5, 0, 3), (15, 5, 0, 0), (99, 5, 0, 0), (11, 11, 0, 10), (5, 5, 8, 2)],
    ids=["all fit", "the whole limit", "some fit", "none", "none long since", "one too many", "beside those before"],
)
def test_of_several_calls_as_many_are_granted_as_fit(counted, asked, previous, granted):
    assert window.granted(HOUR, at(0.0), previous, counted, asked) == granted


@pytest.mark.parametrize("counted", [1, 2, 100])
def test_a_limit_of_zero_admits_no_call(counted):
    assert window.granted(Rate(0), at(0.5), 0, counted, 1) == 0


def test_a_quota_says_the_window_and_its_limit():
    assert window.quota(GOLD, HOUR, at(0.5), 4, 1) == Quota(GOLD, 7, 1800)


# Waiting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "previous", "elapsed", "limit", "cost", "reset_s"),
    [
        (0, 10, 0.0, 10, 1, 360),
        (5, 10, 0.5, 10, 1, 360),
        (10, 0, 0.5, 10, 1, 1800 + 360),
        (1, 0, 0.5, 1, 1, 1800 + 3600),
        (0, 0, 0.5, 0, 1, 1800),
        (0, 0, 0.25, 10, 11, 2700),
        (8, 0, 0.5, 10, 5, 1800 + 1350),
        (3, 0, 0.5, 10, 10, 1800 + 3600),
        (0, 10, 0.0, 10, 5, 1800),
        (5, 10, 0.5, 10, 5, 1800),
        (999, 999, 0.5, 10, 1, 1800 + 360),
    ],
    ids=[
        "when the window before has faded by one call",
        "beside the calls of this window",
        "in the next window, where this one fades",
        "a limit of one: the whole next window",
        "a limit of zero: as if the next window might have another",
        "more than the limit: as if the next window might have another",
        "a call that counts five needs as much room",
        "a call that counts the whole limit needs a window without any",
        "half a window fades to a room of five",
        "and then the window before is gone",
        "calls that were counted and refused do not weigh",
    ],
)
def test_a_refusal_says_when_the_call_fits(before, previous, elapsed, limit, cost, reset_s):
    refused = window.refusal(GOLD, Rate(limit), at(elapsed), previous, before, cost)
    assert (refused.refused, refused.reset_s) == (True, reset_s)


def test_a_refusal_of_a_call_that_counts_several_says_what_is_left_for_others():
    assert window.refusal(GOLD, HOUR, at(0.0), 0, 8, 5).remaining == 2


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
@pytest.mark.parametrize("cost", [1, 2, 5])
def test_a_refused_caller_who_waits_as_told_is_admitted(limit, cost):
    """Count the calls admitted so far, refuse one, wait, try again: in the same window or in the next."""
    rate = Rate(limit, 3600)
    for previous, admitted, percent in _situations(limit):
        if cost > limit or window.granted(rate, at(percent / 100), previous, admitted + cost, cost) == cost:
            continue
        refused = window.refusal(GOLD, rate, at(percent / 100), previous, admitted, cost)
        _is_admitted_after(refused.reset_s, rate, previous, admitted, percent, cost)


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_who_got_the_last_call_and_waits_as_told_is_admitted(limit):
    rate = Rate(limit, 3600)
    for previous, admitted, percent in _situations(limit):
        last = window.quota(GOLD, rate, at(percent / 100), previous, admitted)
        if not last.remaining:
            _is_admitted_after(last.reset_s, rate, previous, admitted, percent, 1)


def _is_admitted_after(seconds, rate, previous, admitted, percent, cost):
    later = percent * 36 + seconds
    counted, before = (admitted, previous) if later < 3600 else (0, admitted)
    assert later <= 7201
    share = math.modf(min(later, 7200 - 1e-9) / 3600)[0]
    assert window.granted(rate, at(share), before, counted + cost, cost) == cost


def _situations(limit):
    """What was counted in the window before and in this one, and how much of this one is gone, in percent."""
    rate = Rate(limit, 3600)
    for previous in range(limit + 1):
        for admitted in range(limit + 1):
            for percent in range(0, 100, 7):
                if window.granted(rate, at(percent / 100), previous, admitted, admitted) == admitted:
                    yield previous, admitted, percent


# Several windows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rates", "names"),
    [
        ((Rate(10, 60),), ["gold"]),
        ((Rate(10, 1), Rate(1000, 3600)), ["gold-second", "gold-hour"]),
        ((Rate(10, 900), Rate(1000, 7 * 86400)), ["gold-15minutes", "gold-7days"]),
    ],
)
def test_a_tiers_windows_are_told_apart_by_their_periods(rates, names):
    assert [policy.name for policy in Tier("gold", rates).policies] == names


SHORT, LONG = Quota(QuotaPolicy("s", 10, 1), 0, 1, refused=True), Quota(QuotaPolicy("l", 10, 60), 0, 60, refused=True)
OPEN = Quota(QuotaPolicy("o", 10, 3600), 0, 3600)


@pytest.mark.parametrize(
    ("quotas", "found"),
    [((), None), ((OPEN,), None), ((SHORT, OPEN), SHORT), ((SHORT, LONG), LONG), ((LONG, SHORT), LONG)],
)
def test_the_window_that_keeps_the_caller_waiting_longest_is_the_one_that_refuses(quotas, found):
    assert window.refused(quotas) is found


# Leases and shares ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "wanted", "room", "processes", "size"),
    [
        (100, 1024, 100, 1, 1),
        (1, 1024, 1, 1, 1),
        (0, 1024, 0, 1, 1),
        (101, 1024, 101, 1, 1),
        (10_000, 1, 10_000, 1, 1),
        (10_000, 64, 10_000, 1, 64),
        (10_000, 1024, 10_000, 1, 100),
        (10_000, 1024, 10_000, 8, 12),
        (10_000, 1024, 10_000, 1000, 1),
        (10_000, 1024, 40, 1, 10),
        (10_000, 1024, 39, 8, 1),
        (10_000, 1024, 3, 1, 1),
        (10_000, 1024, 0, 8, 1),
        (10**9, 1024, 10**9, 8, 1024),
    ],
)
def test_a_lease_is_as_large_as_wanted_within_one_percent_of_the_limit_and_shrinks_near_it(
    limit, wanted, room, processes, size
):
    assert window.lease(Rate(limit), wanted, room, processes) == size


@pytest.mark.parametrize("limit", [*range(101)])
def test_small_limits_are_never_reserved_ahead(limit):
    assert {window.lease(Rate(limit), 1024, room, n) for room in (0, limit) for n in (1, 2, 50)} == {1}


@pytest.mark.parametrize("limit", [101, 999, 10_000, 123_456_789])
@pytest.mark.parametrize("processes", [1, 2, 8, 100, 10_000])
def test_what_all_processes_reserve_is_one_percent_of_the_limit_or_one_call_each(limit, processes):
    for room in (0, 1, limit // 100, limit // 2, limit):
        size = window.lease(Rate(limit), 10**9, room, processes)
        assert size == 1 or processes * size <= min(limit / 100, room / 4)


@pytest.mark.parametrize(
    ("limit", "processes", "share"), [(10, 1, 10), (10, 4, 3), (10, 0, 10), (1, 8, 1), (0, 8, 0), (10_000, 16, 625)]
)
def test_a_process_that_counts_alone_admits_its_share_rounded_up(limit, processes, share):
    assert window.share(Rate(limit, 60), processes) == Rate(share, 60)
